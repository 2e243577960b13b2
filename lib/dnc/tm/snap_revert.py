"""TM snap_revert: a disk becomes what it was in a snapshot; younger snapshots stay (contract 1.4, decision 0008)."""

from __future__ import annotations

from ..farm import snapshots
from ..farm.sessions import Sessions
from ..opennebula.driver import Call
from .snapshots import ARGUMENTS, parse_target

__all__ = ["ARGUMENTS", "run"]


def run(call: Call) -> None:
    """Without a resync; the VM is off."""
    target = parse_target(call)
    with Sessions(call) as farm:
        located = snapshots.find(farm, target.name, target.host)
        snapshots.revert(farm, located, target.label)
        farm.commit()
        snapshots.settle(farm, located)
    call.log.info(f"{target.name} is as in snapshot {target.label} on {' '.join(located.hosts)}")
