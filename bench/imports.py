"""What the imports of each driver action cost over a bare Python, as the launcher makes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from .results import Row, median, not_run
from .timing import CannotMeasure, alternated, over_base

REPOSITORY = Path(__file__).resolve().parent.parent
LIB = REPOSITORY / "lib"
PYTHON = "/usr/bin/python3"  # the launcher's interpreter, not the one of the virtual environment
FAMILIES = ("tm", "vmm", "datastore")
LAUNCHER = "dnc-action"
BUDGET_MS = 40.0
GROUP = "imports"
BARE = (PYTHON, "-I", "-c", "pass")


def actions(remotes: Path = REPOSITORY / "remotes") -> list[tuple[str, str]]:
    """(family, action) of each executable that the launcher serves."""
    probes = sorted(path for path in (remotes / "im").glob("dnc-probes.d/*/*/*") if path.resolve().name == LAUNCHER)
    return [("im", f"{path.parent.parent.name}_{path.parent.name}") for path in probes] + [
        (family, path.name) for family in FAMILIES for path in sorted((remotes / family / "dnc").glob("*"))
        if path.name.islower() and path.resolve().name == LAUNCHER
    ]


def import_command(family: str, action: str) -> tuple[str, ...]:
    """A Python that loads what the launcher loads: the frame, the action's module, and lxml.

    The action loads lxml itself when it parses its document, which nearly all do; so it is counted for all.
    """
    code = (
        f"import sys; sys.path.insert(0, {json.dumps(str(LIB))}); from dnc.opennebula.driver import load_action; "
        f"load_action({json.dumps(family)}, {json.dumps(action)}); from lxml import etree"
    )
    return (PYTHON, "-I", "-c", code)


def agent_command() -> tuple[str, ...]:
    """The host agent from its start to its end: nothing on stdin, so it ends at once."""
    return (PYTHON, "-I", str(LIB / "dnc-agent"))


def measure(repeat: int, progress: Callable[[str], None], _stand: object = None) -> list[Row]:
    """One row an action, one for the agent."""
    rows = []
    commands = [(f"{family} {action}", import_command(family, action)) for family, action in actions()]
    for name, argv in [*commands, ("host agent, start to end", agent_command())]:
        progress(f"imports of {name}")
        rows.append(_row(name, argv, repeat))
    return rows


def _row(name: str, argv: tuple[str, ...], repeat: int) -> Row:
    try:
        base, taken = alternated([BARE, argv], repeat)
    except CannotMeasure as error:
        return not_run(GROUP, name, error)
    over = over_base(taken, base)
    note = f"bare Python {median(base) * 1000:.1f} ms; least {min(over):.1f} ms over it"
    return Row(GROUP, name, "ms", median(over), BUDGET_MS, note, tuple(over))
