"""Processor time of domains between two looks."""

from __future__ import annotations

from typing import Any, Dict, Mapping

# Closer looks say nothing: xl counts in tenths of a second.
_SHORTEST_S = 1.0


def processor_use(earlier: Mapping[str, Any], seconds: Mapping[str, float], now: float) -> Dict[str, float]:
    """Percent of one processor by key since `earlier`, which holds {at, seconds}; a domain that was not there then has
    spent all of its time since. Empty when there was no earlier look, or a moment ago only."""
    try:
        passed = now - float(earlier["at"])
        before = {str(key): float(value) for key, value in earlier["seconds"].items()}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
    if passed < _SHORTEST_S:
        return {}
    return {key: max(0.0, 100 * (value - before.get(key, 0.0)) / passed) for key, value in seconds.items()}
