"""Volumes as thin LVs in one thin pool."""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Sequence, Tuple

from ..errors import Busy, NotFound, ToolFailed, Unsafe
from ..grammar import PoolSpec
from ..tools import lvm
from .pools import (
    RELEASE_TIMEOUT_S,
    Space,
    Surroundings,
    Volume,
    await_device,
    existing,
    found,
    refuse_when_full,
    split_thin,
)
from .thin_snapshots import ThinSnapshots


class ThinPool:
    """One thin pool. LVM reads its metadata from the disks, so questions too go through sudo."""

    def __init__(self, spec: PoolSpec, around: Surroundings) -> None:
        self.spec = spec
        self._around = around
        self._group, self._pool = split_thin(spec)
        self._space: Optional[Space] = None
        self.snapshots = ThinSnapshots(self._group, around, lambda: self._listing(self._group, str(spec)))

    def _run(self, argv: Sequence[str], name: str, *, changes: bool = True) -> str:
        try:
            return self._around.runner.run(argv, privileged=True, changes=changes).stdout
        except ToolFailed as error:
            raise lvm.explain(error, name) from None

    def device(self, name: str) -> str:
        """/dev/<volume group>/<name>."""
        return f"{self._around.devices}/{self._group}/{name}"

    def find(self, name: str) -> Optional[Volume]:
        """See Pool."""
        return found(self.spec, name, self.device(name), self._around)

    def _listing(self, target: str, name: str) -> Dict[str, lvm.ThinVolume]:
        return lvm.parse_listing(self._run(lvm.listing(target), name, changes=False), self._pool)

    def volumes(self) -> Dict[str, int]:
        """See Pool."""
        return {name: volume.bytes for name, volume in self._listing(self._group, str(self.spec)).items()}

    def tags(self, name: str) -> Dict[str, str]:
        """See Pool."""
        volume = self._listing(f"{self._group}/{name}", name).get(name)
        if volume is None:
            raise NotFound(f"{name} does not exist in {self.spec}")
        return volume.tags

    def needed_by(self, name: str) -> Tuple[str, ...]:
        """See Pool. A thin snapshot needs its origin no more."""
        return ()

    def space(self, *, fresh: bool = True) -> Space:
        """See Pool. Raises Unsafe when the pool does not zero new chunks: replicas would differ in unwritten places."""
        if fresh or self._space is None:
            state = lvm.parse_pool(self._run(lvm.pool_state(self._group, self._pool), str(self.spec), changes=False))
            if not state.zeroing:
                raise Unsafe(
                    f"thin pool {self.spec.name} does not zero new chunks",
                    hint=f"lvchange --zero y {self.spec.name}",
                )
            used = int(state.bytes * state.data_percent / 100)
            self._space = Space(state.bytes, used, state.bytes - used, max(state.data_percent, state.metadata_percent))
        return self._space

    def ensure_device(self, name: str) -> str:
        """See Pool."""
        return await_device(self._around, self.device(name), lambda: self._activate(name))

    def _activate(self, name: str) -> None:
        self._run(lvm.activate(self._group, name), name)

    def create_volume(self, name: str, size: int, tags: Mapping[str, str]) -> Volume:
        """See Pool. LVM rounds up to whole extents, so the size is read from the device."""
        refuse_when_full(self, self._around, clone=False)
        self._run(lvm.create(self._group, self._pool, name, size, tags), name)
        return self._made(name, size)

    def _made(self, name: str, size: int) -> Volume:
        if self._around.runner.dry_run:
            return Volume(str(self.spec), name, size, self.device(name))
        self.ensure_device(name)
        return existing(self, name)

    def clone_volume(self, origin: str, name: str, tags: Mapping[str, str]) -> Volume:
        """See Pool."""
        refuse_when_full(self, self._around, clone=True)
        size = existing(self, origin).bytes
        self._run(lvm.snapshot(self._group, origin, name, tags), name)
        return Volume(str(self.spec), name, size, self.device(name))

    def ensure_volume_size(self, name: str, size: int) -> Volume:
        """See Pool."""
        volume = existing(self, name)
        if volume.bytes >= size:
            return volume
        refuse_when_full(self, self._around, clone=False)
        self._run(lvm.extend(self._group, name, size), name)
        return existing(self, name)

    def remove_volume(self, name: str) -> bool:
        """See Pool. One command with its snapshots; a copy lives on when its origin goes, so nothing can need it."""
        said = self._around.patience.insist(
            lambda: self._run(lvm.remove_family(self._group, name), name), Busy, timeout=RELEASE_TIMEOUT_S
        )
        return f'"{name}" successfully removed' in said
