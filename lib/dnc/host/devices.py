"""Data of disks: this process opens the devices itself, as a member of group disk; no dd, no sudo."""

from __future__ import annotations

import errno
import os
from typing import Callable, Dict, Optional, Tuple

from ..errors import BadInput, DncError, Unsafe
from ..tools.drbd import ResourceSpec, data_end
from .files import explain
from .machine import Host
from .pools import existing

_BLOCK = 1 << 20


class Devices:
    """Devices that this session has open, one descriptor each."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._open: Dict[str, int] = {}
        self._written: Dict[str, int] = {}
        self._ends: Dict[str, int] = {}

    def _descriptor(self, name: str) -> int:
        descriptor = self._open.get(name)
        if descriptor is None:
            path = self._host.resources.ensure_device(self._host.resource_files.get(name))
            try:
                descriptor = self._open[name] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except OSError as error:
                raise _not_opened(error, name, path) from None
        return descriptor

    def open_next(self, name: str, device: str, end: int) -> None:
        """What is written to the disk goes to the volume that is to take its place, up to `end` bytes."""
        self.close(name)
        try:
            self._open[name] = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise explain(error, device) from None
        self._ends[name] = end

    def digest_next(self, name: str) -> Tuple[str, int]:
        """(sha256, bytes) of the volume that is to take the disk's place; it is on the disk then, and let go of."""
        if self._host.files.dry_run:
            return "", 0
        if name not in self._ends:
            raise Unsafe(f"nothing is to take the place of {name} in this session")
        self.flush(name)
        found = _digest(self._open[name], self._ends[name], self._host.patience.alive)
        self.close(name)
        return found

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write to a disk; on the members' disks only after `flush`. Raises Unsafe when it is not Primary here."""
        if self._host.files.would(f"write {len(data)} bytes to {name}"):
            return
        if offset + len(data) > self._ends.get(name, 1 << 62):
            raise BadInput(f"{name} ends before byte {offset + len(data)}")
        descriptor = self._descriptor(name)
        view = memoryview(data)
        try:
            while view:
                done = os.pwrite(descriptor, view, offset)
                if done == 0:
                    raise BadInput(f"{name} ends before byte {offset + len(view)}")
                view, offset = view[done:], offset + done
        except OSError as error:
            raise explain(error, name) from None
        self._written[name] = self._written.get(name, 0) + len(data)

    def flush(self, name: str) -> int:
        """Put everything on the disks of all connected members; the bytes written in this session."""
        if name in self._open:
            try:
                os.fsync(self._open[name])
            except OSError as error:
                raise explain(error, name) from None
        return self._written.get(name, 0)

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Read from a disk; fewer bytes at its end."""
        try:
            return os.pread(self._descriptor(name), length, offset)
        except OSError as error:
            raise explain(error, name) from None

    def close(self, name: str) -> None:
        """Let go of a disk, so that it can be demoted."""
        self._ends.pop(name, None)
        for key in (name, f"volume {name}"):
            descriptor = self._open.pop(key, None)
            if descriptor is not None:
                os.close(descriptor)

    def close_all(self) -> None:
        """Let go of everything."""
        for name in tuple(self._open):
            self.close(name.rpartition(" ")[2])

    def _volume(self, spec: ResourceSpec) -> Tuple[str, int]:
        volume = existing(self._host.pool_of(spec), spec.name)
        return volume.device, volume.bytes

    def read_volume(self, name: str, offset: int, length: int) -> bytes:
        """Read a replica below DRBD, metadata too, which must be down; fewer bytes at its end. Raises Unsafe."""
        spec = self._host.resource_files.get(name)
        key = f"volume {name}"
        descriptor = self._open.get(key)
        if descriptor is None:
            if spec.replicated and self._host.resources.status(name) is not None:
                raise Unsafe(f"{name} is up: its volume is not to be read below DRBD", hint=f"drbdadm down {name}")
            descriptor = self._open[key] = os.open(self._volume(spec)[0], os.O_RDONLY | os.O_CLOEXEC)
            # DRBD writes below the page cache: what is cached here may be old.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            return os.pread(descriptor, length, offset)
        except OSError as error:
            raise explain(error, name) from None

    def digest(self, name: str, length: int, *, whole: bool = False) -> Tuple[str, int]:
        """(sha256, bytes) of this member's own volume up to `length` bytes (0: its data area), metadata left out.

        whole: metadata too; nothing else may be up on it then.
        """
        spec = self._host.resource_files.get(name)
        device, size = self._volume(spec)
        end = size if whole else data_end(size, spec.slots)
        end = min(length, end) if length else end
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _digest(descriptor, end, self._host.patience.alive)
        finally:
            os.close(descriptor)

    def zero_old_metadata(self, name: str, start: int, end: int, slots: Optional[int] = None) -> None:
        """Zero what was DRBD's metadata before a volume grew; it differs between members (NOTES-drbd9, g).

        slots: of the old metadata, None where the resource has as many now. Raises BadInput unless [start, end) is
        exactly the metadata of a volume of `end` bytes.
        """
        spec = self._host.resource_files.get(name)
        device, size = self._volume(spec)
        if start != data_end(end, spec.slots if slots is None else slots) or end > size:
            raise BadInput(f"{name}: {start}-{end} is not the old metadata of a volume that is {size} bytes now")
        end = min(end, data_end(size, spec.slots))  # what lies behind is the new metadata
        if spec.state != "making" or (spec.replicated and self._host.resources.status(name) is not None):
            raise Unsafe(f"{name} is in use: nothing is zeroed")
        self.erase(device, start, end)

    def erase(self, device: str, start: int, end: int) -> None:
        """Zero bytes of a volume that nobody uses yet."""
        if start >= end or self._host.files.would(f"zero bytes {start}-{end} of {device}"):
            return
        try:
            descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            try:
                while start < end:
                    start += os.pwrite(descriptor, bytes(min(_BLOCK, end - start)), start)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise explain(error, device) from None

    def format(self, name: str, filesystem: str) -> None:
        """Make a file system or swap on a disk."""
        self.close(name)
        path = self._host.resources.ensure_device(self._host.resource_files.get(name))
        self._host.runner.run((*_MAKERS[filesystem], path), timeout=1800.0)


_MAKERS = {
    "ext2": ("mkfs.ext2", "-q", "-F"), "ext3": ("mkfs.ext3", "-q", "-F"), "ext4": ("mkfs.ext4", "-q", "-F"),
    "xfs": ("mkfs.xfs", "-q", "-f"), "btrfs": ("mkfs.btrfs", "-q", "-f"), "vfat": ("mkfs.vfat", "-I"),
    "swap": ("mkswap", "-f"),
}


def _digest(descriptor: int, end: int, alive: Callable[[], None]) -> Tuple[str, int]:
    import hashlib

    # DRBD writes below the page cache: what is cached here may be old.
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    digest, offset = hashlib.sha256(), 0
    while offset < end:
        alive()
        data = os.pread(descriptor, min(_BLOCK, end - offset), offset)
        if not data:
            break
        digest.update(data)
        offset += len(data)
    return digest.hexdigest(), offset


def _not_opened(error: OSError, name: str, path: str) -> DncError:
    if error.errno in (errno.EMEDIUMTYPE, errno.EROFS):
        return Unsafe(f"{name} is not Primary here", hint="promote it first")
    return explain(error, path)
