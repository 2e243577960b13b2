"""VMM attach_disk: plug a disk, which the transfer driver has made, into the running guest (contract 2.4)."""

from __future__ import annotations

from ..errors import DncError, NotFound
from ..grammar import parse_path
from ..opennebula.driver import Call
from ..opennebula.paths import is_disk_path, parse_disk_path
from ..opennebula.vm import DiskKind
from ..tools.xl_config import DiskConfig, disk_specification
from .disks import VmDisks
from .guest import disk_config, guest_type
from .start import Vm, open_existing

# The message also comes as an argument; stdin has the same and no length limit (observation 14).
ARGUMENTS = ("deploy_id", "path", "target", "index", "message", "vm", "host")


def disk_number(call: Call) -> int:
    """N of the path DIRECTORY/disk.N in argv. Raises BadInput."""
    path = parse_path(call.arg("path"))
    return parse_disk_path(f"host:{path}").disk if is_disk_path(path) else -1


def run(call: Call) -> None:
    """Checked before and after like a start; returns when the guest has taken the disk. One that is plugged already
    is success. Raises NotFound, Unsafe (paused, dying, half migrated), TimedOut (the guest did not take it)."""
    vm = open_existing(call)
    name = vm.document.domain
    disk = vm.document.disk(disk_number(call))
    disks = VmDisks(vm.host, vm.document, call.started, only=disk.id)
    kind = guest_type(vm.document, call.config)
    with disks.locked(f"attach_disk of VM {vm.document.id}"):
        disks.refuse_given_up()
        config = disk_config(vm.document, disk, vm.directory, kind, disks.device_of)
        vm.host.domains.require_alive(name)
        details = vm.host.domains.details(name)
        if details is None:
            raise NotFound(f"{name} does not run here")
        if (config.vdev, config.path) in [(live.vdev, live.path) for live in details.disks]:
            vm.host.domains.verify_running(name, [config.vdev])
            return
        if disk.kind is not DiskKind.FOREIGN:
            disks.ensure_startable()
        _attach(vm, disks, config, disk_specification(config, kind))


def _attach(vm: Vm, disks: VmDisks, config: DiskConfig, specification: str) -> None:
    name = vm.document.domain
    try:
        disks.promote()
        vm.host.domains.attach_disk(name, specification)
        vm.host.domains.await_disk_taken(name, config.vdev)
        disks.check_primary()
        disks.refuse_given_up()
    except BaseException:
        _take_out(vm, config)
        disks.demote()
        raise


def _take_out(vm: Vm, config: DiskConfig) -> None:
    """What xl has kept of it would be there again after the guest's next reboot, or keep the guest from it."""
    name = vm.document.domain
    try:
        details = vm.host.domains.details(name)
        if details and (config.vdev, config.path) in [(live.vdev, live.path) for live in details.disks]:
            vm.host.domains.detach_disk(name, config.vdev, vm.host.config.shutdown_timeout)
    except DncError as error:
        vm.host.log.error(f"{name}: {config.vdev} may still be plugged: {error}; do not reboot the guest")
