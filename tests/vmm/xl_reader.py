"""A strict reader of xl's configuration syntax (libxlu_cfg_y.y, libxlu_cfg_l.l), and of what stands in its lists."""

from __future__ import annotations

import re
from typing import Union

Value = Union[str, int, "list[Value]"]
_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"|\'((?:[^\'\\\n]|\\.)*)\'')
_NUMBER = re.compile(r"[0-9][0-9a-fx]*")
_KEY = re.compile(r"[a-z][._0-9a-z]*")
_BLANK = re.compile(r"[ \t]*")
_BETWEEN = re.compile(r"(?:[ \t\n;]|#[^\n]*\n)*")
_BLANKS = re.compile(r"(?:[ \t\n]|#[^\n]*\n)*")


class NotXl(Exception):
    """xl would not read this, or two settings have one key."""


class _Reader:
    def __init__(self, text: str, again: bool) -> None:
        self._text, self._again, self._at = text, again, 0

    def whole(self) -> dict[str, Value]:
        found: dict[str, Value] = {}
        while self._skip(_BETWEEN) < len(self._text):
            key = self._take(_KEY, "a key").group()
            if key in found and not self._again:
                raise NotXl(f"{key} is set twice")
            self._skip(_BLANK)
            self._mark("=")
            self._skip(_BLANK)
            found[key] = self._value()
            self._skip(_BLANK)
            if self._at < len(self._text) and self._text[self._at] not in "\n;":
                raise NotXl(f"something follows {key}: {self._text[self._at:self._at + 40]!r}")
            self._at += 1
        return found

    def _value(self) -> Value:
        if self._text[self._at:self._at + 1] == "[":
            return self._list()
        if self._text[self._at:self._at + 1] in "\"'":
            match = self._take(_STRING, "a string")
            return re.sub(r"\\(.)", r"\1", match.group(1) if match.group(1) is not None else match.group(2))
        return int(self._take(_NUMBER, "a value").group(), 0)

    def _list(self) -> list[Value]:
        self._mark("[")
        values: list[Value] = []
        while self._text[self._skip(_BLANKS):][:1] != "]":
            values.append(self._value())
            self._skip(_BLANKS)
            if self._text[self._at:self._at + 1] != ",":
                break
            self._mark(",")
        self._mark("]")
        return values

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._at)
        assert match
        self._at = match.end()
        return self._at

    def _take(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        match = pattern.match(self._text, self._at)
        if not match:
            raise NotXl(f"{what} is missing at {self._text[self._at:self._at + 40]!r}")
        self._at = match.end()
        return match

    def _mark(self, mark: str) -> None:
        if not self._text.startswith(mark, self._at):
            raise NotXl(f"{mark} is missing at {self._text[self._at:self._at + 40]!r}")
        self._at += 1


def read(text: str, *, again: bool = False) -> dict[str, Value]:
    """Every setting of a configuration; with `again` a key may come again, as RAW may have it, and the last counts.

    Raises NotXl.
    """
    return _Reader(text, again).whole()


# What the entries of each list may look like: no value may bring words of its own.
ENTRIES = {
    "disk": re.compile(
        r"format=(raw|qcow2),vdev=(xvd[a-z]{1,2}|hd[a-d]),access=(ro|rw)(,devtype=cdrom|,script=block|,backendtype=qdisk)?"
        r"(,discard|,no-discard)?(,target=/[^\x00-\x1f]*)?"
    ),
    "vif": re.compile(
        r"mac=[0-9a-f:]{17},bridge=[\w.-]{1,15},vifname=[\w.-]{1,15},type=(vif|ioemu,model=[\w-]+)"
        r"(,script=vif-openvswitch)?(,rate=\d+KB/s(@\d+ms)?)?(,mtu=\d+)?", re.ASCII,
    ),
    "cpus": re.compile(r"\d+(,\d+)*", re.ASCII),
    "pci": re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7](,seize=1)?"),
    "usbdevice": re.compile(r"tablet|mouse|keyboard"),
    "vtpm": re.compile(r"backend=[\w.-]+,uuid=[0-9a-f-]{36}", re.ASCII),
    "vfb": re.compile(
        r"vnc=1,vnclisten=[^,=]+(,vncdisplay=\d+)?,vncunused=0(,vncpasswd=[^,]{1,8})?(,keymap=[a-z-]+)?", re.ASCII
    ),
}
_SINGLE = (
    "name uuid type memory maxmem vcpus maxvcpus cpu_weight on_poweroff on_reboot on_crash cap cpuid kernel ramdisk "
    "cmdline bootloader boot bios bios_path_override hdtype serial vga videoram usb localtime pae acpi apic viridian "
    "rtc_timeoffset vnc vnclisten vncdisplay vncunused vncpasswd keymap spice spicehost spiceport "
    "spicedisable_ticketing spicepasswd"
)
SINGLE = frozenset(_SINGLE.split())


def check(text: str) -> dict[str, Value]:
    """Read a configuration without RAW that dnc wrote: known keys only, list entries of the known shapes."""
    values = read(text)
    for key, value in values.items():
        if isinstance(value, list):
            for entry in value:
                assert isinstance(entry, str) and ENTRIES[key].fullmatch(entry), f"{key}: {entry!r}"
        else:
            assert key in SINGLE, key
    return values
