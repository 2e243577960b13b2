"""Volumes as sparse zvols below one dataset; a clone hangs on the snapshot <image>@<clone>."""

from __future__ import annotations

import os
from typing import Dict, Mapping, Optional, Sequence, Tuple

from ..errors import Busy, Conflict, DncError, NotFound, ToolFailed
from ..grammar import PoolSpec, ResourceKind, parse_resource
from ..tools import zfs
from .pools import RELEASE_TIMEOUT_S, Space, Surroundings, Volume, await_device, existing, found, refuse_when_full
from .zfs_snapshots import ZfsSnapshots


class ZfsPool:
    """One dataset. Questions need no privilege, changes go through sudo."""

    def __init__(self, spec: PoolSpec, around: Surroundings) -> None:
        self.spec = spec
        self._around = around
        self._space: Optional[Space] = None
        self.snapshots = ZfsSnapshots(spec.name, around, self._destroy)

    def _dataset(self, name: str) -> str:
        return f"{self.spec.name}/{name}"

    def _change(self, argv: Sequence[str], name: str) -> None:
        try:
            self._around.runner.run(argv, privileged=True)
        except ToolFailed as error:
            raise zfs.explain(error, name) from None

    def _ask(self, argv: Sequence[str], name: str) -> str:
        try:
            return self._around.runner.run(argv, changes=False).stdout
        except ToolFailed as error:
            raise zfs.explain(error, name) from None

    def device(self, name: str) -> str:
        """/dev/zvol/<dataset>/<name>."""
        return f"{self._around.devices}/zvol/{self._dataset(name)}"

    def find(self, name: str) -> Optional[Volume]:
        """See Pool."""
        return found(self.spec, name, self.device(name), self._around)

    def volumes(self) -> Dict[str, int]:
        """See Pool."""
        listing = self._ask(zfs.listing(self.spec.name), str(self.spec))
        return {dataset.rsplit("/", 1)[-1]: zvol.bytes for dataset, zvol in zfs.parse_listing(listing).items()}

    def tags(self, name: str) -> Dict[str, str]:
        """See Pool."""
        return zfs.parse_tags(self._ask(zfs.read_tags(self._dataset(name)), name))

    def needed_by(self, name: str) -> Tuple[str, ...]:
        """See Pool. An image cloned from an image can take over; anything else, also foreign, can't."""
        return self.snapshots.needed_by(name)

    def space(self, *, fresh: bool = True) -> Space:
        """Of the whole zpool, since datasets share it; of the dataset alone, if its quota leaves less."""
        if fresh or self._space is None:
            used, free = zfs.parse_space(self._ask(zfs.pool_space(self.spec.name), str(self.spec)))
            self._space = Space(used + free, used, free, 100.0 * used / max(1, used + free))
        return self._space

    def ensure_device(self, name: str) -> str:
        """See Pool."""
        return await_device(self._around, self.device(name), lambda: self._toggle(name))

    def _toggle(self, name: str) -> None:
        self._change(zfs.set_mode(self._dataset(name), "none"), name)
        self._change(zfs.set_mode(self._dataset(name), "dev"), name)

    def create_volume(self, name: str, size: int, tags: Mapping[str, str]) -> Volume:
        """See Pool. The answer does not wait for the device node."""
        refuse_when_full(self, self._around, clone=False)
        self._change(zfs.create(self._dataset(name), size, tags), name)
        return Volume(str(self.spec), name, size, self.device(name))

    def clone_volume(self, origin: str, name: str, tags: Mapping[str, str]) -> Volume:
        """See Pool."""
        refuse_when_full(self, self._around, clone=True)
        size = existing(self, origin).bytes
        self._snapshot(origin, name)
        try:
            self._change(zfs.clone(self._dataset(origin), name, self._dataset(name), tags), name)
        except DncError:
            self._remove_snapshot(origin, name)
            raise
        return Volume(str(self.spec), name, size, self.device(name))

    def _snapshot(self, origin: str, name: str) -> None:
        """A snapshot without its clone was left by a killed action: its content may be old, so make it new."""
        try:
            self._change(zfs.snapshot(self._dataset(origin), name), origin)
        except Conflict:
            try:
                self._change(zfs.destroy_snapshot(self._dataset(origin), name), f"{origin}@{name}")
            except Busy:
                raise Conflict(f"{name} already exists", hint="see zfs list -r -t all " + self.spec.name) from None
            self._change(zfs.snapshot(self._dataset(origin), name), origin)

    def ensure_volume_size(self, name: str, size: int) -> Volume:
        """See Pool."""
        volume = existing(self, name)
        if volume.bytes >= size:
            return volume
        refuse_when_full(self, self._around, clone=False)
        self._change(zfs.set_size(self._dataset(name), size), name)
        return volume._replace(bytes=size)

    def remove_volume(self, name: str) -> bool:
        """See Pool. What others need of it stays out of sight until the last of them goes."""
        resource = parse_resource(name)
        if resource.kind is ResourceKind.IMAGE:
            return self.snapshots.dismantle(name)
        refusal = self._try_destroy(name)
        removed = self.snapshots.dismantle(name) if refusal is not None or self._has_branches(name) else True
        origin = self._dataset(f"one-{resource.image}@{name}")
        if resource.kind is ResourceKind.CLONE and not self.snapshots.remove_origin(origin):
            self.snapshots.sweep(name)
        return removed

    def _has_branches(self, name: str) -> bool:
        """Whether a volume that was restored left others of its name with snapshots: told by devices, no process."""
        directory, own = os.path.split(self.device(name))
        try:
            return any(entry.startswith(own + ".") for entry in os.listdir(directory))
        except FileNotFoundError:
            return False

    def _destroy(self, name: str) -> None:
        """Remove a zvol with snapshots that have no clones; absent is success. Raises Busy."""
        refusal = self._try_destroy(name)
        if refusal is not None and not isinstance(refusal, NotFound):
            raise refusal

    def _try_destroy(self, name: str) -> Optional[DncError]:
        """Destroy, also with snapshots that have no clones; NotFound or the Busy of dependent clones is returned."""
        argv = zfs.destroy(self._dataset(name))

        def once() -> Optional[DncError]:
            nonlocal argv
            try:
                self._around.runner.run(argv, privileged=True)
            except ToolFailed as error:
                if "has children" in error.stderr:
                    argv = zfs.destroy_with_snapshots(self._dataset(name))
                    raise Busy(f"{name} has snapshots", command=error.command) from None
                reason = zfs.explain(error, name)
                if zfs.dependents(error.stderr) or not isinstance(reason, Busy):
                    return reason
                raise reason from None
            return None

        refusal = self._around.patience.insist(once, Busy, timeout=RELEASE_TIMEOUT_S)
        if refusal is not None and not isinstance(refusal, (NotFound, Busy)):
            raise refusal
        return refusal

    def _remove_snapshot(self, origin: str, name: str) -> None:
        self.snapshots.remove_origin(f"{self._dataset(origin)}@{name}")
