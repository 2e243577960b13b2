"""Recorded output of real tools (tests/data/captures*): the parts of one capture file."""

from __future__ import annotations

from pathlib import Path

from dnc.command import Result, failure
from dnc.errors import ToolFailed

DATA = Path(__file__).resolve().parent.parent / "data"


def text(name: str, directory: str = "captures") -> str:
    """The whole capture."""
    return (DATA / directory / f"{name}.txt").read_text()


def stdout(name: str) -> str:
    """What a single command printed."""
    return text(name).split("#@ --- stdout\n", 1)[1].split("#@ --- stderr\n", 1)[0]


def failed(name: str, tool: str) -> ToolFailed:
    """The error that Runner raises for this capture."""
    whole = text(name)
    status = int(whole.split("#@ rc=", 1)[1].split()[0])
    error = failure(Result((tool,), status, stdout(name), whole.split("#@ --- stderr\n", 1)[1]), tool)
    assert isinstance(error, ToolFailed)
    return error
