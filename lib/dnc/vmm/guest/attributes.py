"""The one table of template attributes that Xen cannot honour: refused with their name, or left out and told.

From OpenNebula's template reference and its own KVM driver, attribute by attribute. What is not here is either
rendered by a sibling module or no business of a hypervisor (scheduling, accounting, storage, contextualisation).
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Tuple

from ...errors import BadInput
from ...grammar import shown

_NO = ("NO", "FALSE", "0", "OFF")
_TAKE_OUT = "take it out of the template"


class Refusal(NamedTuple):
    """An attribute that stops a deployment unless it is empty or has one of the `allowed` values (upper case)."""

    attribute: str
    why: str
    allowed: Tuple[str, ...] = ()
    hint: str = _TAKE_OUT


def _each(names: str, why: str, allowed: Tuple[str, ...] = (), hint: str = _TAKE_OUT) -> List[Refusal]:
    return [Refusal(name, why, allowed, hint) for name in names.split()]


_THROTTLES = " ".join(
    f"{what}_{unit}_SEC{suffix}" for what in ("TOTAL", "READ", "WRITE") for unit in ("BYTES", "IOPS")
    for suffix in ("", "_MAX", "_MAX_LENGTH")
)

# By vector attribute; "VM" is the top level of TEMPLATE.
REFUSED: Dict[str, Tuple[Refusal, ...]] = {
    "VM": (
        Refusal("EMULATOR", "xl starts its own device model"),
        *_each("HYPERV_OPTIONS HYPERV_TIMERS SPICE_OPTIONS", "it is libvirt XML", hint="write xl.cfg lines into RAW"),
    ),
    "MEMORY_ENCRYPTION": (Refusal("TYPE", "Xen does not encrypt the memory of guests"),),
    "IOMMU": (Refusal("MODE", "Xen shows a guest no IOMMU"), Refusal("MODEL", "Xen shows a guest no IOMMU")),
    "TPM": (Refusal("MODEL", "Xen emulates no TPM", ("XEN", "VTPM"), "MODEL=\"xen\" is Xen's own vTPM"),),
    "OS": (
        Refusal("ARCH", "the hosts are x86", ("X86_64", "AMD64", "I686", "I586", "I386")),
        Refusal("FIRMWARE_SECURE", "the firmware for Xen has no secure boot", _NO),
        Refusal("FIRMWARE_FORMAT", "firmware files are raw", ("RAW",)),
    ),
    "CPU_MODEL": (
        Refusal("MODEL", "Xen shows guests the host's processor", ("HOST-PASSTHROUGH", "HOST-MODEL"),
                'use "host-passthrough", and FEATURES for what must be there'),
    ),
    "FEATURES": (
        *_each("GIC RAS", "it belongs to ARM", _NO), Refusal("PCIHOLE64", "Xen's machine has none", ("0",)),
    ),
    "TOPOLOGY": (
        Refusal("HUGEPAGE_SIZE", "Xen chooses the page size", ("0",)),
        Refusal("MEMORY_ACCESS", "guests of Xen share no memory", ("PRIVATE",)),
    ),
    "NUMA_NODE": (Refusal("DISTANCE", "Xen guests get one memory node"),),
    "DISK": (
        *_each(_THROTTLES + " SIZE_IOPS_SEC", "Xen's block backend has no throttle"),
        Refusal("SERIAL", "Xen disks have no serial number", hint="find disks by UUID or label in the guest"),
        *_each("ENCRYPTION LUKS_SECRET", "dnc has no encrypted disks", _NO),
        Refusal("SHAREABLE", "one guest at a time uses a replicated disk", _NO),
        Refusal("CACHE", "Xen's block backend caches nothing in the host", ("DEFAULT", "NONE", "WRITEBACK", "UNSAFE"),
                'use "none": what the guest flushes is on stable storage'),
        Refusal("DISCARD", "it is neither ignore nor unmap", ("IGNORE", "UNMAP")),
        Refusal("TYPE", "dnc knows files and block devices only",
                ("BLOCK", "FILE", "CDROM", "BLOCK_CDROM", "FS", "SWAP")),
        Refusal("DRIVER", "dnc knows raw and qcow2 only",
                ("RAW", "QCOW2", "PHY", "PHY:", "FILE", "FILE:", "TAP:AIO:", "DEFAULT")),
    ),
    "NIC": (
        Refusal("SCRIPT", "dnc runs no scripts of templates"),
        Refusal("FILTER", "it is a filter of libvirt", hint="use security groups"),
        *_each("INBOUND_AVG_BW INBOUND_PEAK_BW INBOUND_PEAK_KB", "Xen limits what a guest sends, not what it gets",
               ("0",), "limit the senders, or the bridge"),
        Refusal("BRIDGE_TYPE", "dnc connects to Linux bridges and Open vSwitch",
                ("LINUX", "BRIDGE", "NONE", "UNDEFINED", "OPENVSWITCH", "OVSWITCH")),
    ),
    "GRAPHICS": (Refusal("TYPE", "a guest has VNC or SPICE", ("VNC", "SPICE")),),
    "VIDEO": (
        Refusal("TYPE", "Xen emulates vga, cirrus and qxl", ("VGA", "CIRRUS", "QXL", "NONE")),
        Refusal("RESOLUTION", "Xen does not preset a resolution", hint="set it in the guest"),
        *_each("IOMMU ATS", "it belongs to virtio", _NO),
    ),
    "PCI": (
        *_each("UUID MDEV_MODE", "Xen passes whole devices to guests, no mediated ones"),
        Refusal("ACPI_NODES", "Xen guests get one memory node"),
    ),
}

# Tuning of devices that a Xen guest has not: the guest works the same without, so it is told and no more.
LEFT_OUT: Dict[str, Tuple[str, ...]] = {
    "OS": ("SD_DISK_BUS",),
    "FEATURES": ("GUEST_AGENT", "IOTHREADS", "VIRTIO_BLK_QUEUES", "VIRTIO_SCSI_QUEUES"),
    "TOPOLOGY": ("SOCKETS", "CORES", "THREADS"),
    "DISK": ("IO", "IOTHREAD", "VIRTIO_BLK_QUEUES"),
    "NIC": ("VIRTIO_QUEUES", "OUTBOUND_PEAK_BW"),
    "PCI": ("IOMMUFD",),
}


def check(scope: str, values: Dict[str, str], where: str) -> None:
    """Refuse what Xen cannot do; `where` names the vector, as "DISK 2 of VM 7". Raises BadInput."""
    for refusal in REFUSED.get(scope, ()):
        value = values.get(refusal.attribute, "").strip()
        if value and value.upper() not in refusal.allowed:
            raise BadInput(
                f"{refusal.attribute} {shown(value)} in {where}: {refusal.why}", hint=refusal.hint
            )


def left_out(scope: str, values: Dict[str, str]) -> List[str]:
    """Which attributes of a vector are given and have no meaning on Xen, as SCOPE/NAME."""
    names = LEFT_OUT.get(scope, ())
    return [f"{scope}/{name}" for name in names if values.get(name, "").strip().upper() not in ("", *_NO)]
