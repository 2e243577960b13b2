"""Operations on volumes and on the data in them; operations.py says what each takes and answers."""

from __future__ import annotations

from typing import Callable, Dict, Optional

from ..errors import BadInput, Busy, Conflict, DncError, NoSpace, NotFound, Unsafe
from ..grammar import PoolSpec
from . import arguments as a
from .pools import Pool, Volume
from .work import Operation, Reply, Work, offer


def create_volume(work: Work, pool: PoolSpec, name: str, bytes: int, tags: Dict[str, str]) -> Reply:
    """A new volume that reads as zeros."""
    place = work.host.pool(pool)
    volume = _make(work, place, name, lambda: place.create_volume(name, bytes, tags))
    return {"bytes": volume.bytes, "device": volume.device}


def clone_volume(
    work: Work, pool: PoolSpec, origin: str, name: str, tags: Dict[str, str], bytes: int = 0, snapshot: str = ""
) -> Reply:
    """A copy of a volume, or of its snapshot, grown if asked.

    The origin keeps still: nobody can bring it up, or remove its snapshots, while we share its lock.
    """
    work.share(origin)
    place = work.host.pool(pool)

    def build() -> Volume:
        if not snapshot:
            return place.clone_volume(origin, name, tags)
        size = place.snapshots.clone(origin, snapshot, name, tags)
        return Volume(str(pool), name, size, place.device(name))

    volume = _make(work, place, name, build)
    grown = volume
    if bytes > volume.bytes and not work.host.runner.dry_run:
        place.ensure_device(name)
        grown = place.ensure_volume_size(name, bytes)
    return {
        "bytes": grown.bytes, "origin_bytes": volume.bytes, "device": volume.device,
        "grown": grown.bytes > volume.bytes,
    }


def _make(work: Work, pool: Pool, name: str, build: Callable[[], Volume]) -> Volume:
    """Build a volume; what a killed action left of the same name goes first, and only that."""
    work.own(name)
    spec = work.host.resource_files.find(name)
    if spec is not None and spec.state == "ready":
        raise Conflict(f"{name} exists already", hint="it is complete and holds data: remove it first")
    if pool.find(name) is not None:
        _remove_leftover(work, pool, name)
    with work.undo.around(f"volume {name}", lambda: pool.remove_volume(name), untouched=(Conflict, NoSpace, NotFound)):
        try:
            return build()
        except Conflict:
            # A volume whose device node is missing is seen only by the tool itself.
            _remove_leftover(work, pool, name)
            return build()


def _remove_leftover(work: Work, pool: Pool, name: str) -> None:
    """Raises Conflict when the volume was not made by dnc."""
    if "kind" not in pool.tags(name):
        raise Conflict(f"{name} in {pool.spec} was not made by dnc", hint="look at it, rename it")
    work.host.log.info(f"{name}: remove what an interrupted action left")
    work.host.resources.ensure_down(name)
    pool.remove_volume(name)


def ensure_volume_size(work: Work, pool: PoolSpec, name: str, bytes: int) -> Reply:
    """Grow a volume."""
    work.own(name)
    return {"bytes": work.host.pool(pool).ensure_volume_size(name, bytes).bytes}


def remove_volume(work: Work, pool: PoolSpec, name: str) -> Reply:
    """Remove a volume; its resource must be down."""
    work.own(name)
    work.devices.close(name)
    spec = work.host.resource_files.find(name)
    up = spec is not None and spec.replicated and work.host.resources.status(name) is not None
    if up and not work.host.runner.dry_run:
        raise Busy(f"{name} is up", hint=f"drbdadm down {name}")
    return {"removed": work.host.pool(pool).remove_volume(name)}


def write(
    work: Work, resource: str, offset: int, length: int, raw: bytes, quiet: bool = False, packed: int = 0
) -> Reply:
    """Write raw bytes; a quiet failure is kept for the next flush."""
    try:
        if work.failed_write is None:
            work.devices.write(resource, offset, _unpacked(raw, packed) if packed else raw)
    except DncError as error:
        if not quiet:
            raise
        work.failed_write = error
    return None


def _unpacked(raw: bytes, size: int) -> bytes:
    import zlib  # only what comes over slow networks is compressed

    try:
        data = zlib.decompressobj().decompress(raw, size + 1)
    except zlib.error as error:
        raise BadInput(f"compressed data are damaged: {error}") from None
    if len(data) != size:
        raise BadInput(f"compressed data hold {len(data)} bytes or more, not {size}")
    return data


def flush(work: Work, resource: str) -> Reply:
    """Everything written is on the members' disks, or the failure."""
    failed, work.failed_write = work.failed_write, None
    if failed is not None:
        raise failed
    return {"bytes": work.devices.flush(resource)}


def read(work: Work, resource: str, offset: int, length: int) -> Reply:
    """Raw bytes of a disk."""
    data = work.devices.read(resource, offset, length)
    return {"length": len(data)}, data


def format(work: Work, resource: str, filesystem: str) -> Reply:
    """Make a file system on a disk that is being made; never on one that is complete."""
    work.own(resource)
    if work.host.resource_files.get(resource).state != "making":
        raise Unsafe(f"{resource} is complete: it is not formatted again")
    work.devices.format(resource, filesystem)
    return None


def read_volume(work: Work, resource: str, offset: int, length: int) -> Reply:
    """Raw bytes of a replica that is down, metadata too; zeros are not sent.

    Nobody can bring it up while we share its lock.
    """
    work.share(resource)
    data = work.devices.read_volume(resource, offset, length)
    if not data.strip(b"\0"):
        return {"length": len(data), "zeros": True}
    return {"length": len(data), "zeros": False}, data


def note_copy(work: Work, resource: str, host: str, current: bool) -> Reply:
    """Another host holds this image's content. It stays noted: who removes the image has to know."""
    work.share(resource)
    work.host.journal.note_copy(resource, host, current)
    return None


def describe_lock(work: Work, resource: str, text: str) -> Reply:
    """What others read who wait for the lock."""
    work.host.locks.describe(resource, text)
    return None


def digest(work: Work, resource: str, length: int = 0, whole: bool = False) -> Reply:
    """Checksum of the local replica."""
    checksum, size = work.devices.digest(resource, length, whole=whole)
    return {"sha256": checksum, "bytes": size}


def zero_old_metadata(work: Work, resource: str, to: int, slots: Optional[int] = None, **start: int) -> Reply:
    """Zero what was metadata before the volume grew (`from` is a word of Python)."""
    work.own(resource)
    work.devices.zero_old_metadata(resource, start["from"], to, slots)
    return None


OPERATIONS: Dict[str, Operation] = {
    "create_volume": offer(create_volume, pool=a.pool, name=a.resource, bytes=a.number, tags=a.tags),
    "clone_volume": offer(
        clone_volume, pool=a.pool, origin=a.resource, name=a.resource, bytes_=a.number, tags=a.tags,
        snapshot_=a.snapshot,
    ),
    "ensure_volume_size": offer(ensure_volume_size, pool=a.pool, name=a.resource, bytes=a.number),
    "remove_volume": offer(remove_volume, pool=a.pool, name=a.resource),
    "write": offer(write, True, resource=a.resource, offset=a.number, length=a.raw_length, quiet_=a.flag,
                   packed_=a.raw_length),
    "flush": offer(flush, resource=a.resource),
    "read": offer(read, resource=a.resource, offset=a.number, length=a.raw_length),
    "format": offer(format, resource=a.resource, filesystem=a.filesystem),
    "read_volume": offer(read_volume, resource=a.resource, offset=a.number, length=a.raw_length),
    "note_copy": offer(note_copy, resource=a.resource, host=a.host, current=a.flag),
    "describe_lock": offer(describe_lock, resource=a.resource, text=a.text),
    "digest": offer(digest, resource=a.resource, length_=a.number, whole_=a.flag),
    "zero_old_metadata": offer(
        zero_old_metadata, resource=a.resource, from__=a.number, to=a.number, slots_=a.number
    ),
}
