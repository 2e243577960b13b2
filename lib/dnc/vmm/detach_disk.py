"""VMM detach_disk: unplug a disk from the running guest; the transfer driver removes it after (contract 2.4)."""

from __future__ import annotations

from ..opennebula.driver import Call
from ..opennebula.vm import Disk, DiskKind
from ..tools.xl import LiveDisk
from .attach_disk import disk_number
from .disks import VmDisks
from .start import Vm, open_existing

ARGUMENTS = ("deploy_id", "path", "target", "index", "vm", "host")


def run(call: Call) -> None:
    """What is plugged is looked up by its device, not by TARGET; a disk that is not plugged, or gone, is success.

    Raises TimedOut while the guest holds it, Unsafe when it cannot let go (paused, dying, half migrated).
    """
    vm = open_existing(call)
    disk = vm.document.disk(disk_number(call))
    disks = VmDisks(vm.host, vm.document, call.started, only=disk.id)
    name = vm.document.domain
    with disks.locked(f"detach_disk of VM {vm.document.id}"):
        details = vm.host.domains.details(name)
        if details is None:
            vm.host.domains.require_absent(name)
        for live in details.disks if details else ():
            if _is_disk(vm, disk, live):
                vm.host.domains.detach_disk(name, live.vdev, call.config.shutdown_timeout)
        disks.demote()


def _is_disk(vm: Vm, disk: Disk, live: LiveDisk) -> bool:
    """By its path: of a file, or with the resource's name as a word, also where the resource is gone already."""
    if disk.kind is DiskKind.FOREIGN:
        return live.path == f"{vm.directory}/disk.{disk.id}"
    return disk.resource(vm.document.id).text in live.path.split("/")
