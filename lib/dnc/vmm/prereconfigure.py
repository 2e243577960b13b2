"""VMM prereconfigure: take the context CD-ROM out before it is made anew (contract 2.4)."""

from __future__ import annotations

from ..opennebula.driver import Call
from ..tools.xl_config import GuestType
from .guest import context_vdev, guest_type
from .start import open_existing

ARGUMENTS = ("deploy_id", "target", "vm", "host")


def run(call: Call) -> None:
    """Only an emulated drive is emptied: PVH and PV guests have a block device in its place, which keeps the old file
    until `reconfigure` plugs the new one. An empty drive, or none, is success. Raises NotFound, Unsafe, ToolFailed."""
    vm = open_existing(call)
    kind = guest_type(vm.document, call.config)
    if not call.arg("target").strip() or kind is not GuestType.HVM:
        return
    name, vdev = vm.document.domain, context_vdev(vm.document, kind)
    vm.host.domains.require_alive(name)
    details = vm.host.domains.details(name)
    if details and any(live.vdev == vdev and live.path for live in details.disks):
        vm.host.domains.eject_medium(name, vdev)
