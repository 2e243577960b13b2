"""OpenNebula's template syntax, read as strictly as oned's own parser reads what probes print.

Where oned gives up a whole message, this raises TemplateError: anything but NAME=VALUE and NAME=[A=B,...], a value of
forbidden characters, an unterminated quote, `]]>` in a value's line (src/parsers/template_parser.l, template_syntax.y
of OpenNebula tell the rules).
"""

from __future__ import annotations

import re
from typing import Dict, List, Tuple, Union

Parsed = List[Tuple[str, Union[str, Dict[str, str]]]]

_IGNORED = re.compile(r"(?:[ \t]*#.*\n|[ \t\n]+)*")
_NAME = re.compile(r"[A-Za-z0-9_]+")
_EQUAL = re.compile(r"[ \t]*=[ \t]*")
# As far as it goes: a backslash takes the quote that follows into the value.
_QUOTED = re.compile(r'"((?:\\"|[^"])*)"')
_BARE = re.compile(r"[^=#\s,\[\]]+")
_OPEN = re.compile(r"[ \t]*\[[ \t\n]*")
_COMMA = re.compile(r"[ \t\n]*,[ \t\n]*")
_CLOSE = re.compile(r"[ \t\n]*\][ \t\n]*")


class TemplateError(Exception):
    """Text that oned would refuse; says where."""


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def take(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        match = pattern.match(self.text, self.at)
        if match is None:
            line = self.text.count("\n", 0, self.at) + 1
            raise TemplateError(f"{what} expected in line {line}: {self.text[self.at:self.at + 40]!r}")
        self.at = match.end()
        return match

    def sees(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match is not None

    def value(self) -> str:
        end = self.text.find("\n", self.at)
        if "]]>" in self.text[self.at:end if end >= 0 else None]:
            raise TemplateError(f"a line with ]]>: {self.text[self.at:end][:40]!r}")
        if self.text.startswith('"', self.at):
            return self.take(_QUOTED, "a closing quote")[1].replace('\\"', '"')
        return self.take(_BARE, "a value")[0]

    def named(self) -> str:
        name = self.take(_NAME, "a name")[0]
        self.take(_EQUAL, "=")
        return name

    def vector(self) -> dict[str, str]:
        found: dict[str, str] = {}
        if self.sees(_CLOSE):
            return found
        while True:
            name = self.named().upper()
            found.setdefault(name, self.value())
            if self.sees(_CLOSE):
                return found
            self.take(_COMMA, "a comma or ]")


def parse_template(text: str) -> Parsed:
    """Attributes in their order, a vector as a dictionary. Raises TemplateError."""
    reader = _Reader(text)
    found: Parsed = []
    reader.take(_IGNORED, "anything")
    while reader.at < len(text):
        name = reader.named()
        if text.startswith("\n", reader.at) or reader.at == len(text):
            found.append((name, ""))
        elif reader.sees(_OPEN):
            found.append((name, reader.vector()))
        else:
            found.append((name, reader.value()))
        reader.take(_IGNORED, "anything")
    return found
