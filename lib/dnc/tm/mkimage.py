"""TM mkimage: an empty volatile disk, with a file system if the VM wants one (contract 1.2)."""

from __future__ import annotations

from typing import Optional

from ..errors import BadInput
from ..farm import disks, making
from ..farm.sessions import Sessions
from ..grammar import MIB, parse_id, parse_size_mib, shown, volatile_name
from ..opennebula.driver import Call
from ..opennebula.oned import host_register, require_hosts, vm_info
from ..opennebula.paths import DiskPath, parse_disk_path
from ..opennebula.vm import Disk

_FILESYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "vfat")
ARGUMENTS = ("size", "format", "destination", "vm", "datastore")


def run(call: Call) -> None:
    """Make the disk on the hosts of the VM's other disks, format it, link it on the chosen host."""
    if call.arg("format").lower() not in ("raw", "fs", *_FILESYSTEMS):
        raise BadInput(f"volatile disks are raw, not {shown(call.arg('format'))}", hint="leave FORMAT out, or set raw")
    place = parse_disk_path(call.arg("destination"))
    make(call, place, parse_id(call.arg("vm"), "VM id"), parse_size_mib(call.arg("size")), swap=False)


def make(call: Call, place: DiskPath, vm: int, size_mib: int, *, swap: bool) -> None:
    """A volatile disk of `size_mib` MiB, formatted as the VM document says."""
    document = vm_info(vm)
    disk = document.disk(place.disk)
    siblings = [one.resource(vm) for one in document.managed_disks if one.id != disk.id]
    filesystem = "swap" if swap else _wanted(call, disk)
    name = volatile_name(vm, place.disk)
    replicas = document.replicas(disk)[0] or call.config.replicas
    with Sessions(call) as farm:
        spec, finished = disks.make_volatile(
            farm, name, vm, size_mib * MIB, place.host, siblings, disk.pool or call.config.pool, replicas,
            host_register(call.log),
        )
        if not finished:
            if filesystem is not None:
                making.format_disk(farm, place.host, spec, filesystem)
            making.finish(farm, farm.ssh_names(spec.members), spec)
        farm.call(place.host, "ensure_link", path=place.path, resource=name.text)
        farm.commit()
        hosts = farm.ssh_names(spec.replicas)
    require_hosts(call, document, place.disk, hosts)
    call.log.info(f"{name} of {size_mib} MiB on {place.host} as {place.path}")


def _wanted(call: Call, disk: Disk) -> Optional[str]:
    """What the disk is to hold: FS, or as cxm's users write it, FSTYPE, or FORMAT with a file system's name."""
    form = call.arg("format").lower()
    words = (disk.attributes.get("FS", ""), disk.attributes.get("FSTYPE", ""), form if form in _FILESYSTEMS else "")
    return _filesystem(next((word for word in words if word.strip()), ""))


def _filesystem(text: str) -> Optional[str]:
    text = text.strip().lower()
    return text if text not in ("", "raw", "none") else None
