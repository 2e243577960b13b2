"""Unit tests of the lab's tool: fast, no host is started."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache directory of its own, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="dnc-") as path:
        monkeypatch.setenv("DNC_LAB_DIR", path)
        yield Path(path)
