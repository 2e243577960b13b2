"""LVM: argv and parsers for thin volumes and their snapshots (captures lv*.txt, thin-pool-full.txt)."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..errors import Busy, Conflict, DncError, NoSpace, NotFound, ToolFailed

_LIST = ("lvs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o")
_VOLUME_FIELDS = "lv_name,lv_size,pool_lv,origin,lv_tags,lv_attr"
_POOL_FIELDS = "lv_name,lv_size,data_percent,metadata_percent,lv_attr,zero"


class ThinVolume(NamedTuple):
    """One thin LV; size in bytes."""

    name: str
    bytes: int
    origin: Optional[str]
    tags: Dict[str, str]


class ThinPoolState(NamedTuple):
    """Fill of a thin pool; size in bytes, fills in percent. zeroing: new chunks read as zeros everywhere."""

    bytes: int
    data_percent: float
    metadata_percent: float
    zeroing: bool


def _tags(tags: Mapping[str, str]) -> List[str]:
    words: List[str] = []
    for key, value in sorted(tags.items()):
        words += ["--addtag", f"dnc.{key}={value}"]
    return words


def create(group: str, pool: str, name: str, size: int, tags: Mapping[str, str]) -> Tuple[str, ...]:
    """A thin volume of `size` bytes (LVM rounds up to its extent). -kn: active now and at every boot."""
    size_and_name = ("-V", f"{size}b", "-n", name, "--thinpool", f"{group}/{pool}")
    return ("lvcreate", "-q", "-y", "-kn", "-Wn", *_tags(tags), *size_and_name)


def snapshot(group: str, origin: str, name: str, tags: Mapping[str, str]) -> Tuple[str, ...]:
    """A writable snapshot; without -kn it would have no device node."""
    return ("lvcreate", "-q", "-y", "-kn", *_tags(tags), "-s", "-n", name, f"{group}/{origin}")


def freeze(group: str, origin: str, name: str, tags: Mapping[str, str]) -> Tuple[str, ...]:
    """A snapshot that nobody opens: LVM's skip flag keeps it without a device (lv-activation-skip)."""
    return ("lvcreate", "-q", "-y", "-ky", *_tags(tags), "-s", "-n", name, f"{group}/{origin}")


def add_tags(group: str, name: str, tags: Mapping[str, str]) -> Tuple[str, ...]:
    """Record something with a volume."""
    return ("lvchange", "-q", *_tags(tags), f"{group}/{name}")


def rename(group: str, name: str, other: str) -> Tuple[str, ...]:
    """Give a volume another name."""
    return ("lvrename", "-q", group, name, other)


def extend(group: str, name: str, size: int) -> Tuple[str, ...]:
    """Grow to at least `size` bytes; --fs ignore: the content is a guest's, not the host's."""
    return ("lvextend", "-q", "--fs", "ignore", "-L", f"{size}b", f"{group}/{name}")


def remove(group: str, name: str) -> Tuple[str, ...]:
    """Remove one volume."""
    return ("lvremove", "-q", "-f", "-y", f"{group}/{name}")


def remove_family(group: str, name: str) -> Tuple[str, ...]:
    """Remove a volume and what is named after it with a full stop; nothing there is success (lvmreport(7))."""
    return ("lvremove", "-q", "-f", "-y", "-S", f'lv_name="{name}" || lv_name=~"^{name}[.]"', group)


def activate(group: str, name: str) -> Tuple[str, ...]:
    """Make the device node, also where the skip flag is set (-K)."""
    return ("lvchange", "-q", "-ay", "-K", f"{group}/{name}")


def listing(target: str) -> Tuple[str, ...]:
    """All volumes of a group, or the one `group/name`."""
    return (*_LIST, _VOLUME_FIELDS, target)


def pool_state(group: str, pool: str) -> Tuple[str, ...]:
    """Size and fill of the pool."""
    return (*_LIST, _POOL_FIELDS, f"{group}/{pool}")


def _rows(text: str) -> List[Dict[str, Any]]:
    report: List[Dict[str, Any]] = json.loads(text)["report"][0]["lv"]
    return report


def parse_listing(text: str, pool: str) -> Dict[str, ThinVolume]:
    """`listing`'s volumes of that thin pool by name."""
    volumes = {}
    for row in _rows(text):
        if row["pool_lv"] != pool:
            continue
        tags = dict(tag[4:].partition("=")[::2] for tag in row["lv_tags"].split(",") if tag.startswith("dnc."))
        volumes[row["lv_name"]] = ThinVolume(row["lv_name"], int(row["lv_size"]), row["origin"] or None, tags)
    return volumes


def parse_pool(text: str) -> ThinPoolState:
    """`pool_state`. Raises NotFound when it is no thin pool."""
    row = _rows(text)[0]
    if not row["lv_attr"].startswith("t"):
        raise NotFound(f"{row['lv_name']} is no thin pool", hint="correct POOL in dncrc")
    return ThinPoolState(
        int(row["lv_size"]), float(row["data_percent"] or 0), float(row["metadata_percent"] or 0),
        row["lv_attr"][7:8] == "z",
    )


def explain(error: ToolFailed, what: str) -> DncError:
    """The typed error for LVM's own words; `what` names the volume. Texts: captures lv*.txt."""
    text = error.stderr
    if "insufficient free space" in text or "No space left" in text or "free space in pool" in text:
        return NoSpace(f"{what}: the volume group is full", command=error.command, hint="free space or add disks")
    if "already exists in volume group" in text:
        return Conflict(f"{what} already exists", command=error.command)
    if "is used by another device" in text or "in use" in text or "contains a filesystem" in text:
        return Busy(f"{what} is held open", command=error.command, hint="see what uses it: drbdadm status, fuser")
    if "Failed to find logical volume" in text or "Snapshot origin LV" in text or "not found in Volume group" in text:
        return NotFound(f"{what} does not exist", command=error.command)
    if "Volume group" in text and "not found" in text:
        return NotFound(f"{what}: its volume group is not there", command=error.command, hint="vgs, or correct POOL")
    return error
