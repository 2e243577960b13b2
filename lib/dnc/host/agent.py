"""The host agent: one session for one action of the frontend, on stdin and stdout (design D1, protocol: operations)."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from typing import IO, Any, Dict, Mapping, NoReturn, Optional

from ..command import Runner
from ..config import from_json as config_from_json
from ..errors import BadConfig, BadInput, DncError
from ..log import Log
from ..version import VERSION
from .arguments import RAW_LIMIT
from .files import explain
from .machine import Host, Paths
from .operations import operation, perform
from .undo import Undo
from .waiting import Patience
from .work import Work

_WITH_RAW = ("write", "write_file", "begin_backup", "write_backup")
LINE_LIMIT = 16 << 20


class Ended(BaseException):
    """A signal asks the agent to end: roll back and leave."""


class Agent:
    """Serves one session. `watched` is the descriptor that tells when the frontend is gone, -1 for none."""

    def __init__(
        self, source: IO[bytes], sink: IO[bytes], *, paths: Paths = Paths(), watched: int = -1  # noqa: B008
    ) -> None:
        self._source = source
        self._sink = sink
        self._paths = paths
        self.deaf = False
        self.ending = False
        self._poll: Optional[select.poll] = None
        if watched >= 0:
            self._poll = select.poll()
            self._poll.register(watched, select.POLLRDHUP)
        self._log = Log("agent", sink=self._relay)
        self._work: Optional[Work] = None

    def serve(self) -> int:
        """Answer requests until the frontend leaves, then roll back; exit status of the agent."""
        try:
            while self._answer_one():
                pass
        except Ended:
            self._log.warn("told to end")
        finally:
            failed = self._leave()
        return 1 if failed else 0

    def _leave(self) -> int:
        work = self._work
        if work is None:
            return 0
        work.host.patience.alive = lambda: None  # nobody listens, and rolling back still waits
        work.barrier.end()
        work.devices.close_all()
        work.backups.close_all()
        failed = work.undo.roll_back()
        work.host.locks.release()
        return failed

    def _answer_one(self) -> bool:
        """Read and answer one request; False when there will be no more."""
        line = self._source.readline(LINE_LIMIT)
        if not line.endswith(b"\n"):
            return False
        number: Any = None
        try:
            request = json.loads(line)
            number, op, args = request["id"], request["op"], request["args"]
            if not isinstance(op, str) or not isinstance(args, dict):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            # After a line that is no request nobody knows where the next one begins.
            self._send({"id": number, "error": BadInput("agent got no request").to_json()})
            return False
        quiet = op == "write" and args.get("quiet") is True
        raw = self._raw(op, args)
        try:
            record, payload = self._perform(op, args, raw)
        except DncError as error:
            if self.ending:
                raise Ended from None  # the signal was lost in a command that could not be stopped
            if not quiet or self._work is None:
                self._send({"id": number, "error": error.on(self._name()).to_json()})
            else:
                self._work.failed_write = self._work.failed_write or error
            return not self.deaf
        if not quiet:
            self._send({"id": number, "ok": record}, payload)
        return not self.deaf

    def _raw(self, op: str, args: Mapping[str, Any]) -> bytes:
        """The raw bytes that follow a request; they are taken off the stream even if the request is refused."""
        length = args.get("length")
        if op not in _WITH_RAW or not isinstance(length, int) or not 0 <= length <= RAW_LIMIT:
            return b""
        data = self._source.read(length)
        if len(data) < length:
            raise Ended
        return data

    def _perform(self, op: str, args: Dict[str, Any], raw: bytes) -> Any:
        try:
            if op == "hello":
                return self._hello(**args), b""
            operation(op)
            if self._work is None:
                raise BadInput(f"{op} before hello")
            return perform(self._work, op, args, raw)
        except DncError:
            raise
        except OSError as error:
            raise explain(error, str(error.filename or op)) from None
        except Exception as error:  # a fault of ours: told, never a traceback on a protocol stream
            import traceback

            self._log.error(" | ".join(traceback.format_exc().splitlines()[-5:]))
            raise DncError(f"{op}: internal error {type(error).__name__}: {error}", hint="report a bug") from None

    def _hello(
        self, version: str = "", dry_run: bool = False, config: Optional[Dict[str, Any]] = None, started: float = 0.0,
        action: str = "an action", debug: bool = False, **unknown: Any,
    ) -> Dict[str, Any]:
        if version != VERSION:
            return {"host": os.uname().nodename, "version": VERSION}
        if unknown or config is None or self._work is not None:
            raise BadInput("hello is not understood")
        self._log.debug_enabled = debug
        try:
            settings = config_from_json(config)
        except (TypeError, KeyError, AttributeError) as error:
            raise BadInput(f"hello: configuration is not understood: {error}") from None
        runner = Runner(self._log, dry_run=dry_run)
        host = Host(runner, settings, self._log, paths=self._paths, patience=Patience(alive=self._alive))
        host.ensure_state_directories()
        self._work = Work(host, Undo(self._log), float(started), action)
        try:
            address: Optional[str] = host.address
        except BadConfig as error:
            self._log.warn(str(error))
            address = None
        return {
            "host": host.name, "address": address, "version": VERSION, "slots": host.slots, "now": time.time(),
            "drbd": host.dialect.name if host.dialect else None,
        }

    def _name(self) -> str:
        return self._work.host.name if self._work else os.uname().nodename

    def _alive(self) -> None:
        """Raises Ended when the frontend has gone, so that no wait outlives it."""
        if self.deaf or (self._poll is not None and self._poll.poll(0)):
            raise Ended

    def _relay(self, level: str, text: str) -> None:
        self._send({"log": {"level": level, "text": text}})

    def _send(self, record: Dict[str, Any], payload: bytes = b"") -> None:
        if self.deaf:
            return
        try:
            self._sink.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
            if payload:
                self._sink.write(payload)
            self._sink.flush()
        except BrokenPipeError:
            self.deaf = True


_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def main(paths: Paths = Paths()) -> int:  # noqa: B008
    """Entry of lib/dnc-agent. Returns the exit status."""
    agent = Agent(sys.stdin.buffer, sys.stdout.buffer, paths=paths, watched=sys.stdin.fileno())

    def end(_number: int, _frame: Any) -> NoReturn:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # a second one must not stop the rolling back
        agent.ending = True
        raise Ended

    for number in _SIGNALS:
        signal.signal(number, end)
    status = agent.serve()
    if agent.deaf:
        # What nobody reads must not make the interpreter fail at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
