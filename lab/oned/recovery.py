"""onevm recover, and the forced clean-up that it shares with terminate (contract 1.4, observations 1 to 4)."""

from __future__ import annotations

from .attributes import vector_of
from .core import Operation
from .images import ImageOperations
from .lifecycle import wrong_state
from .machine import Ticket, VirtualMachine, now
from .messages import VmmMessage
from .phases import PHASES, RETRIES
from .states import HistoryAction, LcmState, VmState
from .transfer import DriverFailure, is_saved
from .vmm import Step

L = LcmState
# States whose clean-up goes through the virtualisation driver; the others have no domain to destroy.
_WITH_DOMAIN = ("BOOT", "RUNNING", "UNKNOWN", "SHUTDOWN", "HOTPLUG", "SAVE", "MIGRATE", "DISK")


class Recovery(ImageOperations):
    """recover --success, --failure, --retry, --delete, --recreate, --delete-db; an action may still run meanwhile."""

    def recover_success(self, vm: VirtualMachine, background: bool = False) -> Operation:
        """Declare that the phase at hand has succeeded."""
        return self.operate(f"recover --success {vm.id}", lambda _: self._success(vm), vm, background)

    def _success(self, vm: VirtualMachine) -> None:
        state = RETRIES.get(vm.lcm_state, vm.lcm_state)
        if vm.state is not VmState.ACTIVE or state not in PHASES:
            return
        vm.ticket.drop()
        if state in (L.BOOT, L.BOOT_UNKNOWN) and not vm.current.rstime:
            vm.current.rstime = now()
        if state not in (L.SHUTDOWN_POWEROFF,) and vm.current.pstime and not vm.current.petime:
            vm.current.petime = now()
        goal = self.complete_phase(vm, state)
        if isinstance(goal, LcmState) and goal in PHASES:
            self.go(vm, goal)
        else:
            self.arrive(vm, goal)

    def recover_failure(self, vm: VirtualMachine) -> Operation:
        """Declare that the phase at hand has failed; what still runs goes on (observation 4)."""
        def work(_: Operation) -> None:
            if vm.state is VmState.ACTIVE and vm.lcm_state in PHASES:
                vm.ticket.drop()
                self.fail_phase(vm, vm.lcm_state)
        return self.operate(f"recover --failure {vm.id}", work, vm)

    def recover_retry(self, vm: VirtualMachine, background: bool = False) -> Operation:
        """Do the failed phase again, from its first line."""
        def work(_: Operation) -> None:
            if vm.state is not VmState.ACTIVE:
                raise wrong_state("one.vm.recover", "perform a retry on", vm)
            state = RETRIES.get(vm.lcm_state, vm.lcm_state)
            if state in PHASES:
                vm.ticket.drop()
                vm.at_frontend = False
                self.go(vm, state)
        return self.operate(f"recover --retry {vm.id}", work, vm, background)

    def recover_delete(self, vm: VirtualMachine, background: bool = False) -> Operation:
        """Give the machine up; an action that runs is not waited for, and its process not stopped (observation 2)."""
        return self.operate(f"recover --delete {vm.id}", lambda _: self._give_up(
            vm, HistoryAction.DELETE, VmState.DONE), vm, background)

    def recover_recreate(self, vm: VirtualMachine, background: bool = False) -> Operation:
        """Give up what there is and make the machine pending again."""
        return self.operate(f"recover --recreate {vm.id}", lambda _: self._give_up(
            vm, HistoryAction.DELETE_RECREATE, VmState.PENDING), vm, background)

    def recover_delete_db(self, vm: VirtualMachine) -> Operation:
        """Forget the machine without any driver call."""
        def work(_: Operation) -> None:
            if vm.history:
                vm.current.close()
            self.release_images(vm, self.images_of(vm), in_error=True)
            vm.rest(VmState.DONE)
        return self.operate(f"recover --delete-db {vm.id}", work, vm)

    def _give_up(self, vm: VirtualMachine, action: HistoryAction, goal: VmState) -> None:
        if vm.state is VmState.DONE:
            return
        if vm.state in (VmState.PENDING, VmState.HOLD):
            if goal is VmState.DONE:
                self.release_images(vm, self.images_of(vm))
            vm.rest(goal)
            return
        self.cleanup(vm, action, goal)

    def cleanup(self, vm: VirtualMachine, action: HistoryAction, goal: VmState) -> None:
        """DELETE for all disks (persistent ones too), after `cancel` and network clean if there may be a domain."""
        vm.ticket.cancel()
        was = vm.lcm_state.name if vm.state is VmState.ACTIVE else "EPILOG"
        self._close_for_cleanup(vm, action, was)
        vm.enter(L.CLEANUP_DELETE if goal is VmState.DONE else L.CLEANUP_RESUBMIT)
        ticket = vm.new_ticket()
        try:
            if was.startswith(_WITH_DOMAIN):
                self._cleanup_by_vmm(vm, ticket, vm.previous.host if was == "MIGRATE" else "")
            else:
                self._cleanup_by_tm(vm, was)
        except DriverFailure as failure:
            vm.log.append(f"{failure.action}: {failure.info}")
        self._forget(vm, goal)

    def _close_for_cleanup(self, vm: VirtualMachine, action: HistoryAction, was: str) -> None:
        moment, record = now(), vm.current
        (vector_of(vm.template, "GRAPHICS") or {}).pop("PORT", None)  # the port is free again before drivers are told
        self.begin(vm, action)
        record.close()
        if was == "MIGRATE":
            vm.previous.retime = vm.previous.etime = moment
            record.retime = moment

    def _cleanup_by_vmm(self, vm: VirtualMachine, ticket: Ticket, other: str) -> None:
        lines = self.lines(vm).cleanup(vm.host)
        parts = VmmMessage(vm.host, other, tm_command="".join(f"{line}\n" for line in lines))
        steps = []
        for on_destination, host in ((False, vm.host), (True, other)):
            if host:
                if vm.deploy_id:
                    steps.append(Step("vmm", "cancel", (vm.deploy_id, host), on_destination, no_fail=True))
                # the argument is the current host's name on both: seen on a running oned (extra 073)
                steps.append(Step("vnm", "clean", (vm.host,), on_destination, no_fail=True))
        steps += [Step("tm", "delete", (line,), no_fail=True) for line in lines]
        self.vmm.run("CLEANUP", self.context_of(vm, ticket, parts), steps)

    def _cleanup_by_tm(self, vm: VirtualMachine, was: str) -> None:
        hosts = [vm.host]
        if was.startswith("PROLOG_MIGRATE"):
            hosts.append(vm.previous.host)
        for host in hosts:
            for line in self.lines(vm).cleanup(host):
                self.transfer.run_line(line)

    def _forget(self, vm: VirtualMachine, goal: VmState) -> None:
        vm.deploy_id = ""
        if goal is VmState.DONE:
            self.release_images(vm, self.images_of(vm), in_error=True)
            self._leave_host(vm)
            vm.etime = now()
        else:
            for disk in vm.disks:
                if not is_saved(disk):
                    vm.snapshots.pop(int(str(disk["DISK_ID"])), None)
        vm.rest(goal)
