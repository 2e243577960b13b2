"""Moves that oned does not know yet: one small file a VM, so that nothing is lost when anything ends anywhere.

The newest move of a VM replaces older ones. Two locks: `working`, one a VM, held while oned is being told, so that two
runs never do it at once; and one for the files, held for a moment, so that a newer move is never removed with the
older one that was just done.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from ..config import Config
from ..errors import BadInput
from ..grammar import parse_host
from ..host.files import Files, explain

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 600.0
_END = ".move"


class Move(NamedTuple):
    """A domain that went to another host. source may be empty; times in seconds since the epoch; why it waits."""

    vm: int
    source: str
    destination: str
    since: float
    attempts: int = 0
    due: float = 0.0
    why: str = ""

    @property
    def name(self) -> str:
        """The domain."""
        return f"one-{self.vm}"

    def same(self, other: Optional[Move]) -> bool:
        """Whether both are one and the same event."""
        return other is not None and other[:4] == self[:4]

    def postponed(self, now: float, why: str) -> Move:
        """The same after one more vain attempt: pauses double up to ten minutes."""
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self.attempts, 20))
        return self._replace(attempts=self.attempts + 1, due=now + pause, why=why)


def queue_directory(config: Config) -> str:
    """HOOK_QUEUE of dncrc, else beside oneadmin's credentials."""
    return config.hook_queue or os.path.expanduser("~/.one/dnc_moves")


class Queue:
    """The files in one directory, made when the first move comes."""

    def __init__(self, directory: str, files: Files) -> None:
        self.directory = directory
        self._files = files

    def put(self, move: Move) -> None:
        """Write a move down; it replaces an older one of that VM. Raises NoSpace, NoPrivilege."""
        with self._locked():
            present = self.read(move.vm)
            if present is None or present.since <= move.since:
                self._files.write_record(self._path(move.vm), dict(move._asdict()))

    def read(self, vm: int) -> Optional[Move]:
        """What waits for a VM; a damaged file is told and counts as none."""
        return _parse(vm, self._files.read_record(self._path(vm)))

    def all(self) -> List[Move]:
        """Everything that waits, oldest first."""
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise explain(error, self.directory) from None
        numbers = [name[: -len(_END)] for name in names if name.endswith(_END)]
        found = [self.read(int(text)) for text in numbers if text.isascii() and text.isdigit()]
        return sorted((move for move in found if move is not None), key=lambda move: move.since)

    def replace(self, move: Move, by: Optional[Move]) -> bool:
        """Put `by`, or nothing, in the place of `move`; False when a newer one has taken that."""
        with self._locked():
            if not move.same(self.read(move.vm)):
                return False
            if by is None:
                self._files.remove(self._path(move.vm))
            else:
                self._files.write_record(self._path(move.vm), dict(by._asdict()))
            return True

    @contextmanager
    def working(self, vm: int) -> Iterator[bool]:
        """Whether we are the one that tells oned of this VM now; the lock, one byte of a file, is given back after."""
        descriptor = self._open(f"{self.directory}/working.lock")
        try:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, vm)
                mine = True
            except OSError:
                mine = False
            yield mine
        finally:
            os.close(descriptor)

    def _path(self, vm: int) -> str:
        return f"{self.directory}/{vm}{_END}"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = self._open(f"{self.directory}/files.lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _open(self, path: str) -> int:
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise explain(error, path) from None


def _parse(vm: int, record: Optional[Dict[str, Any]]) -> Optional[Move]:
    """A record of ours; anything else is none."""
    try:
        if record is None or record["vm"] != vm:
            return None
        source = str(record["source"])
        return Move(
            vm, parse_host(source) if source else "", parse_host(str(record["destination"])), float(record["since"]),
            int(record["attempts"]), float(record["due"]), str(record["why"]),
        )
    except (KeyError, TypeError, ValueError, BadInput):
        return None
