"""oned's API through pyone, as hooks use it; driver actions ask through oned.py, which starts ten times faster.

pyone is imported here and nowhere else, and only when a question is asked.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, NoReturn, Optional

from ..config import Config
from ..errors import BadConfig, Busy, DncError, NoPrivilege, NotFound, OnedError, ToolMissing, Unreachable
from .hosts import HostState
from .oned import DEFAULT_ENDPOINT, TIMEOUT
from .vm_states import DONE, status_name


class Silent(Unreachable):
    """oned itself does not answer: there is no use in asking it the next question."""


class VmRecord(NamedTuple):
    """A VM as oned has it now. host, datastore: of its newest history record, empty and 0 before the first."""

    id: int
    state: int
    lcm_state: int
    host: str
    datastore: int
    error: str

    @property
    def status(self) -> str:
        """What a user reads: RUNNING, POWEROFF, PROLOG_MIGRATE, ..."""
        return status_name(self.state, self.lcm_state)

    @property
    def done(self) -> bool:
        """Whether its life is over."""
        return self.state == DONE


class KnownHost(NamedTuple):
    """A host of oned."""

    id: int
    name: str
    state: int

    @property
    def offline(self) -> bool:
        """Whether oned takes nothing to it (one.vm.migrate accepts hosts in ERROR and disabled ones)."""
        return self.state == HostState.OFFLINE


class Api:
    """Questions with one user's session. Each raises Unreachable, BadConfig (credentials), NoPrivilege, OnedError."""

    def __init__(self, endpoint: str, session: str, where: str) -> None:
        self.endpoint = endpoint
        self._where = where
        self._pyone = _import_pyone()
        os.environ.pop("ONEAPI_PROTOCOL", None)  # newer pyone would speak gRPC to an http address
        self._server: Any = self._pyone.OneServer(endpoint, session=session)

    def vm(self, number: int) -> Optional[VmRecord]:
        """one.vm.info; None when oned has no such VM."""
        try:
            found = self.ask("vm.info", lambda one: one.vm.info(number))
        except NotFound:
            return None
        records = found.HISTORY_RECORDS.HISTORY if found.HISTORY_RECORDS is not None else []
        error = found.USER_TEMPLATE.get("ERROR", "") if found.USER_TEMPLATE else ""
        last = records[-1] if records else None
        return VmRecord(
            int(found.ID), int(found.STATE), int(found.LCM_STATE), str(last.HOSTNAME) if last is not None else "",
            int(last.DS_ID) if last is not None else 0, error if isinstance(error, str) else "",
        )

    def hosts(self) -> List[KnownHost]:
        """one.hostpool.info: all hosts that the user may see."""
        found = self.ask("hostpool.info", lambda one: one.hostpool.info())
        return [KnownHost(int(host.ID), str(host.NAME), int(host.STATE)) for host in found.HOST]

    def migrate(self, vm: int, host: int, *, live: bool) -> None:
        """one.vm.migrate, capacity not enforced, same system datastore. Raises Busy: not in its present state."""
        self.ask("vm.migrate", lambda one: one.vm.migrate(vm, host, live, False, -1, 0))

    def ask(self, method: str, question: Callable[[Any], Any]) -> Any:
        """One call of pyone, its exceptions made ours. Raises also NotFound and Busy."""
        pyone = self._pyone
        try:
            with _deadline(TIMEOUT):
                return question(self._server)
        except pyone.OneAuthenticationException:
            raise BadConfig(
                f"oned refuses the credentials in {self._where}", hint="dnc-moved --setup-user makes them anew"
            ) from None
        except pyone.OneAuthorizationException as error:
            raise NoPrivilege(f"oned: {_text(error)}", hint="dnc-moved --setup-user gives the rights") from None
        except pyone.OneNoExistsException as error:
            raise NotFound(f"oned: {_text(error)}") from None
        except pyone.OneActionException as error:
            raise Busy(f"oned refuses {method}: {_text(error)}") from None
        except pyone.OneException as error:
            raise OnedError(f"oned refuses {method}: {_text(error)}", hint="see oned.log") from None
        except OSError as error:
            raise self._silent(_reason(error)) from None
        except DncError:
            raise
        except Exception as error:  # the parsers of xmlrpc and of the bindings raise what they like
            raise self._silent(f"{type(error).__name__}: {_text(error)}") from None

    def _silent(self, reason: str) -> Silent:
        return Silent(
            f"oned does not answer at {self.endpoint}: {reason}", hint="is the opennebula service running there?"
        )


def connect(config: Config, session: str, where: str) -> Api:
    """The API with that session, which was read from `where`. Raises ToolMissing without pyone, BadConfig."""
    endpoint = os.environ.get("ONE_XMLRPC") or config.one_xmlrpc or DEFAULT_ENDPOINT
    if not endpoint.startswith(("http://", "https://")):
        raise BadConfig(f"ONE_XMLRPC={endpoint!r} is not an http address")
    return Api(endpoint, session, where)


def _import_pyone() -> Any:
    try:
        import pyone  # type: ignore[import-untyped]
    except ImportError as error:
        raise ToolMissing(
            f"pyone cannot be used here: {_text(error)}",
            hint="install OpenNebula's package python3-pyone, or pip install pyone",
        ) from None
    return pyone


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """pyone waits for ever for a server that accepts and says nothing; so the clock rings."""

    def ring(_number: int, _frame: object) -> NoReturn:
        raise TimeoutError(f"no answer within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _reason(error: BaseException) -> str:
    """What the system said, out of the layers that requests puts around it."""
    inner: Optional[BaseException] = error
    while inner is not None:
        error, inner = inner, inner.__cause__ or inner.__context__
    return error.strerror if isinstance(error, OSError) and error.strerror else _text(error)


def _text(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def by_name(hosts: List[KnownHost], name: str) -> Optional[KnownHost]:
    """The host of that name, or the only one with the same first label: clusters call hosts with or without domain."""
    exact: Dict[str, KnownHost] = {host.name: host for host in hosts}
    if name in exact:
        return exact[name]
    near = [host for host in hosts if same_host(host.name, name)]
    return near[0] if len(near) == 1 else None


def same_host(one: str, other: str) -> bool:
    """Whether two names can mean one host: equal, or one is the other's first label."""
    if one == other:
        return True
    return one.partition(".")[0] == other.partition(".")[0] and ("." not in one or "." not in other)
