"""DS actions that dnc does not have yet (snapshots, export): one clear line, nothing touched.

oned marks the image and goes on; nothing of it is lost.
"""

from __future__ import annotations

from ..errors import DncError
from ..opennebula.driver import Call

ARGUMENTS = ("argument...",)


def run(call: Call) -> None:
    """Raises DncError, always."""
    raise DncError(f"{call.action} is not supported by dnc yet", hint="nothing was changed")
