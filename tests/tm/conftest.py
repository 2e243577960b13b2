"""TM and DS actions run in process, with hosts in memory instead of ssh and a document instead of oned."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

for place in (Path(__file__).parent, Path(__file__).parents[1] / "farm"):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))


@pytest.fixture
def hosts(monkeypatch):
    """node1 and node2 with image one-7 and persistent image one-8 at rest."""
    from fake_hosts import FakeFarm, spec

    found = FakeFarm("node1", "node2")
    for name in ("node1", "node2"):
        found[name].have(spec("one-7"))
        found[name].have(spec("one-8"))
    monkeypatch.setattr("dnc.farm.sessions.Session", found.connect)
    return found
