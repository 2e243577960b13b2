"""TM clone: give a VM its own replicated copy of an image (contract 1.2)."""

from __future__ import annotations

from ..farm import disks
from ..farm.sessions import Sessions
from ..grammar import MIB, clone_name, parse_id
from ..opennebula.driver import Call
from ..opennebula.oned import require_hosts, vm_info
from ..opennebula.paths import parse_disk_path
from ..opennebula.vm import Disk
from .source import check_source, ensure_image, parse_block_source

ARGUMENTS = ("source", "destination", "vm", "datastore")


def run(call: Call) -> None:
    """Snapshot the image on all its members, bring the copy up, link it on the chosen host."""
    place = parse_disk_path(call.arg("destination"))
    vm = parse_id(call.arg("vm"), "VM id")
    check_source(call.arg("source"))
    document = vm_info(vm)
    disk = document.disk(place.disk)
    wish = disks.Wish(*document.replicas(disk))
    image = parse_block_source(call.arg("source"), disk)
    name = clone_name(image, vm, place.disk)
    with Sessions(call) as farm:
        ensure_image(farm, call, image, document, disk, place.host)
        spec = disks.ensure_clone(farm, image, name, vm, data_bytes(disk), place.host, wish)
        farm.call(place.host, "ensure_link", path=place.path, resource=name.text)
        farm.commit()
        hosts = farm.ssh_names(spec.replicas)
    require_hosts(call, document, place.disk, hosts)
    call.log.info(f"{name} on {place.host} as {place.path}")


def data_bytes(disk: Disk) -> int:
    """What the copy must hold. No `resize` follows when a VM wants more than the image has (observation 7)."""
    return disk.size_mib * MIB if disk.size_mib > disk.original_size_mib else 0
