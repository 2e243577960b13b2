"""TM ln: give a VM its persistent image itself, or its own copy of a CD-ROM or immutable image (contract 1.2, 1.3).

A CD-ROM or immutable image may serve many VMs at once, on any host, and DRBD lets nobody read a Secondary. So each
VM gets a copy of its own, as instant as any clone, which its `delete` removes again.
"""

from __future__ import annotations

from ..errors import Unsafe
from ..farm import disks
from ..farm.sessions import Sessions
from ..grammar import clone_name, parse_id
from ..opennebula.driver import Call
from ..opennebula.oned import require_hosts, vm_info
from ..opennebula.paths import parse_disk_path
from ..opennebula.vm import DiskKind
from .source import check_source, ensure_image, parse_block_source

ARGUMENTS = ("source", "destination", "vm", "datastore")


def run(call: Call) -> None:
    """Have the image, or a copy of it, up on all members and linked on the chosen host."""
    place = parse_disk_path(call.arg("destination"))
    vm = parse_id(call.arg("vm"), "VM id")
    check_source(call.arg("source"))
    document = vm_info(vm)
    disk = document.disk(place.disk)
    image = parse_block_source(call.arg("source"), disk)
    if disk.file and disk.saved:
        raise Unsafe(
            f"disk {disk.id}: a persistent image that is a file", hint="put it into a datastore with DS_MAD=dnc"
        )
    with Sessions(call) as farm:
        ensure_image(farm, call, image, document, disk, place.host)
        if disk.kind is DiskKind.PERSISTENT:
            name = image
            spec = disks.ensure_persistent(farm, image, vm, place.host)
        else:
            name = clone_name(image, vm, place.disk)
            wish = disks.Wish(*document.replicas(disk))
            spec = disks.ensure_clone(farm, image, name, vm, 0, place.host, wish)
        farm.call(place.host, "ensure_link", path=place.path, resource=name.text)
        farm.commit()
        hosts = farm.ssh_names(spec.replicas)
    require_hosts(call, document, place.disk, hosts)
    call.log.info(f"{name} on {place.host} as {place.path}")
