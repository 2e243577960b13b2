"""The undo stack of a session: what was changed and is not committed is taken back, newest first."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Callable, Iterator, List, NamedTuple, Tuple, Type

from ..errors import DncError
from ..log import Log


class Step(NamedTuple):
    """How to take one change back; `text` is for the log."""

    text: str
    act: Callable[[], object]


class Undo:
    """Steps must be safe to run when the change never happened, or only half."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._steps: List[Step] = []

    def push(self, text: str, act: Callable[[], object]) -> None:
        """Note how to take back a change that was just made."""
        self._steps.append(Step(text, act))

    @contextmanager
    def around(
        self, text: str, act: Callable[[], object], *, untouched: Tuple[Type[DncError], ...] = ()
    ) -> Iterator[None]:
        """Note the step before a change that can stop half-way; errors in `untouched` mean that nothing was changed."""
        step = Step(text, act)
        self._steps.append(step)
        try:
            yield
        except untouched:
            self._steps.remove(step)
            raise

    def commit(self) -> None:
        """Keep everything done so far."""
        self._steps.clear()

    def __len__(self) -> int:
        return len(self._steps)

    def roll_back(self) -> int:
        """Take everything back; returns how many steps failed. A failed step is left for the next run and logged."""
        failed = 0
        while self._steps:
            step = self._steps.pop()
            try:
                self._log.info(f"take back: {step.text}")
                step.act()
            except (DncError, OSError) as error:
                failed += 1
                self._log.warn(f"not taken back: {step.text}: {error}")
        return failed
