"""What runs always and what only `pytest -m thorough` runs: a driver call costs half a second of a core."""

from __future__ import annotations

import pytest

THOROUGH = pytest.mark.thorough
# The second backend only in the thorough run, where the pool is not what is tested.
ZFS_FIRST = pytest.mark.parametrize("backend", ["zfs", pytest.param("thin", marks=THOROUGH)])
THIN_FIRST = pytest.mark.parametrize("backend", ["thin", pytest.param("zfs", marks=THOROUGH)])


def first(*chosen: object, later: tuple[object, ...] = ()) -> list[object]:
    """Parameters, or tuples of several: `chosen` always, `later` in the thorough run."""
    rest = (value if isinstance(value, tuple) else (value,) for value in later)
    return [*chosen, *(pytest.param(*values, marks=THOROUGH) for values in rest)]
