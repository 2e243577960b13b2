"""TM failmigrate: after a live migration that failed, one Primary: where the domain really is (contract 1.4).

It may have moved although xl or oned says otherwise (observation 4), so it does the same as postmigrate.
"""

from __future__ import annotations

from ..opennebula.driver import Call
from .migration import ARGUMENTS, settle_move

__all__ = ["ARGUMENTS", "run"]


def run(call: Call) -> None:
    """Settle both hosts; the source is the VM's, unless the domain has left it."""
    settle_move(call, "source")
