"""xl: memory, virtual CPUs and weight of a running domain. Pure: nothing here starts a process.

`vcpu-set` returns 0 for what it has refused, `mem-set` returns before the guest has given anything (tests/data/xl):
who changes something looks at the domain after.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple

# Schedulers that know a weight, by xl's names for them; each has its command.
_WEIGHING = ("credit", "credit2")
KIB_IN_MIB = 1024


class Capacity(NamedTuple):
    """What a domain has, and the most it may have until it is built anew; memory in KiB. weight -1: not known."""

    vcpus: int
    vcpus_max: int
    memory_kib: int
    memory_max_kib: int
    scheduler: str
    weight: int

    @property
    def weighed(self) -> bool:
        """Whether the scheduler knows a weight."""
        return self.scheduler in _WEIGHING and self.weight > 0

    @property
    def memory_mib(self) -> int:
        """The memory that the guest is to have, in MiB."""
        return self.memory_kib // KIB_IN_MIB

    @property
    def memory_max_mib(self) -> int:
        """The most of it, in MiB."""
        return self.memory_max_kib // KIB_IN_MIB


def set_memory(domain: str, mib: int) -> List[str]:
    """Ask the guest's balloon for a size; MiB."""
    return ["xl", "mem-set", domain, f"{mib}m"]


def set_vcpus(domain: str, count: int) -> List[str]:
    """Offer the guest so many CPUs, also more than the host has."""
    return ["xl", "vcpu-set", "--ignore-host", domain, str(count)]


def set_weight(domain: str, scheduler: str, weight: int) -> List[str]:
    """Share of the CPUs, of 1 to 65535; 256 is usual."""
    return ["xl", f"sched-{scheduler}", "-d", domain, "-w", str(weight)]


def parse_capacity(info: Dict[str, Any]) -> Capacity:
    """`b_info` of an entry of `xl list -l`. What libxl has left out is 0, or -1 for the weight."""
    scheduling = info.get("sched_params") or {}
    most = int(info.get("max_vcpus") or 0)
    offered = info.get("avail_vcpus")
    return Capacity(
        vcpus=len(offered) if isinstance(offered, list) else most, vcpus_max=most,
        memory_kib=int(info.get("target_memkb") or 0), memory_max_kib=int(info.get("max_memkb") or 0),
        scheduler=str(scheduling.get("sched") or ""), weight=int(scheduling.get("weight", -1)),
    )
