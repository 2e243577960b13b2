"""Times of processes, taken in turns so that a busy moment of the machine hits both sides of a comparison."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence

from .results import median

WARM_UP = 1  # rounds that are run and forgotten: they fill the page cache and write the byte code


class CannotMeasure(Exception):
    """Why a row cannot be measured here, in one line."""


def run_seconds(argv: Sequence[str], *, ok: tuple[int, ...] = (0,)) -> float:
    """Seconds of wall time from start to end of a process. Raises CannotMeasure for another exit status."""
    begun = time.perf_counter()
    done = subprocess.run(list(argv), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode not in ok:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise CannotMeasure(f"{argv[0]}: {said}")
    return seconds


def alternated(commands: Sequence[Sequence[str]], repeat: int) -> list[list[float]]:
    """Seconds of each command, `repeat` times, one after the other in turns."""
    taken: list[list[float]] = [[] for _ in commands]
    for turn in range(repeat + WARM_UP):
        for index, argv in enumerate(commands):
            seconds = run_seconds(argv)
            if turn >= WARM_UP:
                taken[index].append(seconds)
    return taken


def over_base(taken: Sequence[float], base: Sequence[float]) -> list[float]:
    """Each sample in milliseconds over the median of `base` (seconds both)."""
    floor = median(list(base))
    return [(seconds - floor) * 1000 for seconds in taken]
