"""What the volumes of a pool and their snapshots really occupy: one question for all of them (zfsprops(7), lvs(8))."""

from __future__ import annotations

import json
import re
from typing import Dict, NamedTuple, Tuple

from ..grammar import PoolKind, PoolSpec

_SNAPSHOT = re.compile(r"(?P<volume>one-[0-9a-z-]+)\.snap-(?P<label>[0-9]{1,10})\Z")


class VolumeUse(NamedTuple):
    """Bytes of each volume by name, and of its snapshots by their number."""

    volumes: Dict[str, int]
    snapshots: Dict[str, Dict[int, int]]


def question(pool: PoolSpec) -> Tuple[str, ...]:
    """argv: every volume and snapshot of the pool."""
    if pool.kind is PoolKind.ZFS:
        columns = "name,usedbydataset,used"
        return ("zfs", "list", "-Hp", "-d", "2", "-t", "volume,snapshot", "-o", columns, pool.name)
    group = pool.name.partition("/")[0]
    fields = "lv_name,lv_size,data_percent,pool_lv"
    return ("lvs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", fields, group)


def parse(pool: PoolSpec, text: str) -> VolumeUse:
    """The answer to `question`.

    ZFS: a clone counts what it does not share with its origin, a snapshot what it alone holds. LVM: what is mapped,
    also where it is shared with others; nothing else is known of thin volumes.
    """
    return _parse_zfs(text) if pool.kind is PoolKind.ZFS else _parse_lvm(pool, text)


def _parse_zfs(text: str) -> VolumeUse:
    use = VolumeUse({}, {})
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) != 3:
            continue
        dataset, at, snapshot = fields[0].rpartition("/")[2].partition("@")
        if at:
            _add_snapshot(use, snapshot, fields[2])
        elif fields[1].isdigit():
            use.volumes[dataset] = int(fields[1])
    return use


def _parse_lvm(pool: PoolSpec, text: str) -> VolumeUse:
    use = VolumeUse({}, {})
    thin_pool = pool.name.partition("/")[2]
    for row in json.loads(text)["report"][0]["lv"]:
        if row["pool_lv"] != thin_pool:
            continue
        mapped = int(int(row["lv_size"]) * float(row["data_percent"] or 0) / 100)
        if ".snap-" in row["lv_name"]:
            _add_snapshot(use, row["lv_name"], str(mapped))
        else:
            use.volumes[row["lv_name"]] = mapped
    return use


def _add_snapshot(use: VolumeUse, name: str, size: str) -> None:
    """A snapshot's own name says whose it is, wherever `zfs promote` moved it; clones' origins are none."""
    match = _SNAPSHOT.match(name)
    if match and size.isdigit():
        use.snapshots.setdefault(match["volume"], {})[int(match["label"])] = int(size)
