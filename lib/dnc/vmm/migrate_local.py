"""VMM migrate_local: not offered."""

from .not_supported import ARGUMENTS, run

__all__ = ["ARGUMENTS", "run"]
