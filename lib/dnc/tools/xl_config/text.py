"""The text of the configuration file."""

from __future__ import annotations

import re
from typing import List, Sequence

from ...errors import BadInput
from ...grammar import shown
from .devices import disk_specification, nic_specification, pci_specification
from .raw import check_raw, raw_settings
from .records import DiskConfig, DomainConfig, GuestType
from .screen import screen_lines
from .syntax import list_lines, quote
from .vdevs import check_vdevs, disk_index

_FEATURE = re.compile(r"[a-z0-9][a-z0-9._-]{0,30}\Z")
_CPUS = re.compile(r"[0-9]{1,5}(?:,[0-9]{1,5})*\Z")
_BACKEND = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def render(config: DomainConfig) -> str:
    """The text of the configuration file. Raises BadInput for a value that xl's syntax cannot carry."""
    check_vdevs(config.disks, config.guest_type)
    check_raw(config.raw)
    lines = [*_head(config), *_processors(config), *_boot(config)]
    if config.guest_type is GuestType.HVM:
        given = raw_settings(config.raw)
        lines += _emulation(config, given)
        if "hdtype" in given:
            _check_one_controller(config.disks)
    lines += [f"{key} = {int(value)}" for key, value in config.flags]
    if config.rtc_offset:
        # Quoted: numbers of xl's syntax have no sign.
        lines.append(f"rtc_timeoffset = {quote(str(config.rtc_offset))}")
    lines += list_lines("disk", [disk_specification(disk, config.guest_type) for disk in config.disks])
    lines += list_lines("vif", [nic_specification(nic) for nic in config.nics])
    lines += list_lines("pci", [pci_specification(pci) for pci in config.pci])
    if config.vtpm is not None:
        backend, uuid = config.vtpm
        if not _BACKEND.match(backend) or not _UUID.match(uuid):
            raise BadInput(f"{shown(backend)} and {shown(uuid)} are no vTPM")
        lines += list_lines("vtpm", [f"backend={backend},uuid={uuid}"])
    lines += screen_lines(config.display, config.guest_type)
    if config.raw.strip():
        lines += ["# RAW of the VM template", config.raw.strip("\n")]
    return "\n".join(lines) + "\n"


def _head(config: DomainConfig) -> List[str]:
    return [
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


def _processors(config: DomainConfig) -> List[str]:
    lines = [f"cap = {config.cpu_cap}"] if config.cpu_cap else []
    for cpus in config.cpus:
        if not _CPUS.match(cpus):
            raise BadInput(f"CPUS {shown(cpus)} is not a list of processors")
    lines += list_lines("cpus", config.cpus)
    for feature in config.cpu_features:
        if not _FEATURE.match(feature):
            raise BadInput(f"CPU_MODEL FEATURES {shown(feature)} is no processor feature")
    if config.cpu_features:
        lines.append(f"cpuid = {quote(','.join(['host', *(f'{feature}=1' for feature in config.cpu_features)]))}")
    return lines


def _boot(config: DomainConfig) -> List[str]:
    values = (
        ("kernel", config.kernel), ("ramdisk", config.ramdisk), ("cmdline", config.cmdline),
        ("bootloader", config.bootloader), ("boot", config.boot_order), ("bios", config.firmware),
        ("bios_path_override", config.firmware_file),
    )
    return [f"{key} = {quote(value)}" for key, value in values if value]


def _check_one_controller(disks: Sequence[DiskConfig]) -> None:
    """On an IDE controller, which RAW may ask for, disks and CD-ROM drives share their four places."""
    drives = {disk_index(disk.vdev): disk.vdev for disk in disks if disk.cdrom}
    for disk in disks:
        if not disk.cdrom and disk_index(disk.vdev) in drives:
            raise BadInput(
                f"RAW sets hdtype: {disk.vdev} and {drives[disk_index(disk.vdev)]} would be the same drive",
                hint="leave hdtype out, or give one another TARGET",
            )


def _emulation(config: DomainConfig, given: List[str]) -> List[str]:
    """Devices that only an HVM guest's device model has, unless RAW says otherwise."""
    lines = []
    if "hdtype" not in given:
        # Its emulated IDE reads in programmed I/O: a BIOS takes minutes there to load a kernel.
        lines.append('hdtype = "ahci"')
    if "serial" not in given:
        lines.append('serial = "pty"')
    if config.vga:
        lines.append(f"vga = {quote(config.vga)}")
    if config.video_mib:
        lines.append(f"videoram = {config.video_mib}")
    if config.usb:
        lines += ["usb = 1", *list_lines("usbdevice", config.usb)]
    return lines
