"""Strict grammar of every name and number that comes from outside: parsed once, where it enters (design rule 9).

Each parser returns a plain value or raises BadInput that shows what was given; nothing downstream checks again.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple, Optional

from .errors import BadInput

MIB = 1024 * 1024
# With DRBD 9; 8.4 knows two, and refuses more when a resource is made.
MAX_REPLICAS = 3

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\Z")
_IMAGE = re.compile(r"one-([0-9]{1,10})\Z")
_CLONE = re.compile(r"one-([0-9]{1,10})-([0-9]{1,10})-([0-9]{1,5})\Z")
_VOLATILE = re.compile(r"one-sys-([0-9]{1,10})-([0-9]{1,5})\Z")
_DATASET = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*(?:/[A-Za-z0-9][A-Za-z0-9_.-]*)*\Z")
_THIN = re.compile(r"[A-Za-z0-9_+.][A-Za-z0-9_+.-]*/[A-Za-z0-9_+.][A-Za-z0-9_+.-]*\Z")
_DOMAIN = re.compile(r"one-([0-9]{1,10})\Z")
_SNAPSHOT = re.compile(r"(?:(?:save-|backup-)?[0-9]{1,10}|backup)\Z")


def shown(text: str) -> str:
    """Foreign text made fit for a message: short, on one line, control characters visible."""
    short = text if len(text) <= 60 else text[:57] + "..."
    return repr(short)


def parse_host(text: str) -> str:
    """A host name as `onehost create` takes it. Raises BadInput."""
    if not _HOST.match(text):
        raise BadInput(f"{shown(text)} is not a host name")
    return text


def parse_id(text: str, what: str = "number") -> int:
    """A non-negative decimal number of at most 10 digits. Raises BadInput."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise BadInput(f"{shown(text)} is not a valid {what}")
    return int(text)


def parse_size_mib(text: str) -> int:
    """A size of 1 MiB to 1 EiB, in MiB (SIZE of OpenNebula's documents). Raises BadInput."""
    size = parse_id(text, "size in MiB")
    if not 1 <= size <= 1 << 30 << 10:
        raise BadInput(f"{shown(text)} is not a valid size in MiB")
    return size


def parse_replicas(text: str) -> int:
    """How many replicas a disk has: 1 (no DRBD) to MAX_REPLICAS. Raises BadInput."""
    if not (text.isascii() and text.isdigit() and len(text) < 3 and 1 <= int(text) <= MAX_REPLICAS):
        raise BadInput(f"{shown(text)} is not a number of replicas from 1 to {MAX_REPLICAS}")
    return int(text)


def parse_path(text: str) -> str:
    """An absolute path without `..` and control characters, double slashes folded. Raises BadInput."""
    parts = text.split("/")
    if not text.startswith("/") or ".." in parts or any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise BadInput(f"{shown(text)} is not a clean absolute path")
    return "/" + "/".join(part for part in parts if part not in ("", "."))


class ResourceKind(enum.Enum):
    """What a volume or resource of that name holds."""

    IMAGE = "image"
    CLONE = "clone"
    VOLATILE = "volatile"


class ResourceName(NamedTuple):
    """Name of a volume and of its DRBD resource: one-<image>, one-<image>-<vm>-<disk>, one-sys-<vm>-<disk>."""

    text: str
    kind: ResourceKind
    image: Optional[int]
    vm: Optional[int]
    disk: Optional[int]

    def __str__(self) -> str:
        return self.text


def image_name(image: int) -> ResourceName:
    """`one-<image>`."""
    return ResourceName(f"one-{image}", ResourceKind.IMAGE, image, None, None)


def clone_name(image: ResourceName, vm: int, disk: int) -> ResourceName:
    """`one-<image>-<vm>-<disk>`: the copy of an image that a VM writes to."""
    return ResourceName(f"{image.text}-{vm}-{disk}", ResourceKind.CLONE, image.image, vm, disk)


def volatile_name(vm: int, disk: int) -> ResourceName:
    """`one-sys-<vm>-<disk>`: a disk that lives and dies with its VM."""
    return ResourceName(f"one-sys-{vm}-{disk}", ResourceKind.VOLATILE, None, vm, disk)


def parse_resource(text: str) -> ResourceName:
    """A resource name of any of the three kinds. Raises BadInput."""
    match = _IMAGE.match(text)
    if match:
        return image_name(int(match.group(1)))
    match = _CLONE.match(text)
    if match:
        image, vm, disk = (int(group) for group in match.groups())
        return clone_name(image_name(image), vm, disk)
    match = _VOLATILE.match(text)
    if match:
        return volatile_name(int(match.group(1)), int(match.group(2)))
    raise BadInput(
        f"{shown(text)} is not a disk of dnc", hint="names are one-<image>[-<vm>-<disk>] or one-sys-<vm>-<disk>"
    )


def parse_image_source(text: str) -> ResourceName:
    """IMAGE/SOURCE or DISK/SOURCE: the name of an image volume. Raises BadInput."""
    name = parse_resource(text)
    if name.kind is not ResourceKind.IMAGE:
        raise BadInput(f"{shown(text)} is not an image volume of dnc")
    return name


def parse_snapshot(text: str) -> str:
    """A snapshot of a disk: OpenNebula's number, save-<image> while that image is made of it, backup while one is
    copied, backup-<increment> for the next increment to be compared with. Raises BadInput."""
    if not _SNAPSHOT.match(text):
        raise BadInput(f"{shown(text)} is not a snapshot of dnc")
    return text


def parse_domain(text: str) -> int:
    """A DEPLOY_ID `one-<vm>`; returns the VM's number. Raises BadInput."""
    match = _DOMAIN.match(text)
    if not match:
        raise BadInput(f"{shown(text)} is not a domain of OpenNebula (one-<number>)")
    return int(match.group(1))


class PoolKind(enum.Enum):
    """The two backends."""

    ZFS = "zfs"
    THIN = "lvm"


class PoolSpec(NamedTuple):
    """A pool by name: `zfs:tank/dnc` (a dataset) or `lvm:vg0/pool` (volume group / thin pool)."""

    kind: PoolKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.name}"


def parse_pool(text: str) -> PoolSpec:
    """`zfs:<dataset>` or `lvm:<volume group>/<thin pool>`. Raises BadInput."""
    kind, colon, name = text.partition(":")
    if colon and kind == PoolKind.ZFS.value and _DATASET.match(name) and len(name) < 200:
        return PoolSpec(PoolKind.ZFS, name)
    if colon and kind == PoolKind.THIN.value and _THIN.match(name) and len(name) < 120:
        return PoolSpec(PoolKind.THIN, name)
    raise BadInput(f"{shown(text)} is not a pool", hint="write zfs:<dataset> or lvm:<volume group>/<thin pool>")
