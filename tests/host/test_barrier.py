"""The holder of a frozen guest: whatever happens to those who froze it, it goes on."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from dnc.command import start_apart
from dnc.errors import DncError, TimedOut, ToolFailed
from dnc.host import freezing
from dnc.log import Log

ENDS = {"killed": -signal.SIGKILL, "killed below sudo": 128 + signal.SIGKILL}  # exit statuses


class Xl:
    """In place of the runner: notes commands in a file, which outlives processes; refuses what it is told to."""

    def __init__(self, path, refuse=()):
        self.path = path
        self.refuse = refuse

    def run(self, argv, *, privileged):
        assert privileged
        with open(self.path, "a") as notes:
            notes.write(" ".join(argv) + "\n")
        for text, stderr in self.refuse:
            if text in argv:
                error = TimedOut("xl did not end") if stderr == "slow" else ToolFailed("xl failed")
                if isinstance(error, ToolFailed):
                    error.status, error.stderr = ENDS.get(stderr, 1), stderr
                raise error


@pytest.fixture
def holder(tmp_path, monkeypatch):
    """Starts a holder in this process's own thread; answers (requests, replies, commands so far)."""
    notes = tmp_path / "notes"
    notes.touch()

    def start(refuse=(), limit=5.0):
        monkeypatch.setattr(freezing, "Runner", lambda log: Xl(notes, refuse))
        monkeypatch.setattr(freezing, "_THAW_TRIES", 3)
        their_requests, requests = os.pipe()
        replies, their_replies = os.pipe()
        act = (["xl", "pause", "one-1"],), (["xl", "unpause", "one-1"],)
        thread = threading.Thread(target=freezing.hold, args=(*act, their_requests, their_replies, limit))
        thread.start()
        return requests, os.fdopen(replies), lambda: notes.read_text().split("\n")[:-1], thread

    return start


def test_freeze_and_thaw_when_told(holder):
    requests, replies, commands, thread = holder()
    os.write(requests, b"freeze\n")
    assert replies.readline() == "frozen\n"
    assert commands() == ["xl pause one-1"]
    os.write(requests, b"thaw\n")
    assert replies.readline() == "thawed\n"
    thread.join()
    assert commands() == ["xl pause one-1", "xl unpause one-1"]


def test_nothing_is_done_for_one_who_never_asked(holder):
    requests, _replies, commands, thread = holder()
    os.close(requests)
    thread.join()
    assert commands() == []


@pytest.mark.parametrize(("end", "limit"), [("closed", 5.0), ("closed", None), ("too long", 0.05)])
def test_thawed_when_nobody_tells(holder, end, limit):
    requests, replies, commands, thread = holder(limit=limit)
    os.write(requests, b"freeze\n")
    assert replies.readline() == "frozen\n"
    if end == "closed":
        os.close(requests)
    thread.join()
    assert commands()[-1] == "xl unpause one-1"
    assert replies.readline() == ("thawed\n" if end == "closed" else "it was frozen too long\n")


@pytest.mark.parametrize(("refuse", "said", "tries"), [
    ([("pause", "libxl: error")], "failed: xl failed\n", 0),  # what never was paused is another's, if it is paused
    ([("unpause", "one-1 is an invalid domain identifier (rc=-6)")], "frozen\n", 1),
    ([("unpause", "libxl: error")], "frozen\n", 3),
])
def test_refusals(holder, refuse, said, tries):
    requests, replies, commands, thread = holder(refuse)
    os.write(requests, b"freeze\n")
    assert replies.readline() == said
    os.write(requests, b"thaw\n")
    thread.join()
    assert commands().count("xl unpause one-1") == tries
    if tries > 1:
        assert replies.readline() == "not thawed: xl unpause one-1\n"


@pytest.mark.parametrize(("refuse", "unpaused", "told"), [
    ((), 1, False),
    ([("pause", "libxl: error")], 0, False),  # refused: an unpause would end somebody else's pause
    *(([("pause", end)], 1, False) for end in ("slow", *ENDS)),  # without an end of its own: it may have paused
    ([("unpause", "libxl: error")], 6, True),  # three tries of the holder, three of ours, then a person is called
])
def test_a_guest_is_thawed_once_and_who_stays_frozen_is_told(tmp_path, monkeypatch, refuse, unpaused, told):
    notes, lines = tmp_path / "notes", []
    notes.touch()
    runner = Xl(notes, refuse)
    monkeypatch.setattr(freezing, "Runner", lambda log: runner)
    monkeypatch.setattr(freezing, "_THAW_TRIES", 3)
    host = SimpleNamespace(runner=runner, log=Log("test", sink=lambda level, text: lines.append(text)))
    held = freezing.Holder(host, [["xl", "pause", "one-1"]], [["xl", "unpause", "one-1"]], None)
    try:
        held.freeze("one-1")
    except DncError:
        assert refuse[0][0] == "pause"
    held.thaw()
    assert notes.read_text().split("\n").count("xl unpause one-1") == unpaused
    assert any("as root on this host: xl unpause one-1" in line for line in lines) == told


def test_of_several_only_what_was_frozen_is_thawed(tmp_path, monkeypatch):
    notes = tmp_path / "notes"
    notes.touch()
    runner = Xl(notes, [("two", "libxl: error")])
    monkeypatch.setattr(freezing, "Runner", lambda log: runner)
    host = SimpleNamespace(runner=runner, log=Log("test", sink=lambda level, text: None))
    names = ("one", "two", "three")
    held = freezing.Holder(host, [["suspend", name] for name in names], [["resume", name] for name in names], None)
    with pytest.raises(DncError, match="cannot be frozen: failed: xl failed"):
        held.freeze("disks")
    assert notes.read_text().split("\n")[:-1] == ["suspend one", "suspend two", "resume one"]


def test_a_process_apart_outlives_the_one_that_started_it(tmp_path):
    """SIGKILL of the parent, and its group: the child reads the end of its requests, and does its last work."""
    done = tmp_path / "done"

    def act(requests, _replies):
        while os.read(requests, 64):
            pass
        (tmp_path / "begun").write_text("thawed")
        (tmp_path / "begun").rename(done)

    started = os.fork()
    if not started:
        os.setsid()
        start_apart(act)
        time.sleep(60)
    time.sleep(0.3)
    assert not done.exists()
    os.killpg(started, signal.SIGKILL)
    os.waitpid(started, 0)
    end = time.monotonic() + 10
    while not done.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert done.read_text() == "thawed"
