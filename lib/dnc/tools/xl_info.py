"""xl about the hypervisor and about all domains at once: argv, and parsers of what it answers (Xen 4.14 to 4.20)."""

from __future__ import annotations

import re
from typing import Dict, List, Match, NamedTuple, Tuple

from ..errors import DncError
from .xl import DomainState, parse_state


class HypervisorInfo(NamedTuple):
    """`xl info`; memory in MiB, cpu_mhz of the physical processors."""

    cpus: int
    cpu_mhz: int
    total_mib: int
    free_mib: int
    version: str
    capabilities: str
    virtualisation: str
    scheduler: str
    dom0_fixed: bool


class ListedDomain(NamedTuple):
    """One line of `xl list -v`; memory in MiB, processor time in seconds since the domain was built.

    reason: why the guest shut down (SHUTDOWN_* of Xen's public/sched.h), -1 while it has not.
    """

    name: str
    id: int
    memory_mib: int
    vcpus: int
    state: DomainState
    cpu_seconds: float
    reason: int


class ShutdownReason:
    """SHUTDOWN_* of Xen's public/sched.h, as far as it matters here."""

    SUSPEND = 2
    CRASH = 3


def info() -> List[str]:
    """The hypervisor, its processors and memory."""
    return ["xl", "info"]


def list_verbose() -> List[str]:
    """All domains, one line each, with the reason of a shutdown."""
    return ["xl", "list", "-v"]


def parse_info(text: str) -> HypervisorInfo:
    """`xl info`. Raises DncError when processors or memory are missing."""
    fields: Dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    try:
        return HypervisorInfo(
            cpus=int(fields["nr_cpus"]), cpu_mhz=round(float(fields.get("cpu_mhz") or 0)),
            total_mib=int(fields["total_memory"]), free_mib=int(fields["free_memory"]),
            version=fields.get("xen_version", ""), capabilities=fields.get("xen_caps", ""),
            virtualisation=fields.get("virt_caps", ""), scheduler=fields.get("xen_scheduler", ""),
            # Without a fixed size xl takes memory from dom0 when a guest needs it (autoballoon in xl.conf(5)).
            dom0_fixed="dom0_mem=" in fields.get("xen_commandline", ""),
        )
    except (KeyError, ValueError) as error:
        raise DncError(f"xl info: not understood: {type(error).__name__} {error}") from None


# Names come first and may hold anything but a line break; what follows has one shape, so it is read from the right.
_LINE = re.compile(
    r"(?P<name>.*)\s+(?P<id>\d+)\s+(?P<memory>\d+)\s+(?P<vcpus>\d+)\s+(?P<state>[rbpscd-]{6})\s+(?P<time>\d+\.\d)"
    r"\s+[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\s+(?P<reason>-|\d+)(?:\s+\S+)?\s*\Z"
)


def parse_list_verbose(text: str) -> Tuple[Tuple[ListedDomain, ...], Tuple[str, ...]]:
    """`xl list -v`: the domains, and the lines that are none, which stop nothing."""
    domains: List[ListedDomain] = []
    odd: List[str] = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            domains.append(_listed(match))
        elif line.strip() and not line.startswith("Name "):
            odd.append(line)
    return tuple(domains), tuple(odd)


def _listed(match: Match[str]) -> ListedDomain:
    return ListedDomain(
        name=match["name"].rstrip(), id=int(match["id"]), memory_mib=int(match["memory"]), vcpus=int(match["vcpus"]),
        state=parse_state(match["state"]), cpu_seconds=float(match["time"]),
        reason=-1 if match["reason"] == "-" else int(match["reason"]),
    )
