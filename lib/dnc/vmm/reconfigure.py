"""VMM reconfigure: give the guest its new context CD-ROM (contract 2.4)."""

from __future__ import annotations

from ..errors import DncError
from ..grammar import parse_path
from ..opennebula.driver import Call
from ..tools.xl_config import DiskConfig, GuestType, disk_specification, vdev_for
from .guest import guest_type
from .start import Vm, open_existing

ARGUMENTS = ("deploy_id", "target", "path", "vm", "host")


def run(call: Call) -> None:
    """Without target or path there is nothing to do."""
    vm = open_existing(call)
    target, path = call.arg("target").strip(), call.arg("path").strip()
    if not target or not path:
        return
    kind = guest_type(vm.document, call.config)
    config = DiskConfig(vdev_for(target, kind), parse_path(path), readonly=True, cdrom=True, file=True)
    if kind is GuestType.HVM:
        vm.host.domains.insert_medium(vm.document.domain, config.vdev, config.path)
    else:
        _replug(vm, config, disk_specification(config, kind))


def _replug(vm: Vm, config: DiskConfig, specification: str) -> None:
    """A guest that has the old CD-ROM mounted keeps it: told, no failure, since what led here has worked."""
    name = vm.document.domain
    details = vm.host.domains.details(name)
    try:
        if details and config.vdev in [live.vdev for live in details.disks]:
            vm.host.domains.detach_disk(name, config.vdev, vm.host.config.shutdown_timeout)
        vm.host.domains.attach_disk(name, specification)
    except DncError as error:
        vm.host.log.warn(f"{name} keeps its old context: {error}")
