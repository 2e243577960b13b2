"""A guest's screen: VNC or SPICE of an HVM guest, the PV frame buffer of a PV guest."""

from __future__ import annotations

import re
from typing import List, Optional, Tuple

from ...errors import BadInput
from ...grammar import shown
from .records import Display, GuestType
from .syntax import quote

_ADDRESS = re.compile(r"[0-9A-Fa-f.:]{2,45}\Z")
_KEYMAP = re.compile(r"[a-z-]{1,12}\Z")
_PASSWORD = re.compile(r"[A-Za-z0-9!#$%&()*+./:;<=>?@^_{|}~-]{1,64}\Z")
_FIRST_PORT = 5900
# What the protocols carry; a longer VNC password would be cut, and everybody who knows its beginning let in.
_PASSWORD_LENGTH = {False: 8, True: 59}


def screen_lines(display: Optional[Display], guest_type: GuestType) -> List[str]:
    """A PVH guest has no screen: its console is `xl console`. Without `display` an HVM guest gets none either, where
    xl would open a VNC port of its own. Raises BadInput."""
    if guest_type is GuestType.PVH or display is None and guest_type is GuestType.PV:
        return []
    if display is None:
        return ["vnc = 0"]
    _check(display)
    if display.spice:
        if guest_type is GuestType.PV:
            raise BadInput("GRAPHICS TYPE spice: a pv guest has a VNC screen only", hint="use VNC, or XEN_TYPE hvm")
        return _spice_lines(display)
    words = _vnc_words(display)
    if guest_type is GuestType.PV:
        return [f"vfb = [ {quote(','.join(f'{key}={value}' for key, value in words))} ]"]
    numeric = ("vnc", "vncdisplay", "vncunused")
    return [f"{key} = {value if key in numeric else quote(value)}" for key, value in words]


def _check(display: Display) -> None:
    if not _ADDRESS.match(display.listen):
        raise BadInput(f"GRAPHICS LISTEN {shown(display.listen)} is not an address")
    if not _FIRST_PORT <= display.port <= 65535:
        raise BadInput(f"GRAPHICS PORT {display.port} is not between {_FIRST_PORT} and 65535")
    if display.password:
        if not _PASSWORD.match(display.password):
            raise BadInput("GRAPHICS PASSWD holds a character that xl cannot carry", hint="use letters and digits")
        longest = _PASSWORD_LENGTH[display.spice]
        if len(display.password) > longest:
            raise BadInput(f"GRAPHICS PASSWD is longer than {longest} characters")
    if display.keymap and not _KEYMAP.match(display.keymap):
        raise BadInput(f"GRAPHICS KEYMAP {shown(display.keymap)} is not a keymap")


def _vnc_words(display: Display) -> List[Tuple[str, str]]:
    number = display.port - _FIRST_PORT
    if ":" in display.listen:
        # An address with colons has to carry the display's number itself (libxl_dm.c refuses vncdisplay beside it).
        words = [("vnc", "1"), ("vnclisten", f"[{display.listen}]:{number}"), ("vncunused", "0")]
    else:
        words = [("vnc", "1"), ("vnclisten", display.listen), ("vncdisplay", str(number)), ("vncunused", "0")]
    if display.password:
        words.append(("vncpasswd", display.password))
    if display.keymap:
        words.append(("keymap", display.keymap))
    return words


def _spice_lines(display: Display) -> List[str]:
    lines = ["vnc = 0", "spice = 1", f"spicehost = {quote(display.listen)}", f"spiceport = {display.port}"]
    if display.password:
        if "," in display.password or "=" in display.password:
            raise BadInput("GRAPHICS PASSWD holds a character that SPICE cannot carry", hint="use letters and digits")
        lines += ["spicedisable_ticketing = 0", f"spicepasswd = {quote(display.password)}"]
    else:
        lines.append("spicedisable_ticketing = 1")
    if display.keymap:
        lines.append(f"keymap = {quote(display.keymap)}")
    return lines
