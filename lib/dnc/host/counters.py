"""Traffic of all domains' interfaces and disks, from sysfs: no process, no privilege.

Each backend of dom0's kernel is a directory vif-<domain>-<number> or vbd-<domain>-<device> with its counters, whatever
its interface is called (Documentation/ABI/stable/sysfs-bus-xen-backend of Linux). They begin at 0 when a domain is
built here. Disks that QEMU serves have none.
"""

from __future__ import annotations

import os
import re
from typing import Dict, List, NamedTuple, Optional

_BACKEND = re.compile(r"(vif|vbd)-(\d+)-(\d+)\Z")
# What blkback calls a sector.
_SECTOR = 512


class Counters(NamedTuple):
    """Of one domain, as the guest sees it: bytes received and sent, bytes and requests read and written."""

    received: int = 0
    sent: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0


_NONE = Counters()


def domain_counters(sys: str) -> Dict[int, Counters]:
    """Counters by domain number; sys: /sys."""
    directory = f"{sys}/bus/xen-backend/devices"
    found: Dict[int, Counters] = {}
    for name in _names(directory):
        match = _BACKEND.match(name)
        if match:
            number = int(match[2])
            read = _interface if match[1] == "vif" else _disk
            found[number] = _add(found.get(number, _NONE), read(sys, f"{directory}/{name}"))
    return found


def host_traffic(sys: str) -> Counters:
    """Bytes that the host's physical interfaces received and sent."""
    total = _NONE
    for name in _names(f"{sys}/class/net"):
        path = f"{sys}/class/net/{name}"
        bus = os.path.basename(os.path.realpath(f"{path}/device/subsystem"))
        if os.path.exists(f"{path}/device") and bus != "xen-backend":
            received, sent = (_number(f"{path}/statistics/{way}_bytes") for way in ("rx", "tx"))
            total = _add(total, Counters(received, sent))
    return total


def _interface(sys: str, path: str) -> Counters:
    """What dom0 receives from a vif the guest has sent. A guest without PV drivers uses the tap beside it."""
    total = _NONE
    for name in _names(f"{path}/net"):
        for statistics in (f"{path}/net/{name}/statistics", f"{sys}/class/net/{name}-emu/statistics"):
            if os.path.isdir(statistics):
                sent, received = _number(f"{statistics}/rx_bytes"), _number(f"{statistics}/tx_bytes")
                total = _add(total, Counters(received, sent))
    return total


def _disk(_sys: str, path: str) -> Counters:
    at = f"{path}/statistics"
    return Counters(
        read_bytes=_number(f"{at}/rd_sect") * _SECTOR, written_bytes=_number(f"{at}/wr_sect") * _SECTOR,
        reads=_number(f"{at}/rd_req"), writes=_number(f"{at}/wr_req"),
    )


def _add(one: Counters, other: Counters) -> Counters:
    return Counters(*(a + b for a, b in zip(one, other)))


def _names(directory: str) -> List[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _number(path: str) -> int:
    """A counter; 0 when it has just gone, or is no number."""
    descriptor: Optional[int] = None
    try:
        descriptor = os.open(path, os.O_RDONLY)
        text = os.read(descriptor, 32).strip()
    except OSError:
        return 0
    finally:
        if descriptor is not None:
            os.close(descriptor)
    # The kernel prints some counters as signed; a negative one tells nothing.
    return int(text) if text.isdigit() else 0
