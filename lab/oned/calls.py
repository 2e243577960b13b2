"""Driver calls: what was called, how it went, and failures that a test wants to happen."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Protocol


@dataclass(frozen=True)
class Completed:
    """How a driver process ended."""

    rc: int
    stdout: str = ""
    stderr: str = ""


@dataclass
class Call:
    """One driver call in the shape of the recordings; started and seconds are this stand-in's own."""

    mad: str
    driver: str
    action: str
    where: str
    argv: tuple[str, ...]
    stdin_encoding: str = "none"
    stdin: str = ""
    env: Dict[str, str] = field(default_factory=dict)
    cwd: str = ""
    seq: int = 0
    rc: int | None = None
    stdout: str = ""
    stderr: str = ""
    injected: bool = False
    skipped: bool = False
    started: float = 0.0
    seconds: float = 0.0

    def to_json(self) -> Dict[str, Any]:
        """Plain values, the recordings' names."""
        return {**vars(self), "argv": list(self.argv)}


@dataclass
class Injection:
    """A failure (or slowness) that is to happen instead of the next matching call."""

    rc: int = 1
    stderr: str = ""
    stdout: str = ""
    sleep_s: float = 0.0
    count: int = 1
    match: str = ""
    released: threading.Event = field(default_factory=threading.Event, repr=False)

    def release(self) -> None:
        """End the sleep now."""
        self.released.set()


class Progress(Protocol):
    """Told of every call, at its start (rc is None) and at its end."""

    def __call__(self, call: Call) -> None: ...


class CallLog:
    """All calls in order, with injected failures."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._lock = threading.Condition()
        self.calls: list[Call] = []
        self.threads: Dict[int, list[Call]] = {}
        self.progress = progress
        self._injections: list[tuple[str, Injection]] = []

    def inject(self, what: str, injection: Injection) -> Injection:
        """Let the next call of "mad.action" (say "tm.clone") meet the injection instead of running."""
        with self._lock:
            self._injections.append((what, injection))
        return injection

    def await_calls(self, count: int, timeout_s: float) -> None:
        """Wait until that many calls have begun; TimeoutError says how many did."""
        with self._lock:
            if not self._lock.wait_for(lambda: len(self.calls) >= count, timeout_s):
                raise TimeoutError(f"{len(self.calls)} driver calls have begun, not {count}, after {timeout_s:g} s")

    def clear_injections(self) -> None:
        """Forget the injections that no call met."""
        with self._lock:
            self._injections.clear()

    def perform(self, call: Call, run: Callable[[], Completed]) -> Completed:
        """Run a call, or its injection, and keep the record."""
        with self._lock:
            call.seq = len(self.calls) + 1
            self.calls.append(call)
            self.threads.get(threading.get_ident(), []).append(call)
            injection = self._take(call)
            self._lock.notify_all()
        call.started = time.time()
        begun = time.monotonic()
        if self.progress:
            self.progress(call)
        if injection is None:
            done = run()
        else:
            call.injected = True
            done = _injected(injection, run)
        call.seconds = time.monotonic() - begun
        call.rc, call.stdout, call.stderr = done.rc, done.stdout, done.stderr
        if self.progress:
            self.progress(call)
        return done

    def skip(self, call: Call) -> Completed:
        """Record a call whose script the suite does not ship (VNM steps): it counts as a success."""
        call.skipped = True
        return self.perform(call, lambda: Completed(0))

    def _take(self, call: Call) -> Injection | None:
        for index, (what, injection) in enumerate(self._injections):
            if what == f"{call.mad}.{call.action}" and injection.match in " ".join(call.argv):
                injection.count -= 1
                if injection.count == 0:
                    del self._injections[index]
                return injection
        return None


def _injected(injection: Injection, run: Callable[[], Completed]) -> Completed:
    if injection.sleep_s:
        injection.released.wait(injection.sleep_s)
    if injection.rc == 0 and not injection.stdout:
        return run()  # only slow: it still does its work, as a hanging driver would
    return Completed(injection.rc, injection.stdout, injection.stderr)
