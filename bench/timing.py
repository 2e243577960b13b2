"""Processor times of processes, taken in turns so that a busy moment of the machine hits both sides of a comparison."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from .results import median

WARM_UP = 1  # rounds that are run and forgotten: they fill the page cache and write the byte code


class CannotMeasure(Exception):
    """Why a row cannot be measured here, in one line."""


def processor_seconds(argv: Sequence[str]) -> float:
    """Seconds of processor time of a process: on a quiet machine its wall time, on a busy one still the same.

    Raises CannotMeasure when it fails, with its last words.
    """
    with subprocess.Popen(
        list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read().strip()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise CannotMeasure(f"{argv[0]}: {said.splitlines()[-1] if said else f'exit status {process.returncode}'}")
    return used.ru_utime + used.ru_stime


def alternated(commands: Sequence[Sequence[str]], repeat: int) -> list[list[float]]:
    """Processor seconds of each command, `repeat` times, one after the other in turns."""
    taken: list[list[float]] = [[] for _ in commands]
    for turn in range(repeat + WARM_UP):
        for index, argv in enumerate(commands):
            seconds = processor_seconds(argv)
            if turn >= WARM_UP:
                taken[index].append(seconds)
    return taken


def over_base(taken: Sequence[float], base: Sequence[float]) -> list[float]:
    """Each sample in milliseconds over the median of `base` (seconds both)."""
    floor = median(list(base))
    return [(seconds - floor) * 1000 for seconds in taken]
