"""Rows of the table: what was measured, the budget beside it, and the verdict; written and read as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from dnc.log import redact

NOTE_LENGTH = 240  # of what a tool said, the end
SINGULAR = {"processes": "process", "sessions": "session", "questions": "question"}  # counts, without decimals
FORMAT = 1  # raised when a reader of an older file would misread a newer one


class Verdict(Enum):
    """What a measured value means beside its budget."""

    WITHIN = "within"
    OVER = "over"
    NO_BUDGET = "no budget"
    NOT_RUN = "not run"


class BadResults(Exception):
    """A file that is no results file of this format; one line says why."""


@dataclass(frozen=True)
class Row:
    """One measured thing. `measured` and `budget` are in `unit`; None means not measured, no budget.

    A value at its budget is within it. `samples` are the single measurements behind a median, in `unit`.
    """

    group: str
    what: str
    unit: str = ""
    measured: float | None = None
    budget: float | None = None
    note: str = ""
    samples: tuple[float, ...] = field(default=(), compare=False)

    @property
    def verdict(self) -> Verdict:
        """Within or over the budget, or why there is no such answer."""
        if self.measured is None:
            return Verdict.NOT_RUN
        if self.budget is None:
            return Verdict.NO_BUDGET
        return Verdict.WITHIN if self.measured <= self.budget else Verdict.OVER

    @property
    def measured_text(self) -> str:
        """The value as a person reads it."""
        return "-" if self.measured is None else show(self.measured, self.unit)

    @property
    def budget_text(self) -> str:
        """The budget as a person reads it."""
        return "-" if self.budget is None else f"≤ {show(self.budget, self.unit)}"


def show(value: float, unit: str) -> str:
    """A number with its unit, with as many digits as make sense: counts have none."""
    if value == int(value) and (not unit or unit in SINGULAR):
        text = str(int(value))
    elif abs(value) >= 100:
        text = f"{value:.0f}"
    else:
        text = f"{value:.2f}" if unit in ("s", "times") else f"{value:.1f}"
    return f"{text} {SINGULAR[unit] if text == '1' and unit in SINGULAR else unit}".strip()


def not_run(group: str, what: str, why: object) -> Row:
    """The row of something that could not be measured; `why` becomes one line."""
    lines = redact(str(why)).strip().splitlines()  # what drbdadm says may hold a shared secret
    return Row(group, what, note=lines[-1].strip()[-NOTE_LENGTH:] if lines else type(why).__name__)


def median(values: list[float]) -> float:
    """The middle of the values (mean of the two middle ones). Raises ValueError when there are none."""
    if not values:
        raise ValueError("no values to take the median of")
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def to_json(rows: list[Row], machine: dict[str, Any]) -> str:
    """All rows, with what is known of the machine they were measured on."""
    listed = [{**asdict(row), "verdict": row.verdict.value} for row in rows]
    return json.dumps({"format": FORMAT, "machine": machine, "rows": listed}, indent=2, allow_nan=False) + "\n"


def from_json(text: str) -> list[Row]:
    """Rows of a results file. Raises BadResults."""
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise BadResults(f"format {document['format']!r} is not {FORMAT}")
        return [_row(entry) for entry in document["rows"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadResults(f"no results of python -m bench: {error}") from None


def read(path: Path) -> list[Row]:
    """Rows of a results file. Raises BadResults, naming the file."""
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, BadResults) as error:
        raise BadResults(f"{path}: {error}") from None


def _row(entry: dict[str, Any]) -> Row:
    row = Row(
        group=str(entry["group"]), what=str(entry["what"]), unit=str(entry["unit"]),
        measured=_number(entry["measured"]), budget=_number(entry["budget"]), note=str(entry["note"]),
        samples=tuple(float(value) for value in entry["samples"]),
    )
    if entry["verdict"] != row.verdict.value:
        raise BadResults(f"{row.what}: verdict {entry['verdict']!r} does not follow from its numbers")
    return row


def _number(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    if not math.isfinite(number):
        raise BadResults(f"{value!r} is no measurement")
    return number
