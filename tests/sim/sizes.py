"""Sizes as the tools take and print them."""

from __future__ import annotations

UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}


def parse(text: str, default: str = "") -> int:
    """ "64M", "1.5g", "134217728b" -> bytes. A bare number counts in `default` units. Raises ValueError."""
    text = text.strip()
    number = text.rstrip("bBkKmMgGtTpPiI")
    unit = text[len(number) :].upper().replace("IB", "").rstrip("I")
    if unit.endswith("B") and len(unit) > 1:
        unit = unit[:-1]
    return int(float(number) * UNITS[unit if unit else default.upper()])


def zfs_human(size: int) -> str:
    """20.9M, 96K, 0B: as zfs prints without -p."""
    if size < 1024:
        return f"{size}B"
    for unit in "KMGTP":
        size_in_unit = size / UNITS[unit]
        if size_in_unit < 1024:
            break
    if size_in_unit == int(size_in_unit):
        return f"{int(size_in_unit)}{unit}"
    digits = 2 if size_in_unit < 10 else 1 if size_in_unit < 100 else 0
    return f"{size_in_unit:.{digits}f}{unit}"


def lvm_human(size: int) -> str:
    """128.00m, 3.00g, 0: as lvs prints by default."""
    if size == 0:
        return "0 "
    unit = "k"
    for unit in "kmgtp":
        if size < UNITS[unit.upper()] * 1024:
            break
    return f"{size / UNITS[unit.upper()]:.2f}{unit}"


def lvm_words(size: int) -> str:
    """128.00 MiB: as in lvextend's messages."""
    text = lvm_human(size)
    return f"{text[:-1]} {text[-1].upper()}iB"
