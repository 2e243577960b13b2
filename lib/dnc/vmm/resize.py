"""VMM resize: other memory, virtual CPUs and share of the CPUs, while the guest runs (contract 2.4)."""

from __future__ import annotations

from ..errors import BadInput, DncError, NoSpace, NotFound, Unsafe
from ..host.live_capacity import set_capacity
from ..opennebula.driver import Call
from ..tools.xl_capacity import KIB_IN_MIB, Capacity
from .start import Vm, open_existing

ARGUMENTS = ("deploy_id", "vm", "host")
# A guest gives or takes some hundred MiB a second; the rest is for one that is busy.
_TIMEOUT_S = 60.0
_MIB_A_SECOND = 64


def run(call: Call) -> None:
    """Within what the domain was built with, all of it or nothing. What it has already is success.

    libxl keeps it with the domain, so save, migration and reboot do; a later start reads the document, which says the
    same. Raises Unsafe (beyond the maxima, paused, dying), NoSpace, NotFound, TimedOut.
    """
    vm = open_existing(call)
    name = vm.document.domain
    with vm.disks.locked(f"resize of VM {vm.document.id}"):
        vm.host.domains.require_alive(name)
        details = vm.host.domains.details(name)
        if details is None:
            raise NotFound(f"{name} does not run here", hint="resize it when it is off")
        old = details.capacity
        new = _wanted(vm, old)
        if new == old:
            call.log.info(f"{name} has all that already")
            return
        _refuse_beyond(vm, old, new)
        _change(vm, old, new)
    call.log.info(f"{name}: {new.memory_mib} MiB, {new.vcpus} virtual CPUs, weight {new.weight}")


def _wanted(vm: Vm, old: Capacity) -> Capacity:
    document = vm.document
    if document.vcpus < 1 or document.memory_mib < 1:
        raise BadInput(f"VM {document.id}: VCPU and MEMORY are at least 1")
    weight = vm.configuration().cpu_weight if old.weighed else old.weight
    if not old.weighed:
        vm.host.log.info(f"{document.domain}: scheduler {old.scheduler!r} knows no weight, CPU has no effect")
    return old._replace(vcpus=document.vcpus, memory_kib=document.memory_mib * KIB_IN_MIB, weight=weight)


def _refuse_beyond(vm: Vm, old: Capacity, new: Capacity) -> None:
    """OpenNebula asks for more than VCPU_MAX and MEMORY_MAX too (observation 12), and the document's may be new."""
    name = vm.document.domain
    for what, wanted, most in (
        ("VCPU", new.vcpus, old.vcpus_max), ("MEMORY", new.memory_mib, old.memory_max_mib),
    ):
        if wanted > most:
            raise Unsafe(
                f"{name}: {what} {wanted} is beyond the {most} it was started with",
                hint=f"set {what}_MAX, power the VM off, resize it, resume",
            )
    more = new.memory_mib - old.memory_mib
    if more > 0:
        free = vm.host.domains.hypervisor().free_mib
        if free < more:
            raise NoSpace(f"{name}: {more} MiB more, this host has {free} free", hint="migrate a VM away, or this one")


def _change(vm: Vm, old: Capacity, new: Capacity) -> None:
    name = vm.document.domain
    timeout = _TIMEOUT_S + abs(new.memory_mib - old.memory_mib) / _MIB_A_SECOND
    try:
        set_capacity(vm.host, name, old, new, timeout)
    except BaseException as error:
        vm.host.log.warn(f"{name} gets back what it had: {error}")
        try:
            set_capacity(vm.host, name, new, old, timeout)
        except DncError as second:
            vm.host.log.error(f"{name} is half resized: {second}; as root: xl list -l {name}")
        raise
