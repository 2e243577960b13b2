"""From the VM document to the domain's configuration: pure, so that golden files show every case."""

from __future__ import annotations

import math
import re
from typing import Callable, Dict, List, Optional, Tuple

from ..config import Config
from ..errors import BadInput
from ..grammar import parse_id, parse_path, shown
from ..opennebula.vm import Disk, DiskKind, VmDocument
from ..tools.xl_config import DiskConfig, Display, DomainConfig, GuestType, NicConfig, check_vdevs, vdev_for

PYGRUB = "pygrub"
PVGRUB = "/usr/lib/grub-xen/grub-x86_64-xen.bin"
# credit2 gives every domain 256 unless told otherwise: CPU="1" is that share.
_WEIGHT_OF_ONE_CPU = 256
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_RAW_TYPES = ("vmm_dnc", "dnc", "xen")

DeviceOf = Callable[[str], str]


class _Boot:
    """How a guest starts; empty means xl's default."""

    def __init__(self, kernel: str = "", ramdisk: str = "", cmdline: str = "", bootloader: str = "") -> None:
        self.kernel = kernel
        self.ramdisk = ramdisk
        self.cmdline = cmdline
        self.bootloader = bootloader


def guest_type(vm: VmDocument, config: Config) -> GuestType:
    """USER_TEMPLATE/XEN_TYPE, else OS/MACHINE if it is a Xen type, else GUEST_TYPE of dncrc. Raises BadInput."""
    wanted = vm.user_template.get("XEN_TYPE", vm.template.get("XEN_TYPE", "")).strip().lower()
    if wanted:
        try:
            return GuestType(wanted)
        except ValueError:
            raise BadInput(f"XEN_TYPE {shown(wanted)} is not pvh, pv or hvm") from None
    machine = vm.os.get("MACHINE", "").strip().lower()
    names = [kind.value for kind in GuestType]
    return GuestType(machine if machine in names else config.guest_type)


def domain_uuid(vm: VmDocument) -> str:
    """OS/UUID if the template has one, else one that follows from the VM's number and never changes."""
    given = vm.os.get("UUID", "").strip().lower()
    if _UUID.match(given):
        return given
    import hashlib  # 4 ms that only a guest without a UUID of its own has to pay

    digest = bytearray(hashlib.sha1(f"dnc {vm.domain}".encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50  # version 5, name-based (RFC 4122)
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def domain_config(vm: VmDocument, directory: str, config: Config, device_of: DeviceOf) -> DomainConfig:
    """The configuration of a VM's domain.

    `directory` is the VM's on the host, `device_of` gives the block device of a resource. Raises BadInput.
    """
    if vm.memory_mib < 1:
        raise BadInput(f"VM {vm.id} has no MEMORY")
    kind = guest_type(vm, config)
    boot = _boot(vm, kind, config)
    hvm = kind is GuestType.HVM
    return DomainConfig(
        name=vm.domain,
        uuid=domain_uuid(vm),
        guest_type=kind,
        memory_mib=vm.memory_mib,
        memory_max_mib=vm.memory_max_mib,
        vcpus=vm.vcpus,
        vcpus_max=vm.vcpus_max,
        cpu_weight=min(65535, max(1, math.ceil(vm.cpu * _WEIGHT_OF_ONE_CPU))),
        on_crash=config.on_crash,
        kernel=boot.kernel,
        ramdisk=boot.ramdisk,
        cmdline=boot.cmdline,
        bootloader=boot.bootloader,
        boot_order=_boot_order(vm) if hvm and not boot.kernel else "",
        firmware=_firmware(vm) if hvm else "",
        flags=_flags(vm, kind),
        disks=disk_configs(vm, directory, kind, device_of),
        nics=tuple(nic_config(vm, nic) for nic in vm.nics),
        display=_display(vm),
        raw=_raw(vm),
    )


def disk_configs(vm: VmDocument, directory: str, kind: GuestType, device_of: DeviceOf) -> Tuple[DiskConfig, ...]:
    """Every disk of the VM and its context CD-ROM, in DISK_ID order. Raises BadInput."""
    disks = [disk_config(vm, disk, directory, kind, device_of) for disk in vm.disks]
    context = vm.context_disk
    if context is not None:
        disks.append(context_config(vm, context, directory, kind))
    check_vdevs(disks)
    return tuple(disks)


def disk_config(vm: VmDocument, disk: Disk, directory: str, kind: GuestType, device_of: DeviceOf) -> DiskConfig:
    """One DISK: the device of its resource, or for another driver's disk the file in the VM's directory."""
    foreign = disk.kind is DiskKind.FOREIGN
    path = f"{directory}/disk.{disk.id}" if foreign else device_of(disk.resource(vm.id).text)
    return DiskConfig(
        vdev=vdev_for(disk.target, kind), path=path, readonly=disk.readonly or disk.cdrom, cdrom=disk.cdrom,
        file=foreign,
    )


def context_config(vm: VmDocument, number: int, directory: str, kind: GuestType) -> DiskConfig:
    """The context CD-ROM, a file in the VM's directory; a read-only block device for PVH and PV guests."""
    target = vm.context.get("TARGET", "").strip()
    if not target:
        raise BadInput(f"the context of VM {vm.id} has no TARGET")
    path = f"{directory}/disk.{number}"
    return DiskConfig(vdev=vdev_for(target, kind), path=path, readonly=True, cdrom=True, file=True)


def nic_config(vm: VmDocument, nic: Dict[str, str]) -> NicConfig:
    """One NIC on a bridge. Raises BadInput for one without: the suite does no pass-through."""
    number = parse_id(nic.get("NIC_ID", "").strip(), f"NIC_ID of VM {vm.id}")
    bridge = nic.get("BRIDGE", "").strip()
    if not bridge:
        raise BadInput(f"NIC {number} of VM {vm.id} has no BRIDGE", hint="dnc connects guests to bridges only")
    switch = nic.get("BRIDGE_TYPE", "").strip() or nic.get("VN_MAD", "").strip()
    rate = nic.get("OUTBOUND_AVG_BW", "").strip()
    return NicConfig(
        mac=nic.get("MAC", "").strip().lower(),
        bridge=bridge,
        vifname=nic.get("TARGET", "").strip() or f"one-{vm.id}-{number}",
        script="vif-openvswitch" if switch.startswith(("openvswitch", "ovswitch")) else "",
        rate_kbytes=parse_id(rate, "OUTBOUND_AVG_BW") if rate else 0,
    )


def _boot(vm: VmDocument, kind: GuestType, config: Config) -> _Boot:
    kernel = vm.os.get("KERNEL", "").strip()
    if kernel:
        ramdisk = vm.os.get("INITRD", "").strip()
        return _Boot(parse_path(kernel), parse_path(ramdisk) if ramdisk else "", _cmdline(vm))
    if kind is GuestType.HVM:
        return _Boot()
    default = config.pvh_loader if kind is GuestType.PVH else config.pv_loader
    wanted = vm.os.get("BOOTLOADER", "").strip()
    if wanted in ("pvgrub", "pvhgrub"):
        pvgrub = PVGRUB if kind is GuestType.PV else config.pvh_loader
        wanted = default if default.startswith("/") else pvgrub
    loader = wanted or default
    if not loader:
        raise BadInput(
            f"VM {vm.id} has no OS/KERNEL and no boot loader",
            hint=f"set OS/KERNEL or OS/BOOTLOADER, or {kind.value.upper()}_LOADER in dncrc",
        )
    if loader.rsplit("/", 1)[-1] == PYGRUB:
        return _Boot(bootloader=PYGRUB, cmdline=_cmdline(vm))
    return _Boot(kernel=parse_path(loader), cmdline=_cmdline(vm))


def _cmdline(vm: VmDocument) -> str:
    root = vm.os.get("ROOT", "").strip()
    words = [f"root=/dev/{root.removeprefix('/dev/')}" if root else "", vm.os.get("KERNEL_CMD", "").strip()]
    return " ".join(word for word in words if word)


def _boot_order(vm: VmDocument) -> str:
    """xl's letters for OS/BOOT `disk0,nic1`: c disk, d CD-ROM, n network. Raises BadInput."""
    letters: List[str] = []
    for word in vm.os.get("BOOT", "").replace(" ", "").split(","):
        if not word:
            continue
        match = re.match(r"(disk|nic)([0-9]{1,5})\Z", word)
        if not match:
            raise BadInput(f"OS/BOOT {shown(word)} is not disk<n> or nic<n>")
        letter = "n"
        if match.group(1) == "disk":
            letter = "d" if vm.disk(int(match.group(2))).cdrom else "c"
        if letter not in letters:
            letters.append(letter)
    return "".join(letters) or "cd"


def _firmware(vm: VmDocument) -> str:
    firmware = vm.os.get("FIRMWARE", "").strip()
    return "ovmf" if firmware.upper() == "UEFI" or "OVMF" in firmware.upper() else ""


def _flags(vm: VmDocument, kind: GuestType) -> Tuple[Tuple[str, bool], ...]:
    names = {"LOCALTIME": "localtime"}
    if kind is GuestType.HVM:
        names.update(PAE="pae", ACPI="acpi", APIC="apic", HYPERV="viridian")
    given = [(key, vm.features[name].strip().lower() in ("yes", "1", "true")) for name, key in names.items()
             if vm.features.get(name, "").strip()]
    return tuple(given)


def _display(vm: VmDocument) -> Optional[Display]:
    graphics = vm.graphics
    port = graphics.get("PORT", "").strip()
    if graphics.get("TYPE", "").strip().upper() != "VNC" or not port:
        return None
    return Display(
        listen=graphics.get("LISTEN", "").strip() or "127.0.0.1", port=parse_id(port, "GRAPHICS PORT"),
        password=graphics.get("PASSWD", ""), keymap=graphics.get("KEYMAP", "").strip(),
    )


def _raw(vm: VmDocument) -> str:
    mad = vm.history[-1].vm_mad.lower() if vm.history else ""
    wanted = [raw.get("DATA", "") for raw in vm.raws if raw.get("TYPE", "").strip().lower() in (*_RAW_TYPES, mad)]
    return "\n".join(text for text in wanted if text.strip())
