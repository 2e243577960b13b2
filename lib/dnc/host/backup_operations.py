"""Operations on backups and on disks that are restored; operations.py says what each takes and answers."""

from __future__ import annotations

import os
from functools import partial
from typing import Dict, List, Optional

from ..errors import Conflict, NotFound, Unsafe
from ..tools import drbd
from . import arguments as a
from .backups import Run, Source, Target, leftovers
from .pools import BACKUP, BEFORE, refuse_when_full
from .snapshot_operations import TAGS, preparing
from .work import Operation, Reply, Work, offer

# A request ends after so long, done or not: then the frontend sees how far it is, and whether anybody still wants it.
_TURN_S = 2.0


def begin_backup(work: Work, vm: int, base: str, raw: bytes, length: int = 0) -> Reply:
    """A directory with nothing but vm.xml, and nobody else's."""
    host = work.host
    host.locks.acquire([f"backup-{vm}"], host.config.lock_timeout, work.action)
    links, path = work.backups.directory(base, vm)
    links.remove_directory(path)
    work.undo.push(f"directory {path}", partial(_remove, work, base, vm))
    links.ensure_directory(path)
    links.write(f"{path}/vm.xml", 0, raw, 0o640, True)
    return {"path": path}


def _remove(work: Work, base: str, vm: int) -> None:
    links, path = work.backups.directory(base, vm)
    links.remove_directory(path)
    above = os.path.dirname(path)
    # BACKUP_BASE_PATH has a directory for each VM that holds nothing else; a VM's own is not empty.
    if os.path.isdir(above) and not os.listdir(above) and not work.host.files.would(f"remove {above}"):
        os.rmdir(above)


def remove_backup(work: Work, vm: int, base: str) -> Reply:
    """Remove a VM's backup directory."""
    host = work.host
    host.locks.acquire([f"backup-{vm}"], host.config.lock_timeout, work.action)
    _remove(work, base, vm)
    return None


def sweep_backup(work: Work, resource: str, keep: List[str], room: bool = False) -> Reply:
    """Remove what earlier backups of this replica left, but for the snapshots to keep; the proofs of those."""
    work.own(resource)
    host = work.host
    pool = host.pool_of(host.resource_files.get(resource))
    work.backups.close(resource)
    for name in leftovers(list(pool.volumes()), resource):
        pool.snapshots.discard(resource, name[len(resource):])
    kept: Dict[str, Optional[str]] = {}
    for label, found in pool.snapshots.list(resource).items():
        if not label.startswith("backup"):
            continue
        if label in keep:
            kept[label] = found.proof
        else:
            pool.snapshots.remove(resource, label)
    if room:
        # A snapshot takes what the guest writes while it is copied, perhaps for hours.
        refuse_when_full(pool, host.surroundings, clone=False)
    return {"kept": kept}


def open_backup(
    work: Work, resource: str, snapshot: str, before: Optional[str] = None, before_bytes: int = 0
) -> Reply:
    """Make a snapshot readable, and the earlier one that it is compared with."""
    work.own(resource)
    host = work.host
    spec = host.resource_files.get(resource)
    pool = host.pool_of(spec)
    tags = {key: str(value) for key in TAGS for value in (getattr(spec, key),) if value is not None}
    for label, suffix in ((snapshot, BACKUP), (before, BEFORE)):
        if label is not None:
            step = partial(_discard, work, resource, suffix)
            with work.undo.around(f"volume {resource}{suffix}", step, untouched=(NotFound, Conflict)):
                pool.snapshots.clone(resource, label, resource + suffix, tags)
    if not host.runner.dry_run:
        work.backups.sources[resource] = Source(host, spec, before_bytes if before is not None else None)
    return {"bytes": spec.data_bytes}


def _discard(work: Work, resource: str, suffix: str) -> None:
    work.backups.close(resource)
    work.host.pool_of(work.host.resource_files.get(resource)).snapshots.discard(resource, suffix)


def close_backup(work: Work, resource: str, remove: Optional[str] = None) -> Reply:
    """Nobody reads the snapshot any more; it goes, too, if it is named."""
    work.own(resource)
    host = work.host
    pool = host.pool_of(host.resource_files.get(resource))
    compared = resource in work.backups.sources and work.backups.sources[resource].compares
    for suffix in (BACKUP, *((BEFORE,) if compared else ())):
        _discard(work, resource, suffix)
    if remove is not None:
        pool.snapshots.remove(resource, remove)
    return None


def begin_backup_file(work: Work, vm: int, base: str, disk: int, increment: int, bytes: int) -> Reply:
    """An empty disk.<disk>.<increment>."""
    links, directory = work.backups.directory(base, vm)
    path = links.inside(f"{directory}/disk.{disk}.{increment}")
    if not work.host.files.would(f"write {path}"):
        work.backups.targets[path] = Target(path, bytes)
    return {"path": path}


def copy_backup(work: Work, resource: str, path: str) -> Reply:
    """Go on copying a snapshot of this host into a file of this host, for a moment or to the end."""
    work.own(resource)
    if work.host.runner.dry_run:
        return {"done": True, "offset": 0, "data": 0}
    source, target = _source(work, resource), _target(work, path)
    deadline, offset = work.host.patience.now() + _TURN_S, 0
    while True:
        run = source.next()
        if run is None:
            return {"done": True, "offset": source.size, "data": target.finish()}
        target.put(run)
        offset = run.offset + run.length
        if work.host.patience.now() > deadline:
            return {"done": False, "offset": offset, "data": target.written}


def read_backup(work: Work, resource: str) -> Reply:
    """The next bytes of a snapshot that belong into its backup."""
    work.own(resource)
    if work.host.runner.dry_run:
        return {"done": True, "offset": 0, "length": 0, "zeros": False}, b""
    source = _source(work, resource)
    deadline = work.host.patience.now() + _TURN_S
    while True:
        run = source.next()
        if run is None:
            return {"done": True, "offset": source.size, "length": 0, "zeros": False}, b""
        if run.length or work.host.patience.now() > deadline:
            answer = {"done": False, "offset": run.offset, "length": run.length, "zeros": run.data is None}
            return answer, bytes(run.data or b"")


def write_backup(work: Work, path: str, offset: int, length: int, raw: bytes) -> Reply:
    """What another host has read into a file of this one; no raw bytes: zeros."""
    _target(work, path).put(Run(offset, length, raw))
    return None


def zero_backup(work: Work, path: str, offset: int, length: int) -> Reply:
    """Zeros, where an earlier increment has something else."""
    _target(work, path).put(Run(offset, length, None))
    return None


def end_backup_file(work: Work, path: str) -> Reply:
    """The file is whole."""
    return {"data": 0 if work.host.runner.dry_run else _target(work, path).finish()}


def _source(work: Work, resource: str) -> Source:
    if resource not in work.backups.sources:
        raise Unsafe(f"no snapshot of {resource} is open in this session")
    return work.backups.sources[resource]


def _target(work: Work, path: str) -> Target:
    if path not in work.backups.targets:
        raise Unsafe(f"{path} is not being written in this session")
    return work.backups.targets[path]


def prepare_restore(work: Work, resource: str) -> Reply:
    """An empty volume that is to take the place of the present one, of its size; it reads as zeros."""
    with preparing(work, resource) as (pool, spec, name, wanted, tags):
        made = pool.create_volume(name, wanted, tags)
        if not work.host.runner.dry_run:
            pool.ensure_device(name)
            if made.bytes != wanted:
                raise Unsafe(f"{name} has {made.bytes} bytes, not {wanted}", hint="is the pool as it was?")
            work.devices.open_next(resource, pool.device(name), drbd.data_end(made.bytes, spec.slots))
    return {"bytes": wanted}


def restored_digest(work: Work, resource: str) -> Reply:
    """What the prepared volume holds, once all is on the disk."""
    work.own(resource)
    checksum, size = work.devices.digest_next(resource)
    return {"sha256": checksum, "bytes": size}


OPERATIONS: Dict[str, Operation] = {
    "begin_backup": offer(begin_backup, True, vm=a.number, base=a.path, length=a.raw_length),
    "remove_backup": offer(remove_backup, vm=a.number, base=a.path),
    "sweep_backup": offer(sweep_backup, resource=a.resource, keep=a.snapshots, room_=a.flag),
    "open_backup": offer(
        open_backup, resource=a.resource, snapshot=a.snapshot, before_=a.snapshot, before_bytes_=a.number
    ),
    "close_backup": offer(close_backup, resource=a.resource, remove_=a.snapshot),
    "begin_backup_file": offer(
        begin_backup_file, vm=a.number, base=a.path, disk=a.number, increment=a.number, bytes=a.number
    ),
    "copy_backup": offer(copy_backup, resource=a.resource, path=a.path),
    "read_backup": offer(read_backup, resource=a.resource),
    "write_backup": offer(write_backup, True, path=a.path, offset=a.number, length=a.raw_length),
    "zero_backup": offer(zero_backup, path=a.path, offset=a.number, length=a.number),
    "end_backup_file": offer(end_backup_file, path=a.path),
    "prepare_restore": offer(prepare_restore, resource=a.resource),
    "restored_digest": offer(restored_digest, resource=a.resource),
}
