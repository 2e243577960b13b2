"""DISK and the context CD-ROM: which device, under which name, in which mode."""

from __future__ import annotations

from typing import Callable, Dict, List, Optional, Tuple

from ...errors import BadInput
from ...opennebula.vm import Disk, DiskKind, VmDocument
from ...tools.xl_config import DiskConfig, GuestType, Target, assign_vdevs, check_vdevs
from .attributes import check

DeviceOf = Callable[[str], str]


def disk_configs(
    vm: VmDocument, directory: str, kind: GuestType, device_of: DeviceOf, discard: str = ""
) -> Tuple[DiskConfig, ...]:
    """Every disk of the VM and its context CD-ROM, in DISK_ID order; `discard` is dncrc's DISCARD. Raises BadInput."""
    disks = [disk_config(vm, disk, directory, kind, device_of, discard) for disk in vm.disks]
    context = vm.context_disk
    if context is not None:
        disks.append(context_config(vm, context, directory, kind))
    check_vdevs(disks, kind)
    return tuple(disks)


def disk_config(
    vm: VmDocument, disk: Disk, directory: str, kind: GuestType, device_of: DeviceOf, discard: str = ""
) -> DiskConfig:
    """One DISK: the device of its resource, or for another driver's disk the file in the VM's directory.

    Raises BadInput for what Xen cannot do.
    """
    check("DISK", disk.attributes, f"disk {disk.id} of VM {vm.id}")
    vdev = _vdevs(vm, kind)[disk.id]
    foreign = disk.kind is DiskKind.FOREIGN
    if foreign and disk.cdrom and not disk.attributes.get("SOURCE", "").strip():
        return DiskConfig(vdev=vdev, path="", readonly=True, cdrom=True)
    return DiskConfig(
        vdev=vdev,
        path=f"{directory}/disk.{disk.id}" if foreign else device_of(disk.resource(vm.id).text),
        readonly=disk.readonly or disk.cdrom,
        cdrom=disk.cdrom,
        file=foreign,
        format=_format(vm, disk),
        discard=_discard(disk, discard),
    )


def _format(vm: VmDocument, disk: Disk) -> str:
    """What a foreign file holds: shown to a guest as raw, a qcow2 would be destroyed. A resource is always raw."""
    driver = disk.attributes.get("DRIVER", "").strip().lower()
    if disk.kind is DiskKind.FOREIGN and not disk.cdrom:
        return "qcow2" if driver == "qcow2" else "raw"
    if driver == "qcow2" and not disk.cdrom:
        raise BadInput(f"DRIVER qcow2 in disk {disk.id} of VM {vm.id}: its volume is raw", hint='set DRIVER="raw"')
    return "raw"


def _discard(disk: Disk, default: str) -> Optional[bool]:
    wanted = disk.attributes.get("DISCARD", "").strip().lower() or default
    if not wanted or disk.readonly or disk.cdrom:
        return None
    return wanted == "unmap"


def context_config(vm: VmDocument, number: int, directory: str, kind: GuestType) -> DiskConfig:
    """The context CD-ROM, a file in the VM's directory; a read-only block device for PVH and PV guests."""
    path = f"{directory}/disk.{number}"
    return DiskConfig(vdev=context_vdev(vm, kind), path=path, readonly=True, cdrom=True, file=True)


def context_vdev(vm: VmDocument, kind: GuestType) -> str:
    """Where the guest has its context CD-ROM, beside all its disks. Raises BadInput."""
    number = vm.context_disk
    if number is None or not vm.context.get("TARGET", "").strip():
        raise BadInput(f"the context of VM {vm.id} has no TARGET")
    return _vdevs(vm, kind)[number]


def _vdevs(vm: VmDocument, kind: GuestType) -> Dict[int, str]:
    """The virtual disk of every DISK_ID, the context's among them."""
    targets: List[Target] = [Target(disk.id, disk.target.strip(), disk.cdrom) for disk in vm.disks]
    context = vm.context.get("TARGET", "").strip()
    if vm.context_disk is not None and context:
        targets.append(Target(vm.context_disk, context, True))
    return assign_vdevs(targets, kind)
