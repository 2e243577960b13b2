"""DS snap_delete: a snapshot of a persistent image goes, also one with children (contract 4)."""

from __future__ import annotations

from ..farm import snapshots
from ..farm.sessions import Sessions
from ..opennebula.driver import Call
from .snapshots import ARGUMENTS, find, parse_target

__all__ = ["ARGUMENTS", "run"]


def run(call: Call) -> None:
    """Absent is success."""
    target = parse_target(call)
    with Sessions(call) as farm:
        located = find(farm, target)
        snapshots.refuse_unsettled(located)
        snapshots.remove_label(farm, located, target.label)
        farm.commit()
    call.log.info(f"snapshot {target.label} of {target.name} removed on {' '.join(located.hosts)}")
