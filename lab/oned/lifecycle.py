"""User operations on whole machines: instantiate, deploy, migrate, suspend, stop, power off, terminate, ..."""

from __future__ import annotations

from typing import Dict

from .attributes import Attributes, text_of, vector_of, vectors_of
from .building import Refused, build_vm, describe_system
from .core import Operation
from .machine import History, VirtualMachine
from .messages import VmmMessage
from .phases import Phases
from .records import Datastore
from .states import HistoryAction, LcmState, VmState
from .transfer import DriverFailure, is_volatile
from .vmm import Step

_RESUMES: Dict[VmState, LcmState] = {
    VmState.POWEROFF: LcmState.BOOT_POWEROFF, VmState.SUSPENDED: LcmState.BOOT_SUSPENDED,
}
_DEPLOYS: Dict[VmState, LcmState] = {
    VmState.PENDING: LcmState.PROLOG, VmState.HOLD: LcmState.PROLOG, VmState.STOPPED: LcmState.PROLOG_RESUME,
    VmState.UNDEPLOYED: LcmState.PROLOG_UNDEPLOY,
}
_MIGRATES_AT_REST: Dict[str, LcmState] = {
    "POWEROFF": LcmState.PROLOG_MIGRATE_POWEROFF, "SUSPENDED": LcmState.PROLOG_MIGRATE_SUSPEND,
    "UNKNOWN": LcmState.PROLOG_MIGRATE_UNKNOWN,
}


def wrong_state(call: str, what: str, vm: VirtualMachine) -> Refused:
    """The refusal of an action on a machine in a state that does not allow it."""
    return Refused(f"[{call}] Could not {what} VM {vm.id}, wrong state {vm.status}.")


class LifeCycle(Phases):
    """Operations that change the state of a machine as a whole."""

    def instantiate(self, template: Attributes, host: str | None = None, datastore: str | None = None,
                    hold: bool = False, name: str | None = None, background: bool = False) -> VirtualMachine:
        """Create a machine from a template and deploy it; hold=True leaves it in HOLD.

        Refused if an image, network or host does not exist. How the deployment went is in operations[-1].
        """
        vm_id = self.new_id("vm")
        own_name = name or str(template.get("NAME", f"vm-{vm_id}"))
        vm, images = build_vm(self.store, template, vm_id, own_name, self.settings.major >= (7, 0))
        for image in images:
            if image.persistent and image.vm_ids:
                raise Refused(f"[one.template.instantiate] Image {image.id} is persistent and already in use.")
        self.vms[vm_id] = vm
        self.acquire_images(vm, images)
        vm.state = VmState.HOLD if hold else VmState.PENDING
        if not hold:
            self.deploy(vm, host, datastore, background)
        return vm

    def deploy(self, vm: VirtualMachine, host: str | None = None, datastore: str | None = None,
               background: bool = False) -> Operation:
        """Place a machine that is pending, held, stopped or undeployed."""
        return self.operate(f"deploy {vm.id}", lambda _: self._deploy(vm, host, datastore), vm, background)

    def _deploy(self, vm: VirtualMachine, host: str | None, datastore: str | None) -> None:
        if vm.state not in _DEPLOYS:
            raise wrong_state("one.vm.deploy", "deploy", vm)
        state = _DEPLOYS[vm.state]
        if vm.state is VmState.PENDING and vm.resumes_from is not None:
            state = _DEPLOYS[vm.resumes_from]
        vm.resumes_from = None
        self._place(vm, host or next(iter(self.hosts.values())).name, self.system_datastore(datastore))
        vm.at_frontend = False
        self.go(vm, state)

    def _place(self, vm: VirtualMachine, host_name: str, system: Datastore) -> History:
        """A new history record on that host and system datastore, and what follows from them in the template."""
        host = self.host(host_name)
        self._leave_host(vm)
        host.vm_ids.append(vm.id)
        seq = vm.current.seq + 1 if vm.history else 0
        record = History(vm.id, seq, host.name, host.id, host.vm_mad, system.tm_mad, system.id)
        vm.history.append(record)
        vm.template["TM_MAD_SYSTEM"] = system.tm_mad
        graphics = vector_of(vm.template, "GRAPHICS")
        if graphics is not None:
            graphics.setdefault("PORT", str(5900 + vm.id))
        for disk in vectors_of(vm.template, "DISK"):
            if is_volatile(disk):
                describe_system(self.store, disk, system)
        return record

    def resume(self, vm: VirtualMachine, background: bool = False) -> Operation:
        """Power on, restore from a checkpoint, boot an unknown one again; a stopped one becomes pending."""
        return self.operate(f"resume {vm.id}", lambda _: self._resume(vm), vm, background)

    def _resume(self, vm: VirtualMachine) -> None:
        if vm.state in (VmState.STOPPED, VmState.UNDEPLOYED):
            vm.resumes_from = vm.state
            vm.rest(VmState.PENDING)
            return
        if vm.state in _RESUMES:
            vm.current.close()
            record = vm.copy_record()
            record.begin_action(HistoryAction.RESUME, self.request_id())
            self.go(vm, _RESUMES[vm.state])
        elif vm.status == "UNKNOWN":
            self.go(vm, LcmState.BOOT_UNKNOWN)
        else:
            raise wrong_state("one.vm.action", "resume", vm)

    def _end(self, vm: VirtualMachine, state: LcmState, action: HistoryAction, hard: bool, what: str) -> None:
        """Leave RUNNING (or UNKNOWN, which hard actions accept)."""
        if not (vm.is_running or vm.status == "UNKNOWN"):
            raise wrong_state("one.vm.action", what, vm)
        vm.requested_hard = hard
        self.begin(vm, action)
        self.go(vm, state)

    def poweroff(self, vm: VirtualMachine, hard: bool = False, background: bool = False) -> Operation:
        """Shut down (or destroy) and keep the disks where they are."""
        action = HistoryAction.POWEROFF_HARD if hard else HistoryAction.POWEROFF
        return self.operate(f"poweroff {vm.id}", lambda _: self._end(
            vm, LcmState.SHUTDOWN_POWEROFF, action, hard, "power off"), vm, background)

    def suspend(self, vm: VirtualMachine, background: bool = False) -> Operation:
        """Save memory on the host."""
        return self.operate(f"suspend {vm.id}", lambda _: self._end(
            vm, LcmState.SAVE_SUSPEND, HistoryAction.SUSPEND, False, "suspend"), vm, background)

    def stop_vm(self, vm: VirtualMachine, background: bool = False) -> Operation:
        """`onevm stop`: save memory, move everything to the frontend's name."""
        return self.operate(f"stop {vm.id}", lambda _: self._end(
            vm, LcmState.SAVE_STOP, HistoryAction.STOP, False, "stop"), vm, background)

    def undeploy(self, vm: VirtualMachine, hard: bool = False, background: bool = False) -> Operation:
        """Shut down, move everything to the frontend's name."""
        action = HistoryAction.UNDEPLOY_HARD if hard else HistoryAction.UNDEPLOY
        return self.operate(f"undeploy {vm.id}", lambda _: self._end(
            vm, LcmState.SHUTDOWN_UNDEPLOY, action, hard, "undeploy"), vm, background)

    def reboot(self, vm: VirtualMachine, hard: bool = False) -> Operation:
        """Reboot or reset; a failure is only logged."""
        def work(_: Operation) -> None:
            if not vm.is_running:
                raise wrong_state("one.vm.action", "reboot", vm)
            context = self.context_of(vm, vm.new_ticket(), VmmMessage(vm.host))
            script = "reset" if hard else "reboot"
            try:
                self.vmm.run(script.upper(), context, [Step("vmm", script, (vm.deploy_id, vm.host))])
            except DriverFailure as failure:
                vm.log.append(f"{failure.action}: {failure.info}")
        return self.operate(f"reboot {vm.id}", work, vm)

    def terminate(self, vm: VirtualMachine, hard: bool = False, background: bool = False) -> Operation:
        """End a machine; out of a FAILURE state this is the same as recover --delete."""
        return self.operate(f"terminate {vm.id}", lambda _: self._terminate(vm, hard), vm, background)

    def _terminate(self, vm: VirtualMachine, hard: bool) -> None:
        if vm.state is VmState.ACTIVE and vm.lcm_state.name.endswith("_FAILURE"):
            self.cleanup(vm, HistoryAction.DELETE, VmState.DONE)
        elif vm.state in (VmState.PENDING, VmState.HOLD) and not vm.history:
            self.arrive(vm, VmState.DONE)
        elif vm.state in (VmState.POWEROFF, VmState.SUSPENDED, VmState.STOPPED, VmState.UNDEPLOYED):
            vm.at_frontend = vm.state in (VmState.STOPPED, VmState.UNDEPLOYED)
            self.begin(vm, HistoryAction.TERMINATE)
            self.go(vm, LcmState.EPILOG)
        elif vm.is_running or vm.status == "UNKNOWN":
            action = HistoryAction.TERMINATE_HARD if hard else HistoryAction.TERMINATE
            self._end(vm, LcmState.SHUTDOWN, action, hard, "terminate")
        else:
            verb = "terminate-hard" if hard else "terminate"
            raise Refused(f"[one.vm.action] Error performing action \"{verb}\": Could not terminate VM {vm.id}, "
                          f"wrong state {vm.status}.")

    def cleanup(self, vm: VirtualMachine, action: HistoryAction, goal: VmState) -> None:
        """Overridden by recovery, which knows how to clean up after failures."""
        raise wrong_state("one.vm.recover", "clean up", vm)

    def migrate(self, vm: VirtualMachine, host: str, live: bool = False, datastore: str | None = None,
                poff: bool = False, hard: bool = False, background: bool = False) -> Operation:
        """Migrate: live, or cold by save (the default), by power-off (poff) or by a hard one (poff and hard)."""
        return self.operate(f"migrate {vm.id} to {host}", lambda _: self._migrate(
            vm, host, live, datastore, poff, hard), vm, background)

    def _migrate(self, vm: VirtualMachine, host: str, live: bool, datastore: str | None, poff: bool,
                 hard: bool) -> None:
        target = self.host(host)
        system = self.system_datastore(datastore) if datastore else self.datastores[vm.datastore_id]
        self._check_migration(vm, target.id, system, live)
        vm.template["AUTOMATIC_DS_REQUIREMENTS"] = f'("CLUSTERS/ID" @> 0) & (TM_MAD = "{system.tm_mad}")'
        if vm.status in _MIGRATES_AT_REST:
            vm.current.close()
            self._place(vm, host, system).begin_action(HistoryAction.MIGRATE, self.request_id())
            self.go(vm, _MIGRATES_AT_REST[vm.status])
            return
        if live:
            action = HistoryAction.LIVE_MIGRATE
        elif poff:
            action = HistoryAction.POFF_HARD_MIGRATE if hard else HistoryAction.POFF_MIGRATE
        else:
            action = HistoryAction.MIGRATE
        self.begin(vm, action)
        request = vm.current.request_id
        record = self._place(vm, host, system)
        vm.requested_hard = hard
        if not live:
            record.begin_action(action, request)
        self.go(vm, LcmState.MIGRATE if live else LcmState.SAVE_MIGRATE)

    def _check_migration(self, vm: VirtualMachine, host_id: int, system: Datastore, live: bool) -> None:
        call = "[one.vm.migrate]"
        if not (vm.is_running or vm.status in _MIGRATES_AT_REST):
            raise Refused(f"{call} Could not migrate VM {vm.id}, wrong state {vm.status}.")
        same_host, same_store = vm.current.host_id == host_id, vm.datastore_id == system.id
        if same_host and same_store:
            raise Refused(f"{call} VM is already running on host [{host_id}] and datastore [{system.id}]")
        if same_store:
            return
        if live and not same_host:
            raise Refused(f"{call} Cannot live migrate host and datastore at the same time.")
        needed = "DS_LIVE_MIGRATE" if live else "DS_MIGRATE"
        for store in (self.datastores[vm.datastore_id], system):
            if text_of(store.template, needed, "NO") != "YES":
                raise Refused(f"{call} Cannot migrate VM: datastore [{store.id}] has {needed}=NO.")
