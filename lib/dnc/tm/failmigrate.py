"""TM failmigrate: after a live migration that failed, one Primary: where the domain really is (contract 1.4).

It may have moved although xl or oned says otherwise (observation 4), so it does the same as postmigrate; only the
directory that stays when the domain is nowhere is the source's.
"""

from __future__ import annotations

from ..farm.migration import settle
from ..farm.sessions import Sessions
from ..opennebula.driver import Call
from .migration import ARGUMENTS, parse_move

__all__ = ["ARGUMENTS", "run"]


def run(call: Call) -> None:
    """Look at both hosts, settle both."""
    move, _vm = parse_move(call)
    if move.source == move.destination:
        return
    with Sessions(call) as farm:
        settle(farm, move, keep=move.source)
        farm.commit()
