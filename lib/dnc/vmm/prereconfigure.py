"""VMM prereconfigure: take the context CD-ROM out before it is made anew (contract 2.4)."""

from __future__ import annotations

from ..opennebula.driver import Call
from ..tools.xl_config import GuestType, vdev_for
from .guest import guest_type
from .start import open_existing

ARGUMENTS = ("deploy_id", "target", "vm", "host")


def run(call: Call) -> None:
    """Only an emulated drive has to be emptied: PVH and PV guests read the old file until `reconfigure` replaces it."""
    vm = open_existing(call)
    kind = guest_type(vm.document, call.config)
    if call.arg("target").strip() and kind is GuestType.HVM:
        vm.host.domains.eject_medium(vm.document.domain, vdev_for(call.arg("target").strip(), kind))
