"""VMM migrate: move the running domain to another host; runs on the source (contract 2.4, design rules 2 to 4)."""

from __future__ import annotations

from ..errors import NotFound, Unsafe
from ..grammar import parse_host
from ..host.domains import Domains
from ..host.handover import Handover, Step, decide
from ..host.remote import RemoteRunner, migration_receiver
from ..opennebula.driver import Call
from .start import Vm, demote_disks, open_existing

ARGUMENTS = ("deploy_id", "destination", "source", "vm", "source_again")


def run(call: Call) -> None:
    """premigrate made the disks Primary at both ends; postmigrate ends that. Here only the domain moves."""
    vm = open_existing(call)
    name = vm.document.domain
    destination = parse_host(call.arg("destination"))
    if destination == parse_host(call.arg("source")):
        raise Unsafe(f"{name}: dnc cannot move a running VM between datastores", hint="power it off first")
    there = Domains(RemoteRunner(destination, call.config.ssh_timeout, call.log, dry_run=call.runner.dry_run), call.log)
    handover = Handover(name, vm.host.domains, there, destination, call.log, vm.host.patience)
    with vm.disks.locked(f"migrate of VM {vm.document.id}"):
        if not _is_there_already(vm, handover, destination):
            vm.host.domains.require_alive(name)  # a paused guest cannot be suspended: xl would wait for it in vain
            vm.disks.check_two_primaries(destination)
            receiver = migration_receiver(destination, call.config.ssh_timeout)
            complaint = vm.host.domains.migrate(name, receiver, vm.document.memory_max_mib)
            if not call.runner.dry_run:
                handover.settle(complaint)
    demote_disks(vm, call.action)


def _is_there_already(vm: Vm, handover: Handover, destination: str) -> bool:
    """Whether the cluster moved it before us; leftovers of a broken attempt are cleared first. Raises Unsafe.

    Plainly here it is migrated without a session to look there: what xl meets there it tells, and settling clears.
    """
    name = vm.document.domain
    if handover.is_plainly_here():
        return False
    here, there = handover.look()
    if there is None:
        raise Unsafe(f"{destination} cannot be looked at from here", hint="check ssh from host to host (ssh -A)")
    step = decide(here, there)
    if step is Step.NOWHERE:
        raise NotFound(f"{name} does not run here, nor on {destination}", hint="OpenNebula will show it as POWEROFF")
    if step is Step.STAYED:
        return False
    handover.settle(Unsafe(f"{name}: an earlier migration was broken off, it runs on here", hint="migrate again"))
    return True
