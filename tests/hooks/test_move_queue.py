"""The queue of moves: whole files, the newest wins, nothing newer is lost, pauses grow, one works at a time."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from dnc.errors import NoPrivilege
from dnc.hooks.queue import LONGEST_PAUSE_S, Move, Queue
from dnc.host.files import Files
from dnc.log import Log


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(str(tmp_path / "moves"), Files(Log("test", stream=io.StringIO()), False))


def move(destination: str = "node2", since: float = 1000.0, vm: int = 42) -> Move:
    return Move(vm, "node1", destination, since)


def test_the_newest_move_of_a_vm_is_what_waits(queue: Queue) -> None:
    assert queue.all() == [] and queue.read(42) is None
    queue.put(move())
    queue.put(move("node3", 1001.0))
    queue.put(move("node4", 999.0))
    queue.put(move(vm=7, since=5.0))
    assert [(one.vm, one.destination) for one in queue.all()] == [(7, "node2"), (42, "node3")]
    assert os.stat(queue.directory).st_mode & 0o077 == 0


def test_a_newer_move_is_not_removed_with_the_one_that_was_done(queue: Queue) -> None:
    old, new = move(), move("node3", 1001.0)
    queue.put(old)
    queue.put(new)
    assert not queue.replace(old, None) and not queue.replace(old, old.postponed(2000.0, "later"))
    assert queue.read(42) == new
    assert queue.replace(new, new.postponed(2000.0, "later"))
    assert queue.replace(new, None) and queue.read(42) is None


def test_pauses_double_up_to_ten_minutes() -> None:
    one, pauses = move(), []
    for _ in range(40):
        one = one.postponed(0.0, "away")
        pauses.append(one.due)
    assert pauses[:3] == [5.0, 10.0, 20.0] and pauses[-1] == LONGEST_PAUSE_S and one.attempts == 40


@pytest.mark.parametrize("text", ["", "{", "[]", '{"vm": 42}', '{"vm": 41, "source": "", "destination": "a", "since": 1'
                                  ', "attempts": 0, "due": 0, "why": ""}',
                                  json.dumps({**move()._asdict(), "destination": "no host; reboot"})])
def test_a_damaged_file_counts_as_none(queue: Queue, text: str) -> None:
    queue.put(move(vm=7))
    Path(queue.directory, "42.move").write_text(text)
    Path(queue.directory, "strange.move").write_text("{}")
    assert [one.vm for one in queue.all()] == [7]
    queue.put(move())
    assert [one.vm for one in queue.all()] == [7, 42] or [one.vm for one in queue.all()] == [42, 7]


def test_one_works_on_a_vm_at_a_time(queue: Queue) -> None:
    with queue.working(42) as mine:
        assert mine
        child = os.fork()
        if child == 0:
            with queue.working(42) as same, queue.working(43) as other:
                os._exit(int(same) + 2 * int(other))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    with queue.working(42) as mine:
        assert mine


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    queue = Queue(str(tmp_path / "file" / "moves"), Files(Log("test", stream=io.StringIO()), False))
    with pytest.raises(Exception, match="file/moves"):
        queue.put(move())
    if os.geteuid() != 0:
        with pytest.raises(NoPrivilege):
            Queue("/proc/moves", Files(Log("test", stream=io.StringIO()), False)).put(move())
