"""What one driver call does: ssh sessions, questions to oned, processes; told of each call by the stand-in for oned."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

# A frontend process as the log of an action with DNC_DEBUG=1 shows it; lines of hosts carry the host's name first.
_STARTED = re.compile(r"^DEBUG: \S+: (?:run|start): (\S+)")


class CallRecord(Protocol):
    """The part of the stand-in's record of a driver call that is needed here; rc is None while it runs."""

    mad: str
    action: str
    argv: tuple[str, ...]
    rc: int | None
    stderr: str


@dataclass(frozen=True)
class Count:
    """What one call did. `tools` counts commands by (host, tool); `local` the frontend's own processes but ssh."""

    action: str
    argv: tuple[str, ...]
    failed: bool
    sessions: int
    questions: int
    tools: dict[tuple[str, str], int] = field(default_factory=dict)
    local: int = 0

    @property
    def processes(self) -> int:
        """Commands on all hosts, an agent a session, and the frontend's own ones (ssh, decoders). sudo not counted."""
        return sum(self.tools.values()) + 2 * self.sessions + self.local

    @property
    def tools_text(self) -> str:
        """Tools by name, all hosts together: "zfs 4, drbdadm 3"."""
        names: Counter[str] = Counter()
        for (_, tool), times in self.tools.items():
            names[tool] += times
        return ", ".join(f"{tool} {times}" for tool, times in names.most_common())


def ssh_wrapper(path: Path, real: str, log: Path) -> None:
    """An `ssh` for the drivers' PATH that notes each start as a line of `log` and becomes the real one."""
    log.touch()
    log.chmod(0o666)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho session >>'{log}'\nexec '{real}' \"$@\"\n", encoding="utf-8")
    path.chmod(0o755)


def local_processes(stderr: str) -> int:
    """Processes other than ssh that a frontend action started, from its own debug log."""
    started = (match.group(1) for match in map(_STARTED.match, stderr.splitlines()) if match)
    return sum(not path.endswith("/ssh") for path in started)


class Counting:
    """Progress of the stand-in's call log: looks before and after each call.

    `frontend` and `hosts` are files with a line for each ssh session that was opened there.
    """

    def __init__(
        self, frontend: Path, hosts: Sequence[Path], questions: Callable[[], int],
        commands: Callable[[], Sequence[dict[str, Any]]],
    ) -> None:
        self.frontend = frontend
        self.hosts = tuple(hosts)
        self._questions = questions
        self._commands = commands
        self._before = (0, 0, 0)
        self.counts: list[Count] = []

    def __call__(self, call: CallRecord) -> None:
        """Told of each call at its start (rc is None) and at its end."""
        # The stand-in's own session to the host, in which a VMM action runs, is OpenNebula's: not counted.
        logs = self.hosts if call.mad == "vmm" else (self.frontend, *self.hosts)
        sessions = sum(len(log.read_text().splitlines()) for log in logs if log.exists())
        questions, commands = self._questions(), self._commands()
        if call.rc is None:
            self._before = (sessions, questions, len(commands))
            return
        tools = Counter((str(one["host"]), str(one["argv"][0])) for one in commands[self._before[2]:])
        self.counts.append(Count(
            f"{call.mad} {call.action}", tuple(call.argv), call.rc != 0, sessions - self._before[0],
            questions - self._before[1], {key: times for key, times in tools.items() if key[1] != "sudo"},
            local_processes(call.stderr) if call.mad != "vmm" else 0,
        ))

    def of(self, action: str) -> list[Count]:
        """All counted calls of an action ("tm clone"), in order."""
        return [count for count in self.counts if count.action == action]
