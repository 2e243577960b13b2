"""TM postmigrate: after a live migration, one Primary again: where the domain really is (contract 1.4)."""

from __future__ import annotations

from ..opennebula.driver import Call
from .migration import ARGUMENTS, settle_move

__all__ = ["ARGUMENTS", "run"]


def run(call: Call) -> None:
    """Settle both hosts; the destination is the VM's."""
    settle_move(call, "destination")
