"""VMM actions that dnc does not offer: each answers the same clear line."""

from __future__ import annotations

from typing import NoReturn

from ..errors import DncError
from ..opennebula.driver import Call

ARGUMENTS = ("arguments...",)


def run(call: Call) -> NoReturn:
    """Raises DncError, always."""
    raise DncError(f"{call.action} is not supported by dnc", hint="nothing was changed")
