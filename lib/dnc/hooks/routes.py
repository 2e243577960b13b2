"""By which route oned learns that a running domain is on another host than it thinks: a table of VM states. Pure.

one.vm.migrate is the only call that moves a VM's record (contract 6.4). Live, it asks the driver to migrate, which
finds the domain there and is done. Cold, it moves the disks' roles, and out of UNKNOWN it deploys, which finds the
domain there too; out of RUNNING a cold one would save the guest, so that is never asked for.
"""

from __future__ import annotations

import enum

from ..opennebula.api import VmRecord


class Route(enum.Enum):
    """What to do about a move."""

    NOTHING = "nothing"  # oned knows, or it is none of its business
    LIVE = "live"
    COLD = "cold"
    WAIT = "wait"  # an action of OpenNebula works on it: when that has ended, the state says more
    PERSON = "person"


_COLD = frozenset(("UNKNOWN", "POWEROFF", "SUSPENDED"))
# VMs that oned has on no host: no call gives them one without starting something.
_NOWHERE = frozenset(("INIT", "PENDING", "HOLD", "STOPPED", "UNDEPLOYED", "CLONING", "CLONING_FAILURE"))
# At the destination: oned brings it there itself just now, and may yet fail to.
_COMING = frozenset(("MIGRATE", "SAVE_MIGRATE", "PROLOG_MIGRATE", "PROLOG_MIGRATE_UNKNOWN", "PROLOG_MIGRATE_POWEROFF",
                     "PROLOG_MIGRATE_SUSPEND", "BOOT_MIGRATE"))


def choose(record: VmRecord, at_destination: bool) -> Route:
    """The route for a VM whose domain runs at the destination; `at_destination`: oned has it there already."""
    status = record.status
    if record.done:
        return Route.NOTHING
    if status in _NOWHERE or status.endswith("_FAILURE"):
        return Route.PERSON
    if at_destination:
        return Route.WAIT if status in _COMING else Route.NOTHING
    if status == "RUNNING":
        return Route.LIVE
    return Route.COLD if status in _COLD else Route.WAIT


def advice(record: VmRecord) -> str:
    """What a person does about a VM in a state that no route leads out of."""
    if record.status.endswith("_FAILURE"):
        return f"onevm recover {record.id} --retry, then call this again"
    return f"onevm show {record.id}; destroy the domain, or deploy the VM there by hand"
