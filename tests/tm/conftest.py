"""TM actions run in process, with hosts in memory instead of ssh and a document instead of oned."""

from __future__ import annotations

import pytest
from fake_hosts import FakeFarm, two_with_images


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> FakeFarm:
    """See two_with_images."""
    return two_with_images(monkeypatch)
