"""What the actions on a VM disk's snapshots share: argv, and finding the disk (contract 1.2)."""

from __future__ import annotations

from typing import NamedTuple, Optional

from ..farm import snapshots
from ..farm.sessions import Sessions
from ..grammar import ResourceName, parse_id
from ..opennebula.driver import Call
from ..opennebula.oned import vm_info
from ..opennebula.paths import parse_disk_path
from .hosts import storage_host

ARGUMENTS = ("disk", "snapshot", "vm", "datastore")


class Target(NamedTuple):
    """A snapshot that oned means. host: None where it names the frontend."""

    name: ResourceName
    label: str
    host: Optional[str]
    domain: str


def parse_target(call: Call) -> Target:
    """argv and the VM document. Raises BadInput (also for a disk of another driver), Unreachable."""
    place = parse_disk_path(call.arg("disk"))
    label = str(parse_id(call.arg("snapshot"), "snapshot id"))
    vm = vm_info(parse_id(call.arg("vm"), "VM id"))
    return Target(vm.disk(place.disk).resource(vm.id), label, storage_host(call, place.host), vm.domain)


def create(call: Call) -> None:
    """Whether the VM runs is seen on the hosts, not believed (rule 4)."""
    target = parse_target(call)
    with Sessions(call) as farm:
        located = snapshots.find(farm, target.name, target.host)
        proof = snapshots.create(farm, located, target.label, target.domain)
        farm.commit()
    call.log.info(f"snapshot {target.label} of {target.name} on {' '.join(located.hosts)} ({proof})")
