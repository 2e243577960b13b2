"""The xl configuration of a domain: frozen records and their rendering (xl.cfg(5), xl-disk-configuration(5)).

Whatever a VM document holds, a value stays one value: strings are quoted for xl's lexer, parts of disk and vif
specifications have a grammar of their own. Tried against libxlutil: inside double quotes it knows \\" and \\\\, and
its hexadecimal escapes are broken, so control characters are refused instead of escaped.
"""

from __future__ import annotations

import enum
import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import BadInput
from ..grammar import parse_path, shown


class GuestType(enum.Enum):
    """How a guest is virtualised, the `type` of xl.cfg."""

    PVH = "pvh"
    PV = "pv"
    HVM = "hvm"


class DiskConfig(NamedTuple):
    """One virtual disk; `path` is a block device, or a file if `file` says so."""

    vdev: str
    path: str
    readonly: bool = False
    cdrom: bool = False
    file: bool = False


class NicConfig(NamedTuple):
    """One virtual interface, PV only so that filters on `vifname` see all traffic; rate in kB/s."""

    mac: str
    bridge: str
    vifname: str
    script: str = ""
    rate_kbytes: int = 0


class Display(NamedTuple):
    """A VNC screen; `port` is the TCP port, 5900 and up."""

    listen: str
    port: int
    password: str = ""
    keymap: str = ""


class DomainConfig(NamedTuple):
    """Everything xl needs to know; memory in MiB. `raw` is appended last, as it stands."""

    name: str
    uuid: str
    guest_type: GuestType
    memory_mib: int
    memory_max_mib: int
    vcpus: int
    vcpus_max: int
    cpu_weight: int
    on_crash: str
    kernel: str = ""
    ramdisk: str = ""
    cmdline: str = ""
    bootloader: str = ""
    boot_order: str = ""
    firmware: str = ""
    flags: Tuple[Tuple[str, bool], ...] = ()
    disks: Tuple[DiskConfig, ...] = ()
    nics: Tuple[NicConfig, ...] = ()
    display: Optional[Display] = None
    raw: str = ""


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def quote(text: str) -> str:
    """`text` as one string of xl's syntax. Raises BadInput for control characters and lone surrogates."""
    if _CONTROL.search(text) or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise BadInput(f"{shown(text)} holds a control character, which an xl configuration cannot carry")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_TARGET = re.compile(r"(xvd|sd|vd|hd)([a-z])\Z")
_CDROM_BAND = 12


def vdev_for(target: str, guest_type: GuestType) -> str:
    """The virtual disk for a TARGET of OpenNebula: the one mapping for deploy, restore, attach and detach.

    sdX and vdX become xvdX. PVH and PV guests have no emulated hdX either: hda is xvdm, hdb xvdn and so on, since
    OpenNebula numbers each prefix from `a` and gives hda to the context CD-ROM beside an sda. Raises BadInput.
    """
    match = _TARGET.match(target)
    if not match:
        raise BadInput(f"TARGET {shown(target)} is no disk name", hint="use xvda, sda, vda or hda and following")
    prefix, letter = match.groups()
    index = ord(letter) - ord("a")
    if prefix != "hd":
        return f"xvd{letter}"
    if guest_type is GuestType.HVM:
        if index < 4:
            return target
        raise BadInput(f"TARGET {shown(target)}: an HVM guest has hda to hdd only")
    if index + _CDROM_BAND < 26:
        return f"xvd{chr(ord(letter) + _CDROM_BAND)}"
    raise BadInput(f"TARGET {shown(target)}: a {guest_type.value} guest has hda to hdn only")


def check_vdevs(disks: Sequence[DiskConfig]) -> None:
    """Refuse two disks of one name. Raises BadInput."""
    seen: Dict[str, str] = {}
    for disk in disks:
        if disk.vdev in seen:
            raise BadInput(
                f"two disks of the VM would both be {disk.vdev}",
                hint="give all disks the same DEV_PREFIX, or set TARGET of one",
            )
        seen[disk.vdev] = disk.path


def disk_specification(disk: DiskConfig, guest_type: GuestType) -> str:
    """One entry of the disk list. `target=` comes last: xl takes the rest of the text as the path."""
    words = ["format=raw", f"vdev={disk.vdev}", f"access={'ro' if disk.readonly else 'rw'}"]
    if guest_type is GuestType.HVM and disk.cdrom:
        words.append("devtype=cdrom")
    elif disk.file:
        # Else xl starts a device model for a file; the block script puts a loop device under it (NOTES 3).
        words.append("script=block")
    return ",".join([*words, f"target={parse_path(disk.path)}"])


_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z")
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}\Z")
_SCRIPT = re.compile(r"[A-Za-z0-9-]+\Z")


def nic_specification(nic: NicConfig) -> str:
    """One entry of the vif list. Raises BadInput."""
    for value, pattern, what in (
        (nic.mac, _MAC, "a MAC address"), (nic.bridge, _INTERFACE, "a bridge's name"),
        (nic.vifname, _INTERFACE, "an interface's name"),
    ):
        if not pattern.match(value):
            raise BadInput(f"{shown(value)} is not {what}")
    words = [f"mac={nic.mac}", f"bridge={nic.bridge}", f"vifname={nic.vifname}", "type=vif"]
    if nic.script and _SCRIPT.match(nic.script):
        words.append(f"script={nic.script}")
    if nic.rate_kbytes:
        words.append(f"rate={nic.rate_kbytes}KB/s")
    return ",".join(words)


_ADDRESS = re.compile(r"[0-9A-Fa-f.:]{2,45}\Z")
_KEYMAP = re.compile(r"[a-z-]{1,12}\Z")
_PASSWORD = re.compile(r"[A-Za-z0-9!#$%&()*+./:;<=>?@^_{|}~-]{1,64}\Z")
_FIRST_PORT = 5900


def _display_words(display: Display) -> List[Tuple[str, str]]:
    if not _ADDRESS.match(display.listen):
        raise BadInput(f"GRAPHICS LISTEN {shown(display.listen)} is not an address")
    if not _FIRST_PORT <= display.port <= 65535:
        raise BadInput(f"GRAPHICS PORT {display.port} is not between {_FIRST_PORT} and 65535")
    words = [("vnc", "1"), ("vnclisten", display.listen), ("vncdisplay", str(display.port - _FIRST_PORT)),
             ("vncunused", "0")]
    if display.password:
        if not _PASSWORD.match(display.password):
            raise BadInput("GRAPHICS PASSWD holds a character that xl cannot carry", hint="use letters and digits")
        words.append(("vncpasswd", display.password))
    if display.keymap:
        if not _KEYMAP.match(display.keymap):
            raise BadInput(f"GRAPHICS KEYMAP {shown(display.keymap)} is not a keymap")
        words.append(("keymap", display.keymap))
    return words


def _display_lines(display: Display, guest_type: GuestType) -> List[str]:
    """VNC of an HVM guest's screen, or a PV frame buffer. A PVH guest has no screen: its console is `xl console`."""
    words = _display_words(display)
    if guest_type is GuestType.HVM:
        numeric = ("vnc", "vncdisplay", "vncunused")
        return [f"{key} = {value if key in numeric else quote(value)}" for key, value in words]
    if guest_type is GuestType.PV:
        return [f"vfb = [ {quote(','.join(f'{key}={value}' for key, value in words))} ]"]
    return []


# The suite proves things about the disks of a domain it knows by name: RAW must not change these behind its back.
_RESERVED = ("name", "uuid", "type", "builder", "disk")
_STRING = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'")
_COMMENT = re.compile(r"#[^\n]*")
_ASSIGNMENT = re.compile(r"(?:\A|[;\n])\s*([A-Za-z_][A-Za-z0-9_]*)\s*\+?=")


def raw_settings(raw: str) -> List[str]:
    """The keys that a RAW section sets."""
    bare: str = _COMMENT.sub("", _STRING.sub('""', raw))
    return [str(key) for key in _ASSIGNMENT.findall(bare)]


def check_raw(raw: str) -> None:
    """Refuse a RAW section that sets what the suite answers for. Raises BadInput."""
    if "\x00" in raw:
        raise BadInput("RAW holds a NUL character")
    for key in raw_settings(raw):
        if key in _RESERVED:
            raise BadInput(f"RAW sets {key}, which belongs to dnc", hint="use DISK and XEN_TYPE instead")


def render(config: DomainConfig) -> str:
    """The text of the configuration file. Raises BadInput for a value that xl's syntax cannot carry."""
    check_vdevs(config.disks)
    lines = [
        f"name = {quote(config.name)}",
        f"uuid = {quote(config.uuid)}",
        f"type = {quote(config.guest_type.value)}",
        f"memory = {config.memory_mib}",
        f"maxmem = {config.memory_max_mib}",
        f"vcpus = {config.vcpus}",
        f"maxvcpus = {config.vcpus_max}",
        f"cpu_weight = {config.cpu_weight}",
        'on_poweroff = "destroy"',
        'on_reboot = "restart"',
        f"on_crash = {quote(config.on_crash)}",
    ]
    for key, value in (
        ("kernel", config.kernel), ("ramdisk", config.ramdisk), ("cmdline", config.cmdline),
        ("bootloader", config.bootloader), ("boot", config.boot_order), ("bios", config.firmware),
    ):
        if value:
            lines.append(f"{key} = {quote(value)}")
    # Its emulated IDE reads in programmed I/O: a BIOS takes minutes there to load a kernel.
    if config.guest_type is GuestType.HVM and "hdtype" not in raw_settings(config.raw):
        lines.append('hdtype = "ahci"')
    lines += [f"{key} = {int(value)}" for key, value in config.flags]
    lines += _list("disk", [disk_specification(disk, config.guest_type) for disk in config.disks])
    lines += _list("vif", [nic_specification(nic) for nic in config.nics])
    if config.display is not None:
        lines += _display_lines(config.display, config.guest_type)
    if config.raw.strip():
        check_raw(config.raw)
        lines += ["# RAW of the VM template", config.raw.strip("\n")]
    return "\n".join(lines) + "\n"


def _list(key: str, values: Sequence[str]) -> List[str]:
    if not values:
        return []
    return [f"{key} = [", *(f"  {quote(value)}," for value in values), "]"]
