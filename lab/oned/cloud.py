"""Oned: the stand-in as tests, benchmarks and the demo use it."""

from __future__ import annotations

import time
from pathlib import Path
from xml.etree import ElementTree

from .attributes import Attributes
from .backend import Backend, ProcessBackend
from .building import Refused
from .calls import Call, CallLog, Injection, Progress
from .farm import Farm
from .installation import SESSION, Installation
from .operations import AllOperations
from .records import HostRecord, Network
from .rpc import RpcServer
from .settings import Settings


class Oned(AllOperations):
    """A frontend with its datastores, images, hosts and machines.

    location becomes ONE_LOCATION and must be readable for the farm's user. A backend may be given instead of running
    processes.
    """

    def __init__(self, location: Path, farm: Farm, settings: Settings | None = None, progress: Progress | None = None,
                 backend: Backend | None = None) -> None:
        chosen = settings or Settings()
        self.farm = farm
        self.installation = Installation(Path(location), chosen, farm)
        self.rpc = RpcServer(SESSION, self._methods())
        self.rpc.start()
        environment = self.installation.environment(self.rpc.url)
        processes = ProcessBackend(self.installation.remotes, chosen.remotes_on_host, environment, farm.user)
        processes.repair = self._repair
        super().__init__(Path(location), chosen, backend or processes, CallLog(progress))
        self.environment = environment

    # --- installation ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Lay out ONE_LOCATION, start the agent, register the farm's hosts."""
        self.installation.lay_out()
        self.installation.start_agent(self.environment)
        for name in self.farm.hosts:
            self.create_host(name)

    def install(self, checkout: Path) -> None:
        """Install the suite from a checkout with `make install`."""
        self.installation.install(Path(checkout))

    def sync_hosts(self, *hosts: str) -> None:
        """Copy remotes to the hosts named, or to all."""
        self.installation.sync_hosts(self.environment, hosts or self.farm.hosts)

    def _repair(self, host: str) -> None:
        self.sync_hosts(host)

    @property
    def remotes(self) -> Path:
        """The frontend's remotes directory, where dncrc lies."""
        return self.installation.remotes

    def stop(self) -> None:
        """End the server, the agent and every driver process that still runs."""
        self.backend.stop()
        self.rpc.stop()
        self.installation.stop()

    def __enter__(self) -> Oned:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- records ---------------------------------------------------------------------------------------------------

    def create_host(self, name: str) -> HostRecord:
        """`onehost create`."""
        record = HostRecord(self.new_id("host"), name, self.settings.im_mad, self.settings.vm_mad,
                            template={"HYPERVISOR": self.settings.vm_mad, "HOSTNAME": name})
        self.hosts[record.id] = record
        return record

    def create_network(self, name: str, bridge: str = "br0", vn_mad: str = "bridge",
                       template: Attributes | None = None, dns: str = "", gateway: str = "") -> Network:
        """`onevnet create` with one address range, 10.0.0.10 and up."""
        network = Network(self.new_id("network"), name, bridge, vn_mad, template=template or {}, dns=dns,
                          gateway=gateway)
        self.networks[network.id] = network
        return network

    @property
    def calls(self) -> list[Call]:
        """Every driver call so far, in order."""
        return self.log.calls

    def inject(self, what: str, rc: int = 1, stderr: str = "", sleep_s: float = 0.0, count: int = 1, match: str = "",
               stdout: str = "") -> Injection:
        """Make the next call of "mad.action" fail (or be slow: rc=0 with sleep_s) instead of running."""
        return self.log.inject(what, Injection(rc, stderr, stdout, sleep_s, count, match))

    # --- XML-RPC ---------------------------------------------------------------------------------------------------

    def _update_vm(self, vm_id: int, template: str, append: int, *_: object) -> str:
        """USER_TEMPLATE merged (append 1) or replaced; this stand-in reads the XML form, single attributes only."""
        vm = self.vms[vm_id]
        given = {str(one.tag): one.text or "" for one in ElementTree.fromstring(template)}
        vm.user_template.update(given)
        if not append:
            for name in set(vm.user_template) - set(given):
                del vm.user_template[name]
        return str(vm_id)

    def _migrate_vm(self, vm_id: int, host_id: int, live: bool = False, enforce: bool = False, datastore_id: int = -1,
                    poweroff: int = 0, *_: object) -> int:
        """one.vm.migrate: refused at once, or begun in the background."""
        vm, host = self.vms[vm_id], self.hosts[host_id]
        if host.state == 8:
            raise Refused("[one.vm.migrate] Host is offline, cannot use it to deploy VM")
        system = self.datastores[vm.datastore_id if datastore_id == -1 else datastore_id]
        self._check_migration(vm, host_id, system, live)
        before = vm.status
        operation = self.migrate(vm, host.name, live=live, datastore=None if datastore_id == -1 else system.name,
                                 poff=poweroff > 0, hard=poweroff == 2, background=True)
        while operation.running and vm.status == before:
            time.sleep(0.005)
        return vm_id

    def _methods(self) -> dict:  # type: ignore[type-arg]
        def pool(name: str, records: str) -> str:
            return f"<{name}>" + "".join(one.xml() for one in list(getattr(self, records).values())) + f"</{name}>"

        return {
            "one.system.version": lambda *_: self.settings.version,
            "one.vm.info": lambda vm_id, *_: self.vms[vm_id].xml(all_history=True),
            "one.vm.update": self._update_vm,
            "one.vm.migrate": self._migrate_vm,
            "one.image.info": lambda image_id, *_: self.images[image_id].xml(),
            "one.datastore.info": lambda datastore_id, *_: self.datastores[datastore_id].xml(),
            "one.host.info": lambda host_id, *_: self.hosts[host_id].xml(),
            "one.vmpool.info": lambda *_: pool("VM_POOL", "vms"),
            "one.imagepool.info": lambda *_: pool("IMAGE_POOL", "images"),
            "one.datastorepool.info": lambda *_: pool("DATASTORE_POOL", "datastores"),
            "one.hostpool.info": lambda *_: pool("HOST_POOL", "hosts"),
        }
