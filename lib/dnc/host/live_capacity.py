"""Memory, virtual CPUs and weight of a running domain, brought to what they are to be, and seen to be there."""

from __future__ import annotations

from typing import Tuple

from ..errors import Unsafe
from ..tools import xl_capacity
from ..tools.xl_capacity import Capacity
from .machine import Host

_NEAR_MIB = 4
_INTERVAL_S = 0.3


def set_capacity(host: Host, name: str, old: Capacity, new: Capacity, timeout: float) -> None:
    """Each part only if it differs; the memory last, since it takes the guest's help and `timeout` seconds at most.

    Raises ToolFailed, TimedOut, Unsafe: then part of it may be done.
    """
    if new.weight != old.weight and old.weighed:
        argv = xl_capacity.set_weight(name, old.scheduler, new.weight)
        host.domains.change(argv, f"{name}: its weight cannot be changed")
    if new.vcpus != old.vcpus:
        host.domains.change(xl_capacity.set_vcpus(name, new.vcpus), f"{name}: its CPUs cannot be changed")
    if new.memory_mib != old.memory_mib:
        host.domains.change(xl_capacity.set_memory(name, new.memory_mib), f"{name}: its memory cannot be changed")
    if not host.runner.dry_run:
        _await_memory(host, name, new.memory_mib, timeout)
        _verify(host, name, new)


def _await_memory(host: Host, name: str, mib: int, timeout: float) -> None:
    """xl returns before the guest has given or taken anything; and a guest stops where it needs the rest itself."""
    near = max(_NEAR_MIB, mib // 64)
    host.patience.until(
        lambda: True if abs(host.domains.require_alive(name).memory_mib - mib) <= near else None, timeout=timeout,
        what=f"{name}: the guest did not come to {mib} MiB", interval=_INTERVAL_S,
        hint="has it a balloon driver, and so much to give? its console tells",
    )


def _verify(host: Host, name: str, wanted: Capacity) -> None:
    """vcpu-set reports success for what it has refused (xl-vcpu-set)."""
    details = host.domains.details(name)
    got = _compared(details.capacity) if details else None
    if got != _compared(wanted):
        raise Unsafe(f"{name}: xl reports success, but it has {got}", hint="look at xl list -l there")


def _compared(capacity: Capacity) -> Tuple[int, int, int]:
    return capacity.vcpus, capacity.weight, capacity.memory_mib
