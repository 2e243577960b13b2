"""TM snap_delete: a snapshot goes, also one with children (contract 1.4; ALLOW_ORPHANS=YES)."""

from __future__ import annotations

from ..farm import snapshots
from ..farm.sessions import Sessions
from ..opennebula.driver import Call
from .snapshots import ARGUMENTS, parse_target

__all__ = ["ARGUMENTS", "run"]


def run(call: Call) -> None:
    """Absent is success; the VM may run."""
    target = parse_target(call)
    with Sessions(call) as farm:
        located = snapshots.find(farm, target.name, target.host)
        snapshots.refuse_unsettled(located)
        snapshots.remove_label(farm, located, target.label)
        farm.commit()
    call.log.info(f"snapshot {target.label} of {target.name} removed on {' '.join(located.hosts)}")
