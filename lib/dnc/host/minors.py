"""DRBD minors (and with them ports) of this host: race-free reservation, stale ones found out (design D4)."""

from __future__ import annotations

import os
from typing import Callable, Dict, Optional, Set, Tuple

from ..errors import Unsafe
from .files import Files, explain, read_text
from .locks import Locks


class Minors:
    """Reservations are files named by the minor, made with O_EXCL, holding the resource's name.

    in_files: (minor -> resource, port -> resource) of all resource files of the host.
    """

    def __init__(
        self, directory: str, sys_block: str, locks: Locks, files: Files,
        in_files: Callable[[], Tuple[Dict[int, str], Dict[int, str]]],
    ) -> None:
        self._directory = directory
        self._sys_block = sys_block
        self._locks = locks
        self._files = files
        self._in_files = in_files

    def _path(self, minor: int) -> str:
        return f"{self._directory}/{minor}"

    def _reserved(self) -> Dict[int, str]:
        if not os.path.isdir(self._directory):
            return {}
        return {
            int(name): (read_text(self._path(int(name))) or "").strip()
            for name in os.listdir(self._directory) if name.isdigit()
        }

    def _in_kernel(self) -> Set[int]:
        if not os.path.isdir(self._sys_block):
            return set()
        return {int(name[4:]) for name in os.listdir(self._sys_block) if name.startswith("drbd") and name[4:].isdigit()}

    def used(self) -> Tuple[int, ...]:
        """All minors taken on this host: by files, kernel or a living reservation."""
        files, _ = self._in_files()
        named = set(files.values())
        living = {minor for minor, name in self._reserved().items() if name in named or self._locks.taken(name)}
        return tuple(sorted(set(files) | self._in_kernel() | living))

    def reserve(self, name: str, minor: int, port: int) -> bool:
        """Take a minor for a locked resource; False when it is taken. Raises Unsafe without the resource's lock."""
        if not self._locks.held(name):
            raise Unsafe(f"{name} is not locked: no minor can be reserved for it")
        minors, ports = self._in_files()
        if minors.get(minor, name) != name or ports.get(port, name) != name:
            return False
        if minor not in minors and minor in self._in_kernel():
            return False
        if self._files.would(f"reserve minor {minor} for {name}"):
            return True
        return self._create(name, minor) or self._take_over(name, minor, set(minors.values()))

    def _create(self, name: str, minor: int) -> bool:
        path = self._path(minor)
        # The name is inside before the file is: nobody ever reads an empty reservation.
        passing = f"{self._directory}/.{minor}.{os.getpid()}.new"
        try:
            with open(passing, "w", encoding="ascii") as stream:
                stream.write(name + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            os.link(passing, path)
        except FileExistsError:
            return False
        except OSError as error:
            raise explain(error, path) from None
        finally:
            if os.path.exists(passing):
                os.unlink(passing)
        return True

    def _take_over(self, name: str, minor: int, named: Set[str]) -> bool:
        """A reservation whose resource has no file and no lock was left by a killed action."""
        holder = self._holder(minor)
        if holder == name:
            return True
        if holder in named:
            return False
        lock = self._locks.borrow(holder) if holder else None
        if holder and lock is None:
            return False
        try:
            if self._holder(minor) == holder:
                os.unlink(self._path(minor))
            return self._create(name, minor)
        except FileNotFoundError:
            return self._create(name, minor)
        finally:
            if lock is not None:
                os.close(lock)

    def _holder(self, minor: int) -> str:
        return (read_text(self._path(minor)) or "").strip()

    def release(self, name: str, minor: Optional[int] = None) -> None:
        """Drop the reservations of a resource, or one of them; absent is success."""
        for number, holder in self._reserved().items():
            if holder == name and minor in (None, number):
                self._files.remove(self._path(number))
