"""Waiting for events: always with a deadline that the message names, and never longer than somebody listens."""

from __future__ import annotations

import time
from typing import Callable, Optional, Type, TypeVar

from ..errors import DncError, TimedOut

T = TypeVar("T")


class Patience:
    """Clock and sleep of a host; `alive` is asked at every turn and raises when nobody waits for us any more."""

    def __init__(
        self, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self.now = now
        self.sleep = sleep
        self.alive = alive

    def until(
        self, check: Callable[[], Optional[T]], *, timeout: float, what: str, interval: float = 0.03,
        hint: Optional[str] = None,
    ) -> T:
        """The first answer of `check` that is not None. Raises TimedOut: `what` within `timeout` seconds."""
        deadline = self.now() + timeout
        while True:
            answer = check()
            if answer is not None:
                return answer
            self.turn(deadline, interval, lambda: TimedOut(f"{what} within {timeout:.0f} s", hint=hint))

    def insist(
        self, act: Callable[[], T], on: Type[DncError], *, timeout: float, interval: float = 0.25,
    ) -> T:
        """`act` again and again while it raises `on`; its last error when `timeout` seconds are over."""
        deadline = self.now() + timeout
        while True:
            try:
                return act()
            except on as error:
                last = error
            self.turn(deadline, interval, lambda error=last: error)  # type: ignore[misc]

    def turn(self, deadline: float, interval: float, late: Callable[[], DncError]) -> None:
        """One pause of a wait-loop; raises late() when the deadline is over."""
        self.alive()
        left = deadline - self.now()
        if left <= 0:
            raise late()
        self.sleep(min(interval, left))
