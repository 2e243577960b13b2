"""VMM reconfigure: give the guest its new context CD-ROM (contract 2.4)."""

from __future__ import annotations

from ..errors import DncError
from ..grammar import parse_path
from ..opennebula.driver import Call
from ..opennebula.vm import LcmState
from ..tools.xl_config import DiskConfig, GuestType, disk_specification
from .guest import context_vdev, guest_type
from .start import Vm, open_existing

ARGUMENTS = ("deploy_id", "target", "path", "vm", "host")
# Long enough for a guest that reads its context just now; one that has it mounted keeps it as long as it likes.
_RELEASE_S = 30.0


def run(call: Call) -> None:
    """Without target or path there is nothing to do.

    After an interface was plugged or unplugged a failure is only told: OpenNebula would forget the interface, which is
    there. Raises NotFound, Unsafe (paused, dying, half migrated), TimedOut (the guest has the old one mounted).
    """
    vm = open_existing(call)
    path = call.arg("path").strip()
    if not call.arg("target").strip() or not path:
        return
    kind = guest_type(vm.document, call.config)
    config = DiskConfig(context_vdev(vm.document, kind), parse_path(path), readonly=True, cdrom=True, file=True)
    try:
        vm.host.domains.require_alive(vm.document.domain)
        if kind is GuestType.HVM:
            vm.host.domains.insert_medium(vm.document.domain, config.vdev, config.path)
        else:
            _replug(vm, config, disk_specification(config, kind))
    except DncError as error:
        if vm.document.lcm_state == LcmState.HOTPLUG:
            raise
        call.log.warn(f"{vm.document.domain} keeps its old context: {error}")


def _replug(vm: Vm, config: DiskConfig, specification: str) -> None:
    """Always anew, also when it looks the same: the file behind it is another one."""
    name = vm.document.domain
    vm.host.domains.detach_disk(name, config.vdev, _RELEASE_S)
    vm.host.domains.attach_disk(name, specification)
    vm.host.domains.await_disk_taken(name, config.vdev)
