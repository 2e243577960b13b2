"""VMM cancel: end the domain at once; absent is success (contract 2.4)."""

from __future__ import annotations

from ..opennebula.driver import Call
from ..tools.xl import INCOMING, MIGRATED_AWAY
from .start import demote_disks, open_existing

ARGUMENTS = ("deploy_id", "host", "vm", "host_again")


def run(call: Call) -> None:
    """Remainders of a broken migration go too; the disks stay up, Secondary."""
    vm = open_existing(call)
    name = vm.document.domain
    for each in (name, name + INCOMING, name + MIGRATED_AWAY):
        vm.host.domains.destroy(each)
    demote_disks(vm, call.action)
