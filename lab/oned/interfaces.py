"""User operations on network interfaces, context and capacity of a machine."""

from __future__ import annotations

from .attributes import Attributes, collapsed, text_of, upper, vector_of, vectors_of
from .backups import BackupOperations
from .building import Refused, build_nic, fill_context
from .core import Operation, OperationFailed
from .lifecycle import wrong_state
from .machine import Ticket, VirtualMachine
from .messages import VmmMessage
from .states import HistoryAction, LcmState, VmState
from .vmm import Context, Step

L = LcmState
_CONFIGURATION = ("OS", "FEATURES", "INPUT", "GRAPHICS", "VIDEO", "RAW", "CPU_MODEL")


class InterfaceOperations(BackupOperations):
    """Operations on interfaces, context and capacity."""

    def _interface_context(self, vm: VirtualMachine, ticket: Ticket) -> Context:
        return self.context_of(vm, ticket, self._start_parts(vm))

    def _reconfigure(self, vm: VirtualMachine, undo: tuple[Step, ...] = ()) -> list[Step]:
        """Take the context CD-ROM out, make it anew, put it in; nothing without a context."""
        context = vector_of(vm.template, "CONTEXT")
        if context is None:
            return []
        target = text_of(context, "TARGET")
        path = f"{self.vm_directory(vm.datastore_id, vm.id)}/disk.{vm.context_disk_id}"
        return [Step("vmm", "prereconfigure", (vm.deploy_id, target), fail_actions=undo), *self.context_step(vm),
                Step("vmm", "reconfigure", (vm.deploy_id, target, path))]

    def attach_nic(self, vm: VirtualMachine, nic: Attributes) -> Operation:
        """`onevm nic-attach`: RUNNING or POWEROFF (then no driver is called)."""
        return self.operate(f"attach nic to {vm.id}", lambda _: self._attach_nic(vm, upper(nic)), vm)

    def _next_nic(self, vm: VirtualMachine) -> int:
        every = [*vm.nics, *vectors_of(vm.template, "NIC_ALIAS")]
        return max([int(text_of(one, "NIC_ID")) for one in every], default=-1) + 1

    def _attach_nic(self, vm: VirtualMachine, written: Attributes) -> None:
        if not (vm.is_running or vm.state is VmState.POWEROFF):
            raise wrong_state("one.vm.attachnic", "attach NIC to", vm)
        nic_id = self._next_nic(vm)
        nic = build_nic(self.store, written, vm.id, nic_id)
        if "PARENT" in written:
            self._attach_alias(vm, nic, nic_id)
            return
        vm.template["NIC"] = [*vm.nics, nic]
        fill_context(self.store, vm.template)
        self.record_hot(vm, HistoryAction.NIC_ATTACH)
        if vm.state is VmState.POWEROFF:
            return
        nic["ATTACH"] = "YES"
        mac = text_of(nic, "MAC")
        argv = (vm.deploy_id, mac, text_of(nic, "BRIDGE"), text_of(nic, "MODEL", "-"), text_of(nic, "VN_MAD"),
                text_of(nic, "TARGET"))
        undo = (Step("vmm", "detach_nic", (vm.deploy_id, mac)),)
        try:
            with self.changing(vm, L.HOTPLUG_NIC, False) as ticket:
                self.write_context(vm)
                self.vmm.run("ATTACHNIC", self._interface_context(vm, ticket), [
                    Step("vnm", "pre"), Step("vmm", "attach_nic", argv),
                    Step("vnm", "post", (vm.deploy_id, vm.host), fail_actions=undo), *self._reconfigure(vm, undo)])
        except OperationFailed:
            self._drop_nic(vm, nic)
            raise
        finally:
            nic.pop("ATTACH", None)

    def _attach_alias(self, vm: VirtualMachine, nic: Attributes, nic_id: int) -> None:
        """A second address of an interface: network scripts and the context, no virtualisation script."""
        parent = next((one for one in vm.nics if one["NAME"] == nic["PARENT"]), None)
        if parent is None or not vm.is_running:
            raise Refused(f"[one.vm.attachnic] Parent NIC {nic['PARENT']} of the alias does not exist.")
        known = vectors_of(vm.template, "NIC_ALIAS")
        nic.update(ALIAS_ID=str(len(known)), PARENT_ID=text_of(parent, "NIC_ID"), NAME=f"{nic['PARENT']}_ALIAS{nic_id}")
        vm.template["NIC_ALIAS"] = [*known, nic]
        self._set_aliases(vm, parent)
        fill_context(self.store, vm.template)
        self.record_hot(vm, HistoryAction.ALIAS_ATTACH)
        nic["ATTACH"] = "YES"
        try:
            with self.changing(vm, L.HOTPLUG_NIC, False) as ticket:
                self.vmm.run("ATTACHNIC", self._interface_context(vm, ticket), [
                    Step("vnm", "pre"), Step("vnm", "post", (vm.deploy_id, vm.host)), *self._reconfigure(vm)])
        except OperationFailed:
            self._drop_alias(vm, nic)
            raise
        finally:
            nic.pop("ATTACH", None)

    @staticmethod
    def _set_aliases(vm: VirtualMachine, parent: Attributes) -> None:
        parent["ALIAS_IDS"] = ",".join(text_of(one, "NIC_ID") for one in vectors_of(vm.template, "NIC_ALIAS")
                                       if one["PARENT"] == parent["NAME"])

    def _drop_alias(self, vm: VirtualMachine, nic: Attributes) -> None:
        left = [one for one in vectors_of(vm.template, "NIC_ALIAS") if one is not nic]
        vm.template["NIC_ALIAS"] = left
        if not left:
            del vm.template["NIC_ALIAS"]
        for parent in vm.nics:
            if parent["NAME"] == nic["PARENT"]:
                self._set_aliases(vm, parent)

    def _detach_alias(self, vm: VirtualMachine, nic: Attributes) -> None:
        self.record_hot(vm, HistoryAction.ALIAS_DETACH)
        self._drop_variables(vm, f"ETH{text_of(nic, 'PARENT_ID')}_ALIAS{text_of(nic, 'ALIAS_ID')}_")
        nic["ATTACH"] = "YES"
        with self.changing(vm, L.HOTPLUG_NIC, False) as ticket:
            self.vmm.run("DETACHNIC", self._interface_context(vm, ticket), [
                Step("vnm", "clean", (vm.host,)), *self._reconfigure(vm)])
        self._drop_alias(vm, nic)

    def _drop_nic(self, vm: VirtualMachine, nic: Attributes) -> None:
        vm.template["NIC"] = [one for one in vm.nics if one is not nic]
        self._drop_variables(vm, f"ETH{text_of(nic, 'NIC_ID')}_")

    @staticmethod
    def _drop_variables(vm: VirtualMachine, prefix: str) -> None:
        """Context variables of an interface that goes; they go before drivers are told."""
        context = vector_of(vm.template, "CONTEXT") or {}
        for name in [one for one in context if one.startswith(prefix)]:
            del context[name]

    def detach_nic(self, vm: VirtualMachine, nic_id: int) -> Operation:
        """`onevm nic-detach`: RUNNING or POWEROFF."""
        def work(_: Operation) -> None:
            alias = next((one for one in vectors_of(vm.template, "NIC_ALIAS") if one["NIC_ID"] == str(nic_id)), None)
            if alias is not None and vm.is_running:
                self._detach_alias(vm, alias)
                return
            nic = next((one for one in vm.nics if one["NIC_ID"] == str(nic_id)), None)
            if nic is None:
                raise Refused(f"[one.vm.detachnic] Could not detach NIC with NIC_ID {nic_id}, it does not exist.")
            if not (vm.is_running or vm.state is VmState.POWEROFF):
                raise wrong_state("one.vm.detachnic", "detach NIC from", vm)
            self.record_hot(vm, HistoryAction.NIC_DETACH)
            self._drop_variables(vm, f"ETH{nic_id}_")
            if vm.is_running:
                nic["ATTACH"] = "YES"
                try:
                    with self.changing(vm, L.HOTPLUG_NIC, False) as ticket:
                        self.vmm.run("DETACHNIC", self._interface_context(vm, ticket), [
                            Step("vmm", "detach_nic", (vm.deploy_id, text_of(nic, "MAC"))),
                            Step("vnm", "clean", (vm.host,)), *self._reconfigure(vm)])
                finally:
                    nic.pop("ATTACH", None)
            self._drop_nic(vm, nic)
        return self.operate(f"detach nic {nic_id} of {vm.id}", work, vm)

    def update_nic(self, vm: VirtualMachine, nic_id: int, changes: Attributes) -> Operation:
        """`onevm nic-update`: only network scripts are told."""
        def work(_: Operation) -> None:
            nic = next((one for one in vm.nics if one["NIC_ID"] == str(nic_id)), None)
            if nic is None or not vm.is_running:
                raise wrong_state("one.vm.updatenic", "update NIC of", vm)
            self.record_hot(vm, HistoryAction.NIC_UPDATE)
            nic.update(upper(changes))
            vm.template["VNET_UPDATE"] = dict.fromkeys(upper(changes), "")
            try:
                with self.changing(vm, L.HOTPLUG_NIC, False) as ticket:
                    self.vmm.run("UPDATENIC", self.context_of(vm, ticket, VmmMessage(vm.host)), [
                        Step("vnm", "update_nic", (vm.deploy_id, text_of(nic, "NETWORK_ID")),
                             stdin=collapsed(vm.xml()))])
            finally:
                del vm.template["VNET_UPDATE"]
        return self.operate(f"update nic {nic_id} of {vm.id}", work, vm)

    def update_configuration(self, vm: VirtualMachine, changes: Attributes, append: bool = False) -> Operation:
        """`onevm updateconf`: without append, what is not given is gone. A running machine gets the CD-ROM anew."""
        def work(_: Operation) -> None:
            context = vector_of(vm.template, "CONTEXT")
            if context is None or not (vm.is_running or vm.state is VmState.POWEROFF):
                raise wrong_state("one.vm.updateconf", "update configuration of", vm)
            given = upper(changes)
            if not append:
                for name in _CONFIGURATION:
                    vm.template.pop(name, None)
            old = context if append else {name: context[name] for name in ("DISK_ID", "TARGET")}
            vm.template.update({**given, "CONTEXT": {**(vector_of(given, "CONTEXT") or {}), **old}})
            fill_context(self.store, vm.template)
            if vm.is_running:
                with self.changing(vm, L.HOTPLUG, False) as ticket:
                    self.write_context(vm)
                    self.vmm.run("UPDATECONF", self._interface_context(vm, ticket), self._reconfigure(vm))
        return self.operate(f"update configuration of {vm.id}", work, vm)

    def resize_vm(self, vm: VirtualMachine, cpu: float | None = None, vcpu: int | None = None,
                  memory_mb: int | None = None) -> Operation:
        """`onevm resize`: RUNNING (the driver is asked, and must refuse what it cannot do) or POWEROFF."""
        def work(_: Operation) -> None:
            if not (vm.is_running or vm.state is VmState.POWEROFF):
                raise wrong_state("one.vm.resize", "resize", vm)
            wanted = {name: f"{value:g}" for name, value in (("CPU", cpu), ("VCPU", vcpu), ("MEMORY", memory_mb))
                      if value is not None}
            before: Attributes = {name: text_of(vm.template, name, "1") for name in ("CPU", "VCPU", "MEMORY")}
            self.record_hot(vm, HistoryAction.RESIZE)
            vm.template.update(wanted)
            if vm.is_running:
                vm.template["RESIZE"] = dict(before)
                try:
                    with self.changing(vm, L.HOTPLUG_RESIZE, False) as ticket:
                        self.vmm.plain("RESIZE", "resize", self.context_of(vm, ticket, VmmMessage(vm.host)),
                                       (vm.deploy_id,))
                except OperationFailed:
                    vm.template.update(before)
                    raise
                finally:
                    vm.template.pop("RESIZE", None)
        return self.operate(f"resize {vm.id}", work, vm)
