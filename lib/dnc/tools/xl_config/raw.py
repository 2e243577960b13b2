"""RAW of a template: lines for xl that dnc passes on, and what they must not touch."""

from __future__ import annotations

from typing import List

from ...errors import BadInput
from .syntax import Token, tokens

# The suite proves things about the disks of a domain it knows by name, and OpenNebula's filters know interfaces by
# name: RAW must not change these behind its back.
_RESERVED = {
    "name": "", "uuid": "OS/UUID", "type": "XEN_TYPE", "builder": "XEN_TYPE", "disk": "DISK", "vif": "NIC",
}
_END = Token("end", "\n")


def raw_settings(raw: str) -> List[str]:
    """The keys that a RAW section sets. Raises BadInput for what is not xl's syntax."""
    words = [*tokens(raw), _END]
    keys = []
    position = 0
    while position < len(words):
        if words[position].kind == "end":
            position += 1
            continue
        key, assign = words[position], words[position + 1] if position + 1 < len(words) else _END
        if key.kind != "word" or assign.text not in ("=", "+="):
            raise BadInput(f"RAW: {key.text[:40]!r} starts no setting of xl", hint="write one key = value a line")
        keys.append(key.text)
        position = _after_value(words, position + 2, key.text)
        if words[position].kind != "end":
            raise BadInput(f"RAW: something follows the value of {key.text}", hint="write one key = value a line")
    return keys


def _after_value(words: List[Token], position: int, key: str) -> int:
    """Where the value that begins at `position` has ended: a string, a number, or a list of values, nested or not."""
    depth = 0
    while position < len(words):
        word = words[position]
        if word.text == "[":
            depth += 1
        elif word.text == "]" and depth:
            depth -= 1
        elif depth and (word.text == "," or word.kind == "end" and word.text != ";"):
            pass
        elif word.kind not in ("string", "number"):
            break
        position += 1
        if depth == 0:
            return position
    raise BadInput(f"RAW: {key} has no whole value", hint="a value is a string in quotes, a number, or a list of them")


def check_raw(raw: str) -> None:
    """Refuse a RAW section that xl could not read, or that sets what the suite answers for. Raises BadInput."""
    if raw.lstrip().startswith("<"):
        raise BadInput("RAW holds XML, which is libvirt's and not xl's", hint="write xl.cfg lines: key = value")
    for key in raw_settings(raw):
        if key in _RESERVED:
            instead = _RESERVED[key]
            raise BadInput(f"RAW sets {key}, which belongs to dnc", hint=f"use {instead}" if instead else None)
