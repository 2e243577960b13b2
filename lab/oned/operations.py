"""All user operations in one class."""

from __future__ import annotations

from .interfaces import InterfaceOperations


class AllOperations(InterfaceOperations):
    """Images, machines, recovery, disks, snapshots, interfaces."""
