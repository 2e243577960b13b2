"""What xl has to know of a domain, as frozen records; memory in MiB."""

from __future__ import annotations

import enum
from typing import NamedTuple, Optional, Tuple


class GuestType(enum.Enum):
    """How a guest is virtualised, the `type` of xl.cfg."""

    PVH = "pvh"
    PV = "pv"
    HVM = "hvm"


class DiskConfig(NamedTuple):
    """One virtual disk; `path` is a block device, or a file if `file` says so; empty: a CD-ROM drive without medium.

    `format` is that of the file, raw or qcow2; `discard` whether the guest may give blocks back, None: xl's default.
    """

    vdev: str
    path: str
    readonly: bool = False
    cdrom: bool = False
    file: bool = False
    format: str = "raw"
    discard: Optional[bool] = None


class NicConfig(NamedTuple):
    """One virtual interface; the guest may send `rate_kbytes` kB/s, counted over `rate_ms` ms (0: xl's 50 ms).

    Without `model` it is PV only, so that filters on `vifname` see all traffic; with one, an HVM guest also has an
    emulated interface, whose host side is called `vifname`-emu. `mtu` 0: that of the bridge.
    """

    mac: str
    bridge: str
    vifname: str
    script: str = ""
    rate_kbytes: int = 0
    rate_ms: int = 0
    mtu: int = 0
    model: str = ""


class Display(NamedTuple):
    """A VNC or SPICE screen; `port` is the TCP port, 5900 and up."""

    listen: str
    port: int
    password: str = ""
    keymap: str = ""
    spice: bool = False


class PciConfig(NamedTuple):
    """A PCI device of the host, `DDDD:BB:SS.F`; `seize`: xl takes it from its driver in dom0."""

    address: str
    seize: bool = False


class DomainConfig(NamedTuple):
    """Everything xl needs to know. `raw` is appended last, as it stands; `notes` are for the log, not for xl.

    `cpus` has one list of host processors for each vCPU, `cpu_features` the CPUID flags that must be there, `cpu_cap`
    is in percent of one processor (0: none), `rtc_offset` in seconds, `vtpm` (domain of the backend, UUID).
    """

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
    firmware_file: str = ""
    cpu_cap: int = 0
    cpus: Tuple[str, ...] = ()
    cpu_features: Tuple[str, ...] = ()
    rtc_offset: int = 0
    vga: str = ""
    video_mib: int = 0
    usb: Tuple[str, ...] = ()
    pci: Tuple[PciConfig, ...] = ()
    vtpm: Optional[Tuple[str, str]] = None
    notes: Tuple[str, ...] = ()
