"""TM clone on the two real hosts: against the raw commands that it needs, and against the size of the image."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import raw_clone
from .results import Row, median
from .stand import Stand, clone_lines, each_backend, image_of, transfer

RATIO_BUDGET = 1.3
SIZES_GB = (1, 8, 64)
# "Same time" as a number: the room that single measurements need; a cost that grew with size would be 64-fold.
SAME_TIME = 1.25
RAW_IMAGE_MIB = 64
ENLARGE_S = 300.0
# Constant text, run as root on a host: the suite refuses an image that its pool could never hold, so the pools of 8 GB
# get a sparse file more. Gone with the lab's disks.
ENLARGE = """set -e
modprobe loop
for pool in zfs thin; do truncate -s 100G /var/lib/bench-$pool.img; done
zpool add tank "$(losetup -f --show /var/lib/bench-zfs.img)"
disk=$(losetup -f --show /var/lib/bench-thin.img)
vgextend -q -y vg0 "$disk"; lvextend -q -L +90G vg0/pool"""


def against_raw(repeat: int, progress: Callable[[str], None], stand: Stand) -> list[Row]:
    """The driver and the raw commands in turns, on the same image, on each backend. Raises CannotMeasure."""
    stage = stand.stage
    return each_backend(
        "clone", "driver / raw commands", lambda backend: _against_raw(stage, backend, repeat, progress)
    )


def _against_raw(stage: Any, backend: str, repeat: int, progress: Callable[[str], None]) -> list[Row]:
    image = image_of(stage, backend, f"raw-{backend}", size_mb=RAW_IMAGE_MIB)
    _, clone, delete = clone_lines(stage, image)
    make = raw_clone.make_steps(backend, image.source, stage.lab.hosts)
    remove = raw_clone.remove_steps(backend, image.source)
    driver: list[float] = []
    raw: list[float] = []
    for turn in range(repeat + 1):
        progress(f"{backend}: driver and raw commands, {turn} of {repeat}")
        seconds = (transfer(stage, clone), raw_clone.on_all(stage.lab, make))
        transfer(stage, delete)
        raw_clone.on_all(stage.lab, remove)
        if turn > 0:  # the first one warms caches on all sides
            driver.append(seconds[0])
            raw.append(seconds[1])
    ratios = tuple(mine / theirs for mine, theirs in zip(driver, raw))
    return [
        Row("clone", f"driver, {backend}", "s", median(driver), None, f"{repeat} clones, least {min(driver):.2f} s",
            tuple(driver)),
        Row("clone", f"raw commands, {backend}", "s", median(raw), None, f"{repeat} clones, least {min(raw):.2f} s",
            tuple(raw)),
        Row("clone", f"driver / raw commands, {backend}", "times", median(driver) / median(raw), RATIO_BUDGET,
            "of the medians", ratios),
    ]


def against_size(repeat: int, progress: Callable[[str], None], stand: Stand) -> list[Row]:
    """Clones of images of several sizes in turns, on each backend. Raises CannotMeasure."""
    stage = stand.stage
    progress("pools enlarged")
    with ThreadPoolExecutor() as pool:
        lab = stage.lab
        list(pool.map(lambda host: lab.root(host, ["sh", "-c", ENLARGE], timeout=ENLARGE_S), lab.hosts))
    return each_backend(
        "size", "clone time against image size", lambda backend: _against_size(stage, backend, repeat, progress)
    )


def _against_size(stage: Any, backend: str, repeat: int, progress: Callable[[str], None]) -> list[Row]:
    lines = {}
    for size in SIZES_GB:
        progress(f"{backend}: an image of {size} GB")
        lines[size] = clone_lines(stage, image_of(stage, backend, f"sparse-{size}-{backend}", size_mb=size << 10))
    taken: dict[int, list[float]] = {size: [] for size in SIZES_GB}
    for turn in range(repeat):
        for size, (_, clone, delete) in lines.items():
            progress(f"{backend}: clone of {size} GB, {turn + 1} of {repeat}")
            taken[size].append(transfer(stage, clone))
            transfer(stage, delete)
    first, last = SIZES_GB[0], SIZES_GB[-1]
    rows = [
        Row("size", f"clone of {size} GB, {backend}", "s", median(values), None, f"least {min(values):.2f} s",
            tuple(values))
        for size, values in taken.items()
    ]
    ratio = median(taken[last]) / median(taken[first])
    note = "same time, that is within what clones of one image differ by"
    return [*rows, Row("size", f"{last} GB / {first} GB, {backend}", "times", ratio, SAME_TIME, note)]
