"""VMM reboot: ask the guest to reboot (contract 2.4)."""

from __future__ import annotations

from ..opennebula.driver import Call
from .start import open_existing

ARGUMENTS = ("deploy_id", "host", "vm", "host_again")


def run(call: Call) -> None:
    """Returns when the guest was told; xl builds the domain anew with the disks, which stay Primary.

    Raises NotFound, Unsafe (paused, dying, half migrated: it cannot hear), ToolFailed.
    """
    vm = open_existing(call)
    vm.host.domains.reboot(vm.document.domain)
