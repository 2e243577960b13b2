"""TM snap_create: a snapshot of a disk whose VM is off or suspended (contract 1.4)."""

from __future__ import annotations

from ..opennebula.driver import Call
from .snapshots import ARGUMENTS, create

__all__ = ["ARGUMENTS", "run"]


def run(call: Call) -> None:
    """On all members; nobody may write meanwhile."""
    create(call)
