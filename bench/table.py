"""The table on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .results import Row, Verdict

STYLES = {Verdict.WITHIN: "green", Verdict.OVER: "bold red", Verdict.NO_BUDGET: "dim", Verdict.NOT_RUN: "yellow"}
PLAIN_WIDTH = 150  # columns where the output is no terminal


def table_of(rows: list[Row]) -> Table:
    """One line a row, a rule between groups."""
    table = Table(title="Costs and budgets", title_justify="left")
    for heading, justify in (("what", "left"), ("measured", "right"), ("budget", "right"), ("verdict", "left")):
        table.add_column(heading, justify=justify, no_wrap=heading != "what")  # type: ignore[arg-type]
    table.add_column("note", style="dim", overflow="fold")
    last = None
    for row in rows:
        if last is not None and row.group != last:
            table.add_section()
        last = row.group
        table.add_row(
            Text(f"{row.group}: {row.what}"), Text(row.measured_text), Text(row.budget_text),
            Text(row.verdict.value, style=STYLES[row.verdict]), Text(row.note),
        )
    return table


def show_table(rows: list[Row], console: Console | None = None) -> None:
    """Print the table and one line that counts the verdicts."""
    target = console or Console(highlight=False)
    if console is None and not target.is_terminal:
        target = Console(highlight=False, width=PLAIN_WIDTH)
    target.print(table_of(rows))
    target.print(summary(rows))


def summary(rows: list[Row]) -> str:
    """How many rows met which verdict."""
    counts = {verdict: sum(row.verdict is verdict for row in rows) for verdict in Verdict}
    return ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count) or "nothing measured"
