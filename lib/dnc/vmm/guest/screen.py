"""GRAPHICS, VIDEO and INPUT."""

from __future__ import annotations

from typing import List, Optional, Tuple

from ...config import Config
from ...errors import BadInput
from ...grammar import parse_id, shown
from ...opennebula.vm import VmDocument
from ...tools.xl_config import Display

_VGA = {"vga": "stdvga", "cirrus": "cirrus", "qxl": "qxl", "none": "none"}
# Least memory of each, in MiB: libxl refuses less.
_LEAST_VIDEO = {"stdvga": 16, "cirrus": 8, "qxl": 128}
_USB = ("tablet", "mouse", "keyboard")


def display(vm: VmDocument, config: Config) -> Optional[Display]:
    """The screen, if the template has one and oned gave it a port. Raises BadInput."""
    graphics = vm.graphics
    port = graphics.get("PORT", "").strip()
    kind = graphics.get("TYPE", "").strip().upper()
    if not kind or not port:
        return None
    password = graphics.get("PASSWD", "")
    if not password and graphics.get("RANDOM_PASSWD", "").strip().upper() in ("YES", "1", "TRUE"):
        raise BadInput(f"RANDOM_PASSWD in GRAPHICS of VM {vm.id}: OpenNebula made none", hint="set PASSWD")
    return Display(
        listen=graphics.get("LISTEN", "").strip() or config.graphics_listen, port=parse_id(port, "GRAPHICS PORT"),
        password=password, keymap=graphics.get("KEYMAP", "").strip() or config.keymap, spice=kind == "SPICE",
    )


def video(vm: VmDocument) -> Tuple[str, int]:
    """(emulated adapter, its memory in MiB) of an HVM guest; empty and 0 for xl's own choice. Raises BadInput."""
    values = vm.vector("VIDEO")
    wanted = values.get("TYPE", "").strip().lower()
    if not wanted:
        return "", 0
    if wanted not in _VGA:
        raise BadInput(f"VIDEO/TYPE {shown(wanted)} of VM {vm.id} is none that Xen emulates", hint="use vga or cirrus")
    adapter = _VGA[wanted]
    vram = values.get("VRAM", "").strip()
    if not vram or adapter == "none" or parse_id(vram, "VRAM") < 1024:  # as OpenNebula's own driver has it
        return adapter, 0
    return adapter, max(parse_id(vram, "VRAM") // 1024, _LEAST_VIDEO[adapter])


def usb(vm: VmDocument) -> Tuple[str, ...]:
    """USB input devices of an HVM guest; a PS/2 mouse and keyboard are there anyway. Raises BadInput."""
    found: List[str] = []
    for values in vm.vectors.get("INPUT", ()):
        device, bus = values.get("TYPE", "").strip().lower(), values.get("BUS", "").strip().lower()
        if not device:
            continue
        if device in _USB and bus in ("usb", "") and device not in found:
            found.append(device)
        elif not (device in _USB[1:] and bus == "ps2" or device in found):
            raise BadInput(
                f"INPUT {shown(device)} on bus {shown(bus)} of VM {vm.id}: Xen emulates {', '.join(_USB)} on usb"
            )
    return tuple(found)
