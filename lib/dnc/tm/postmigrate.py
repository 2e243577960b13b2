"""TM postmigrate: after a live migration, one Primary again: where the domain really is (contract 1.4)."""

from __future__ import annotations

from ..farm.migration import settle
from ..farm.sessions import Sessions
from ..opennebula.driver import Call
from .migration import ARGUMENTS, parse_move

__all__ = ["ARGUMENTS", "run"]


def run(call: Call) -> None:
    """Look at both hosts, settle both. A migration between datastores of one host never began."""
    move, _vm = parse_move(call)
    if move.source == move.destination:
        return
    with Sessions(call) as farm:
        settle(farm, move, keep=move.destination)
        farm.commit()
