"""ZFS images that are deleted while clones of them live: out of the way at once, gone with their last clone.

A ZFS clone cannot live without its origin. So the doomed zvol is renamed to `gone-<name>-<number>`, which is no name
of a disk, and its snapshots are marked to go with their last clone (`zfs destroy -d`). What is left, a zvol without
snapshots, goes when the next disk or image does. Every step can be killed and is repeated by the next sweep.
"""

from __future__ import annotations

import os
from typing import Callable, List, Sequence

from ..errors import Busy, DncError, NotFound
from ..tools import zfs

PREFIX = "gone-"
Act = Callable[[Sequence[str], str], object]
Ask = Callable[[Sequence[str], str], str]


class ZfsTombs:
    """Below one dataset. act: a command that changes something, ask: one that does not; both raise typed errors."""

    def __init__(self, parent: str, act: Act, ask: Ask) -> None:
        self._parent = parent
        self._act = act
        self._ask = ask

    def bury(self, name: str) -> None:
        """Take a volume out of the way of its name, for its clones to live on. Raises NotFound, Busy (held open)."""
        tomb = f"{PREFIX}{name}-{os.urandom(4).hex()}"
        self._act(zfs.rename(f"{self._parent}/{name}", f"{self._parent}/{tomb}"), name)
        self._finish(tomb)

    def sweep(self) -> None:
        """Remove the buried volumes that no clone needs any more; one may have needed another."""
        found = [dataset.rpartition("/")[2] for dataset in zfs.parse_listing(self._ask(zfs.listing(self._parent), ""))]
        tombs = [short for short in found if short.startswith(PREFIX)]
        while tombs:
            left = [tomb for tomb in tombs if not self._finish(tomb)]
            if len(left) == len(tombs):
                return
            tombs = left

    def _finish(self, tomb: str) -> bool:
        """As far as clones allow: what they need waits for the next sweep, and so does what udev looks into."""
        dataset = f"{self._parent}/{tomb}"
        try:
            for snapshot in self._snapshots(dataset):
                self._act(zfs.destroy_deferred(snapshot), tomb)
            self._act(zfs.destroy(dataset), tomb)
        except NotFound:
            return True
        except Busy:
            return False
        except DncError as error:
            if "has children" not in str(getattr(error, "stderr", "")):
                raise
            return False
        return True

    def _snapshots(self, dataset: str) -> List[str]:
        return self._ask(zfs.snapshot_names(dataset), dataset).split()
