"""The lab: real Xen hosts in QEMU for the suite's tests, its demo and its benchmarks (test equipment)."""

from __future__ import annotations

from .errors import LabError
from .lab import Lab, labs

__all__ = ["Lab", "LabError", "labs"]
