"""OS: what a guest starts from. xl knows letters for an HVM guest's boot order, and one boot loader for others."""

from __future__ import annotations

import re
from typing import List, NamedTuple, Sequence, Tuple

from ...config import Config
from ...errors import BadInput
from ...grammar import parse_path, shown
from ...opennebula.vm import VmDocument
from ...tools.xl_config import DiskConfig, GuestType, NicConfig, disk_index

PYGRUB = "pygrub"
PVGRUB = "/usr/lib/grub-xen/grub-x86_64-xen.bin"
_DEVICE = re.compile(r"(disk|nic)([0-9]{1,5})\Z")


class Boot(NamedTuple):
    """How a guest starts; empty means xl's default.

    `first` is the DISK_ID that pygrub has to look at, `untried` what OS/BOOT names and Xen will not fall back to.
    """

    kernel: str = ""
    ramdisk: str = ""
    cmdline: str = ""
    bootloader: str = ""
    first: int = -1
    untried: Tuple[str, ...] = ()


def boot(vm: VmDocument, kind: GuestType, config: Config, directory: str) -> Boot:
    """Kernel and files of a FILE datastore, else the boot loader of a PVH or PV guest. Raises BadInput."""
    kernel = _file(vm, "KERNEL", directory)
    if kernel:
        return Boot(kernel, _file(vm, "INITRD", directory), _cmdline(vm))
    if kind is GuestType.HVM:
        return Boot()
    loader = _loader(vm, kind, config)
    first, *untried = _wanted(vm) or [""]
    pygrub = loader.rsplit("/", 1)[-1] == PYGRUB
    _check_first(vm, kind, first, pygrub)
    found = Boot(
        cmdline=_cmdline(vm), untried=tuple(untried), first=int(first.removeprefix("disk")) if first else -1,
    )
    return found._replace(bootloader=PYGRUB) if pygrub else found._replace(kernel=parse_path(loader))


def _file(vm: VmDocument, name: str, directory: str) -> str:
    """OS/KERNEL or OS/INITRD; what a FILE datastore has (KERNEL_DS) the prolog puts into the VM's directory."""
    path = vm.os.get(name, "").strip()
    if path:
        return parse_path(path)
    return f"{directory}/{name.lower()}" if vm.os.get(f"{name}_DS", "").strip() else ""


def _loader(vm: VmDocument, kind: GuestType, config: Config) -> str:
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
    return loader


def _cmdline(vm: VmDocument) -> str:
    root = vm.os.get("ROOT", "").strip()
    words = [f"root=/dev/{root.removeprefix('/dev/')}" if root else "", vm.os.get("KERNEL_CMD", "").strip()]
    return " ".join(word for word in words if word)


def _wanted(vm: VmDocument) -> List[str]:
    """OS/BOOT `disk0,nic1`, its devices checked. Raises BadInput."""
    devices = []
    for word in vm.os.get("BOOT", "").lower().replace(" ", "").split(","):
        if not word:
            continue
        match = _DEVICE.match(word)
        if not match:
            raise BadInput(f"OS/BOOT {shown(word)} is not disk<n> or nic<n>")
        if match.group(1) == "disk":
            vm.disk(int(match.group(2)))
        devices.append(f"{match.group(1)}{int(match.group(2))}")
    return devices


def _check_first(vm: VmDocument, kind: GuestType, first: str, pygrub: bool) -> None:
    """pygrub looks at any one disk, other boot loaders at the first; nothing here boots from the network."""
    if first.startswith("nic"):
        raise BadInput(
            f"OS/BOOT {first} of VM {vm.id}: a {kind.value} guest cannot boot from the network",
            hint="use XEN_TYPE hvm, or OS/KERNEL",
        )
    if first and not pygrub and first != f"disk{vm.disks[0].id}":
        raise BadInput(
            f"OS/BOOT {first} of VM {vm.id}: a {kind.value} guest's own boot loader takes the first disk",
            hint="use OS/BOOTLOADER pygrub, or make it disk0",
        )


def boot_order(vm: VmDocument, disks: Sequence[DiskConfig], nics: Sequence[NicConfig]) -> Tuple[str, Tuple[str, ...]]:
    """(xl's letters for the OS/BOOT of an HVM guest, what it names and Xen will not fall back to).

    c is the first hard disk, d the CD-ROMs one after the other, n the emulated interfaces one after the other. The
    first device must be one that Xen starts from. `disks` and `nics` are those of the document. Raises BadInput.
    """
    order = _Order(vm, disks, nics)
    for device in _wanted(vm):
        if not order.add(device) and not order.letters:
            letter = order.letter(device)
            raise BadInput(f"OS/BOOT {device} of VM {vm.id}: {_WHY[letter]}", hint=_HINT[letter])
    return "".join(order.letters) or "cd", tuple(order.untried)


class _Order:
    """Letters so far, and what each letter would try next."""

    def __init__(self, vm: VmDocument, disks: Sequence[DiskConfig], nics: Sequence[NicConfig]) -> None:
        self._cdroms = {f"disk{disk.id}" for disk in vm.disks if disk.cdrom}
        self.letters: List[str] = []
        self.untried: List[str] = []
        pairs = sorted(zip(disks, vm.disks), key=lambda pair: disk_index(pair[0].vdev))
        hard = [f"disk{disk.id}" for config, disk in pairs if not config.cdrom]
        cdroms = [f"disk{disk.id}" for config, disk in pairs if config.cdrom]
        emulated = [f"nic{int(nic['NIC_ID'])}" for config, nic in zip(nics, vm.nics) if config.model]
        self._next = {"c": hard[:1], "d": cdroms, "n": emulated}

    def letter(self, device: str) -> str:
        """xl's letter for a device's kind."""
        if device.startswith("nic"):
            return "n"
        return "d" if device in self._cdroms else "c"

    def add(self, device: str) -> bool:
        """Whether Xen tries the device at this place; else it is noted as untried."""
        letter = self.letter(device)
        again = self.letters[-1:] == [letter]
        if self._next[letter][:1] != [device] or letter in self.letters and not again:
            self.untried.append(device)
            return False
        self._next[letter].pop(0)
        if not again:
            self.letters.append(letter)
        return True


_WHY = {
    "c": "Xen boots from the first hard disk only", "d": "Xen tries CD-ROMs in the order of their drives",
    "n": "Xen boots from emulated interfaces only, in their order",
}
_HINT = {
    "c": "let the first TARGET be that disk's", "d": "name them as hda to hdd have them",
    "n": 'give the NIC a MODEL as e1000, and name NICs in their order',
}


def firmware(vm: VmDocument, config: Config) -> Tuple[str, str]:
    """(xl's `bios`, file of the firmware if it is not the toolstack's own) of an HVM guest. Raises BadInput."""
    wanted = vm.os.get("FIRMWARE", "").strip()
    if wanted.upper() in ("", "BIOS"):
        return "", ""
    if wanted.upper() == "UEFI":
        return "ovmf", config.uefi_firmware
    return "ovmf", parse_path(wanted)


def check_firmware(vm: VmDocument, kind: GuestType) -> None:
    """A PVH or PV guest has neither BIOS nor UEFI; BIOS is what templates say without meaning it. Raises BadInput."""
    wanted = vm.os.get("FIRMWARE", "").strip()
    if kind is not GuestType.HVM and wanted.upper() not in ("", "BIOS"):
        raise BadInput(f"OS/FIRMWARE {shown(wanted)} of VM {vm.id}: only an hvm guest has one", hint="XEN_TYPE hvm")
