"""The space of a pool on one host, and how much of it may still be given away."""

from __future__ import annotations

from typing import NamedTuple, Optional


class Space(NamedTuple):
    """A pool on one host; bytes. fill in percent, a thin pool's metadata counted; volumes: dnc's, as far as known.

    promised: the sizes of all its volumes together, None where nobody asked for it.
    """

    total: int
    used: int
    free: int
    fill: float = 0.0
    volumes: int = 0
    promised: Optional[int] = None

    def usable(self, fill_limit: int) -> int:
        """Bytes that may still be taken below the limit in percent; none when metadata are beyond it."""
        if self.fill >= fill_limit:
            return 0
        return max(0, min(self.free, self.total * fill_limit // 100 - self.used))
