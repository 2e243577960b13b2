"""TM resize: a VM's disk grows, the VM off or running (contract 1.2, 1.4); resize_disk tells the guest after it."""

from __future__ import annotations

from ..errors import DncError
from ..farm import growth
from ..farm.sessions import Sessions
from ..grammar import MIB, parse_id, parse_size_mib
from ..opennebula.driver import Call
from ..opennebula.oned import vm_info
from ..opennebula.paths import parse_disk_path
from ..opennebula.vm import DiskKind
from .hosts import storage_host

ARGUMENTS = ("disk", "size", "vm", "datastore")


def run(call: Call) -> None:
    """Grow the disk on all its members at once; the same size again is success, a smaller one is refused."""
    place = parse_disk_path(call.arg("disk"))
    size = parse_size_mib(call.arg("size"))
    vm = vm_info(parse_id(call.arg("vm"), "VM id"))
    disk = vm.disk(place.disk)
    if disk.kind is DiskKind.FOREIGN:
        raise DncError(f"disk {disk.id} of VM {vm.id} is not dnc's", hint="its own transfer driver has to resize it")
    name = disk.resource(vm.id)
    with Sessions(call) as farm:
        grown = growth.grow(farm, name, size * MIB, storage_host(call, place.host), vm.domain)
        farm.commit()
    call.log.info(f"{name} {'grew to' if grown else 'has'} {size} MiB")
