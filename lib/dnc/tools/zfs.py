"""zfs: argv and parsers for zvols, their snapshots and clones (ZFS 2.1 and later; captures zfs-*.txt)."""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..errors import Busy, Conflict, DncError, NoSpace, NotFound, ToolFailed

VOLUME_BLOCK = "16k"
_COLUMNS = "name,type,volsize,origin,used,available"
_DEPENDENT = re.compile(r"^(\S+/\S+)$", re.MULTILINE)


class Zvol(NamedTuple):
    """One zvol of `zfs list`; sizes in bytes."""

    dataset: str
    bytes: int
    origin: Optional[str]


def _properties(tags: Mapping[str, str]) -> List[str]:
    words: List[str] = ["-o", "volmode=dev"]
    for key, value in sorted(tags.items()):
        words += ["-o", f"dnc:{key}={value}"]
    return words


def create(dataset: str, size: int, tags: Mapping[str, str]) -> Tuple[str, ...]:
    """A sparse zvol of `size` bytes; volmode=dev keeps udev from scanning it for partitions."""
    return ("zfs", "create", "-s", "-V", str(size), "-b", VOLUME_BLOCK, *_properties(tags), dataset)


def snapshot(dataset: str, name: str) -> Tuple[str, ...]:
    """`dataset@name`."""
    return ("zfs", "snapshot", f"{dataset}@{name}")


def clone(origin: str, name: str, dataset: str, tags: Mapping[str, str]) -> Tuple[str, ...]:
    """A writable copy of the snapshot `origin@name`."""
    return ("zfs", "clone", *_properties(tags), f"{origin}@{name}", dataset)


def set_size(dataset: str, size: int) -> Tuple[str, ...]:
    """Grow a zvol to `size` bytes."""
    return ("zfs", "set", f"volsize={size}", dataset)


def set_mode(dataset: str, mode: str) -> Tuple[str, ...]:
    """volmode none takes the device node away, dev makes it again: a new event for udev that lost the first."""
    return ("zfs", "set", f"volmode={mode}", dataset)


def rename(dataset: str, other: str) -> Tuple[str, ...]:
    """Give a dataset another name; its snapshots and clones stay with it."""
    return ("zfs", "rename", dataset, other)


def promote(dataset: str) -> Tuple[str, ...]:
    """Turn clone and origin round: the clone takes over the snapshots, the origin becomes its clone."""
    return ("zfs", "promote", dataset)


def destroy(dataset: str) -> Tuple[str, ...]:
    """Remove one zvol without snapshots."""
    return ("zfs", "destroy", dataset)


def destroy_snapshot(dataset: str, name: str) -> Tuple[str, ...]:
    """Remove one snapshot."""
    return ("zfs", "destroy", f"{dataset}@{name}")


def destroy_deferred(snapshot_name: str) -> Tuple[str, ...]:
    """Remove a snapshot now, or else with its last clone (zfs-destroy-snap-deferred)."""
    return ("zfs", "destroy", "-d", snapshot_name)


def snapshot_names(dataset: str) -> Tuple[str, ...]:
    """The full names of a dataset's own snapshots."""
    return ("zfs", "list", "-Hp", "-d", "1", "-t", "snapshot", "-o", "name", dataset)


def destroy_with_snapshots(dataset: str) -> Tuple[str, ...]:
    """Remove a zvol and its snapshots; zfs refuses as long as one of them has a clone."""
    return ("zfs", "destroy", "-r", dataset)


def listing(dataset: str, *, children: bool = True) -> Tuple[str, ...]:
    """The dataset itself and, if wanted, the zvols right below it."""
    depth = ("-d", "1") if children else ()
    return ("zfs", "list", "-Hp", *depth, "-t", "filesystem,volume", "-o", _COLUMNS, dataset)


def pool_space(dataset: str) -> Tuple[str, ...]:
    """Used and available bytes of the zpool that holds `dataset`."""
    return ("zfs", "list", "-Hp", "-o", "used,available", dataset.split("/", 1)[0])


def read_tags(dataset: str) -> Tuple[str, ...]:
    """All dnc:* properties of one dataset."""
    return ("zfs", "get", "-Hp", "-o", "property,value", "all", dataset)


def parse_listing(text: str) -> Dict[str, Zvol]:
    """`listing`'s zvols by dataset name."""
    zvols: Dict[str, Zvol] = {}
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) == 6 and fields[1] == "volume":
            zvols[fields[0]] = Zvol(fields[0], int(fields[2]), None if fields[3] == "-" else fields[3])
    return zvols


def parse_space(text: str) -> Tuple[int, int]:
    """`pool_space`: (used, available) bytes."""
    used, available = text.split()
    return int(used), int(available)


def parse_tags(text: str) -> Dict[str, str]:
    """`read_tags`: key without the dnc: prefix -> value."""
    tags = {}
    for line in text.splitlines():
        key, _, value = line.partition("\t")
        if key.startswith("dnc:"):
            tags[key[4:]] = value
    return tags


def dependents(text: str) -> Tuple[str, ...]:
    """The datasets that a refused destroy lists after `use '-r'` or `use '-R'`."""
    _, _, rest = text.partition("to destroy the following")
    return tuple(_DEPENDENT.findall(rest))


def explain(error: ToolFailed, what: str) -> DncError:
    """The typed error for zfs's own words; `what` names the volume. Texts: captures zfs-*.txt."""
    text = error.stderr
    if "out of space" in text or "No space left" in text:
        return NoSpace(f"{what}: the ZFS pool is full", command=error.command, hint="free space or add disks")
    if "dataset already exists" in text:
        return Conflict(f"{what} already exists", command=error.command)
    if "has dependent clones" in text:
        names = ", ".join(name.rsplit("/", 1)[-1] for name in dependents(text))
        return Busy(f"{what} is the origin of {names}", command=error.command, hint="remove these clones first")
    if "is busy" in text:
        return Busy(f"{what} is held open", command=error.command, hint="see what uses it: drbdadm status, fuser")
    if "dataset does not exist" in text:
        return NotFound(f"{what} does not exist", command=error.command)
    if "parent does not exist" in text:
        return NotFound(f"{what}: its dataset is not there", command=error.command, hint="zfs create, or correct POOL")
    if "no such pool" in text:
        return NotFound(f"{what}: its ZFS pool is not there", command=error.command, hint="zpool import")
    if "permission denied" in text:
        return DncError(f"{what}: zfs refuses: permission denied", command=error.command)
    return error
