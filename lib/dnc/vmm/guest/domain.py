"""The whole configuration of a VM's domain."""

from __future__ import annotations

from typing import Dict, Iterable, List, Sequence, Tuple

from ...config import Config
from ...errors import BadInput
from ...grammar import shown
from ...opennebula.vm import VmDocument
from ...tools.xl_config import DiskConfig, DomainConfig, GuestType
from . import boot as booting
from . import passthrough, processors, screen
from .attributes import check, left_out
from .disks import DeviceOf, disk_configs
from .features import features
from .kinds import domain_uuid, guest_type, setting
from .nics import emulation_wanted, nic_configs

_RAW_TYPES = ("vmm_dnc", "dnc", "xen")
_DAY_S = 86400


def domain_config(vm: VmDocument, directory: str, config: Config, device_of: DeviceOf) -> DomainConfig:
    """The configuration of a VM's domain.

    `directory` is the VM's on the host, `device_of` gives the block device of a resource. Raises BadInput with the
    attribute's name for what Xen cannot do.
    """
    kind = guest_type(vm, config)
    _check(vm, kind)
    boot = booting.boot(vm, kind, config, directory)
    disks = disk_configs(vm, directory, kind, device_of, config.discard)
    nics = nic_configs(vm, kind, config)
    uuid = domain_uuid(vm)
    hvm = kind is GuestType.HVM
    firmware, firmware_file = booting.firmware(vm, config) if hvm else ("", "")
    vga, video_mib = screen.video(vm) if hvm else ("", 0)
    order, untried = "", boot.untried
    if hvm and not boot.kernel and not firmware:
        order, untried = booting.boot_order(vm, disks, nics)
    return DomainConfig(
        name=vm.domain,
        uuid=uuid,
        guest_type=kind,
        memory_mib=vm.memory_mib,
        memory_max_mib=vm.memory_max_mib,
        vcpus=vm.vcpus,
        vcpus_max=vm.vcpus_max,
        cpu_weight=processors.weight(vm),
        cpu_cap=processors.cap(vm, config),
        cpus=processors.pinning(vm),
        cpu_features=features(vm),
        on_crash=config.on_crash,
        kernel=boot.kernel,
        ramdisk=boot.ramdisk,
        cmdline=boot.cmdline,
        bootloader=boot.bootloader,
        boot_order=order,
        firmware=firmware,
        firmware_file=firmware_file,
        flags=_flags(vm, kind),
        rtc_offset=_rtc_offset(vm),
        disks=_boot_disk_first(vm, disks, boot.first),
        nics=nics,
        pci=passthrough.pci_configs(vm, kind, config),
        vtpm=passthrough.vtpm(vm, config, uuid),
        display=screen.display(vm, config),
        vga=vga,
        video_mib=video_mib,
        usb=screen.usb(vm) if hvm else (),
        raw=_raw(vm),
        notes=tuple(_notes(vm, kind, firmware, untried)),
    )


def _vectors(vm: VmDocument, names: Iterable[str]) -> Iterable[Tuple[str, Dict[str, str]]]:
    for name in names:
        for values in vm.vectors.get(name, ()):
            yield name, values


def _check(vm: VmDocument, kind: GuestType) -> None:
    """What the table of attributes refuses for the domain as a whole; disks, NICs and PCI devices check their own."""
    processors.check_size(vm, kind)
    check("VM", vm.template, f"VM {vm.id}")
    names = ("OS", "CPU_MODEL", "FEATURES", "TOPOLOGY", "NUMA_NODE", "GRAPHICS", "VIDEO", "TPM", "IOMMU",
             "MEMORY_ENCRYPTION")
    for name, values in _vectors(vm, names):
        check(name, values, f"{name} of VM {vm.id}")
    booting.check_firmware(vm, kind)


def _flags(vm: VmDocument, kind: GuestType) -> Tuple[Tuple[str, bool], ...]:
    """FEATURES as xl's switches. PVH has ACPI only, and always what PAE and APIC say; PV knows none of them."""
    switches = {
        GuestType.HVM: {"LOCALTIME": "localtime", "PAE": "pae", "ACPI": "acpi", "APIC": "apic", "HYPERV": "viridian"},
        GuestType.PVH: {"LOCALTIME": "localtime", "ACPI": "acpi"},
        GuestType.PV: {"LOCALTIME": "localtime"},
    }[kind]
    given = {name: _yes(text) for name, text in vm.features.items() if text.strip()}
    if kind is not GuestType.HVM and given.get("HYPERV"):
        raise BadInput(f"FEATURES/HYPERV of VM {vm.id}: only an hvm guest has it", hint="use XEN_TYPE hvm")
    if kind is GuestType.PVH and False in (given.get("PAE"), given.get("APIC")):
        raise BadInput(f"FEATURES of VM {vm.id}: a pvh guest always has PAE and APIC", hint="take the NO out")
    return tuple((key, given[name]) for name, key in switches.items() if name in given)


def _yes(text: str) -> bool:
    return text.strip().lower() in ("yes", "1", "true", "on")


def _rtc_offset(vm: VmDocument) -> int:
    """XEN_RTC_OFFSET: seconds from UTC to what the guest's clock shows, a day at most. Raises BadInput."""
    text = setting(vm, "XEN_RTC_OFFSET")
    if not text:
        return 0
    digits = text[1:] if text[0] in "+-" else text
    if not (digits.isascii() and digits.isdigit() and int(digits[:6]) <= _DAY_S and len(digits) <= 5):
        raise BadInput(f"XEN_RTC_OFFSET {shown(text)} is not a number of seconds, a day at most")
    return int(text)


def _boot_disk_first(vm: VmDocument, disks: Tuple[DiskConfig, ...], first: int) -> Tuple[DiskConfig, ...]:
    """pygrub looks at the first disk of the list, whatever its name."""
    place = next((index for index, disk in enumerate(vm.disks) if disk.id == first), 0)
    return (*disks[place:place + 1], *disks[:place], *disks[place + 1:])


def _raw(vm: VmDocument) -> str:
    """RAW of this hypervisor: TYPE is one of dnc's names, or whatever the VM_MAD is called here."""
    mad = vm.history[-1].vm_mad.lower() if vm.history else ""
    wanted = [raw.get("DATA", "") for raw in vm.raws if raw.get("TYPE", "").strip().lower() in (*_RAW_TYPES, mad)]
    return "\n".join(text for text in wanted if text.strip())


def _notes(vm: VmDocument, kind: GuestType, firmware: str, untried: Sequence[str]) -> List[str]:
    """What the log should say: attributes without a meaning for this guest."""
    names = [word for scope, values in _vectors(vm, ("OS", "FEATURES", "TOPOLOGY", "DISK", "NIC", "PCI"))
             for word in left_out(scope, values)]
    if kind is not GuestType.HVM:
        names += [name for name in ("VIDEO", "INPUT") if vm.vectors.get(name)]
        names += ["NIC/MODEL"] if emulation_wanted(vm) else []
    if kind is GuestType.PV and _yes(vm.features.get("ACPI", "")):
        names.append("FEATURES/ACPI")
    notes = [f"left out, it has no meaning for a {kind.value} guest of Xen: {name}" for name in dict.fromkeys(names)]
    if kind is GuestType.PVH and vm.graphics.get("TYPE", "").strip():
        notes.append("GRAPHICS is left out: a PVH guest has no screen, see `xl console`")
    if firmware and vm.os.get("BOOT", "").strip():
        notes.append("OS/BOOT is left out: UEFI firmware looks for a boot loader itself")
    notes += [f"OS/BOOT {device} is not tried: Xen has no such fallback" for device in untried]
    return notes
