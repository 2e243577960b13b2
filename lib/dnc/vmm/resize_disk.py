"""VMM resize_disk: the running guest learns the new size of a disk that has grown (contract 2.4).

Nobody has to tell blkback: it compares its device's size ten times a second, and tells the guest's driver. So what
is left to do is to see that it did. A disk that an emulator serves keeps its size until the guest starts anew.
"""

from __future__ import annotations

from ..errors import NotFound, Unsafe
from ..grammar import MIB, parse_id, parse_size_mib
from ..host.pools import device_bytes
from ..opennebula.driver import Call
from ..opennebula.vm import Disk, DiskKind
from ..tools.xl_config import GuestType
from .guest import guest_type
from .start import Vm, open_existing

# The message also comes as an argument; stdin has the same and no length limit (observation 14).
ARGUMENTS = ("deploy_id", "disk", "size", "message", "there", "vm", "host")
_TIMEOUT_S = 30.0


def run(call: Call) -> None:
    """Wait until the guest has been told of at least SIZE MiB. Raises NotFound, Unsafe, TimedOut."""
    vm = open_existing(call)
    disk = vm.document.disk(parse_id(call.arg("disk"), "DISK_ID"))
    size = parse_size_mib(call.arg("size")) * MIB
    name = vm.document.domain
    if disk.kind is DiskKind.FOREIGN:
        raise Unsafe(f"disk {disk.id} of VM {vm.document.id} is not dnc's", hint="it has grown only when off")
    path = vm.disks.device_of(disk.resource(vm.document.id).text)
    vdev = _plugged(vm, disk, path)
    if not call.runner.dry_run:
        _check_grown(vm, path, size)
    if guest_type(vm.document, call.config) is GuestType.HVM:
        call.log.info(f"{name}: without PV drivers the guest sees the new size of {vdev} after its next start")
    vm.host.domains.await_capacity(name, vdev, size, _TIMEOUT_S)
    call.log.info(f"{name}: {vdev} has {size // MIB} MiB")


def _plugged(vm: Vm, disk: Disk, path: str) -> str:
    """Where the guest has the disk. Raises NotFound."""
    name = vm.document.domain
    details = vm.host.domains.details(name)
    if details is None:
        vm.host.domains.require_absent(name)
        raise NotFound(f"{name} does not run here", hint="the disk has grown: the guest sees it at its next start")
    for live in details.disks:
        if live.path == path:
            return live.vdev
    raise NotFound(f"{name} has no disk {disk.id} plugged", hint="the disk has grown; attach it again")


def _check_grown(vm: Vm, path: str, size: int) -> None:
    seen = device_bytes(path, vm.host.paths.sys_block)
    if seen < size:
        raise Unsafe(f"{path} has {seen // MIB} MiB, not {size // MIB}", hint="tm/dnc/resize grows it: run it again")
