"""VMM exec_cancel: not offered."""

from .not_supported import ARGUMENTS, run

__all__ = ["ARGUMENTS", "run"]
