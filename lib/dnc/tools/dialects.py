"""Which dialect speaks for a version of DRBD: the one place that knows them by name."""

from __future__ import annotations

from typing import Optional

from .drbd import Dialect


def of_version(version: Optional[str]) -> Optional[Dialect]:
    """The dialect for `8.4...`, `9...`; None when DRBD is not loaded. Only the one that is needed is imported."""
    if not version:
        return None
    if version.startswith("8."):
        from .drbd84 import Drbd84

        return Drbd84()
    from .drbd9 import Drbd9

    return Drbd9()


def of_proc(text: str) -> Optional[Dialect]:
    """By the first line of /proc/drbd: `version: 8.4.11 (api...`."""
    return of_version(text.partition("\n")[0].partition("version:")[2].strip())
