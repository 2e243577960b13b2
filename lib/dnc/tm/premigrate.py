"""TM premigrate: make both hosts ready for a live migration, or leave both as they were (contract 1.4)."""

from __future__ import annotations

from ..farm.migration import prepare
from ..farm.sessions import Sessions
from ..opennebula.driver import Call
from .migration import ARGUMENTS, parse_move, refuse_unmovable

__all__ = ["ARGUMENTS", "run"]


def run(call: Call) -> None:
    """Check every disk, allow two primaries, links and small files, promote at the destination."""
    move, vm = parse_move(call)
    refuse_unmovable(move, vm)
    with Sessions(call) as farm:
        prepare(farm, move)
        farm.commit()
    call.log.info(f"{move.domain}: {len(move.disks)} disks ready on {move.destination}")
