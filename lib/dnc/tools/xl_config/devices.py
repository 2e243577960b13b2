"""Specifications of disks, interfaces and PCI devices, the way xl's configuration and its attach commands take them."""

from __future__ import annotations

import re
from typing import Tuple

from ...errors import BadInput
from ...grammar import parse_path, shown
from .records import DiskConfig, GuestType, NicConfig, PciConfig

_VDEV = re.compile(r"(?:xvd|hd)[a-z]{1,2}\Z")
_FORMATS = ("raw", "qcow2")


def disk_specification(disk: DiskConfig, guest_type: GuestType) -> str:
    """One entry of the disk list (xl-disk-configuration(5)). `target=` comes last: xl takes the rest of the text as
    the path. Raises BadInput."""
    if not _VDEV.match(disk.vdev) or disk.format not in _FORMATS:
        raise BadInput(f"{shown(disk.vdev)} with format {shown(disk.format)} is no virtual disk")
    words = [f"format={disk.format}", f"vdev={disk.vdev}", f"access={'ro' if disk.readonly else 'rw'}"]
    if guest_type is GuestType.HVM and disk.cdrom:
        words.append("devtype=cdrom")
    elif disk.format != "raw":
        words.append("backendtype=qdisk")
    elif disk.file:
        # Else xl starts a device model for a file; the block script puts a loop device under it (NOTES 3).
        words.append("script=block")
    if disk.discard is not None:
        words.append("discard" if disk.discard else "no-discard")
    if not disk.path:
        if guest_type is not GuestType.HVM or not disk.cdrom:
            raise BadInput(f"disk {disk.vdev} has no medium", hint="only a CD-ROM drive of an HVM guest may be empty")
        return ",".join(words)
    return ",".join([*words, f"target={parse_path(disk.path)}"])


_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z")
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}\Z")
_SCRIPT = re.compile(r"[A-Za-z0-9-]+\Z")
_MODEL = re.compile(r"[a-z][a-z0-9_-]{1,15}\Z")
# The kernel's limit for an interface's name, and what the device model adds to that of an emulated one.
_NAME_LENGTH = 15
_EMULATED = "-emu"
_RATES = (1, 4294967)
_MTUS = (68, 65535)


def nic_specification(nic: NicConfig) -> str:
    """One entry of the vif list (xl-network-configuration(5)). Raises BadInput."""
    for value, pattern, what in (
        (nic.mac, _MAC, "a MAC address"), (nic.bridge, _INTERFACE, "a bridge's name"),
        (nic.vifname, _INTERFACE, "an interface's name"),
    ):
        if not pattern.match(value):
            raise BadInput(f"{shown(value)} is not {what}")
    words = [f"mac={nic.mac}", f"bridge={nic.bridge}", f"vifname={nic.vifname}"]
    if nic.model:
        if not _MODEL.match(nic.model):
            raise BadInput(f"NIC MODEL {shown(nic.model)} is no emulated interface")
        if len(nic.vifname) + len(_EMULATED) > _NAME_LENGTH:
            raise BadInput(f"{nic.vifname}{_EMULATED} is too long for the name of an emulated interface")
        words += ["type=ioemu", f"model={nic.model}"]
    else:
        words.append("type=vif")
    if nic.script and _SCRIPT.match(nic.script):
        words.append(f"script={nic.script}")
    if nic.rate_kbytes:
        _check_range("OUTBOUND_AVG_BW", nic.rate_kbytes, _RATES)
        words.append(f"rate={nic.rate_kbytes}KB/s" + (f"@{nic.rate_ms}ms" if nic.rate_ms else ""))
    if nic.mtu:
        _check_range("MTU", nic.mtu, _MTUS)
        words.append(f"mtu={nic.mtu}")
    return ",".join(words)


def _check_range(what: str, value: int, allowed: Tuple[int, int]) -> None:
    low, high = allowed
    if not low <= value <= high:
        raise BadInput(f"{what} {value} is not between {low} and {high}")


_PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]\Z")


def pci_specification(pci: PciConfig) -> str:
    """One entry of the pci list (xl-pci-configuration(5)). Raises BadInput."""
    if not _PCI.match(pci.address):
        raise BadInput(f"{shown(pci.address)} is not the address of a PCI device")
    return f"{pci.address},seize=1" if pci.seize else pci.address
