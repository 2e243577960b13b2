"""Operations on snapshots of disks; operations.py says what each takes and answers."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from functools import partial
from typing import Dict, Iterator, List, NamedTuple, Optional

from ..errors import Busy, NotFound, Unsafe
from ..tools.drbd import data_end
from ..tools.resource import ResourceSpec
from . import arguments as a
from .pools import DEVICE_TIMEOUT_S, NEXT, Pool, existing, refuse_when_full
from .work import Operation, Reply, Work, offer

TAGS = ("kind", "vm", "origin")  # what a volume says of its purpose, and its successor too


def snapshots(work: Work, resource: str, room: bool = False) -> Reply:
    """What there is; room: refuse when the pool is too full for another one, while no guest waits for it yet."""
    pool = _pool(work, resource)
    if room:
        refuse_when_full(pool, work.host.surroundings, clone=True)
    return {"snapshots": {label: one.to_json() for label, one in pool.snapshots.list(resource).items()}}


def _pool(work: Work, resource: str) -> Pool:
    return work.host.pool_of(work.host.resource_files.get(resource))


def create_snapshot(work: Work, resource: str, snapshot: str) -> Reply:
    """This member's replica as it is now."""
    work.own(resource)
    taken = _pool(work, resource).snapshots
    with work.undo.around(f"snapshot {snapshot} of {resource}", partial(taken.remove, resource, snapshot)):
        taken.create(resource, snapshot)
    return None


def prove_snapshot(work: Work, resource: str, snapshot: str, proof: str) -> Reply:
    """Every member has it, and they are equal."""
    work.own(resource)
    _pool(work, resource).snapshots.record_proof(resource, snapshot, proof)
    return None


def remove_snapshot(work: Work, resource: str, snapshot: str) -> Reply:
    """Absent is success."""
    work.own(resource)
    return {"removed": _pool(work, resource).snapshots.remove(resource, snapshot)}


def freeze(
    work: Work, resources: List[str], domain: Optional[str] = None, pause: bool = False, degraded: bool = False
) -> Reply:
    """Hold the guest back."""
    for resource in resources:
        work.own(resource)
    work.barrier.freeze(resources, domain, pause=pause, degraded=degraded)
    return None


def thaw(work: Work) -> Reply:
    """Let the guest go on."""
    thawed = work.barrier.thaw()
    return {"seconds": thawed.seconds, "intact": thawed.intact}


class Successor(NamedTuple):
    """A volume to be that will take a present one's place; bytes: the present one's."""

    pool: Pool
    spec: ResourceSpec
    name: str
    bytes: int
    tags: Dict[str, str]


@contextmanager
def preparing(work: Work, resource: str) -> Iterator[Successor]:
    """Have room beside a volume for its successor, which the caller makes; taken back if that fails."""
    work.own(resource)
    host = work.host
    spec = host.resource_files.get(resource)
    pool = host.pool_of(spec)
    pool.snapshots.settle(resource)  # an earlier try may have been killed anywhere
    pool.ensure_device(resource)
    before = existing(pool, resource)
    if spec.replicated and host.resources.status(resource) is not None:
        work.undo.push(f"{resource} is down", partial(host.resources.ensure_up, resource))
    tags = pool.tags(resource)
    name = resource + NEXT
    with work.undo.around(f"volume {name}", partial(pool.snapshots.discard, resource), untouched=(NotFound,)):
        yield Successor(pool, spec, name, before.bytes, {key: tags[key] for key in TAGS if key in tags})


def prepare_revert(work: Work, resource: str, snapshot: str) -> Reply:
    """Build what is to take the volume's place: the snapshot's data, the volume's size, no metadata of DRBD.

    Without metadata it can never be taken for a replica that is in step with the others, wherever this stops.
    """
    with preparing(work, resource) as (pool, spec, name, wanted, tags):
        size = pool.snapshots.clone(resource, snapshot, name, tags)
        if not work.host.runner.dry_run:
            pool.ensure_device(name)
            grown = pool.ensure_volume_size(name, wanted).bytes
            if grown != wanted:
                raise Unsafe(f"{name} has {grown} bytes, not {wanted}", hint="its snapshot is larger")
            work.devices.erase(pool.device(name), data_end(size, spec.slots), size)
    return {"bytes": wanted, "snapshot_bytes": size}


def swap_volume(work: Work, resource: str) -> Reply:
    """What was prepared takes the volume's name."""
    work.own(resource)
    host = work.host
    spec = host.resource_files.get(resource)
    up = spec.replicated and not host.runner.dry_run and host.resources.status(resource) is not None
    if not spec.reverting or up:
        raise Unsafe(f"{resource} is in use: it is not reverted", hint="power the VM off first")
    pool = host.pool_of(spec)
    device, wanted = pool.device(resource), _identity(pool.device(resource + NEXT))
    work.devices.close(resource)
    if not spec.replicated and not host.runner.dry_run:
        _require_unused(device, resource)
    work.undo.push(f"{resource} is reverted", partial(pool.snapshots.swap_back, resource))
    pool.snapshots.swap(resource)
    if not host.runner.dry_run:
        # udev moves the links a moment later; until then the name leads to what was there before.
        host.patience.until(
            lambda: True if _identity(device) == wanted else None, timeout=DEVICE_TIMEOUT_S,
            what=f"{device} did not follow its new name", interval=0.02, hint="is udevd running? udevadm settle",
        )
    return None


def _identity(device: str) -> Optional[int]:
    """What a path leads to: a device's number."""
    try:
        seen = os.stat(device)
    except OSError:
        return None
    return seen.st_rdev if stat.S_ISBLK(seen.st_mode) else seen.st_ino


def _require_unused(device: str, resource: str) -> None:
    """A disk without DRBD has nobody else who would know. Raises Busy."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC))
    except OSError:
        raise Busy(f"{resource} is held open", hint="does its VM run? xl list") from None


def settle_snapshots(work: Work, resource: str) -> Reply:
    """Drop what a revert left; it is committed, nothing of this is taken back."""
    work.own(resource)
    _pool(work, resource).snapshots.settle(resource)
    return None


def invalidate(work: Work, resource: str) -> Reply:
    """Copy all of this member's replica from its peers."""
    work.own(resource)
    work.host.resources.invalidate(resource)
    return None


OPERATIONS: Dict[str, Operation] = {
    "snapshots": offer(snapshots, resource=a.resource, room_=a.flag),
    "create_snapshot": offer(create_snapshot, resource=a.resource, snapshot=a.snapshot),
    "prove_snapshot": offer(prove_snapshot, resource=a.resource, snapshot=a.snapshot, proof=a.proof),
    "remove_snapshot": offer(remove_snapshot, resource=a.resource, snapshot=a.snapshot),
    "freeze": offer(freeze, resources=a.resources, domain_=a.domain, pause_=a.flag, degraded_=a.flag),
    "thaw": offer(thaw),
    "prepare_revert": offer(prepare_revert, resource=a.resource, snapshot=a.snapshot),
    "swap_volume": offer(swap_volume, resource=a.resource),
    "settle_snapshots": offer(settle_snapshots, resource=a.resource),
    "invalidate": offer(invalidate, resource=a.resource),
}
