"""TM actions that dnc does not have yet (snapshots, saveas, resize, backup): one clear line, nothing touched.

oned puts a failed VM action back to the state before it, so a refusal costs nobody anything.
"""

from __future__ import annotations

from ..errors import DncError
from ..opennebula.driver import Call

ARGUMENTS = ("argument...",)


def run(call: Call) -> None:
    """Raises DncError, always."""
    raise DncError(f"{call.action} is not supported by dnc yet", hint="nothing was changed")
