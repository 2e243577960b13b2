"""What the comparison scenario knows of the tools: volumes by kind of pool, classes of error texts."""

from __future__ import annotations

import re
from typing import Callable, NamedTuple

CLASSES = (
    ("exists", "already exists|Minor or volume exists"),
    ("missing", "does not exist|not found|Failed to find|No such resource|no resources defined"
                "|not defined in your config|invalid domain identifier|could not find any snapshots"
                "|failed to stat|No such file"),
    ("busy", "dataset is busy|is used by another device|Device or resource busy|is configured!"),
    ("has children", "has children"),
    ("has clones", "has dependent clones"),
    ("no pool", "no such pool|Volume group .* not found"),
    ("no space", "out of space|insufficient free space"),
    ("held open", "held open by someone"),
    ("two primaries", "Multiple primaries not allowed"),
    ("no data", "Need access to UpToDate data"),
    ("not standalone", "Need to be StandAlone"),
    ("no metadata", "No valid meta data found"),
    ("both primary", "Can not clear allow_two_primaries"),
    ("not allocated", "Device minor not allocated"),
    ("mounted", "mounted in a guest domain"),
)  # fmt: skip


class Backend(NamedTuple):
    """How a kind of pool makes volumes: argv by operation."""

    kind: str
    pool: str
    device: str
    create: Callable[[str], list[str]]
    clone: Callable[[str, str], list[list[str]]]
    grow: Callable[[str], list[str]]
    remove: Callable[[str], list[list[str]]]
    size: Callable[[str], list[str]]


ZFS = Backend(
    "zfs", "tank/dnc", "/dev/zvol/tank/dnc/",
    lambda name: ["zfs", "create", "-s", "-V", "64M", "-b", "16k", "-o", "volmode=dev", "-o", "dnc:kind=image",
        f"tank/dnc/{name}"],
    lambda origin, name: [
        ["zfs", "snapshot", f"tank/dnc/{origin}@{name}"],
            ["zfs", "clone", f"tank/dnc/{origin}@{name}", f"tank/dnc/{name}"],
    ],
    lambda name: ["zfs", "set", "volsize=96M", f"tank/dnc/{name}"],
    lambda name: [["zfs", "destroy", "-r", f"tank/dnc/{name}"]],
    lambda name: ["zfs", "list", "-Hp", "-o", "volsize,origin,dnc:kind", f"tank/dnc/{name}"],
)  # fmt: skip
LVM = Backend(
    "lvm", "vg0", "/dev/vg0/",
    lambda name: ["lvcreate", "-q", "-y", "-kn", "-Wn", "--addtag", "dnc.kind=image", "-V", "64m", "-n", name,
        "--thinpool", "vg0/pool"],
    lambda origin, name: [["lvcreate", "-q", "-y", "-kn", "-s", "-n", name, f"vg0/{origin}"]],
    lambda name: ["lvextend", "-q", "--fs", "ignore", "-L", "96m", f"vg0/{name}"],
    lambda name: [["lvremove", "-q", "-f", "-y", f"vg0/{name}"]],
    lambda name: [
        "lvs", "--noheadings", "--units", "b", "--nosuffix", "--separator", "|", "-o", "lv_size,origin,lv_tags",
        f"vg0/{name}",
    ],
)  # fmt: skip


def error_class(text: str) -> str:
    """What kind of error a tool's text tells, "" for none that is known."""
    return next((name for name, pattern in CLASSES if re.search(pattern, text)), "")
