"""Snapshots of thin volumes: LVs beside the volume, X.snap-<id>, without a device; each lives without its origin."""

from __future__ import annotations

from typing import Callable, Dict, Mapping, Sequence

from ..errors import Busy, NotFound, ToolFailed
from ..tools import lvm
from .pools import NEXT, OLD, RELEASE_TIMEOUT_S, Snapshot, Surroundings


class ThinSnapshots:
    """Snapshots of the volumes of one thin pool. listing: all its volumes."""

    def __init__(self, group: str, around: Surroundings, listing: Callable[[], Dict[str, lvm.ThinVolume]]) -> None:
        self._group = group
        self._around = around
        self._listing = listing

    def _change(self, argv: Sequence[str], name: str) -> None:
        try:
            self._around.runner.run(argv, privileged=True)
        except ToolFailed as error:
            raise lvm.explain(error, name) from None

    def _insist(self, argv: Sequence[str], name: str) -> None:
        """udev looks into a fresh device for moments."""
        self._around.patience.insist(lambda: self._change(argv, name), Busy, timeout=RELEASE_TIMEOUT_S)

    def list(self, name: str) -> Dict[str, Snapshot]:
        """See Snapshots. What a snapshot alone holds, LVM does not know."""
        start = _snapshot_name(name, "")
        return {
            volume[len(start):]: Snapshot(found.bytes, None, found.tags.get("proof"))
            for volume, found in self._listing().items() if volume.startswith(start)
        }

    def create(self, name: str, label: str) -> None:
        """See Snapshots."""
        argv = lvm.freeze(self._group, name, _snapshot_name(name, label), {})
        self._change(argv, f"snapshot {label} of {name}")

    def record_proof(self, name: str, label: str, proof: str) -> None:
        """See Snapshots."""
        argv = lvm.add_tags(self._group, _snapshot_name(name, label), {"proof": proof})
        self._change(argv, f"snapshot {label} of {name}")

    def remove(self, name: str, label: str) -> bool:
        """See Snapshots."""
        return self._remove(_snapshot_name(name, label))

    def _remove(self, volume: str) -> bool:
        try:
            self._insist(lvm.remove(self._group, volume), volume)
        except NotFound as error:
            if "volume group" in error.what:
                raise
            return False
        return True

    def clone(self, name: str, label: str, target: str, tags: Mapping[str, str]) -> int:
        """See Snapshots."""
        found = self._listing().get(_snapshot_name(name, label))
        if found is None:
            raise NotFound(f"{name} has no snapshot {label} here")
        self._change(lvm.snapshot(self._group, found.name, target, tags), target)
        return found.bytes

    def swap(self, name: str) -> None:
        """See Snapshots."""
        self._insist(lvm.rename(self._group, name, name + OLD), name)
        self._insist(lvm.rename(self._group, name + NEXT, name), name)

    def swap_back(self, name: str) -> None:
        """See Snapshots."""
        volumes = self._listing()
        if name + OLD not in volumes:
            return
        if name in volumes:
            self._insist(lvm.rename(self._group, name, name + NEXT), name)
        self._insist(lvm.rename(self._group, name + OLD, name), name)

    def discard(self, name: str, suffix: str = NEXT) -> None:
        """See Snapshots."""
        self._remove(name + suffix)

    def settle(self, name: str) -> None:
        """See Snapshots."""
        volumes = self._listing()
        if name not in volumes and name + OLD in volumes:
            self._insist(lvm.rename(self._group, name + OLD, name), name)
        elif name + OLD in volumes:
            self._remove(name + OLD)
        if name + NEXT in volumes:
            self._remove(name + NEXT)


def _snapshot_name(name: str, label: str) -> str:
    return f"{name}.snap-{label}"
