"""hooks watch: the service that notices domains that arrive and leave, and has oned told. Optional; one a host.

Nothing is polled: xenstore-watch sleeps until xenstored has an event, then `xl list` tells what is there. A domain that
comes by migration has the name NAME--incoming at first; of each such one the name is watched, too.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from typing import Dict, List, NamedTuple, Optional, Sequence, Set

from ..errors import DncError
from ..host.domains import Domains
from ..opennebula.driver import Call
from ..tools import xenstore
from ..tools.xl import INCOMING
from .identity import become_owner

ARGUMENTS = ()

_VM = re.compile(rf"(one-[0-9]{{1,10}})({INCOMING})?\Z")
# Events come in bursts: so long nothing must follow one before we look, and so long a burst may keep us from it.
_QUIET_S = 0.1
_BURST_S = 2.0
_LONGEST_PAUSE_S = 60.0
_NEVER = float("inf")


class Running(NamedTuple):
    """A process of ours. what: "domains", "name" or "report"; about: a domain, or several."""

    process: subprocess.Popen[bytes]
    what: str
    about: str


def run(call: Call) -> str:
    """Until SIGTERM. A xenstored that goes away is waited for."""
    become_owner(call.remotes)
    watcher = Watcher(call)
    try:
        watcher.serve()
    finally:
        watcher.stop()
    return ""


class Watcher:
    """Our processes by the descriptor of their output, and the domains that were here at the last look."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._domains = Domains(call.runner, call.log)
        self._running: Dict[int, Running] = {}
        self._here: Optional[Set[str]] = None
        self._pause = 1.0
        # When to try again what has failed.
        self._begin_at = 0.0
        self._look_at = _NEVER

    def serve(self) -> None:
        """The loop: sleep until an event, wait until a burst is over, look, tell."""
        while True:
            self._ensure_watching()
            if self._collect() or self._look_at <= time.monotonic():
                self._look()

    def stop(self) -> None:
        """End what runs for us; what belongs to root ends with its next event, or with the service."""
        for running in self._running.values():
            try:
                running.process.terminate()
            except (PermissionError, ProcessLookupError):
                continue

    # Processes.

    def _start(self, argv: Sequence[str], what: str, about: str, *, privileged: bool) -> None:
        process = self._call.runner.start(argv, privileged=privileged, stdin=subprocess.DEVNULL, stderr=None)
        if process.stdout is not None:
            self._running[process.stdout.fileno()] = Running(process, what, about)

    def _ensure_watching(self) -> None:
        """One long-lived process; a new one when it has ended, after a pause when it has failed."""
        if self._watching or self._begin_at > time.monotonic():
            return
        try:
            self._start(xenstore.watch_domains(), "domains", "", privileged=True)
        except DncError as error:
            self._begin_at = self._later(str(error))

    @property
    def _watching(self) -> bool:
        return any(running.what == "domains" for running in self._running.values())

    def _later(self, why: str) -> float:
        """When to try again; the pauses double while nothing works."""
        self._call.log.warn(f"{why}: again in {self._pause:.0f} s")
        when = time.monotonic() + self._pause
        self._pause = min(_LONGEST_PAUSE_S, self._pause * 2)
        return when

    def _collect(self) -> bool:
        """Sleep until something happens; whether it is a reason to look."""
        wake = min(self._look_at, _NEVER if self._watching else self._begin_at)
        timeout = None if wake == _NEVER else max(0.0, wake - time.monotonic())
        events, end = False, 0.0
        while True:
            ready, _, _ = select.select(list(self._running), [], [], timeout)
            if not ready:
                return events
            for descriptor in ready:
                events = self._read(descriptor) or events
            now = time.monotonic()
            end = end or now + _BURST_S
            if now >= end:
                return events
            timeout = _QUIET_S

    def _read(self, descriptor: int) -> bool:
        """What a process says; its end. True for an event of xenstored."""
        running = self._running[descriptor]
        data = os.read(descriptor, 1 << 16)
        if running.what == "report":
            for line in data.decode("utf-8", "replace").splitlines():
                self._call.log.info(line)
        if data:
            return running.what != "report"
        del self._running[descriptor]
        status = running.process.wait()
        if running.process.stdout is not None:
            running.process.stdout.close()
        if running.what == "domains" and status != 0:
            self._begin_at = self._later(f"xenstore-watch ended with status {status}")
        return running.what == "name"

    # Domains.

    def _look(self) -> None:
        """What is here now, against what was; those who came and those who left are told."""
        try:
            found = self._domains.list()
        except DncError as error:
            self._look_at = self._later(str(error))
            return
        self._look_at, self._pause = _NEVER, 1.0
        here: Set[str] = set()
        for domain in found:
            match = _VM.match(domain.name)
            if match and match[2]:
                self._await_name(domain.id, domain.name)
            elif match:
                here.add(match[1])
        known = self._here if self._here is not None else set()
        came, went = sorted(here - known), sorted(known - here)
        self._here = here
        self._report("--here", came)
        self._report("--left", went)

    def _await_name(self, number: int, name: str) -> None:
        if not any(running.about == f"{number} {name}" for running in self._running.values()):
            self._start(xenstore.watch_name(number), "name", f"{number} {name}", privileged=True)

    def _report(self, option: str, names: List[str]) -> None:
        """Have oned told by a process of its own: it may take long, and we have to go on looking."""
        if not names:
            return
        self._call.log.info(f"{option[2:]}: {' '.join(names)}")
        hook = f"{self._call.remotes}/hooks/dnc-moved"
        self._start(["python3", "-I", hook, option, *names], "report", " ".join(names), privileged=False)
