"""One lock a disk: flock on /var/lib/dnc/locks/<resource>.lock, gone with the process that holds it (design rule 7).

Shared: the disk must not change while it is held (an image being cloned). Exclusive: everything else.
"""

from __future__ import annotations

import fcntl
import os
from functools import partial
from typing import Dict, Iterable, Optional, Set

from ..errors import Busy, Unsafe
from .files import explain, read_text
from .waiting import Patience


class Locks:
    """The locks that this process holds."""

    def __init__(self, directory: str, patience: Patience) -> None:
        self._directory = directory
        self._patience = patience
        self._held: Dict[str, int] = {}
        self._shared: Set[str] = set()

    def held(self, name: str, *, shared: bool = False) -> bool:
        """Whether this process holds the lock of a disk; shared=True: or at least its shared lock."""
        return name in self._held and (shared or name not in self._shared)

    def names(self) -> Iterable[str]:
        """The disks locked by this process."""
        return tuple(self._held)

    def acquire(self, names: Iterable[str], timeout: float, holder: str, shared: Iterable[str] = ()) -> None:
        """Lock disks in the order of their names, those in `shared` together with others who only read.

        Raises Busy, telling who holds the lock, after `timeout` seconds; Unsafe where a shared lock would have to grow.
        """
        wanted = set(names)
        if wanted & self._shared:
            raise Unsafe(f"{min(wanted & self._shared)} is locked shared in this session", hint="lock it first")
        for name in sorted((wanted | set(shared)) - set(self._held)):
            self._held[name] = self._patience.insist(
                partial(self._take, name, holder, name not in wanted), Busy, timeout=timeout, interval=0.05
            )
            if name not in wanted:
                self._shared.add(name)

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}.lock"

    def _take(self, name: str, holder: str, shared: bool) -> int:
        descriptor = self._try(name, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        if descriptor is None:
            by = (read_text(self._path(name)) or "").strip() or "another action"
            raise Busy(f"{name} is locked by {by}", hint="wait until that action has ended, then try again")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{holder} (pid {os.getpid()})\n".encode(), 0)
        return descriptor

    def _try(self, name: str, kind: int = fcntl.LOCK_EX) -> Optional[int]:
        path = self._path(name)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise explain(error, path) from None
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            # The holder before us may have removed the file between our open and our lock.
            if os.path.exists(path) and os.fstat(descriptor).st_ino == os.stat(path).st_ino:
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        return None

    def describe(self, name: str, text: str) -> None:
        """Say what the lock is held for: who has to wait reads it."""
        descriptor = self._held.get(name)
        if descriptor is not None:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{text} (pid {os.getpid()})\n".encode(), 0)

    def taken(self, name: str) -> bool:
        """Whether any process, this one included, holds the lock now."""
        if name in self._held:
            return True
        if not os.path.exists(self._path(name)):
            return False
        descriptor = self._try(name)
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def borrow(self, name: str) -> Optional[int]:
        """Take a lock if nobody has it, to be given back with `os.close`; None when somebody has."""
        return None if name in self._held else self._try(name)

    def release(self) -> None:
        """Give all locks back. The files go too, which is safe for who holds the exclusive lock."""
        for name, descriptor in sorted(self._held.items()):
            if name not in self._shared or self._grow(descriptor):
                self._drop(name, descriptor)
            os.close(descriptor)
        self._held.clear()
        self._shared.clear()

    @staticmethod
    def _grow(descriptor: int) -> bool:
        """Whether nobody else shares the lock: then it is exclusive now."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _drop(self, name: str, descriptor: int) -> None:
        path = self._path(name)
        if os.path.exists(path) and os.stat(path).st_ino == os.fstat(descriptor).st_ino:
            os.unlink(path)
