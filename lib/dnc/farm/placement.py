"""Which hosts get the replicas, and how much can really be allocated. Pure functions over a survey."""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..errors import BadConfig, DncError, NoSpace
from ..grammar import MIB, PoolSpec
from .survey import HostSurvey, Space


class Capacity(NamedTuple):
    """Of a datastore, in MiB: data that fits on distinct hosts as often as there are replicas."""

    used: int
    free: int
    total: int

    def text(self) -> str:
        """The lines that `monitor` prints (contract 1.7, 4)."""
        return f"USED_MB={self.used}\nFREE_MB={self.free}\nTOTAL_MB={self.total}"


def farm_hosts(configured: Sequence[str], bridge_list: Sequence[str] = ()) -> Tuple[str, ...]:
    """The hosts that may hold replicas: BRIDGE_LIST of a datastore, else HOSTS of dncrc. Raises BadConfig."""
    hosts = tuple(dict.fromkeys(bridge_list or configured))
    if not hosts:
        raise BadConfig("no hosts are configured", hint='set HOSTS="host1 host2" in remotes/dncrc')
    return hosts


def choose_hosts(
    surveys: Mapping[str, HostSurvey], pool: PoolSpec, replicas: int, wanted_bytes: int, fill_limit: int,
    first: Optional[str] = None,
) -> Tuple[str, ...]:
    """The hosts with the most room for a new volume; `first` is one of them in any case, when given.

    Raises NoSpace when too few have room below `fill_limit` percent, DncError when too few answer.
    """
    if len(surveys) < replicas:
        raise DncError(
            f"{len(surveys)} of the hosts answer, {replicas} replicas need {replicas}",
            hint="bring the others back, or name more hosts in dncrc",
        )
    room = {host: usable(space, fill_limit) for host, space in spaces(surveys, pool).items()}
    fitting = [host for host in sorted(room, key=lambda host: (-room[host], host)) if room[host] >= wanted_bytes]
    if first is not None:
        fitting = [first] * (first in fitting) + [host for host in fitting if host != first]
    if len(fitting) < replicas or (first is not None and fitting[0] != first):
        shown = ", ".join(f"{host} {amount // MIB} MiB" for host, amount in sorted(room.items()))
        raise NoSpace(
            f"pool {pool} has no room for {wanted_bytes // MIB} MiB on {replicas} hosts",
            hint=f"usable below POOL_FILL_LIMIT={fill_limit}: {shown or 'nothing'}",
        )
    return tuple(fitting[:replicas])


def spaces(surveys: Mapping[str, HostSurvey], pool: PoolSpec) -> Dict[str, Space]:
    """The space of one pool on each host that has it."""
    return {host: answer.pools[str(pool)] for host, answer in surveys.items() if str(pool) in answer.pools}


def usable(space: Space, fill_limit: int) -> int:
    """Bytes that may still be taken below the fill limit."""
    return max(0, min(space.free, space.total * fill_limit // 100 - space.used))


def paired(amounts: Sequence[int], replicas: int) -> int:
    """How much data fits when each part goes to `replicas` distinct hosts that have these amounts.

    Every part leaves out one host, so the largest cannot give more than the others together match.
    """
    left: List[int] = sorted(amounts, reverse=True)
    if len(left) < replicas:
        return 0
    if replicas == 1:
        return sum(left)
    return min(sum(left) // 2, sum(left) - left[0])


def capacity(pools: Sequence[Space], replicas: int, fill_limit: int) -> Capacity:
    """What a datastore can report, from its pools on the hosts that answer."""
    free = paired([usable(space, fill_limit) for space in pools], replicas) // MIB
    total = paired([space.total * fill_limit // 100 for space in pools], replicas) // MIB
    return Capacity(max(0, total - free), free, total)
