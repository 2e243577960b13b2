"""What the two backends have in common: volumes by name in one pool, sizes in bytes, never fuller than allowed."""

from __future__ import annotations

import os
import stat
from typing import Callable, Dict, Mapping, NamedTuple, Optional, Protocol, Tuple

from ..command import Runner
from ..errors import NoSpace, NotFound
from ..grammar import PoolSpec
from .waiting import Patience

DEVICE_TIMEOUT_S = 30.0
# udev and blkid hold a fresh device for moments, DRBD lets go of one a moment after `down`.
RELEASE_TIMEOUT_S = 20.0


# Names around a revert: the volume to be, and the one that was.
NEXT = ".next"
OLD = ".old"
# Clones of snapshots while a backup reads them: the one that is saved, and the one that it is compared with.
BACKUP = ".backup"
BEFORE = ".before"


class Snapshot(NamedTuple):
    """One snapshot of a volume. bytes: the volume's size then; used: what only the snapshot holds, None if the tool
    does not know; proof: why the snapshots of all members are equal, None while nobody has said so."""

    bytes: int
    used: Optional[int]
    proof: Optional[str]

    def to_json(self) -> Dict[str, object]:
        """As in the answer of `snapshots`."""
        return dict(self._asdict())


class Snapshots(Protocol):
    """A volume's snapshots, named by labels (grammar.parse_snapshot). A tree: each lives without its parents."""

    def list(self, name: str) -> Dict[str, Snapshot]:
        """All of a volume by label."""
        ...

    def create(self, name: str, label: str) -> None:
        """Exactly one command, since guests wait meanwhile. Raises Conflict, NoSpace, NotFound."""
        ...

    def record_proof(self, name: str, label: str, proof: str) -> None:
        """All members have this snapshot, and they are equal."""
        ...

    def remove(self, name: str, label: str) -> bool:
        """Remove one, also one with children; False when absent."""
        ...

    def clone(self, name: str, label: str, target: str, tags: Mapping[str, str]) -> int:
        """A writable copy called `target`; its bytes. Raises NotFound, Conflict, NoSpace."""
        ...

    def swap(self, name: str) -> None:
        """<name>.next takes the place of <name>, which becomes <name>.old. Raises Busy (held open)."""
        ...

    def swap_back(self, name: str) -> None:
        """<name>.old is <name> again, however much of the swap was done."""
        ...

    def discard(self, name: str, suffix: str = NEXT) -> None:
        """Remove <name>.next, or what else bears the disk's name and a suffix; absent is success."""
        ...

    def settle(self, name: str) -> None:
        """Drop what an accomplished or interrupted revert left; a volume that lost its name gets it back."""
        ...


class Volume(NamedTuple):
    """One zvol or thin volume; size in bytes."""

    pool: str
    name: str
    bytes: int
    device: str

    def to_json(self) -> Dict[str, object]:
        """As in the answer of `survey`."""
        return dict(self._asdict())


class Space(NamedTuple):
    """Bytes of a pool as it would be filled; fill in percent also counts a thin pool's metadata."""

    total: int
    used: int
    free: int
    fill: float

    def to_json(self) -> Dict[str, float]:
        """As in the answer of `survey`."""
        return {"total": self.total, "used": self.used, "free": self.free, "fill": round(self.fill, 2)}


class Surroundings(NamedTuple):
    """What a pool needs of its host. devices: /dev; block_sizes: /sys/class/block; fill_limit in percent.

    last_fill: the fill that monitoring saw of late, in percent, by pool; None when that is too long ago.
    """

    runner: Runner
    patience: Patience
    devices: str
    block_sizes: str
    fill_limit: int
    last_fill: Callable[[str], Optional[float]] = lambda pool: None


class Pool(Protocol):
    """A pool on this host."""

    spec: PoolSpec

    @property
    def snapshots(self) -> Snapshots:
        """The snapshots of its volumes."""
        ...

    def device(self, name: str) -> str:
        """Path of a volume's device node, whether it exists or not."""
        ...

    def find(self, name: str) -> Optional[Volume]:
        """The volume if its device is there; no process is started."""
        ...

    def volumes(self) -> Dict[str, int]:
        """Bytes of every volume in the pool by name. Asks the tool."""
        ...

    def tags(self, name: str) -> Dict[str, str]:
        """What was recorded at creation (kind, vm, origin). Asks the tool. Raises NotFound."""
        ...

    def needed_by(self, name: str) -> Tuple[str, ...]:
        """VMs' disks that can't live without this volume, and so forbid its removal. Asks the tool."""
        ...

    def create_volume(self, name: str, size: int, tags: Mapping[str, str]) -> Volume:
        """A volume of at least `size` bytes that reads as zeros. Raises Conflict, NoSpace, NotFound."""
        ...

    def clone_volume(self, origin: str, name: str, tags: Mapping[str, str]) -> Volume:
        """A writable copy of `origin` as it is now. Raises Conflict, NoSpace, NotFound (no such origin)."""
        ...

    def ensure_volume_size(self, name: str, size: int) -> Volume:
        """Grow to at least `size` bytes; never shrinks. New space reads as zeros. Raises NoSpace, NotFound."""
        ...

    def remove_volume(self, name: str) -> bool:
        """Remove it and what cloning left at its origin; False when absent. Raises Busy (held, or has clones)."""
        ...

    def space(self, *, fresh: bool = True) -> Space:
        """Fill of the pool; fresh=False takes the answer that this session already has."""
        ...

    def ensure_device(self, name: str) -> str:
        """Wait until udev made the device node. Raises TimedOut."""
        ...


def device_bytes(path: str, block_sizes: str) -> int:
    """Size of a block device (from sysfs, without opening it) or of a file."""
    status = os.stat(path)
    if stat.S_ISBLK(status.st_mode):
        with open(f"{block_sizes}/{os.path.basename(os.path.realpath(path))}/size", encoding="ascii") as stream:
            return int(stream.read()) * 512
    return status.st_size


def found(spec: PoolSpec, name: str, device: str, around: Surroundings) -> Optional[Volume]:
    """The volume behind a device path, None when the path leads nowhere."""
    try:
        return Volume(str(spec), name, device_bytes(device, around.block_sizes), device)
    except OSError:
        return None


def existing(pool: Pool, name: str) -> Volume:
    """The volume with its device, which after a boot may have to be made first. Raises NotFound, TimedOut."""
    volume = pool.find(name)
    if volume is None:
        pool.tags(name)  # what the tool does not know either is not there
        pool.ensure_device(name)
        volume = pool.find(name)
    if volume is None:
        raise NotFound(f"{name} does not exist in {pool.spec}", hint="is the pool imported, the volume active?")
    return volume


# A clone takes next to nothing: well below the limit, what monitoring saw of late will do, and saves a process.
_FILL_MARGIN = 5


def refuse_when_full(pool: Pool, around: Surroundings, *, clone: bool) -> None:
    """Raises NoSpace above POOL_FILL_LIMIT: a full pool stops every guest on it, not only the new one."""
    limit = around.fill_limit
    seen = around.last_fill(str(pool.spec)) if clone else None
    if seen is not None and seen < limit - _FILL_MARGIN:
        return
    space = pool.space(fresh=False)
    if space.fill >= limit:
        raise NoSpace(
            f"pool {pool.spec} is {space.fill:.0f} % full, the limit is {limit} %",
            hint="remove volumes, add disks, or raise POOL_FILL_LIMIT",
        )


def await_device(around: Surroundings, path: str, again: Callable[[], None]) -> str:
    """Wait for a device node; udev events get lost now and then, so half-way `again` provokes a new one."""
    asked = around.patience.now()
    provoked = False

    def there() -> Optional[str]:
        nonlocal provoked
        if os.path.exists(path):
            return path
        if not provoked and around.patience.now() - asked > DEVICE_TIMEOUT_S / 3:
            provoked = True
            again()
        return None

    if around.runner.dry_run:
        return path
    return around.patience.until(
        there, timeout=DEVICE_TIMEOUT_S, what=f"{path} did not appear", interval=0.02,
        hint="is udevd running? udevadm settle",
    )


def split_thin(spec: PoolSpec) -> Tuple[str, str]:
    """(volume group, thin pool)."""
    group, _, pool = spec.name.partition("/")
    return group, pool
