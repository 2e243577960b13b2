"""All user operations in one class."""

from __future__ import annotations

from .observe import Observation


class AllOperations(Observation):
    """Images, machines, recovery, disks, snapshots, interfaces, reports."""
