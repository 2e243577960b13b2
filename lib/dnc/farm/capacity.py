"""The space of a datastore: its pool on every host that may hold replicas, taken as replicas on distinct hosts."""

from __future__ import annotations

from typing import Dict, List, Optional, Protocol, Sequence, Tuple

from ..errors import NotFound
from ..grammar import MIB, PoolSpec
from ..log import Log
from .finding import BY_SESSION, HostRecord, Register, recent_space, spread
from .placement import Capacity, capacity, farm_hosts, rules_of
from .session import Caller
from .sessions import Sessions
from .space import Space
from .survey import try_survey


class Store(Protocol):
    """What counts of a datastore."""

    @property
    def bridge_list(self) -> Tuple[str, ...]: ...

    @property
    def pool(self) -> Optional[PoolSpec]: ...


def measure(caller: Caller, datastore: Store, replicas: int, register: Register) -> Capacity:
    """What can really be allocated, for `replicas` replicas; hosts that do not answer offer nothing.

    A farm of up to BY_SESSION hosts is asked by session; of a larger one oned tells what the hosts publish, and
    some of those that publish nothing are asked. Raises Unreachable, NotFound, BadConfig.
    """
    config = caller.config
    pool = datastore.pool or config.pool
    hosts = farm_hosts(config.hosts, datastore.bridge_list)
    found = _published(register, hosts, pool) if len(hosts) > BY_SESSION else {}
    silent = [host for host in hosts if host not in found]
    asked = spread(silent, str(pool), BY_SESSION)
    if len(asked) < len(silent):
        caller.log.warn(f"{len(silent) - len(asked)} hosts publish nothing about {pool} and are counted as full")
    with Sessions(caller) as farm:
        for error in farm.try_open(asked).values():
            caller.log.warn(error.line())
        if not farm.sessions and not found:
            raise farm.unreachable[asked[0]]
        answers = try_survey(farm, farm.hosts, [], [pool], promises=True)
        found.update({host: answer.pools[str(pool)] for host, answer in answers.items() if str(pool) in answer.pools})
    if not found:
        raise NotFound(f"pool {pool} is on none of {' '.join(hosts)}", hint="create it, or correct POOL or DNC_POOL")
    for line in describe(found, pool, config.pool_fill_limit):
        caller.log.info(line)
    _warn_of_full(caller.log, found, pool, config.pool_fill_limit)
    return capacity(found, replicas, config.pool_fill_limit, rules_of(config))


def _published(register: Register, hosts: Sequence[str], pool: PoolSpec) -> Dict[str, Space]:
    """The pool of each host that published it; one that OpenNebula does not use offers nothing."""
    found: Dict[str, Space] = {}
    records = register()
    for host in hosts:
        record: Optional[HostRecord] = records.get(host)
        space = recent_space(record, pool)
        if record is not None and record.unusable:
            found[host] = Space(0, 0, 0)
        elif space is not None:
            found[host] = space
    return found


def describe(found: Dict[str, Space], pool: PoolSpec, fill_limit: int) -> Sequence[str]:
    """The pools one by one, and how far they are over-committed, where they said so; of many the fullest."""
    fullest = sorted(found, key=lambda host: (-found[host].fill, host))[:BY_SESSION]
    return [_line(host, found[host], pool, fill_limit) for host in fullest]


def _line(host: str, space: Space, pool: PoolSpec, fill_limit: int) -> str:
    text = (
        f"{host}: {pool}: {space.used // MIB} of {space.total // MIB} MiB used, {space.fill:.0f} % full,"
        f" {space.usable(fill_limit) // MIB} MiB usable below {fill_limit} %"
    )
    if space.promised is None:
        return text
    times = space.promised / max(1, space.total)
    over = f", over-committed {times:.1f} times" if times > 1 else ""
    return f"{text}; its volumes are promised {space.promised // MIB} MiB{over}"


def _warn_of_full(log: Log, found: Dict[str, Space], pool: PoolSpec, fill_limit: int) -> None:
    full: List[str] = sorted(host for host, space in found.items() if space.total and space.fill >= fill_limit)
    if full:
        log.warn(f"{pool} is beyond POOL_FILL_LIMIT={fill_limit} on {' '.join(full)}: no new volumes there")
