"""All user operations in one class."""

from __future__ import annotations

from .monitoring import Monitoring


class AllOperations(Monitoring):
    """Images, machines, recovery, disks, snapshots, interfaces, monitoring."""
