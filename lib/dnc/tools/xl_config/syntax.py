"""xl's configuration syntax (libxlutil): quoting, and a strict reader of its words.

Tried against libxlutil: inside double quotes it knows \\" and \\\\, and its hexadecimal escapes are broken, so control
characters are refused instead of escaped.
"""

from __future__ import annotations

import re
from typing import List, NamedTuple, Sequence

from ...errors import BadInput
from ...grammar import shown

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def quote(text: str) -> str:
    """`text` as one string of xl's syntax. Raises BadInput for control characters and lone surrogates."""
    if _CONTROL.search(text) or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise BadInput(f"{shown(text)} holds a control character, which an xl configuration cannot carry")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def list_lines(key: str, values: Sequence[str]) -> List[str]:
    """`key = [ ... ]`, one quoted value a line; nothing for an empty list."""
    if not values:
        return []
    return [f"{key} = [", *(f"  {quote(value)}," for value in values), "]"]


class Token(NamedTuple):
    """One word of a configuration: kind is word, number, string, mark or end (of a statement)."""

    kind: str
    text: str


# The lexer of libxlutil: keys in lower case, numbers decimal or hexadecimal, strings on one line.
_TOKEN = re.compile(
    r"""(?P<blank>[ \t]+)|(?P<end>\n|\#[^\n]*(?:\n|\Z)|;)|(?P<word>[a-z][._0-9a-z]*)|(?P<number>[0-9][0-9a-fx]*)"""
    r"""|(?P<string>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')|(?P<mark>\+=|[=\[\],])"""
)


def tokens(text: str) -> List[Token]:
    """The words of a configuration. Raises BadInput where xl would stop with a lexical error."""
    found = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            line = text[position:].split("\n", 1)[0]
            raise BadInput(f"{shown(line)} is not xl syntax", hint="see xl.cfg(5): key = \"value\", number or list")
        position = match.end()
        kind = match.lastgroup or ""
        if kind != "blank":
            found.append(Token(kind, match.group()))
    return found
