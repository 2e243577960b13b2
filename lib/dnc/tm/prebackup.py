"""TM prebackup: the disks of a VM that is powered off as files for a backup datastore to take (contract 1.4)."""

from __future__ import annotations

from ..opennebula.driver import Call
from .backup import ARGUMENTS, make

__all__ = ["ARGUMENTS", "run"]


def run(call: Call) -> None:
    """All disks at one moment, data only; in case of failure nothing is left."""
    make(call)
