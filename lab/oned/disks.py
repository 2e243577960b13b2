"""User operations on disks: attach, detach, resize, save-as."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator

from .attributes import Attributes, text_of, upper
from .building import Refused, assign_target, build_disk, describe_system
from .core import Operation, OperationFailed
from .lifecycle import wrong_state
from .machine import History, Ticket, VirtualMachine, now
from .messages import VmmMessage
from .recovery import Recovery
from .states import HistoryAction, ImageState, LcmState, VmState
from .transfer import DriverFailure, is_volatile
from .vmm import Step, message_argument, target_index

L = LcmState


class DiskOperations(Recovery):
    """Operations on disks of machines."""

    # --- common ----------------------------------------------------------------------------------------------------

    def record_hot(self, vm: VirtualMachine, action: HistoryAction) -> History:
        """The newest record ends with the action, a copy goes on: oned does this for every change of a machine."""
        old = vm.current
        shown, retime = old.action, old.retime
        self.begin(vm, action)
        old.close()
        fresh = vm.copy_record()
        fresh.rstime = now()
        if vm.state is not VmState.ACTIVE:
            fresh.action, fresh.retime = shown, retime
        return fresh

    @contextmanager
    def changing(self, vm: VirtualMachine, state: LcmState, transfer: bool) -> Iterator[Ticket]:
        """The machine is in that LCM state meanwhile; a failure is noted and it returns to where it was."""
        before, before_lcm = vm.state, vm.lcm_state
        vm.enter(state)
        ticket = vm.new_ticket()
        try:
            yield ticket
        except DriverFailure as failure:
            note = self.note_transfer_failure if transfer else self.note_action_failure
            raise OperationFailed(note(vm, failure)) from None
        finally:
            if not ticket.dropped:
                if before is VmState.ACTIVE:
                    vm.enter(before_lcm)
                else:
                    vm.rest(before)

    def _parts(self, vm: VirtualMachine, disk_id: int, command: str, rollback: str = "") -> VmmMessage:
        path = f"{self.vm_directory(vm.datastore_id, vm.id)}/disk.{disk_id}"
        return VmmMessage(vm.host, tm_command=f"{command}\n", tm_rollback=f"{rollback}\n" if rollback else "",
                          disk_target_path=path)

    # --- attach and detach -----------------------------------------------------------------------------------------

    def attach_disk(self, vm: VirtualMachine, disk: Attributes, background: bool = False) -> Operation:
        """`onevm disk-attach`: an image's disk or a volatile one, RUNNING or POWEROFF."""
        return self.operate(f"attach disk to {vm.id}", lambda _: self._attach(vm, upper(disk)), vm, background)

    def _attach(self, vm: VirtualMachine, written: Attributes) -> None:
        if not (vm.is_running or vm.state is VmState.POWEROFF):
            raise wrong_state("one.vm.attach", "attach disk to", vm)
        used = [int(text_of(one, "DISK_ID")) for one in vm.disks]
        disk_id = max([*used, vm.context_disk_id if vm.context_disk_id is not None else -1], default=-1) + 1
        disk, image = build_disk(self.store, written, disk_id)
        if image and image.persistent and image.vm_ids:
            raise Refused(f"[one.vm.attach] Image {image.id} is persistent and already in use.")
        if is_volatile(disk):
            describe_system(self.store, disk, self.datastores[vm.datastore_id])
        disk["TM_MAD_SYSTEM"] = self.settings.tm_mad
        assign_target(vm.template, disk)
        disk["ATTACH"] = "YES"
        vm.template["DISK"] = [*vm.disks, disk]
        if image:
            self.acquire_images(vm, [image])
        self.record_hot(vm, HistoryAction.DISK_ATTACH)
        try:
            self._attach_by_drivers(vm, disk, disk_id)
        except OperationFailed:
            vm.template["DISK"] = [one for one in vm.disks if one is not disk]
            if image:
                self.release_images(vm, [image])
            raise
        finally:
            disk.pop("ATTACH", None)

    def _attach_by_drivers(self, vm: VirtualMachine, disk: Attributes, disk_id: int) -> None:
        lines = self.lines(vm)
        create = lines.create(disk)
        if vm.state is VmState.POWEROFF:
            with self.changing(vm, L.HOTPLUG_PROLOG_POWEROFF, True) as ticket:
                self.transfer.run_file(vm, "prolog_attach", [create], ticket)
            return
        with self.changing(vm, L.HOTPLUG, False) as ticket:
            rollback = lines.remove(disk)
            context = self.context_of(vm, ticket, self._parts(vm, disk_id, create, rollback))
            argv = (vm.deploy_id, context.parts.disk_target_path, text_of(disk, "TARGET"), target_index(disk),
                    message_argument(context))
            self.vmm.run("ATTACHDISK", context, [
                Step("tm", "attach", (create,)),
                Step("vmm", "attach_disk", argv, fail_actions=(Step("tm", "rollback", (rollback,)),)),
            ])

    def detach_disk(self, vm: VirtualMachine, disk_id: int, background: bool = False) -> Operation:
        """`onevm disk-detach`, RUNNING or POWEROFF."""
        return self.operate(f"detach disk {disk_id} of {vm.id}", lambda _: self._detach(vm, disk_id), vm, background)

    def _detach(self, vm: VirtualMachine, disk_id: int) -> None:
        if not (vm.is_running or vm.state is VmState.POWEROFF):
            raise wrong_state("one.vm.detach", "detach disk of", vm)
        disk = vm.disk(disk_id)
        if disk is None:
            raise Refused("[one.vm.detach] VM disk does not exist")
        self.record_hot(vm, HistoryAction.DISK_DETACH)
        disk["ATTACH"] = "YES"
        line = self.lines(vm).remove(disk)
        try:
            if vm.state is VmState.POWEROFF:
                with self.changing(vm, L.HOTPLUG_EPILOG_POWEROFF, True) as ticket:
                    self.transfer.run_file(vm, "epilog_detach", [line], ticket)
            else:
                with self.changing(vm, L.HOTPLUG, False) as ticket:
                    context = self.context_of(vm, ticket, self._parts(vm, disk_id, line))
                    argv = (vm.deploy_id, context.parts.disk_target_path, text_of(disk, "TARGET"), target_index(disk))
                    self.vmm.run("DETACHDISK", context, [
                        Step("vmm", "detach_disk", argv), Step("tm", "detach", (line,))])
        finally:
            disk.pop("ATTACH", None)
        images = [self.images[int(text_of(disk, "IMAGE_ID"))]] if "IMAGE_ID" in disk else []
        vm.template["DISK"] = [one for one in vm.disks if one is not disk]
        self.hand_back(vm, disk)
        vm.snapshots.pop(disk_id, None)
        self.release_images(vm, images)

    # --- resize ----------------------------------------------------------------------------------------------------

    def resize_disk(self, vm: VirtualMachine, disk_id: int, size_mb: int) -> Operation:
        """`onevm disk-resize`: growth only; RUNNING, POWEROFF or UNDEPLOYED."""
        return self.operate(f"resize disk {disk_id} of {vm.id}", lambda _: self._resize(vm, disk_id, size_mb), vm)

    def _resize(self, vm: VirtualMachine, disk_id: int, size_mb: int) -> None:
        disk = vm.disk(disk_id)
        if disk is None:
            raise Refused("[one.vm.diskresize] VM disk does not exist")
        if size_mb < int(text_of(disk, "SIZE")):
            raise Refused("[one.vm.diskresize] New disk size has to be greater than current one")
        states = {VmState.POWEROFF: L.DISK_RESIZE_POWEROFF, VmState.UNDEPLOYED: L.DISK_RESIZE_UNDEPLOYED}
        if not (vm.is_running or vm.state in states):
            raise wrong_state("one.vm.diskresize", "resize disk of", vm)
        self.record_hot(vm, HistoryAction.DISK_RESIZE)
        before = text_of(disk, "SIZE")
        disk.update(SIZE=str(size_mb), SIZE_PREV=before, RESIZE="YES")
        try:
            self._resize_by_drivers(vm, disk, disk_id, size_mb, states.get(vm.state))
        except OperationFailed:
            disk["SIZE"] = before
            raise
        finally:
            for name in ("SIZE_PREV", "RESIZE"):
                disk.pop(name, None)

    def _resize_by_drivers(self, vm: VirtualMachine, disk: Attributes, disk_id: int, size_mb: int,
                           at_rest: LcmState | None) -> None:
        line = self.lines(vm).resize(disk, size_mb)
        if at_rest is not None:
            with self.changing(vm, at_rest, True) as ticket:
                self.transfer.run_file(vm, "disk_resize", [line], ticket)
            return
        with self.changing(vm, L.DISK_RESIZE, False) as ticket:
            context = self.context_of(vm, ticket, self._parts(vm, disk_id, line))
            argv = (vm.deploy_id, str(disk_id), str(size_mb), message_argument(context), vm.host)
            self.vmm.run("RESIZEDISK", context, [Step("tm", "resize", (line,)), Step("vmm", "resize_disk", argv)])

    # --- save as ---------------------------------------------------------------------------------------------------

    def save_disk_as(self, vm: VirtualMachine, disk_id: int, name: str, snapshot_id: int = -1) -> Operation:
        """`onevm disk-saveas`: a new image in the disk's datastore."""
        return self.operate(f"save disk {disk_id} of {vm.id} as {name}",
                            lambda operation: self._save_as(operation, vm, disk_id, name, snapshot_id), vm)

    def _save_as(self, operation: Operation, vm: VirtualMachine, disk_id: int, name: str, snapshot_id: int) -> None:
        states = {VmState.POWEROFF: L.HOTPLUG_SAVEAS_POWEROFF, VmState.SUSPENDED: L.HOTPLUG_SAVEAS_SUSPENDED,
                  VmState.UNDEPLOYED: L.HOTPLUG_SAVEAS_UNDEPLOYED, VmState.STOPPED: L.HOTPLUG_SAVEAS_STOPPED}
        state = L.HOTPLUG_SAVEAS if vm.is_running else states.get(vm.state)
        disk = vm.disk(disk_id)
        if state is None:
            raise wrong_state("one.vm.disksaveas", "save disk of", vm)
        if disk is None or is_volatile(disk):
            raise Refused("[one.vm.disksaveas] Cannot use DISK")
        snapshots = vm.snapshots_of(disk_id)
        if snapshot_id != -1 and (snapshots is None or snapshots.find(snapshot_id) is None):
            raise Refused("[one.vm.disksaveas] Cannot use DISK. Snapshot does not exist.")
        origin = self.images[int(text_of(disk, "IMAGE_ID"))]
        store = self.datastores[origin.datastore_id]
        image = self._register(name, store, origin.type.name, False, int(text_of(disk, "SIZE")), {
            "SAVED_DISK_ID": str(disk_id), "SAVED_IMAGE_ID": str(origin.id), "SAVED_VM_ID": str(vm.id),
            "SAVE_AS_HOT": "YES"})
        image.format = "save_as"
        self._make(operation, store, image, "mkfs")
        image.format = text_of(disk, "FORMAT", "raw")
        image.change_state(ImageState.LOCKED)
        host = self.frontend if vm.state in (VmState.UNDEPLOYED, VmState.STOPPED) else vm.host
        try:
            with self.changing(vm, state, True) as ticket:
                line = self.lines(vm).save_as(disk, image.source, snapshot_id, host)
                self.transfer.run_file(vm, "disk_saveas", [line], ticket)
        except OperationFailed:
            image.change_state(ImageState.ERROR)
            raise
        finally:
            image.template.pop("SAVE_AS_HOT", None)
        image.change_state(ImageState.READY)
