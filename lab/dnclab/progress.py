"""Progress of long work: a spinner on a terminal, one line a finished step elsewhere, each with its time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

console = Console(stderr=True, highlight=False)


class Steps:
    """Named steps of one job; `seconds` keeps what each took."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.seconds: dict[str, float] = {}
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._bars = Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)

    def __enter__(self) -> Steps:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show a step while it runs and its time when it is done."""
        task = self._bars.add_task(name, total=None)
        start = time.monotonic()
        try:
            yield
        finally:
            self._bars.remove_task(task)
        self.seconds[name] = time.monotonic() - start
        if not self.quiet:
            console.print(f"  {name:<42} {self.seconds[name]:7.1f} s", style="dim")
