"""DS snap_revert: a persistent image becomes what it was in a snapshot; younger snapshots stay (contract 4)."""

from __future__ import annotations

from ..farm import snapshots
from ..farm.sessions import Sessions
from ..opennebula.driver import Call
from .snapshots import ARGUMENTS, find, parse_target

__all__ = ["ARGUMENTS", "run"]


def run(call: Call) -> None:
    """At rest before and after."""
    target = parse_target(call)
    with Sessions(call) as farm:
        located = find(farm, target)
        snapshots.revert(farm, located, target.label)
        farm.commit()
        snapshots.settle(farm, located)
    call.log.info(f"{target.name} is as in snapshot {target.label} on {' '.join(located.hosts)}")
