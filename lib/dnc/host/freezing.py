"""Holding guests still for a moment, by a process of its own: whatever happens to those who asked, they go on.

The holder freezes and thaws when it is told to. It thaws, too, within moments of our end, by whatever signal; and when
its limit is reached, if it has one. Pauses of one domain add up in Xen (xl-pause-adds-up): who pauses it besides us
changes nothing, as long as each ends as many as it made. So what was refused is not thawed.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import contextmanager
from typing import Iterator, Optional, Sequence, Tuple

from ..command import Apart, Runner, start_apart
from ..errors import DncError, NoPrivilege, ToolFailed, ToolMissing
from ..log import Log
from ..tools import xl
from .machine import Host

# A freeze or thaw is one quick command a disk, on a host that may be very busy.
_ANSWER_S = 60.0
_THAW_TRIES = 50
_SIGNALLED = 128  # sudo's exit status from here on: the signal that ended what it ran
_NOT_THAWED = "not thawed: "

Argv = Sequence[str]


class Holder:
    """Freezes and thaws by the commands that it is given, each thaw undoing the freeze in its place.

    limit_s: how long at most; None: while we live.
    """

    def __init__(self, host: Host, freeze: Sequence[Argv], thaw: Sequence[Argv], limit_s: Optional[float]) -> None:
        self._log = host.log
        self._runner = host.runner
        self._thaw = thaw
        self._frozen = False
        self._apart: Optional[Apart] = start_apart(
            lambda requests, replies: hold(freeze, thaw, requests, replies, limit_s)
        )

    def freeze(self, what: str) -> None:
        """Returns once nobody writes any more. Raises DncError, all thawed."""
        if self._apart is None:
            raise DncError(f"{what} cannot be frozen: it was thawed already")
        os.write(self._apart.requests, b"freeze\n")
        said = _hear(self._apart, _ANSWER_S)
        # Silence may mean that it froze: then our thaw is the only one that comes.
        self._frozen = said in ("frozen", "")
        if said != "frozen":
            self.thaw()
            raise DncError(f"{what} cannot be frozen: {said}", hint="the guest runs on; try again")

    def thaw(self) -> bool:
        """Have the guests go on, whatever the state; whether they were frozen until now. Raises nothing."""
        apart, self._apart = self._apart, None
        if apart is None:
            return False
        try:
            os.write(apart.requests, b"thaw\n")
        except OSError:
            self._log.warn("the guest went on before it was told to")
        os.close(apart.requests)
        said = _hear(apart, _ANSWER_S)
        os.close(apart.replies)
        if said != "thawed":
            self._log.warn(f"{self._thaw[0][-1]}: {said or 'the holder of its freeze is gone'}")
        # Only where the holder did not: pauses add up, and a second thaw would end somebody else's.
        told = said[len(_NOT_THAWED):].split("; ") if said.startswith(_NOT_THAWED) else []
        for argv in self._thaw if self._frozen and not said else [one for one in self._thaw if " ".join(one) in told]:
            if not _insist(self._runner, argv):
                self._log.error(f"the guest still stands still; as root on this host: {' '.join(argv)}")
        return said == "thawed"


class Freeze:
    """For how many seconds the guest stood still."""

    def __init__(self) -> None:
        self.seconds = 0.0


@contextmanager
def frozen(host: Host, domain: str) -> Iterator[Freeze]:
    """Hold a domain of this host still as long as we need; nothing to do where it does not run. Raises DncError.

    Without a limit: what we do meanwhile is only right while the guest stands still.
    """
    freeze = Freeze()
    if not domain or host.runner.dry_run or host.domains.find(domain) is None:
        yield freeze
        return
    holder = Holder(host, [xl.pause(domain)], [xl.unpause(domain)], None)
    began = time.monotonic()
    try:
        holder.freeze(domain)
        yield freeze
    finally:
        holder.thaw()
        freeze.seconds = time.monotonic() - began
        host.log.info(f"{domain} stood still for {freeze.seconds:.2f} s")


def _hear(apart: Apart, timeout: float) -> str:
    """One line of the holder, empty when it is gone or silent."""
    said = b""
    deadline = time.monotonic() + timeout
    while not said.endswith(b"\n"):
        ready = select.select([apart.replies], [], [], max(0.0, deadline - time.monotonic()))[0]
        data = os.read(apart.replies, 1) if ready else b""
        if not data:
            break
        said += data
    return said.decode("utf-8", "replace").strip()


def hold(
    freeze: Sequence[Argv], thaw: Sequence[Argv], requests: int, replies: int, limit_s: Optional[float]
) -> None:
    """The holder's life: freeze when told, thaw when told, when nobody can tell any more, or when it is time."""
    runner = Runner(Log("freeze", sink=lambda _level, _text: None))
    if not os.read(requests, 64):
        return
    begun, said = _freeze(runner, freeze)
    _say(replies, said)
    if said == "frozen" and not select.select([requests], [], [], limit_s)[0]:
        said = "it was frozen too long"
    failed = [" ".join(argv) for argv in thaw[:begun] if not _insist(runner, argv)]
    _say(replies, f"{_NOT_THAWED}{'; '.join(failed)}" if failed else "thawed" if said == "frozen" else said)


def _freeze(runner: Runner, freeze: Sequence[Argv]) -> Tuple[int, str]:
    """(how many are to be thawed, what to answer). One that was refused did nothing; one without an end may have."""
    for number, argv in enumerate(freeze):
        try:
            runner.run(argv, privileged=True)
        except DncError as error:
            return number + (not _refused(error)), f"failed: {error.what}"
    return len(freeze), "frozen"


def _refused(error: DncError) -> bool:
    """Whether the command itself said no. One that a signal has ended may have done its work before."""
    if isinstance(error, ToolFailed):
        return 0 < error.status < _SIGNALLED
    return isinstance(error, (ToolMissing, NoPrivilege))


def _insist(runner: Runner, argv: Argv) -> bool:
    """Again and again: a guest that stays frozen is worse than anything that can come of trying."""
    for _ in range(_THAW_TRIES):
        try:
            runner.run(argv, privileged=True)
            return True
        except ToolFailed as error:
            if xl.says_unknown_domain(error.stderr):
                return True
        except DncError:
            pass
        time.sleep(0.1)
    return False


def _say(replies: int, text: str) -> None:
    try:
        os.write(replies, text.replace("\n", " ").encode() + b"\n")
    except OSError:
        return  # nobody listens any more
