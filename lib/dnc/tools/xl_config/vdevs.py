"""Which virtual disk a TARGET of OpenNebula becomes: the one mapping for deploy, restore, attach and detach.

xvdX, sdX and vdX are xvdX. PVH and PV guests have no emulated hdX either: hda is xvdm, hdb xvdn and so on, since
OpenNebula numbers each prefix from `a` and gives hda to the context CD-ROM beside an sda. An HVM guest's CD-ROMs are
its drives a to d, by whatever prefix. Where two disks would be the same one, the lower DISK_ID has it and the other
goes to a range of its prefix's own, so that disks that come later move none that is there.
"""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Set

from ...errors import BadInput
from ...grammar import shown
from .records import DiskConfig, GuestType

_TARGET = re.compile(r"(xvd|sd|vd|hd)([a-z]{1,2})\Z")
_VDEV = re.compile(r"(?:xvd|hd)([a-z]+)\Z")
_LETTERS = 26
# hda of a guest without emulated drives.
_DRIVE_BAND = 12
# The range of each prefix where the plain name is taken: xvdaX, xvdbX, xvdcX and xvddX.
_RANGES = {"sd": "a", "vd": "b", "xvd": "c", "hd": "d"}
# A device model emulates four drives, and six disks on its AHCI controller (libxl, xen-vbd-interface(7)).
_DRIVES = 4
EMULATED_DISKS = 6


class Target(NamedTuple):
    """A disk by DISK_ID, and where its template wants it."""

    number: int
    name: str
    cdrom: bool = False


def _name(index: int) -> str:
    """0 is a, 25 z, 26 aa."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, _LETTERS)
        letters = chr(ord("a") + rest) + letters
    return letters


def _index(letters: str) -> int:
    value = 0
    for letter in letters:
        value = value * _LETTERS + ord(letter) - ord("a") + 1
    return value - 1


def disk_index(vdev: str) -> int:
    """The disk's number in its guest: 0 for xvda and hda. Raises BadInput for a name that is none."""
    match = _VDEV.match(vdev)
    if not match:
        raise BadInput(f"{shown(vdev)} is no virtual disk")
    return _index(match.group(1))


def _split(target: str) -> re.Match[str]:
    match = _TARGET.match(target)
    if not match:
        raise BadInput(f"TARGET {shown(target)} is no disk name", hint="use xvda, sda, vda or hda and following")
    return match


def vdev_for(target: str, guest_type: GuestType) -> str:
    """The virtual disk for a TARGET when no other disk is in its way. Raises BadInput."""
    prefix, letters = _split(target).groups()
    index = _index(letters)
    if prefix != "hd":
        return f"xvd{letters}"
    if guest_type is GuestType.HVM:
        if index < _DRIVES:
            return target
        raise BadInput(f"TARGET {shown(target)}: an HVM guest has hda to hdd only")
    if index + _DRIVE_BAND < _LETTERS:
        return f"xvd{_name(index + _DRIVE_BAND)}"
    raise BadInput(f"TARGET {shown(target)}: a {guest_type.value} guest has hda to hdn only")


def assign_vdevs(targets: Sequence[Target], guest_type: GuestType) -> Dict[int, str]:
    """The virtual disk of each target, by DISK_ID. Raises BadInput."""
    taken: Set[str] = set()
    found: Dict[int, str] = {}
    for target in sorted(targets):
        found[target.number] = _free(target, guest_type, taken)
        taken |= _claims(found[target.number], target.cdrom, guest_type)
    return found


def _claims(vdev: str, cdrom: bool, guest_type: GuestType) -> Set[str]:
    """What no other disk can have: the name, and for an HVM guest the place at its controller, which hda and xvda
    have in common; CD-ROM drives have a controller of their own."""
    if guest_type is not GuestType.HVM:
        return {vdev}
    return {vdev, f"{'drive' if cdrom else 'disk'} {disk_index(vdev)}"}


def _free(target: Target, guest_type: GuestType, taken: Set[str]) -> str:
    hvm_drive = guest_type is GuestType.HVM and target.cdrom
    for vdev in _drives(target) if hvm_drive else _names(target, guest_type):
        if not _claims(vdev, target.cdrom, guest_type) & taken:
            return vdev
    if hvm_drive:
        raise BadInput(f"TARGET {shown(target.name)}: an HVM guest has {_DRIVES} CD-ROM drives and no more")
    raise BadInput(f"two disks of the VM have the TARGET {shown(target.name)}", hint="give one another TARGET")


def _drives(target: Target) -> List[str]:
    """The drive of that letter, else the first free one."""
    names = [f"hd{_name(index)}" for index in range(_DRIVES)]
    wanted = _index(_split(target.name).group(2)) < _DRIVES
    return [vdev_for(target.name, GuestType.HVM), *names] if wanted else names


def _names(target: Target, guest_type: GuestType) -> List[str]:
    prefix, letters = _split(target.name).groups()
    plain = vdev_for(target.name, guest_type)
    return [plain, f"xvd{_RANGES[prefix]}{letters}"] if len(letters) == 1 else [plain]


def check_vdevs(disks: Sequence[DiskConfig], guest_type: Optional[GuestType] = None) -> None:
    """Refuse two disks of one name, and what the device model of an HVM guest would refuse. Raises BadInput."""
    seen: Dict[str, str] = {}
    for disk in disks:
        if disk.vdev in seen:
            raise BadInput(f"two disks of the VM would both be {disk.vdev}", hint="give one another TARGET")
        seen[disk.vdev] = disk.path
        emulated = guest_type is GuestType.HVM and not disk.cdrom and disk_index(disk.vdev) < EMULATED_DISKS
        if emulated and disk.readonly:
            raise BadInput(
                f"READONLY disk {disk.vdev}: Xen emulates writable disks only",
                hint=f"give it a TARGET from xvd{_name(EMULATED_DISKS)} on, where PV drivers alone see it",
            )
