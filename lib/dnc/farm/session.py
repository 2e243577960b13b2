"""Sessions to host agents: one ssh a host, JSON lines both ways (design D1), and what its failures mean in one line.

A session that ends without `commit`, however it ends, makes the host take back what the session changed.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import time
from typing import Any, Dict, List, Optional, Protocol, Union

from ..command import Runner
from ..config import Config
from ..errors import Busy, DncError, TimedOut, ToolMissing, Unreachable, from_json
from ..log import Log
from ..version import VERSION

Answer = Dict[str, Any]

AGENT = "/var/tmp/one/lib/dnc-agent"
# An operation's own deadlines are on the host; this one only catches a host that answers nothing at all.
PATIENCE = 900.0
# Rolling back removes volumes and resources: each a command of seconds.
ROLLBACK_TIME = 180.0
# sshd drops connections at random when more than MaxStartups (10) knock at once, as 15 parallel actions do.
KNOCKS = 6
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031


class Caller(Protocol):
    """What a session needs of the driver's call."""

    @property
    def config(self) -> Config: ...

    @property
    def log(self) -> Log: ...

    @property
    def runner(self) -> Runner: ...

    @property
    def started(self) -> float: ...


class Session:
    """One host agent. `about` is its answer to hello: host (uname -n), address, version, drbd, now."""

    def __init__(self, host: str, caller: Caller) -> None:
        self.host = host
        self.about: Answer = {}
        self.failed: Optional[DncError] = None
        self._caller = caller
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._errors = -1
        self._buffer = bytearray()
        self._number = 0
        self._asked = "hello"
        self._knocks = 0

    def start(self) -> None:
        """Start ssh and send hello; `greet` reads the answer. Raises ToolMissing."""
        config = self._caller.config
        options = (
            "BatchMode=yes", f"ConnectTimeout={config.ssh_timeout}", "ServerAliveInterval=10", "ServerAliveCountMax=3",
        )
        argv = [find_ssh(), "-T", *(word for option in options for word in ("-o", option)), "--", self.host]
        if self._errors >= 0:
            os.close(self._errors)
        # A file, not a pipe: nobody has to drain it, and an ssh master that keeps it open blocks nobody.
        self._errors = os.memfd_create("ssh-stderr")
        self._knocks += 1
        self._buffer.clear()
        with open(self._errors, "wb", closefd=False) as errors:
            self._process = self._caller.runner.start([*argv, "/usr/bin/python3", "-I", AGENT], stderr=errors)
        try:
            fcntl.fcntl(self._input, _F_SETPIPE_SZ, _PIPE_BYTES)  # fewer switches while an image streams through
        except OSError:
            self._caller.log.debug(f"{self.host}: the pipe to ssh keeps its size")
        hello = {
            "version": VERSION, "dry_run": self._caller.runner.dry_run, "config": config.to_json(),
            "started": self._caller.started,
        }
        self.failed = None
        self._number = 0
        try:
            self.send("hello", hello)
        except DncError:
            self._caller.log.debug(f"{self.host}: ssh ended before hello")  # greet says why

    def greet(self) -> Answer:
        """Read the answer to hello. Raises Unreachable, ToolMissing (no agent there), Busy (too many knocks)."""
        deadline = self._caller.config.ssh_timeout + 30.0
        while True:
            try:
                self.about = self.receive(1, deadline)
                break
            except Busy:
                if self._knocks >= KNOCKS:
                    raise
                self.start()
            except DncError as error:
                raise self._unmatched(error) from None
        if self.about.get("version") != VERSION:
            raise self._unmatched(DncError(f"has dnc {self.about.get('version')}, this frontend has {VERSION}"))
        return self.about

    def _unmatched(self, error: DncError) -> DncError:
        if "version" in error.what or "this frontend has" in error.what:
            error.hint = f"onehost sync --force {self.host}"
        return error.on(self.host)

    @property
    def _input(self) -> int:
        if self._process is None or self._process.stdin is None:
            raise Unreachable("the session is closed", host=self.host)
        return self._process.stdin.fileno()

    @property
    def output(self) -> int:
        """The descriptor on which answers come, for poll."""
        if self._process is None or self._process.stdout is None:
            raise Unreachable("the session is closed", host=self.host)
        return self._process.stdout.fileno()

    def send(self, op: str, args: Answer, payload: Union[bytes, memoryview] = b"") -> int:
        """Send a request, with raw bytes behind it where the operation takes some; returns its number."""
        if self.failed is not None:
            raise self.failed
        self._number += 1
        self._asked = op
        line = json.dumps({"id": self._number, "op": op, "args": args}, separators=(",", ":")).encode() + b"\n"
        try:
            _write_all(self._input, line)
            if payload:
                _write_all(self._input, payload)
        except BrokenPipeError:
            # The agent may have said why before it left.
            raise self._lost() from None
        return self._number

    def receive(self, number: int, timeout: float = PATIENCE) -> Answer:
        """Wait for the answer to request `number`; earlier answers must have been taken. Raises the host's error."""
        deadline = time.monotonic() + timeout
        while True:
            answer = self.take(number)
            if answer is not None:
                return answer
            left = deadline - time.monotonic()
            if left <= 0:
                self.failed = TimedOut(f"no answer to {self._asked} within {timeout:.0f} s", host=self.host)
                raise self.failed
            if wait_readable([self.output], left):
                self.feed()

    def take(self, number: int) -> Optional[Answer]:
        """The answer to request `number` if it has come in whole; logs what the agent logged on the way."""
        while True:
            end = self._buffer.find(b"\n")
            if end < 0:
                return None
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            record = self._parse(line)
            if "log" in record:
                self._relay(record["log"])
            elif record.get("id") == number:
                if "error" in record:
                    raise from_json(record["error"]).on(self.host)
                answer: Answer = record.get("ok") or {}
                return answer

    def take_raw(self, length: int, timeout: float = PATIENCE) -> bytes:
        """The `length` raw bytes that follow the answer just taken."""
        deadline = time.monotonic() + timeout
        while len(self._buffer) < length:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimedOut(f"data of {self._asked} stopped coming for {timeout:.0f} s", host=self.host)
            if wait_readable([self.output], left):
                self.feed()
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data

    def feed(self) -> None:
        """Read what has come. Raises the session's failure when the host's side is gone."""
        data = os.read(self.output, 1 << 20)
        if not data:
            raise self._lost()
        self._buffer += data

    def call(self, op: str, /, *, timeout: float = PATIENCE, **args: Any) -> Answer:
        """Ask and wait. Raises the host's error, Unreachable, TimedOut."""
        return self.receive(self.send(op, args), timeout)

    def end_input(self) -> None:
        """Tell the agent that nothing more comes: it rolls back what is not committed, then ends."""
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()

    def close(self, timeout: float = ROLLBACK_TIME) -> None:
        """End the session and wait until the agent has ended, so that a rollback is over when we are."""
        if self._process is None:
            return
        self.end_input()
        self._drain(timeout)
        if self._process.poll() is None:
            try:
                self._process.wait(2 if self.failed is None else 0.2)
            except subprocess.TimeoutExpired:
                self._caller.log.warn(f"{self.host}: the host agent does not end; its session is cut")
                self._process.terminate()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None
        os.close(self._errors)
        self._errors = -1

    def _drain(self, timeout: float) -> None:
        """Pass on what the agent logs while it rolls back, until it closes its side."""
        deadline = time.monotonic() + timeout
        while self.failed is None and time.monotonic() < deadline:
            if not wait_readable([self.output], deadline - time.monotonic()):
                return
            data = os.read(self.output, 1 << 16)
            if not data:
                return
            self._buffer += data
            try:
                self.take(-1)
            except DncError as error:
                self._caller.log.debug(str(error))

    def _parse(self, line: bytes) -> Answer:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict):
            return record
        text = line.decode("utf-8", "replace")[:80]
        if not self.about:
            return {"log": {"level": "DEBUG", "text": f"login shell says: {text}"}}
        self.failed = DncError(f"host agent speaks out of turn: {text!r}", host=self.host)
        raise self.failed

    def _relay(self, record: Dict[str, str]) -> None:
        text = record.get("text", "")
        text = text if text.startswith(f"{self.host}: ") else f"{self.host}: {text}"
        log = self._caller.log
        writers = {"DEBUG": log.debug, "WARN": log.warn, "ERROR": log.error}
        writers.get(record.get("level", ""), log.info)(text)

    def _lost(self) -> DncError:
        """The session's end, told in one line from ssh's and the agent's last words."""
        if self.failed is None:
            status = _status(self._process)
            said = os.pread(self._errors, 1 << 16, 0).decode("utf-8", "replace")
            for line in said.splitlines():
                self._caller.log.debug(f"{self.host}: ssh: {line}")
            self.failed = session_failure(
                self.host, status, said, self._asked, bool(self.about), self._caller.config.ssh_timeout
            )
        return self.failed


def find_ssh() -> str:
    """ssh by PATH: OpenNebula puts a wrapper in front that shares connections (contract 7.2, design D2)."""
    for directory in os.environ.get("PATH", "").split(":"):
        path = f"{directory}/ssh"
        if directory.startswith("/") and os.access(path, os.X_OK):
            return path
    return "ssh"


def _status(process: Optional[subprocess.Popen[bytes]]) -> int:
    if process is None:
        return 255
    try:
        return process.wait(10)
    except subprocess.TimeoutExpired:
        process.terminate()
        return process.wait()


def _write_all(descriptor: int, data: Union[bytes, memoryview]) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def wait_readable(descriptors: List[int], timeout: float) -> List[int]:
    """Those of the descriptors that can be read, or are at their end, within `timeout` seconds."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _event in poll.poll(max(0.0, timeout) * 1000)]


# What ssh says -> what it means: (text in its stderr, what happened, what to do).
_SSH_SAYS = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "ssh host key changed, connection refused",
     "if it was reinstalled: ssh-keygen -R {host} as oneadmin"),
    ("Host key verification failed", "ssh host key is not known, connection refused",
     "connect once as oneadmin: ssh {host}"),
    ("Permission denied", "ssh refuses oneadmin's key", "put oneadmin's public key into the host's authorized_keys"),
    ("Could not resolve hostname", "host name does not resolve", "check DNS or /etc/hosts on the frontend"),
    ("timed out", "host does not answer within {timeout} s", "is it up? check it, or fence it first"),
    ("Connection refused", "host refuses ssh connections", "is sshd running there?"),
    ("No route to host", "no route to host", "is it up? check it, or fence it first"),
    ("Network is unreachable", "network of the host is unreachable", "check the frontend's network"),
)
_DROPPED = ("kex_exchange_identification", "ssh_exchange_identification", "Connection reset by peer")


def session_failure(host: str, status: int, said: str, op: str, greeted: bool, timeout: int) -> DncError:
    """What a session's end means: ssh's status and stderr, the operation that waited, whether it ever began."""
    last = said.strip().splitlines()[-1].strip()[:200] if said.strip() else ""
    if status == 255 and greeted:
        return Unreachable(f"connection lost during {op}", host=host, hint=last or "the host may be down: check it")
    if status == 255:
        for text, what, hint in _SSH_SAYS:
            if text in said:
                return Unreachable(
                    what.format(timeout=timeout), host=host, hint=hint.format(host=host), command=f"ssh {host}"
                )
        if any(text in said for text in _DROPPED):
            return Busy("sshd drops the connection", host=host, hint="raise MaxStartups in its sshd_config")
        return Unreachable(f"ssh failed: {last or 'no reason given'}", host=host, command=f"ssh {host}")
    if not greeted and ("can't open file" in said or "No such file" in said):
        if AGENT in said:
            return ToolMissing("dnc is not installed on the host", host=host, hint=f"onehost sync --force {host}")
        return ToolMissing("python3 is not installed on the host", host=host, hint="install python3 and python3-lxml")
    if status > 128 or status < 0:
        number = status - 128 if status > 128 else -status
        return DncError(f"host agent was killed by signal {number} during {op}", host=host, hint="look at its dmesg")
    return DncError(
        f"host agent ended with status {status} during {op}", host=host, hint=last or "run again with DNC_DEBUG=1"
    )
