"""VMM shutdown: the guest powers itself off; returns when the domain is gone (contract 2.4)."""

from __future__ import annotations

from ..errors import TimedOut, ToolFailed, Unsafe
from ..host.handover import see
from ..opennebula.driver import Call
from ..tools.xl import DomainState
from .start import Vm, demote_disks, open_existing

ARGUMENTS = ("deploy_id", "host", "vm", "host_again")


def run(call: Call) -> None:
    """A guest that does not obey within SHUTDOWN_TIMEOUT is ended, or runs on and OpenNebula shows it running: as
    ON_SHUTDOWN_TIMEOUT of dncrc says. Raises TimedOut, ToolFailed, Unsafe (half migrated)."""
    vm = open_existing(call)
    name = vm.document.domain
    sight = see(vm.host.domains.list(), name)
    half = sight.away or sight.incoming
    if half is not None and sight.plain is None:
        raise Unsafe(f"{name} is half migrated: {half.name} is here", hint="migrate it again, or power it off hard")
    if sight.plain is not None and sight.plain.state is DomainState.PAUSED:
        _wake(vm, call)
    try:
        vm.host.domains.shutdown(name, call.config.shutdown_timeout)
    except (TimedOut, ToolFailed) as error:
        if call.config.on_shutdown_timeout != "destroy":
            raise
        call.log.warn(f"{error}. ON_SHUTDOWN_TIMEOUT says destroy: it is ended")
        vm.host.domains.destroy(name)
    demote_disks(vm, call.action)


def _wake(vm: Vm, call: Call) -> None:
    """A paused guest cannot hear. Pauses of ours are made under the disks' locks: this one is nobody's, or a person's.
    """
    name = vm.document.domain
    with vm.disks.locked(f"{call.action} of VM {vm.document.id}"):
        call.log.info(f"{name} is paused: it goes on, to hear that it shall end")
        vm.host.domains.wake(name)
