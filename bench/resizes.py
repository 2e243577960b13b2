"""TM resize on the two real hosts, of a disk that is up, against the raw commands that growing it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import raw_clone
from .raw_clone import NAME, Step
from .results import Row, median
from .stand import HOST, Stand, clone_lines, each_backend, image_of, transfer

IMAGE_MIB = 64
STEP_MIB = 64  # what each turn adds; whole extents of any LVM
RATIO_BUDGET = 1.3
OLD_METADATA = 48 << 10  # more than one slot's metadata at these sizes takes


def measure(repeat: int, progress: Callable[[str], None], stand: Stand) -> list[Row]:
    """Driver and raw commands in turns, on each backend. Raises CannotMeasure."""
    stage = stand.stage
    return each_backend("resize", "driver / raw commands", lambda backend: _measure(stage, backend, repeat, progress))


def _measure(stage: Any, backend: str, repeat: int, progress: Callable[[str], None]) -> list[Row]:
    image = image_of(stage, backend, f"grow-{backend}", size_mb=IMAGE_MIB)
    _, clone, delete = clone_lines(stage, image)
    transfer(stage, clone)
    raw_clone.on_all(stage.lab, raw_clone.make_steps(backend, image.source, stage.lab.hosts))
    driver: list[float] = []
    raw: list[float] = []
    try:
        for turn in range(1, repeat + 2):
            progress(f"{backend}: driver and raw commands, {turn} of {repeat + 1}")
            size = IMAGE_MIB + turn * STEP_MIB
            seconds = transfer(stage, resize_line(delete, size)), by_hand(stage.lab, backend, size)
            if turn > 1:  # the first one warms caches on all sides
                driver.append(seconds[0])
                raw.append(seconds[1])
    finally:
        transfer(stage, delete)
        raw_clone.on_all(stage.lab, raw_clone.remove_steps(backend, image.source))
    what = f"{repeat} times {STEP_MIB} MiB more"
    return [
        Row("resize", f"driver, {backend}", "s", median(driver), None, f"{what}, no resync", tuple(driver)),
        Row("resize", f"raw commands, {backend}", "s", median(raw), None, what, tuple(raw)),
        Row("resize", f"driver / raw commands, {backend}", "times", median(driver) / median(raw), RATIO_BUDGET,
            "of the medians", tuple(mine / theirs for mine, theirs in zip(driver, raw))),
    ]


def resize_line(delete: str, size_mib: int) -> str:
    """RESIZE of the disk that a DELETE line names."""
    _verb, tm_mad, disk, vm, datastore = delete.split()
    return f"RESIZE {tm_mad} {disk} {size_mib} {vm} {datastore}"


def by_hand(lab: Any, backend: str, size_mib: int) -> float:
    """Seconds for volumes, DRBD and zeros, one ssh a host and then one to the Primary."""
    grown = raw_clone.on_all(lab, volume_steps(backend, size_mib))
    return grown + raw_clone.on_all(lab, drbd_steps(size_mib), hosts=[HOST])


def volume_steps(backend: str, size_mib: int) -> list[Step]:
    """The same on each host; a little more than asked for, for DRBD's metadata."""
    if backend == "zfs":
        return [["sudo", "-n", "zfs", "set", f"volsize={size_mib + 4}M", f"tank/dnc/{NAME}"]]
    return [["sudo", "-n", "lvextend", "-q", "--fs", "ignore", "-L", f"{size_mib + 4}M", f"vg0/{NAME}"]]


def drbd_steps(size_mib: int) -> list[Step]:
    """Primary for a moment; where the metadata lay becomes zeros."""
    old = (size_mib - STEP_MIB + 4 << 20) - OLD_METADATA
    return [
        ["sudo", "-n", "drbdadm", "primary", NAME],
        ["sudo", "-n", "drbdadm", "--", "--assume-clean", "resize", NAME],
        ["device", f"/dev/drbd/by-res/{NAME}/0"],
        ["dd", "if=/dev/zero", f"of=/dev/drbd/by-res/{NAME}/0", "bs=4096", f"seek={old // 4096}",
         f"count={OLD_METADATA // 4096}", "conv=notrunc,fsync"],
        ["sudo", "-n", "drbdadm", "secondary", NAME],
    ]
