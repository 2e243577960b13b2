"""The one error that the lab shows to a person: a line, and the next step."""

from __future__ import annotations


class LabError(Exception):
    """What happened and where, in one line; `hint` is the next step."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}: {self.hint}" if self.hint else self.what
