"""zfs: argv and parsers for zvols, their snapshots and clones (ZFS 2.1 and later; captures zfs-*.txt)."""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..errors import Busy, Conflict, DncError, NoSpace, NotFound, ToolFailed

VOLUME_BLOCK = "16k"
_COLUMNS = "name,type,volsize,origin,used,available"
_SNAPSHOT_TAGS = ("proof",)
_TREE_COLUMNS = "name,type,volsize,origin,used,defer_destroy," + ",".join(f"dnc:{tag}" for tag in _SNAPSHOT_TAGS)
_DEPENDENT = re.compile(r"^(\S+/\S+)$", re.MULTILINE)


class Zvol(NamedTuple):
    """One zvol of `zfs list`; sizes in bytes."""

    dataset: str
    bytes: int
    origin: Optional[str]


class Snapshot(NamedTuple):
    """One snapshot of `tree`. bytes: size of the volume then; used: what only it holds; deferred: goes by itself
    with its last clone."""

    dataset: str
    name: str
    bytes: int
    used: int
    deferred: bool
    tags: Dict[str, str]

    @property
    def full(self) -> str:
        """dataset@name."""
        return f"{self.dataset}@{self.name}"


def _properties(tags: Mapping[str, str]) -> List[str]:
    return ["-o", "volmode=dev", *_user_properties(tags)]


def _user_properties(tags: Mapping[str, str]) -> List[str]:
    return [word for key, value in sorted(tags.items()) for word in ("-o", f"dnc:{key}={value}")]


def create(dataset: str, size: int, tags: Mapping[str, str]) -> Tuple[str, ...]:
    """A sparse zvol of `size` bytes; volmode=dev keeps udev from scanning it for partitions."""
    return ("zfs", "create", "-s", "-V", str(size), "-b", VOLUME_BLOCK, *_properties(tags), dataset)


def snapshot(dataset: str, name: str, tags: Optional[Mapping[str, str]] = None) -> Tuple[str, ...]:
    """`dataset@name`."""
    return ("zfs", "snapshot", *_user_properties(tags or {}), f"{dataset}@{name}")


def set_tags(dataset: str, tags: Mapping[str, str]) -> Tuple[str, ...]:
    """Record something with a dataset or snapshot."""
    return ("zfs", "set", *(f"dnc:{key}={value}" for key, value in sorted(tags.items())), dataset)


def rename(dataset: str, other: str) -> Tuple[str, ...]:
    """Give a dataset another name; its snapshots and clones stay with it."""
    return ("zfs", "rename", dataset, other)


def rollback(snapshot_name: str) -> Tuple[str, ...]:
    """Back to the dataset's youngest snapshot; zfs refuses any older one."""
    return ("zfs", "rollback", snapshot_name)


def clone(origin: str, name: str, dataset: str, tags: Mapping[str, str]) -> Tuple[str, ...]:
    """A writable copy of the snapshot `origin@name`."""
    return ("zfs", "clone", *_properties(tags), f"{origin}@{name}", dataset)


def set_size(dataset: str, size: int) -> Tuple[str, ...]:
    """Grow a zvol to `size` bytes."""
    return ("zfs", "set", f"volsize={size}", dataset)


def set_mode(dataset: str, mode: str) -> Tuple[str, ...]:
    """volmode none takes the device node away, dev makes it again: a new event for udev that lost the first."""
    return ("zfs", "set", f"volmode={mode}", dataset)


def promote(dataset: str) -> Tuple[str, ...]:
    """Turn clone and origin round: the clone takes over the snapshots, the origin becomes its clone."""
    return ("zfs", "promote", dataset)


def destroy(dataset: str) -> Tuple[str, ...]:
    """Remove one zvol without snapshots."""
    return ("zfs", "destroy", dataset)


def destroy_snapshot(dataset: str, name: str, *, deferred: bool = False) -> Tuple[str, ...]:
    """Remove one snapshot; deferred: at the latest when its last clone goes (zfs-destroy-snap-deferred)."""
    return ("zfs", "destroy", *(("-d",) if deferred else ()), f"{dataset}@{name}")


def destroy_with_snapshots(dataset: str) -> Tuple[str, ...]:
    """Remove a zvol and its snapshots; zfs refuses as long as one of them has a clone."""
    return ("zfs", "destroy", "-r", dataset)


def listing(dataset: str, *, children: bool = True) -> Tuple[str, ...]:
    """The dataset itself and, if wanted, the zvols right below it."""
    depth = ("-d", "1") if children else ()
    return ("zfs", "list", "-Hp", *depth, "-t", "filesystem,volume", "-o", _COLUMNS, dataset)


def tree(dataset: str) -> Tuple[str, ...]:
    """The zvols right below a dataset with their snapshots, oldest first."""
    return ("zfs", "list", "-Hp", "-d", "2", "-t", "volume,snapshot", "-s", "createtxg", "-o", _TREE_COLUMNS, dataset)


def pool_space(dataset: str) -> Tuple[str, ...]:
    """Used and available bytes of the zpool that holds `dataset`, and of the dataset itself."""
    return ("zfs", "list", "-Hp", "-o", "used,available", *dict.fromkeys((dataset.split("/", 1)[0], dataset)))


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


def parse_tree(text: str) -> Tuple[Dict[str, Zvol], List[Snapshot]]:
    """`tree`: zvols by dataset name, and all snapshots, oldest first."""
    zvols: Dict[str, Zvol] = {}
    snapshots: List[Snapshot] = []
    for line in text.splitlines():
        name, kind, size, origin, used, deferred, *tags = line.split("\t")
        if kind == "volume":
            zvols[name] = Zvol(name, int(size), None if origin == "-" else origin)
        elif kind == "snapshot" and size != "-":
            dataset, _, short = name.partition("@")
            found = {key: value for key, value in zip(_SNAPSHOT_TAGS, tags) if value != "-"}
            snapshots.append(Snapshot(dataset, short, int(size), int(used), deferred == "on", found))
    return zvols, snapshots


def parse_space(text: str) -> Tuple[int, int]:
    """`pool_space`: (used, available) bytes of the pool, or of the dataset where a quota leaves it less."""
    lines = [tuple(int(word) for word in line.split()) for line in text.splitlines()]
    used, available = min(lines, key=lambda line: line[1])
    return used, available


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
