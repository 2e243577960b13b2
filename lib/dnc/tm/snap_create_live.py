"""TM snap_create_live: a snapshot of a running VM's disk, behind one barrier over all replicas (design rule 11)."""

from __future__ import annotations

from ..opennebula.driver import Call
from .snapshots import ARGUMENTS, create

__all__ = ["ARGUMENTS", "run"]


def run(call: Call) -> None:
    """On all members; the guest waits for the snapshot commands, and the log tells how long."""
    create(call)
