"""Files of a VM's backup on one host: made from snapshots, data only, in the form that backup datastores expect.

<base>/<vm>/backup holds vm.xml and disk.<disk>.<increment>, qcow2 files. A snapshot is read through a volume cloned
from it, <name>.backup; the one that it is compared with through <name>.before. Both bear the disk's name, so that
they go with it whatever is killed.
"""

from __future__ import annotations

import os
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from ..errors import BadInput, Unsafe
from ..tools.drbd import ResourceSpec
from ..tools.qcow2 import CLUSTER, Data, Layout, Write
from .files import explain
from .links import Links
from .machine import Host
from .pools import BACKUP, BEFORE

_PIECE = 32 * CLUSTER
_ZEROS = bytes(_PIECE)
_ZERO_CLUSTER = bytes(CLUSTER)


class Run(NamedTuple):
    """Neighbouring bytes of a disk that belong into its backup; no data: they are zeros, and were not before.

    An empty one only tells how far the reading has come.
    """

    offset: int
    length: int
    data: Optional[Data]


class Source:
    """A disk's snapshot as a device, and the earlier one that it is compared with, if any.

    before: bytes of the disk when that was taken; what lay behind was nobody's.
    """

    def __init__(self, host: Host, spec: ResourceSpec, before: Optional[int]) -> None:
        self._host = host
        self.name = spec.name
        self.size = spec.data_bytes
        pool = host.pool_of(spec)
        self._descriptor = _open(pool.ensure_device(spec.name + BACKUP))
        self._before = _open(pool.ensure_device(spec.name + BEFORE)) if before is not None else -1
        self._before_size = before or 0
        self._runs = self._compare()

    @property
    def compares(self) -> bool:
        """Whether there is an earlier snapshot beside it."""
        return self._before >= 0

    def close(self) -> None:
        """Let go of the devices."""
        for descriptor in (self._descriptor, self._before):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._before = -1

    def next(self) -> Optional[Run]:
        """What comes next, in ascending order; None at the end. Raises Unsafe (the snapshot is too short)."""
        return next(self._runs, None)

    def _compare(self) -> Iterator[Run]:
        offset = 0
        while offset < self.size:
            self._host.patience.alive()
            length = min(_PIECE, self.size - offset)
            data = _read(self._descriptor, offset, length, self.name)
            if len(data) != length:
                raise Unsafe(f"the snapshot of {self.name} ends at {offset + len(data)} of {self.size} bytes")
            yield from _full(offset, data) if self._before < 0 else self._changed(offset, data)
            offset += length
            yield Run(offset, 0, None)

    def _changed(self, offset: int, data: bytes) -> Iterator[Run]:
        """Cluster by cluster: what differs from before; beyond the end of what was before there were zeros."""
        length = max(0, min(len(data), self._before_size - offset))
        before = _read(self._before, offset, length, self.name) if length else b""
        before = before.ljust(len(data), b"\0")
        if data == before:
            return
        new, old = memoryview(data), memoryview(before)
        for at in range(0, len(data), CLUSTER):
            block = new[at : at + CLUSTER]
            if block != old[at : at + CLUSTER]:
                zeros = block == _ZERO_CLUSTER[: len(block)]
                yield Run(offset + at, len(block), None if zeros else block)


def _full(offset: int, data: bytes) -> Iterator[Run]:
    """What is not zero, whole clusters joined."""
    if data == _ZEROS[: len(data)]:
        return
    view, start = memoryview(data), -1
    for at in range(0, len(data), CLUSTER):
        block = view[at : at + CLUSTER]
        if block == _ZERO_CLUSTER[: len(block)]:
            if start >= 0:
                yield Run(offset + start, at - start, view[start:at])
            start = -1
        elif start < 0:
            start = at
    if start >= 0:
        yield Run(offset + start, len(view) - start, view[start:])


class Target:
    """One disk.<n>.<increment> in the making."""

    def __init__(self, path: str, size: int) -> None:
        self.path = path
        self.written = 0
        self._layout = Layout(size)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o640)
        except OSError as error:
            raise explain(error, path) from None

    def put(self, run: Run) -> None:
        """Add what follows. Raises NoSpace."""
        if run.data is not None:
            self._write(self._layout.put(run.offset, run.data))
            self.written += run.length
        elif run.length:
            self._write(self._layout.zero(run.offset, run.length))

    def finish(self) -> int:
        """The file is whole and on the disk; its bytes of data."""
        self._write(self._layout.finish())
        os.fsync(self._descriptor)
        self.close()
        return self.written

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _write(self, writes: Iterator[Write]) -> None:
        try:
            for offset, data in writes:
                view = memoryview(data)
                while view:
                    done = os.pwrite(self._descriptor, view, offset)
                    view, offset = view[done:], offset + done
        except OSError as error:
            error_of_disk = explain(error, self.path)
            error_of_disk.hint = error_of_disk.hint and f"{error_of_disk.hint}, or set BACKUP_BASE_PATH"
            raise error_of_disk from None


class Backups:
    """What a session has open of backups."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.sources: Dict[str, Source] = {}
        self.targets: Dict[str, Target] = {}

    def directory(self, base: str, vm: int) -> Tuple[Links, str]:
        """(what may touch it, <base>/<vm>/backup). Raises BadInput."""
        if base.count("/") < 2:
            raise BadInput(f"{base} is no place for backups", hint="correct BACKUP_BASE_PATH in datastore.conf")
        return Links((base,), self._host.files), f"{base}/{vm}/backup"

    def close(self, name: str) -> None:
        """Let go of a disk's snapshot."""
        source = self.sources.pop(name, None)
        if source is not None:
            source.close()

    def close_all(self) -> None:
        """Let go of everything."""
        for name in tuple(self.sources):
            self.close(name)
        for target in self.targets.values():
            target.close()
        self.targets.clear()


def leftovers(volumes: List[str], name: str) -> List[str]:
    """Those of the pool's volumes by which a backup of the disk was read."""
    return [name + suffix for suffix in (BACKUP, BEFORE) if name + suffix in volumes]


def _open(device: str) -> int:
    try:
        return os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise explain(error, device) from None


def _read(descriptor: int, offset: int, length: int, name: str) -> bytes:
    parts = []
    try:
        while length:
            data = os.pread(descriptor, length, offset)
            if not data:
                break
            parts.append(data)
            offset, length = offset + len(data), length - len(data)
    except OSError as error:
        raise explain(error, name) from None
    return parts[0] if len(parts) == 1 else b"".join(parts)
