"""DS snap_flatten: a persistent image becomes what it was in a snapshot, and has no snapshots any more (contract 4)."""

from __future__ import annotations

from ..farm import snapshots
from ..farm.sessions import Sessions
from ..opennebula.driver import Call
from .snapshots import ARGUMENTS, find, parse_target

__all__ = ["ARGUMENTS", "run"]


def run(call: Call) -> None:
    """The chosen one goes last: until then a repeat does the rest."""
    target = parse_target(call)
    with Sessions(call) as farm:
        located = find(farm, target)
        if not snapshots.known(farm, located):
            call.log.info(f"{target.name} has no snapshots any more")
            return
        snapshots.revert(farm, located, target.label)
        farm.commit()
        snapshots.settle(farm, located)
        for label in sorted(snapshots.known(farm, located), key=lambda label: label == target.label):
            snapshots.remove_label(farm, located, label)
        farm.commit()
    call.log.info(f"{target.name} is as in snapshot {target.label}, without snapshots, on {' '.join(located.hosts)}")
