"""The frontend of the hooks' tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from frontend import Frontend


@pytest.fixture
def frontend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Frontend]:
    """oned with a VM on node1 whose domain is on node2."""
    made = Frontend(tmp_path, monkeypatch)
    yield made
    made.cloud.stop()
