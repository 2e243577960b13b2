"""OpenNebula's template syntax, written: NAME="value" and NAME=[A="x",B="y"], as probes print it (contract 3.3).

What oned's own lexer cannot take back is replaced, so that no name can end a value early: it reads a backslash in
front of a quote as part of the value, and gives a whole message up where a line holds `]]>`.
"""

from __future__ import annotations

from typing import Mapping, Union

Value = Union[str, int, float]
_REPLACED = str.maketrans({'"': "'", "\\": "/"})


def quoted(value: Value) -> str:
    """One value in quotes, on one line; a float with one decimal."""
    text = f"{value:.1f}" if isinstance(value, float) else str(value)
    text = "".join(letter if letter.isprintable() else " " for letter in text.translate(_REPLACED))
    return '"' + text.replace("]]>", "]] >") + '"'


def attribute(name: str, value: Value) -> str:
    """A line NAME="value"; `name` is ours, letters, digits and underscores."""
    return f"{name}={quoted(value)}\n"


def attributes(values: Mapping[str, Value]) -> str:
    """A line for each."""
    return "".join(attribute(name, value) for name, value in values.items())


def vector(name: str, values: Mapping[str, Value]) -> str:
    """A line NAME=[A="x",B="y"]."""
    return f"{name}=[" + ",".join(f"{key}={quoted(value)}" for key, value in values.items()) + "]\n"
