"""The watching service: nothing until xenstored has an event, then one look; arrivals and departures are reported."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dnc import config
from dnc.command import Result, Runner
from dnc.errors import ToolFailed
from dnc.hooks import watch
from dnc.log import Log
from dnc.opennebula.driver import Call

HEAD = "Name                                        ID   Mem VCPUs\tState\tTime(s)\n"


class Ended(BaseException):
    """The test is over."""


class Tools(Runner):
    """xenstore-watch reads from pipes that the test fills, `xl list` shows `domains`, dnc-moved is noted."""

    def __init__(self, directory: Path, log: Log) -> None:
        super().__init__(log)
        self.directory = directory
        self.domains = {0: "Domain-0"}
        self.reports: list[list[str]] = []
        self.looks = 0
        self.watchers: list[subprocess.Popen[bytes]] = []
        self.failing = self.over = False
        self._pipes: dict[str, int] = {}

    def pipe(self, name: str) -> str:
        path = f"{self.directory}/{name}"
        if name not in self._pipes:
            os.mkfifo(path)
            self._pipes[name] = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        return path

    def event(self, name: str = "domains") -> None:
        self.pipe(name)
        os.write(self._pipes[name], b"@introduceDomain\n")

    def run(self, argv: Sequence[str], **_: Any) -> Result:
        assert list(argv) == ["xl", "list"]
        if self.over:
            raise Ended
        self.looks += 1
        if self.failing:
            raise ToolFailed("xl failed: cannot reach xenstore")
        lines = "".join(f"{name:40} {number:5} {128:5} {1:5}     -b----    {1.0:6}\n"
                        for number, name in self.domains.items())
        return Result(tuple(argv), 0, HEAD + lines, "")

    def start(self, argv: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
        if argv[0] == "xenstore-watch":
            assert more.pop("privileged")
            name = "domains" if "@introduceDomain" in argv else argv[-1].split("/")[3]
            count = "1000" if name == "domains" else "2"
            script = f'n=0; while [ $n -lt {count} ] && read -r line; do echo "$line"; n=$((n+1)); done'
            process = super().start(["/bin/sh", "-c", f"{script} < {self.pipe(name)}"], **more)
            self.watchers.append(process)
            return process
        assert list(argv[:2]) == ["python3", "-I"] and argv[2].endswith("/hooks/dnc-moved")
        self.reports.append(list(argv[3:]))
        more.pop("privileged")
        return super().start(["/bin/echo", "told"], **more)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tools]:
    """The service, running; its first look is over."""
    log = Log("watch", stream=(tmp_path / "log").open("w"))
    made = Tools(tmp_path, log)
    made.domains[3] = "one-3"
    call = Call(str(tmp_path), "hooks", "watch", [], config.parse(""), log, made, time.time())
    monkeypatch.setattr("dnc.hooks.watch.become_owner", lambda remotes: None)

    def serve() -> None:
        with pytest.raises(Ended):
            watch.run(call)

    thread = threading.Thread(target=serve, daemon=True)
    made.event()
    thread.start()
    await_that(lambda: made.reports == [["--here", "one-3"]])
    yield made
    made.over, made.failing = True, False
    made.event()
    thread.join(10)
    assert not thread.is_alive()


def await_that(happened: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_nothing_is_done_until_something_happens(tools: Tools) -> None:
    looks = tools.looks
    time.sleep(0.5)
    assert tools.looks == looks and len(tools.watchers) == 1


def test_who_comes_and_who_goes_is_reported_once(tools: Tools) -> None:
    tools.domains[4] = "one-4"
    tools.domains[5] = "somebody-else"
    tools.event()
    await_that(lambda: len(tools.reports) == 2)
    del tools.domains[3]
    tools.event()
    await_that(lambda: len(tools.reports) == 3)
    tools.event()
    time.sleep(0.4)
    assert tools.reports[1:] == [["--here", "one-4"], ["--left", "one-3"]]
    tools.domains[6] = "one-3"
    tools.event()
    await_that(lambda: tools.reports[-1] == ["--here", "one-3"])


def test_a_migration_arrives_when_its_name_says_so(tools: Tools) -> None:
    """Between the shell's coming and its new name xenstored tells nothing but the change of the name."""
    tools.domains[7] = "one-7--incoming"
    tools.event()
    await_that(lambda: len(tools.watchers) == 2)
    tools.event("7")  # the watch begins
    time.sleep(0.3)
    assert len(tools.reports) == 1
    tools.domains[7] = "one-7"
    tools.event("7")
    await_that(lambda: tools.reports[-1] == ["--here", "one-7"])
    await_that(lambda: tools.watchers[1].poll() is not None)
    tools.domains[7] = "one-7--migratedaway"
    tools.event()
    await_that(lambda: tools.reports[-1] == ["--left", "one-7"])
    assert len(tools.watchers) == 2


def test_a_burst_of_events_is_one_look(tools: Tools) -> None:
    looks = tools.looks
    for number in range(10, 20):
        tools.domains[number] = f"one-{number}"
        tools.event()
    await_that(lambda: len(tools.reports) == 2)
    assert len(tools.reports[1]) == 11 and tools.looks - looks <= 2


def test_xenstored_goes_and_comes_back(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came meanwhile is found by the look after; a failing xl is tried again, without an event."""
    tools.watchers[0].kill()
    tools.domains[8] = "one-8"
    tools.failing = True
    await_that(lambda: len(tools.watchers) == 2)
    looks = tools.looks
    tools.event()
    await_that(lambda: tools.looks > looks)
    tools.failing = False
    await_that(lambda: tools.reports[-1] == ["--here", "one-8"])
    assert len([one for one in tools.watchers if one.poll() is None]) == 1


def test_after_its_thousand_events_it_begins_again(tools: Tools) -> None:
    for _ in range(100):
        tools.event()
    assert len(tools.watchers) == 1
    for _ in range(900):
        tools.event()
    await_that(lambda: len(tools.watchers) == 2)
    tools.domains[9] = "one-9"
    tools.event()
    await_that(lambda: tools.reports[-1] == ["--here", "one-9"])
