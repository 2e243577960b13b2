"""Figures of pools that hosts publish through OpenNebula's own monitoring: their name and shape, in one place.

A host's probe prints one vector a pool, which oned keeps in HOST/TEMPLATE (contract 3, host/system):

    DNC_SPACE=[POOL="zfs:tank/dnc",TOTAL_MB="3800",USED_MB="812",FREE_MB="2988",FILL="21.4",VOLUMES="14",AT="1795190728"]

TOTAL, USED and FREE in MiB as the pool would be filled; FILL in percent, a thin pool's metadata counted; VOLUMES: how
many of dnc's lie in it; AT: seconds since the epoch, by the host's clock.
"""

from __future__ import annotations

import re
from typing import Mapping, NamedTuple

from ..errors import BadInput
from ..grammar import MIB, PoolSpec, parse_id, parse_pool, shown
from .space import Space

ATTRIBUTE = "DNC_SPACE"
# Older figures say nothing: oned's own period for such probes is ten minutes.
MAX_AGE_S = 1800.0
_FILL = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3})?\Z")


class Figure(NamedTuple):
    """One pool of one host; at: seconds since the epoch."""

    pool: PoolSpec
    space: Space
    at: int

    def render(self) -> str:
        """The line that a probe prints."""
        space = self.space
        values = {
            "POOL": str(self.pool), "TOTAL_MB": space.total // MIB, "USED_MB": -(-space.used // MIB),
            "FREE_MB": space.free // MIB, "FILL": f"{space.fill:.1f}", "VOLUMES": space.volumes, "AT": self.at,
        }
        return f"{ATTRIBUTE}=[" + ",".join(f'{key}="{value}"' for key, value in values.items()) + "]"


def parse(values: Mapping[str, str]) -> Figure:
    """One DNC_SPACE vector. Raises BadInput when anything in it is missing, wrong or impossible."""
    missing = [key for key in ("POOL", "TOTAL_MB", "USED_MB", "FREE_MB", "FILL", "VOLUMES", "AT") if key not in values]
    if missing:
        raise BadInput(f"{ATTRIBUTE} has no {missing[0]}")
    total, used, free = (_size(values, key) for key in ("TOTAL_MB", "USED_MB", "FREE_MB"))
    if not _FILL.match(values["FILL"]) or float(values["FILL"]) > 100:
        raise BadInput(f"{ATTRIBUTE}: FILL {shown(values['FILL'])} is no percentage")
    if max(used, free) > total:
        raise BadInput(f"{ATTRIBUTE}: more used or free than there is")
    volumes, at = (parse_id(values[key], f"{ATTRIBUTE} {key}") for key in ("VOLUMES", "AT"))
    return Figure(parse_pool(values["POOL"]), Space(total, used, free, float(values["FILL"]), volumes), at)


def _size(values: Mapping[str, str], key: str) -> int:
    return parse_id(values[key], f"{ATTRIBUTE} {key}") * MIB
