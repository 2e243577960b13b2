"""One question to oned: plain XML-RPC over http.client, a third of pyone's cost (design budgets)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Iterable, List, Mapping, Tuple, Union

from ..errors import BadConfig, DncError, OnedError, Unreachable
from .vm import VmDocument, parse_vm
from .xml import SIZE_LIMIT, all_text, parse_document

if TYPE_CHECKING:
    from ..farm.finding import HostRecord, Register
    from ..log import Log
    from .driver import Call

DEFAULT_ENDPOINT = "http://localhost:2633/RPC2"
TIMEOUT = 30.0  # seconds; oned answers one.vm.info in milliseconds


def vm_info(vm: int) -> VmDocument:
    """one.vm.info: the document of a VM. Raises Unreachable, OnedError, BadInput, BadConfig."""
    return parse_vm(ask("one.vm.info", vm, False))


def require_hosts(call: Call, vm: VmDocument, disk: int, hosts: Iterable[str]) -> None:
    """Have the scheduler look where the disk's replicas are; no hosts: the disk is gone. One question, if it changes.

    What does not work is told and stops nothing: the disk is there, and a wrong host is refused when it is chosen.
    """
    from . import requirements

    if vm.ending:
        return
    before = vm.user_template.get(requirements.ATTRIBUTE, "")
    present = [one.id for one in vm.disks]
    after = requirements.changed(before, present, disk, hosts, call.config.hosts)
    if after is None or call.runner.dry_run:
        return
    try:
        ask("one.vm.update", vm.id, requirements.template(after), 1)
    except DncError as error:
        call.log.warn(f"{error.line()}{requirements.ATTRIBUTE} of VM {vm.id} stays as it was")
        return
    call.log.info(f"{requirements.ATTRIBUTE} of VM {vm.id}: {after or 'nothing any more'}")


def host_register(log: Log) -> Register:
    """one.hostpool.info when it is called for: every host's state, and what it publishes about its pools.

    Raises Unreachable, OnedError, BadInput, BadConfig.
    """

    def register() -> Mapping[str, HostRecord]:
        from .hosts import parse_host_pool  # what only a choice among hosts has to pay

        return parse_host_pool(ask("one.hostpool.info"), log)

    return register


def ask(method: str, *parameters: Union[int, str, bool]) -> str:
    """Call `method` with the session first; returns the answer's document.

    Raises Unreachable (no connection, no answer within 30 s), OnedError (oned refused), BadConfig (endpoint or
    credentials).
    """
    body = _request(method, (_session(), *parameters))
    answer = _post(os.environ.get("ONE_XMLRPC") or DEFAULT_ENDPOINT, body)
    fault, values = _values(answer)
    if fault or len(values) < 2 or values[0] != "1":
        said = values[1] if len(values) > 1 else "an answer that is none"
        raise OnedError(f"oned refuses {method}: {' '.join(said.split())[:200]}", hint="check ONE_AUTH and oned.log")
    return values[1]


def _session() -> str:
    path = os.environ.get("ONE_AUTH") or os.path.expanduser("~/.one/one_auth")
    try:
        with open(path, encoding="utf-8") as stream:
            session = stream.readline().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"no oned credentials in {path}: {error}", hint="set ONE_AUTH, or run as oneadmin") from None
    if ":" not in session:
        raise BadConfig(f"{path} holds no user:password line", hint="it is oneadmin's one_auth file")
    return session


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _request(method: str, parameters: Tuple[Union[int, str, bool], ...]) -> bytes:
    parts: List[str] = []
    for value in parameters:
        if isinstance(value, bool):
            typed = f"<boolean>{int(value)}</boolean>"
        elif isinstance(value, int):
            typed = f"<int>{value}</int>"
        else:
            typed = f"<string>{_escape(value)}</string>"
        parts.append(f"<param><value>{typed}</value></param>")
    call = f"<methodCall><methodName>{method}</methodName><params>{''.join(parts)}</params></methodCall>"
    return f'<?xml version="1.0"?>{call}'.encode()


def _post(endpoint: str, body: bytes) -> bytes:
    import http.client  # 15 ms that only a question has to pay
    from urllib.parse import urlsplit

    url = urlsplit(endpoint)
    kind = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}.get(url.scheme)
    if kind is None or not url.hostname:
        raise BadConfig(f"ONE_XMLRPC={endpoint!r} is not an http address")
    connection = kind(url.hostname, url.port, timeout=TIMEOUT)
    try:
        connection.request("POST", url.path or "/RPC2", body, {"Content-Type": "text/xml"})
        response = connection.getresponse()
        answer: bytes = response.read(SIZE_LIMIT * 2)
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise Unreachable(
            f"oned does not answer at {endpoint}: {reason}", hint="is the opennebula service running on this frontend?"
        ) from None
    finally:
        connection.close()
    if response.status != 200:
        raise Unreachable(f"oned answers HTTP {response.status} at {endpoint}", hint="check ONE_XMLRPC")
    return answer


def _values(answer: bytes) -> Tuple[bool, List[str]]:
    """Whether it is a fault, and the scalar values in order: success, document or message, code."""
    root = parse_document(answer, "methodResponse", "oned's answer")
    if root.find("fault") is not None:
        return True, ["0", all_text(root.find("fault"))]
    return False, [all_text(value) for value in root.iterfind("params/param/value/array/data/value")]
