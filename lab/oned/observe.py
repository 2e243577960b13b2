"""What monitoring would tell oned: the state of a machine as its host reports it (contract 3.3, 6.2)."""

from __future__ import annotations

from .interfaces import InterfaceOperations
from .machine import VirtualMachine
from .states import HistoryAction, LcmState, VmState


class Observation(InterfaceOperations):
    """Reports of hosts, given by a test instead of probes."""

    def report(self, vm: VirtualMachine, state: str) -> None:
        """A host says RUNNING, POWEROFF or UNKNOWN of a machine; changes that oned would not make are ignored."""
        if state == "UNKNOWN" and vm.is_running:
            vm.enter(LcmState.UNKNOWN)
        elif state == "RUNNING" and vm.status in ("UNKNOWN", "POWEROFF", "SUSPENDED"):
            if vm.state is not VmState.ACTIVE:
                vm.current.close()
                vm.copy_record()
            self.arrive(vm, LcmState.RUNNING)
        elif state == "POWEROFF" and vm.status in ("RUNNING", "UNKNOWN"):
            vm.current.begin_action(HistoryAction.MONITOR, -1)
            self.arrive_at_rest(vm)

    def arrive_at_rest(self, vm: VirtualMachine) -> None:
        """POWEROFF that nobody asked for."""
        vm.current.retime = vm.current.retime or vm.current.rstime
        vm.rest(VmState.POWEROFF)
