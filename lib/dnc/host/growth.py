"""Growing disks that hold data (NOTES-drbd9, g): volumes first, then DRBD, then zeros where its metadata was.

DRBD's metadata lies at the end of the volume and moves there when DRBD grows. What it leaves behind becomes data and
differs between the members: it is zeroed through the device of the one Primary, while no guest can write.
`drbdadm resize` is run only where every member has the room: run too early it reports success, does nothing, and
notes a size that keeps the next `up` from finding the metadata (g-resize). Volumes that have grown alone do no harm:
DRBD finds its metadata at the old place and moves it.

Until a growth is finished a note on each member tells how far it came, so that it can be run again.
"""

from __future__ import annotations

import os
import zlib
from contextlib import contextmanager
from typing import Dict, Iterator, Optional

from ..errors import DncError, TimedOut, Unsafe
from ..tools.resource import ResourceSpec
from ..tools.status import Role
from . import arguments as a
from .files import explain
from .freezing import frozen
from .machine import Host
from .pools import existing
from .work import Operation, Reply, Work, offer

_GROW_TIMEOUT_S = 60.0
_PIECE = 1 << 20
_BLOCK = 4096


def grow_volume(work: Work, resource: str, bytes: int) -> Reply:
    """Room for a larger disk on this member; what it was before is noted first."""
    work.own(resource)
    host = work.host
    pool = host.pool_of(host.resource_files.get(resource))
    volume, note = existing(pool, resource), host.journal.growth(resource)
    if volume.bytes >= bytes:
        return {"bytes": volume.bytes, "old_bytes": int(note["old_bytes"]) if note else volume.bytes}
    # A note that is cleaned is of a growth that was done but for its last words: this is a new one.
    old = int(note["old_bytes"]) if note and not note["cleaned"] else volume.bytes
    host.journal.note_growth(resource, old, False)
    try:
        grown = pool.ensure_volume_size(resource, bytes)
    except DncError:
        if existing(pool, resource).bytes == old:
            host.journal.clear_growth(resource)
        raise
    return {"bytes": grown.bytes, "old_bytes": old}


def resize(work: Work, resource: str, data_bytes: int, start: int, end: int, domain: str = "") -> Reply:
    """Have DRBD take the grown volumes, on the Primary; [start, end) held metadata on one member or another.

    clean is False where DRBD had grown before we came: by a run that was killed, or by itself when it connected. A
    guest may have written there since, so nothing is zeroed unseen (`zero_stale`).
    """
    work.own(resource)
    host = work.host
    spec, note = host.resource_files.get(resource), host.journal.growth(resource)
    _must_be_fit(host, spec)
    if note is None or note["cleaned"]:
        _take_up(host, spec, data_bytes)
        return {"clean": True, "frozen_s": 0.0}
    if (host.resources.kernel_bytes(spec) or 0) > start:
        _take_up(host, spec, data_bytes)
        return {"clean": False, "frozen_s": 0.0}
    with frozen(host, domain) as freeze:
        before = host.resources.kernel_bytes(spec) or start
        _take_up(host, spec, data_bytes)
        _zero(host, spec, before, end)
        host.journal.note_growth(resource, int(note["old_bytes"]), True)
    return {"clean": True, "frozen_s": round(freeze.seconds, 3)}


def block_digests(work: Work, resource: str, start: int, end: int) -> Reply:
    """What this member's own volume holds, block by block, for a comparison between members."""
    spec = work.host.resource_files.get(resource)
    with _opened(existing(work.host.pool_of(spec), resource).device, os.O_RDONLY) as descriptor:
        return {"blocks": [_digest(descriptor, offset) for offset in range(start, end, _BLOCK)]}


def zero_stale(work: Work, resource: str, blocks: Dict[str, str], domain: str = "") -> Reply:
    """Zero blocks, through the device of the Primary, that hold what they held when the members were compared.

    What differs between members was never written by a guest: DRBD would have made it the same everywhere.
    """
    work.own(resource)
    host = work.host
    spec, note = host.resource_files.get(resource), host.journal.growth(resource)
    _must_be_fit(host, spec)
    with frozen(host, domain) as freeze:
        with _opened(existing(host.pool_of(spec), resource).device, os.O_RDONLY) as descriptor:
            stale = [int(offset) for offset, seen in blocks.items() if _digest(descriptor, int(offset)) == seen]
        for offset in stale:
            _zero(host, spec, offset, offset + _BLOCK)
        if note is not None:
            host.journal.note_growth(resource, int(note["old_bytes"]), True)
    host.log.info(f"{resource}: {len(stale)} of {len(blocks)} blocks of old metadata zeroed")
    return {"frozen_s": round(freeze.seconds, 3)}


def _must_be_fit(host: Host, spec: ResourceSpec) -> None:
    """Raises Unsafe unless this member is the Primary, and all are connected and equal (design rule 12)."""
    if host.runner.dry_run:
        return
    status = host.resources.status(spec.name)
    if status is None or status.role is not Role.PRIMARY or not status.ready:
        seen = status.summary() if status else "down"
        raise Unsafe(f"{spec.name} cannot grow: {seen}", hint="wait until all replicas are in sync, then try again")


def _take_up(host: Host, spec: ResourceSpec, data_bytes: int) -> None:
    """drbdadm resize, and what came of it: its exit status says nothing. Raises Unsafe."""
    resources = host.resources
    if (resources.kernel_bytes(spec) or 0) >= data_bytes:
        return
    resources.resize(spec.name)
    if host.runner.dry_run:
        return

    def grown() -> Optional[bool]:
        return True if (resources.kernel_bytes(spec) or 0) >= data_bytes else None

    try:
        host.patience.until(grown, timeout=_GROW_TIMEOUT_S, what=f"{spec.name} did not grow")
    except TimedOut:
        raise Unsafe(
            f"{spec.name} has {resources.kernel_bytes(spec)} bytes, not {data_bytes}",
            hint="did a member leave meanwhile? bring it back and resize again, before anything is taken down",
        ) from None


def _zero(host: Host, spec: ResourceSpec, start: int, end: int) -> None:
    """Make [start, end) zeros on every member, through the device."""
    end = min(end, host.resources.kernel_bytes(spec) or end)
    if end <= start or host.files.would(f"zero bytes {start}-{end} of {spec.name}"):
        return
    # O_DSYNC: a killed write is on the disks, or nowhere, before the guest is let go; none comes later from a cache.
    with _opened(host.resources.ensure_device(spec), os.O_RDWR | os.O_DSYNC) as descriptor:
        while start < end:
            start += os.pwrite(descriptor, bytes(min(_PIECE, end - start)), start)


@contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    """A device whose page cache holds nothing: guests and DRBD write below it."""
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            yield descriptor
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise explain(error, path) from None


def _digest(descriptor: int, offset: int) -> str:
    return f"{zlib.crc32(data := os.pread(descriptor, _BLOCK, offset)):08x}{zlib.adler32(data):08x}"


def finish_growth(work: Work, resource: str, data_bytes: int) -> Reply:
    """The resource file says the new size once this member has it. Raises Unsafe."""
    work.own(resource)
    host = work.host
    spec = host.resource_files.get(resource)
    seen = host.resources.kernel_bytes(spec)
    if seen is not None and seen < data_bytes and not host.runner.dry_run:
        raise Unsafe(f"{resource} has {seen} bytes here, not {data_bytes}", hint="compare its volumes on all members")
    if spec.data_bytes < data_bytes:
        host.resources.write(spec._replace(data_bytes=data_bytes))
    host.journal.clear_growth(resource)
    return None


OPERATIONS: Dict[str, Operation] = {
    "grow_volume": offer(grow_volume, resource=a.resource, bytes=a.number),
    "resize": offer(resize, resource=a.resource, data_bytes=a.number, start=a.number, end=a.number, domain_=a.text),
    "block_digests": offer(block_digests, resource=a.resource, start=a.number, end=a.number),
    "zero_stale": offer(zero_stale, resource=a.resource, blocks=a.record, domain_=a.text),
    "finish_growth": offer(finish_growth, resource=a.resource, data_bytes=a.number),
}
