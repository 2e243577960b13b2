"""The space of a datastore: its pool on every host that answers, taken as replicas on distinct hosts."""

from __future__ import annotations

from typing import Optional, Protocol, Tuple

from ..errors import NotFound
from ..grammar import PoolSpec
from .placement import Capacity, capacity, farm_hosts, spaces
from .session import Caller
from .sessions import Sessions
from .survey import try_survey


class Store(Protocol):
    """What counts of a datastore."""

    @property
    def bridge_list(self) -> Tuple[str, ...]: ...

    @property
    def pool(self) -> Optional[PoolSpec]: ...


def measure(caller: Caller, datastore: Store) -> Capacity:
    """Ask all hosts of a datastore; those that do not answer offer nothing. Raises Unreachable, NotFound, BadConfig."""
    config = caller.config
    pool = datastore.pool or config.pool
    hosts = farm_hosts(config.hosts, datastore.bridge_list)
    with Sessions(caller) as farm:
        for error in farm.try_open(hosts).values():
            caller.log.warn(error.line())
        if not farm.sessions:
            raise farm.unreachable[hosts[0]]
        found = spaces(try_survey(farm, farm.hosts, [], [pool]), pool)
    if not found:
        raise NotFound(f"pool {pool} is on none of {' '.join(hosts)}", hint="create it, or correct POOL or DNC_POOL")
    return capacity(list(found.values()), config.replicas, config.pool_fill_limit)
