"""The life of a machine, phase by phase: what each LCM state runs, where success and failure lead (contract 1.4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Union

from .attributes import Attributes, collapsed, text_of
from .core import Core, OperationFailed
from .machine import Ticket, VirtualMachine, now
from .messages import VmmMessage
from .records import SnapshotList
from .states import HistoryAction, LcmState, VmState
from .transfer import DriverFailure, GivenUp, is_saved
from .vmm import DEPLOY_INFO, Context, Step, vm_base64

L = LcmState
Goal = Union[LcmState, VmState]
POFF_ACTIONS = (HistoryAction.POFF_MIGRATE, HistoryAction.POFF_HARD_MIGRATE)


@dataclass(frozen=True)
class Phase:
    """run raises DriverFailure; then the machine goes where success or failure says."""

    run: Callable[[Phases, VirtualMachine, Ticket], None]
    success: Goal
    failure: Goal
    transfer: bool = False


class Phases(Core):
    """Drives machines from one LCM state to the next."""

    # --- running ---------------------------------------------------------------------------------------------------

    def go(self, vm: VirtualMachine, lcm_state: LcmState) -> None:
        """Run that phase and all that follow; OperationFailed when one fails, GivenUp when the user took over."""
        goal: Goal = lcm_state
        while isinstance(goal, LcmState) and goal in PHASES:
            phase = PHASES[goal]
            vm.enter(goal)
            begin_phase(vm, goal)
            ticket = vm.new_ticket()
            try:
                phase.run(self, vm, ticket)
            except DriverFailure as failure:
                note = self.note_transfer_failure if phase.transfer else self.note_action_failure
                text = note(vm, failure)
                self.fail_phase(vm, goal)
                raise OperationFailed(text) from None
            goal = self.complete_phase(vm, goal)
        self.arrive(vm, goal)

    def complete_phase(self, vm: VirtualMachine, state: LcmState) -> Goal:
        """Book-keeping of a phase that succeeded (or that a user declared so); returns what comes next."""
        record, moment = vm.current, now()
        if state in SHUTDOWNS or state is L.SAVE_MIGRATE:
            vm.template.pop("SNAPSHOT", None)  # KEEP_SNAPSHOTS=no: hypervisor snapshots do not outlive the domain here
        if state in PROLOGS:
            record.petime = moment
        elif state in (L.SAVE_MIGRATE, L.MIGRATE):
            for field in ("retime", "etime"):
                setattr(vm.previous, field, moment)
        elif state in SHUTDOWNS:
            record.retime = moment
        elif state in EPILOGS:
            record.eetime = record.etime = moment
        if state is L.MIGRATE:
            record.rstime = moment
        if state in (L.PROLOG_MIGRATE_POWEROFF, L.PROLOG_MIGRATE_SUSPEND):
            record.retime = moment
        return PHASES[state].success

    def fail_phase(self, vm: VirtualMachine, state: LcmState) -> None:
        """Book-keeping of a phase that failed, and the state after it."""
        record = vm.current
        if state in BOOTS:
            record.retime = now()
        elif state in (L.SAVE_MIGRATE, L.MIGRATE):
            self._back_to_previous(vm)
        elif state in SHUTDOWNS:
            record.clear_action()
        self.arrive(vm, PHASES[state].failure)

    @staticmethod
    def _back_to_previous(vm: VirtualMachine) -> None:
        """The migration did not happen: the new record is closed and the old one copied behind it."""
        old, failed = vm.previous, vm.current
        started = old.rstime
        old.retime = old.etime = failed.etime = now()
        vm.copy_record(old).rstime = started

    def arrive(self, vm: VirtualMachine, goal: Goal) -> None:
        """Enter the state where nothing more happens by itself."""
        if isinstance(goal, LcmState):
            if goal is L.RUNNING:
                vm.current.clear_action()
                vm.current.rstime = vm.current.rstime or now()
                vm.current.retime = 0
            vm.enter(goal)
        else:
            vm.rest(goal)
        if goal is VmState.DONE:
            self._done(vm)

    def _done(self, vm: VirtualMachine) -> None:
        vm.etime = now()
        for disk in vm.disks:
            self.hand_back(vm, disk)
        self.release_images(vm, self.images_of(vm))
        self._leave_host(vm)

    def hand_back(self, vm: VirtualMachine, disk: Attributes) -> None:
        """A persistent image takes the snapshots that its disk had."""
        if is_saved(disk) and "IMAGE_ID" in disk:
            snapshots = vm.snapshots.get(int(text_of(disk, "DISK_ID")))
            image = self.images.get(int(text_of(disk, "IMAGE_ID")))
            if image:
                image.snapshots = SnapshotList(blank=True) if snapshots is None else replace(snapshots, disk_id=None)

    def _leave_host(self, vm: VirtualMachine) -> None:
        for host in self.hosts.values():
            if vm.id in host.vm_ids:
                host.vm_ids.remove(vm.id)

    # --- phases: transfer ------------------------------------------------------------------------------------------

    def run_prolog(self, vm: VirtualMachine, ticket: Ticket) -> None:
        """Create all disks."""
        self.transfer.run_file(vm, "prolog", self.lines(vm).prolog(), ticket)

    def run_epilog(self, vm: VirtualMachine, ticket: Ticket) -> None:
        """Save and remove all disks; a machine that was stopped or undeployed has them at the frontend's name."""
        host = self.frontend if vm.at_frontend else vm.host
        self.transfer.run_file(vm, "epilog", self.lines(vm).epilog(host), ticket)

    def run_epilog_away(self, vm: VirtualMachine, ticket: Ticket) -> None:
        """Move disks to the frontend's name."""
        here, there = (vm.host, vm.datastore_id), (self.frontend, vm.datastore_id)
        self.transfer.run_file(vm, "stop", self.lines(vm).move(here, there), ticket)

    def run_prolog_back(self, vm: VirtualMachine, ticket: Ticket) -> None:
        """Move disks from the frontend's name to the new host."""
        here, there = (self.frontend, vm.previous.datastore_id), (vm.host, vm.datastore_id)
        self.transfer.run_file(vm, "resume", self.lines(vm).move(here, there), ticket)

    def run_prolog_migrate(self, vm: VirtualMachine, ticket: Ticket) -> None:
        """Move disks from the old host to the new one."""
        old, new = vm.previous, vm.current
        lines = self.lines(vm).move((old.host, old.datastore_id), (new.host, new.datastore_id))
        self.transfer.run_file(vm, "migrate", lines, ticket)

    # --- phases: virtualisation ------------------------------------------------------------------------------------

    def context_step(self, vm: VirtualMachine) -> list[Step]:
        """TM context at the head of an action; nothing if the machine has no context."""
        self.write_context(vm)
        line = self.lines(vm).context()
        return [Step("tm", "context", (line,))] if line else []

    def _start_parts(self, vm: VirtualMachine, **more: str) -> VmmMessage:
        line = self.lines(vm).context()
        path = f"{self.vm_directory(vm.datastore_id, vm.id)}/disk.{vm.context_disk_id}" if line else ""
        return VmmMessage(vm.host, tm_command=f"{line}\n" if line else "", disk_target_path=path, **more)

    def run_deploy(self, vm: VirtualMachine, ticket: Ticket) -> None:
        """context, network pre, vm.xml and ds.xml on the host, deploy, network post."""
        directory = self.vm_directory(vm.datastore_id, vm.id)
        name = f"deployment.{vm.current.seq}"
        local = self.frontend_vm_directory(vm.id) / name
        local.parent.mkdir(parents=True, exist_ok=True)
        document = vm.xml()
        local.write_text(document)
        parts = self._start_parts(vm, local_deployment_file=str(local), remote_deployment_file=f"{directory}/{name}")
        context = self.context_of(vm, ticket, parts)
        clean = Step("vnm", "clean", (vm.host,))
        cancel = Step("vmm", "cancel", (DEPLOY_INFO, vm.host))
        info = self._deploy_info(vm, context, [
            *self.context_step(vm), Step("vnm", "pre"),
            Step("shell", "mkdir", (f"/bin/mkdir -p {directory}",)),
            Step("shell", "vm.xml", (f"/bin/cat - >{directory}/vm.xml",), stdin=collapsed(document)),
            Step("shell", "ds.xml", (f"/bin/cat - >{directory}/ds.xml",), stdin=collapsed(context.system.xml())),
            Step("vmm", "deploy", (f"{directory}/{name}", vm.host), stdin=document, fail_actions=(clean,)),
            Step("vnm", "post", (DEPLOY_INFO, vm.host), fail_actions=(cancel, clean)),
        ])
        if len(info.split()) != 1:
            raise DriverFailure("DEPLOY", "Empty deploy ID for successful deployment" if not info else
                                f"Wrong deploy ID: {info}", [])
        vm.deploy_id = info

    def _deploy_info(self, vm: VirtualMachine, context: Context, steps: list[Step]) -> str:
        """Run a deployment; a late answer still tells oned the deploy id of a machine declared running (extra 063)."""
        try:
            return self.vmm.run("DEPLOY", context, steps)
        except GivenUp as late:
            if late.info and vm.is_running and not vm.deploy_id:
                vm.deploy_id = late.info
            raise

    def run_restore(self, vm: VirtualMachine, ticket: Ticket) -> None:
        """context, network pre, restore, network post."""
        checkpoint = f"{self.vm_directory(vm.datastore_id, vm.id)}/checkpoint"
        context = self.context_of(vm, ticket, self._start_parts(vm, checkpoint_file=checkpoint))
        cancel = Step("vmm", "cancel", (vm.deploy_id, vm.host))
        self.vmm.run("RESTORE", context, [
            *self.context_step(vm), Step("vnm", "pre"), Step("vmm", "restore", (checkpoint, vm.host, vm.deploy_id)),
            Step("vnm", "post", (vm.deploy_id, vm.host), fail_actions=(cancel,)),
        ])

    def run_boot_migrate(self, vm: VirtualMachine, ticket: Ticket) -> None:
        """Restore, or deploy when the migration was by power-off."""
        if vm.previous.action in POFF_ACTIONS:
            self.run_deploy(vm, ticket)
        else:
            self.run_restore(vm, ticket)

    def run_shutdown(self, vm: VirtualMachine, ticket: Ticket) -> None:
        """shutdown, or cancel if the user wanted it hard, then network clean."""
        self._stop_on(vm, ticket, vm.host, vm.datastore_id)

    def _stop_on(self, vm: VirtualMachine, ticket: Ticket, host: str, datastore_id: int) -> None:
        name = "CANCEL" if vm.requested_hard else "SHUTDOWN"
        context = self.context_of(vm, ticket, VmmMessage(host), datastore_id)
        self.vmm.run(name, context, [Step("vmm", name.lower(), (vm.deploy_id, host)), Step("vnm", "clean", (host,))])

    def run_save(self, vm: VirtualMachine, ticket: Ticket) -> None:
        """save, then network clean."""
        self._save_on(vm, ticket, vm.host, vm.datastore_id)

    def _save_on(self, vm: VirtualMachine, ticket: Ticket, host: str, datastore_id: int) -> None:
        checkpoint = f"{self.vm_directory(datastore_id, vm.id)}/checkpoint"
        context = self.context_of(vm, ticket, VmmMessage(host, checkpoint_file=checkpoint), datastore_id)
        self.vmm.run("SAVE", context, [
            Step("vmm", "save", (vm.deploy_id, checkpoint, host)), Step("vnm", "clean", (host,)),
        ])

    def run_save_migrate(self, vm: VirtualMachine, ticket: Ticket) -> None:
        """Stop or save on the old host; the record at hand is the new one already."""
        old = vm.previous
        if old.action in POFF_ACTIONS:
            self._stop_on(vm, ticket, old.host, old.datastore_id)
        else:
            self._save_on(vm, ticket, old.host, old.datastore_id)

    def run_migrate(self, vm: VirtualMachine, ticket: Ticket) -> None:
        """The live migration: after a successful `migrate` nothing fails any more (contract 1.4)."""
        source, target = vm.previous.host, vm.host
        line = self.lines(vm).migrate(source, target)
        path = self.vm_directory(vm.datastore_id, vm.id)
        parts = VmmMessage(source, target, tm_command=f"{line}\n", disk_target_path=path)
        context = self.context_of(vm, ticket, parts, vm.previous.datastore_id)
        document = vm_base64(vm)

        def hand_over(action: str) -> Step:
            return Step("tm", action, (line,), stdin=document, encoding="base64", no_fail=action != "premigrate")

        undo = (hand_over("failmigrate"),)
        pre = Step("tm", "premigrate", (line,), stdin=document, encoding="base64",
                   fail_actions=undo if self.settings.major >= (7, 4) else ())
        self.vmm.run("MIGRATE", context, [
            pre, Step("vnm", "pre", on_destination=True),
            Step("vmm", "migrate", (vm.deploy_id, target, source), fail_actions=undo),
            Step("vnm", "clean", (source,), no_fail=True),
            Step("vnm", "post", (vm.deploy_id, source), on_destination=True, no_fail=True),
            hand_over("postmigrate"),
        ])


def begin_phase(vm: VirtualMachine, state: LcmState) -> None:
    """Times that the beginning of a phase sets in the newest record."""
    if state in PROLOGS:
        vm.current.pstime, vm.current.petime = now(), 0
    elif state in BOOTS:
        vm.current.rstime, vm.current.retime = now(), 0
    elif state in EPILOGS:
        vm.current.estime, vm.current.eetime = now(), 0


PHASES: dict[LcmState, Phase] = {
    L.PROLOG: Phase(Phases.run_prolog, L.BOOT, L.PROLOG_FAILURE, True),
    L.BOOT: Phase(Phases.run_deploy, L.RUNNING, L.BOOT_FAILURE),
    L.BOOT_UNKNOWN: Phase(Phases.run_deploy, L.RUNNING, L.UNKNOWN),
    L.BOOT_POWEROFF: Phase(Phases.run_deploy, L.RUNNING, VmState.POWEROFF),
    L.BOOT_SUSPENDED: Phase(Phases.run_restore, L.RUNNING, VmState.SUSPENDED),
    L.BOOT_STOPPED: Phase(Phases.run_restore, L.RUNNING, L.BOOT_STOPPED_FAILURE),
    L.BOOT_UNDEPLOY: Phase(Phases.run_deploy, L.RUNNING, L.BOOT_UNDEPLOY_FAILURE),
    L.BOOT_MIGRATE: Phase(Phases.run_boot_migrate, L.RUNNING, L.BOOT_MIGRATE_FAILURE),
    L.MIGRATE: Phase(Phases.run_migrate, L.RUNNING, L.RUNNING),
    L.SHUTDOWN: Phase(Phases.run_shutdown, L.EPILOG, L.RUNNING),
    L.SHUTDOWN_POWEROFF: Phase(Phases.run_shutdown, VmState.POWEROFF, L.RUNNING),
    L.SHUTDOWN_UNDEPLOY: Phase(Phases.run_shutdown, L.EPILOG_UNDEPLOY, L.RUNNING),
    L.SAVE_SUSPEND: Phase(Phases.run_save, VmState.SUSPENDED, L.RUNNING),
    L.SAVE_STOP: Phase(Phases.run_save, L.EPILOG_STOP, L.RUNNING),
    L.SAVE_MIGRATE: Phase(Phases.run_save_migrate, L.PROLOG_MIGRATE, L.RUNNING),
    L.EPILOG: Phase(Phases.run_epilog, VmState.DONE, L.EPILOG_FAILURE, True),
    L.EPILOG_STOP: Phase(Phases.run_epilog_away, VmState.STOPPED, L.EPILOG_STOP_FAILURE, True),
    L.EPILOG_UNDEPLOY: Phase(Phases.run_epilog_away, VmState.UNDEPLOYED, L.EPILOG_UNDEPLOY_FAILURE, True),
    L.PROLOG_RESUME: Phase(Phases.run_prolog_back, L.BOOT_STOPPED, L.PROLOG_RESUME_FAILURE, True),
    L.PROLOG_UNDEPLOY: Phase(Phases.run_prolog_back, L.BOOT_UNDEPLOY, L.PROLOG_UNDEPLOY_FAILURE, True),
    L.PROLOG_MIGRATE: Phase(Phases.run_prolog_migrate, L.BOOT_MIGRATE, L.PROLOG_MIGRATE_FAILURE, True),
    L.PROLOG_MIGRATE_POWEROFF: Phase(
        Phases.run_prolog_migrate, VmState.POWEROFF, L.PROLOG_MIGRATE_POWEROFF_FAILURE, True),
    L.PROLOG_MIGRATE_SUSPEND: Phase(
        Phases.run_prolog_migrate, VmState.SUSPENDED, L.PROLOG_MIGRATE_SUSPEND_FAILURE, True),
    L.PROLOG_MIGRATE_UNKNOWN: Phase(Phases.run_prolog_migrate, L.BOOT, L.PROLOG_MIGRATE_UNKNOWN_FAILURE, True),
}
# From a failure state back to the phase that failed (LifeCycleActions.cc:1638 ff.).
RETRIES: dict[LcmState, LcmState] = {
    phase.failure: state for state, phase in PHASES.items()
    if isinstance(phase.failure, LcmState) and phase.failure.name.endswith("_FAILURE")
}
PROLOGS = frozenset(state for state in PHASES if state.name.startswith("PROLOG"))
EPILOGS = frozenset(state for state in PHASES if state.name.startswith("EPILOG"))
BOOTS = frozenset(state for state in PHASES if state.name.startswith("BOOT"))
SHUTDOWNS = frozenset((L.SHUTDOWN, L.SHUTDOWN_POWEROFF, L.SHUTDOWN_UNDEPLOY, L.SAVE_SUSPEND, L.SAVE_STOP))
