"""One host, put together: the composition root, used by the agent and, in process, by VMM actions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Dict, NamedTuple, Optional

from ..command import Runner
from ..config import Config
from ..grammar import PoolKind, PoolSpec, parse_pool
from ..log import Log
from ..tools.dialects import of_proc
from ..tools.drbd import ResourceSpec
from .files import Files, read_text
from .journal import COPIES, GIVEN_UP, GROWING, IMPORTS, INTENTS, STRAYS, UNFINISHED, Journal
from .links import Links
from .locks import Locks
from .minors import Minors
from .pools import Pool, Surroundings
from .resource_files import ResourceFiles
from .resources import Resources
from .samples import Samples
from .waiting import Patience

if TYPE_CHECKING:
    from .domains import Domains


class Paths(NamedTuple):
    """Where things are on a host; tests point them into a directory of their own."""

    drbd_config: str = "/etc/drbd.d"
    state: str = "/var/lib/dnc"
    devices: str = "/dev"
    proc: str = "/proc"
    sys_block: str = "/sys/class/block"
    sys: str = "/sys"


class Host:
    """This host. name: `uname -n`, which is what resource files call it."""

    def __init__(
        self, runner: Runner, config: Config, log: Log, *, paths: Paths = Paths(),  # noqa: B008  (an immutable record)
        patience: Optional[Patience] = None, name: str = "",
    ) -> None:
        self.runner = runner
        self.config = config
        self.log = log
        self.paths = paths
        self.patience = patience or Patience()
        self.name = name or os.uname().nodename
        self.files = Files(log, runner.dry_run)
        self.journal = Journal(paths.state, self.files)
        self.locks = Locks(f"{paths.state}/locks", self.patience)
        self.resource_files = ResourceFiles(paths.drbd_config, f"{paths.state}/single", self.files, log)
        self.minors = Minors(
            f"{paths.state}/minors", paths.sys_block, self.locks, self.files, self.resource_files.usage
        )
        self.dialect = of_proc(read_text(f"{paths.proc}/drbd") or "")
        self.resources = Resources(
            self.name, self.dialect, self.resource_files, runner, self.patience, self.journal, log,
            f"{paths.proc}/drbd", paths.devices, paths.sys_block,
        )
        self.links = Links((config.datastore_location, paths.state), self.files)
        self._pools: Dict[PoolSpec, Pool] = {}
        self._domains: Optional[Domains] = None

    @property
    def address(self) -> str:
        """The address of this host for replication. Raises BadConfig."""
        from .addresses import replication_address

        return replication_address(self.config.replication_network, self.name, self.paths.proc)

    @property
    def slots(self) -> int:
        """Bitmap slots of the metadata that is made here: decides the size of volumes."""
        return self.dialect.slots if self.dialect is not None else 0

    @property
    def domains(self) -> Domains:
        """The domains of this host."""
        if self._domains is None:
            from .domains import Domains

            self._domains = Domains(self.runner, self.log, self.patience)
        return self._domains

    @property
    def samples(self) -> Samples:
        """What probes saw when they looked last."""
        return Samples(f"{self.paths.state}/monitoring", self.paths.proc, self.log)

    def pool(self, spec: PoolSpec) -> Pool:
        """A pool of this host; opened once."""
        pool = self._pools.get(spec)
        if pool is None:
            pool = self._pools[spec] = _open_pool(spec, self.surroundings)
        return pool

    @property
    def surroundings(self) -> Surroundings:
        """What pools need of this host."""
        return Surroundings(
            self.runner, self.patience, self.paths.devices, self.paths.sys_block, self.config.pool_fill_limit,
            self.journal.last_fill,
        )

    def pool_of(self, spec: ResourceSpec) -> Pool:
        """The pool that holds a resource's volume."""
        return self.pool(parse_pool(spec.pool))

    def ensure_state_directories(self) -> None:
        """What share/host/prepare makes; missing ones are made if /var/lib/dnc allows it."""
        for part in ("locks", "minors", INTENTS, GIVEN_UP, UNFINISHED, COPIES, GROWING, IMPORTS, STRAYS):
            path = f"{self.paths.state}/{part}"
            if not os.path.isdir(path):
                try:
                    os.makedirs(path, mode=0o750, exist_ok=True)
                except OSError as error:
                    from .files import explain

                    raise explain(error, path) from None


def _open_pool(spec: PoolSpec, around: Surroundings) -> Pool:
    """The backend for a pool's kind."""
    if spec.kind is PoolKind.ZFS:
        from .zfs_pool import ZfsPool

        return ZfsPool(spec, around)
    from .thin_pool import ThinPool

    return ThinPool(spec, around)
