"""User operations on snapshots: of disks (through TM) and of whole machines (through VMM)."""

from __future__ import annotations

from typing import Callable

from .attributes import Attributes, text_of, vectors_of
from .building import Refused
from .core import Operation, OperationFailed
from .disks import DiskOperations
from .lifecycle import wrong_state
from .machine import Ticket, VirtualMachine, now
from .messages import VmmMessage
from .records import SnapshotList
from .states import HistoryAction, LcmState, VmState
from .transfer import DriverFailure, is_volatile
from .vmm import Step

L = LcmState


class SnapshotOperations(DiskOperations):
    """Operations on snapshots."""

    # --- disk snapshots --------------------------------------------------------------------------------------------

    def snapshot_disk(self, vm: VirtualMachine, disk_id: int, name: str) -> Operation:
        """`onevm disk-snapshot-create`: RUNNING (if LIVE_DISK_SNAPSHOTS allows), POWEROFF or SUSPENDED."""
        return self.operate(f"snapshot disk {disk_id} of {vm.id}", lambda _: self._snapshot(vm, disk_id, name), vm)

    def _snapshot_disk_of(self, vm: VirtualMachine, disk_id: int, call: str, refusal: str) -> Attributes:
        disk = vm.disk(disk_id)
        if disk is None:
            raise Refused(f"[{call}] VM disk does not exist")
        if is_volatile(disk) or text_of(disk, "TYPE") == "CDROM":
            raise Refused(f"[{call}] {refusal}: {text_of(disk, 'TYPE')}")
        return disk

    def _snapshot(self, vm: VirtualMachine, disk_id: int, name: str) -> None:
        call = "one.vm.disksnapshotcreate"
        disk = self._snapshot_disk_of(vm, disk_id, call, "Cannot make snapshots on disks of type")
        states = {VmState.POWEROFF: L.DISK_SNAPSHOT_POWEROFF, VmState.SUSPENDED: L.DISK_SNAPSHOT_SUSPENDED}
        if not (vm.is_running or vm.state in states):
            raise wrong_state(call, "create a new disk snapshot for", vm)
        held = vm.snapshots.setdefault(disk_id, SnapshotList(text_of(disk, "ALLOW_ORPHANS", "NO"), disk_id=disk_id))
        snapshot_id, active = held.next_id, next((one for one in held.snapshots if "ACTIVE" in one), None)
        held.next_id += 1
        self.record_hot(vm, HistoryAction.DISK_SNAPSHOT_CREATE)
        for one in held.snapshots:
            one.pop("ACTIVE", None)
        held.snapshots.append({"ACTIVE": "YES", "DATE": str(now()), "ID": str(snapshot_id), "NAME": name,
                               "PARENT": "-1", "SIZE": text_of(disk, "SIZE")})
        disk["DISK_SNAPSHOT_ACTIVE"] = "YES"
        disk["DISK_SNAPSHOT_ID"] = str(snapshot_id)
        try:
            self._run_snapshot(vm, disk, snapshot_id, "SNAP_CREATE", states.get(vm.state, L.DISK_SNAPSHOT))
        except OperationFailed:
            held.snapshots.pop()
            if active is not None:
                active["ACTIVE"] = "YES"
            raise
        finally:
            self._end_snapshot(disk, held)

    @staticmethod
    def _end_snapshot(disk: Attributes, held: SnapshotList) -> None:
        for name in ("DISK_SNAPSHOT_ACTIVE", "DISK_SNAPSHOT_ID"):
            disk.pop(name, None)
        disk["DISK_SNAPSHOT_TOTAL_SIZE"] = str(held.total_size())

    def _run_snapshot(self, vm: VirtualMachine, disk: Attributes, snapshot_id: int, verb: str, state: LcmState) -> None:
        live = state is L.DISK_SNAPSHOT
        line = self.lines(vm).snapshot(f"{verb}_LIVE" if live else verb, disk, snapshot_id)
        with self.changing(vm, state, not live) as ticket:
            if not live:
                self.transfer.run_file(vm, "disk_snapshot", [line], ticket)
                return
            pair = f"{self.settings.vm_mad}-{text_of(disk, 'TM_MAD')}"
            if pair not in self.settings.live_disk_snapshots:
                raise DriverFailure("DISKSNAPSHOTCREATE", f"Cannot perform a live disk snapshot with {pair}", [])
            context = self.context_of(vm, ticket, self._parts(vm, int(text_of(disk, "DISK_ID")), line))
            self.vmm.run("DISKSNAPSHOTCREATE", context, [Step("tm", "snap_create_live", (line,))])

    def revert_disk(self, vm: VirtualMachine, disk_id: int, snapshot_id: int) -> Operation:
        """`onevm disk-snapshot-revert`: POWEROFF only."""
        return self.operate(f"revert disk {disk_id} of {vm.id}", lambda _: self._existing_snapshot(
            vm, disk_id, snapshot_id, "revert"), vm)

    def delete_disk_snapshot(self, vm: VirtualMachine, disk_id: int, snapshot_id: int) -> Operation:
        """`onevm disk-snapshot-delete`: RUNNING, POWEROFF or SUSPENDED, always through one_tm."""
        return self.operate(f"delete snapshot of disk {disk_id} of {vm.id}", lambda _: self._existing_snapshot(
            vm, disk_id, snapshot_id, "delete"), vm)

    def _existing_snapshot(self, vm: VirtualMachine, disk_id: int, snapshot_id: int, what: str) -> None:
        call = f"one.vm.disksnapshot{what}"
        if what == "revert":
            states: dict[str, LcmState] = {"POWEROFF": L.DISK_SNAPSHOT_REVERT_POWEROFF}
            wrong = "revert to disk snapshot for"
            missing = f"Disk id ({disk_id}) or snapshot id ({snapshot_id}) is not valid."
            action = HistoryAction.DISK_SNAPSHOT_REVERT
        else:
            states = {"POWEROFF": L.DISK_SNAPSHOT_DELETE_POWEROFF, "SUSPENDED": L.DISK_SNAPSHOT_DELETE_SUSPENDED,
                      "RUNNING": L.DISK_SNAPSHOT_DELETE}
            wrong, missing = "delete disk snapshot for", "Snapshot does not exist"
            action = HistoryAction.DISK_SNAPSHOT_DELETE
        if vm.status not in states:
            raise wrong_state(call, wrong, vm)
        disk = self._snapshot_disk_of(vm, disk_id, call, "Snapshots are not supported on disks of type")
        held = vm.snapshots_of(disk_id)
        snapshot = held.find(snapshot_id) if held else None
        if held is None or snapshot is None:
            raise Refused(f"[{call}] {missing}")
        self.record_hot(vm, action)
        disk["DISK_SNAPSHOT_ACTIVE"] = "YES"
        disk["DISK_SNAPSHOT_ID"] = str(snapshot_id)
        try:
            line = self.lines(vm).snapshot(f"SNAP_{what.upper()}", disk, snapshot_id)
            with self.changing(vm, states[vm.status], True) as ticket:
                self.transfer.run_file(vm, "disk_snapshot", [line], ticket)
            if what == "delete":
                held.snapshots.remove(snapshot)
            else:
                for one in held.snapshots:
                    one.pop("ACTIVE", None)
                snapshot["ACTIVE"] = "YES"
            if not held.snapshots:
                del vm.snapshots[disk_id]
        finally:
            self._end_snapshot(disk, held)

    # --- system snapshots, capacity --------------------------------------------------------------------------------

    def snapshot_vm(self, vm: VirtualMachine, name: str) -> Operation:
        """`onevm snapshot-create`: RUNNING only."""
        def work(_: Operation) -> None:
            if not vm.is_running:
                raise wrong_state("one.vm.snapshotcreate", "create a new snapshot for", vm)
            known = vectors_of(vm.template, "SNAPSHOT")
            snapshot: Attributes = {
                "ACTION": "CREATE", "ACTIVE": "YES", "HYPERVISOR_ID": "", "NAME": name, "TIME": str(now()),
                "SNAPSHOT_ID": str(max([int(text_of(one, "SNAPSHOT_ID")) for one in known], default=-1) + 1),
                "SYSTEM_DISK_SIZE": text_of(vm.template, "MEMORY")}
            vm.template["SNAPSHOT"] = [*known, snapshot]
            try:
                with self.changing(vm, L.HOTPLUG_SNAPSHOT, False) as ticket:
                    snapshot["HYPERVISOR_ID"] = self.vmm.plain(
                        "SNAPSHOTCREATE", "snapshot_create", self.context_of(vm, ticket, VmmMessage(vm.host)),
                        (vm.deploy_id, text_of(snapshot, "SNAPSHOT_ID")))
            except OperationFailed:
                self._drop_snapshot(vm, snapshot)
                raise
            finally:
                for one in ("ACTION", "ACTIVE"):
                    snapshot.pop(one, None)
        return self.operate(f"snapshot {vm.id}", work, vm)

    @staticmethod
    def _drop_snapshot(vm: VirtualMachine, snapshot: Attributes) -> None:
        left = [one for one in vectors_of(vm.template, "SNAPSHOT") if one is not snapshot]
        vm.template["SNAPSHOT"] = left
        if not left:
            del vm.template["SNAPSHOT"]

    def _with_snapshot(self, vm: VirtualMachine, snapshot_id: int, what: str,
                       run: Callable[[Attributes, Ticket], None]) -> None:
        call = f"one.vm.snapshot{what}"
        if not vm.is_running:
            raise wrong_state(call, f"{what} snapshot for", vm)
        snapshot = next((one for one in vectors_of(vm.template, "SNAPSHOT")
                         if one["SNAPSHOT_ID"] == str(snapshot_id)), None)
        if snapshot is None:
            raise Refused(f"[{call}] Snapshot {snapshot_id} does not exist")
        snapshot.update(ACTION=what.upper(), ACTIVE="YES")
        try:
            with self.changing(vm, L.HOTPLUG_SNAPSHOT, False) as ticket:
                run(snapshot, ticket)
        finally:
            for one in ("ACTION", "ACTIVE"):
                snapshot.pop(one, None)

    def revert_vm(self, vm: VirtualMachine, snapshot_id: int) -> Operation:
        """`onevm snapshot-revert`: then network post."""
        def run(snapshot: Attributes, ticket: Ticket) -> None:
            context = self.context_of(vm, ticket, VmmMessage(vm.host))
            self.vmm.run("SNAPSHOTREVERT", context, [
                Step("vmm", "snapshot_revert", (vm.deploy_id, text_of(snapshot, "HYPERVISOR_ID"))),
                Step("vnm", "post", (vm.deploy_id, vm.host))])
        return self.operate(f"revert {vm.id}", lambda _: self._with_snapshot(vm, snapshot_id, "revert", run), vm)

    def delete_vm_snapshot(self, vm: VirtualMachine, snapshot_id: int) -> Operation:
        """`onevm snapshot-delete`."""
        def run(snapshot: Attributes, ticket: Ticket) -> None:
            self.vmm.plain("SNAPSHOTDELETE", "snapshot_delete", self.context_of(vm, ticket, VmmMessage(vm.host)),
                           (vm.deploy_id, text_of(snapshot, "HYPERVISOR_ID")))
            self._drop_snapshot(vm, snapshot)
        return self.operate(f"delete snapshot of {vm.id}", lambda _: self._with_snapshot(
            vm, snapshot_id, "delete", run), vm)
