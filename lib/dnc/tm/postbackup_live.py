"""TM postbackup_live: remove what prebackup made, whether the backup was stored or not (contract 1.4)."""

from __future__ import annotations

from ..opennebula.driver import Call
from .backup import ARGUMENTS, clean

__all__ = ["ARGUMENTS", "run"]


def run(call: Call) -> None:
    """Files, snapshots that nobody needs, left-overs of what was killed."""
    clean(call)
