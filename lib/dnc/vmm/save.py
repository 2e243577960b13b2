"""VMM save: the guest's memory goes to a file and the domain ends (contract 2.4)."""

from __future__ import annotations

from ..errors import NotFound, Unsafe
from ..grammar import parse_path
from ..opennebula.driver import Call
from .checkpoint import Checkpoint
from .start import Vm, open_existing

ARGUMENTS = ("deploy_id", "checkpoint", "host", "vm", "host_again")


def run(call: Call) -> None:
    """The checkpoint appears under its name only when it is whole; an older one is kept beside it until then.

    A domain that is gone with a checkpoint that fits its disks was saved already. Raises NotFound, Unsafe, ToolFailed.
    """
    vm = open_existing(call)
    checkpoint = Checkpoint(vm, parse_path(call.arg("checkpoint")))
    name = vm.document.domain
    with vm.disks.locked(f"save of VM {vm.document.id}"):
        if vm.host.domains.find(name) is None and _was_saved(vm, checkpoint):
            call.log.info(f"{name} is saved already")
            return
        vm.host.domains.require_alive(name)
        checkpoint.prepare()
        try:
            vm.host.domains.save(name, checkpoint.passing, vm.document.memory_max_mib)
        except BaseException:
            checkpoint.abandon()
            raise
        checkpoint.keep()
        vm.host.domains.await_saved(name)
        vm.disks.demote()
        checkpoint.note()  # once more: what was under way is written only now
        checkpoint.put_in_place()


def _was_saved(vm: Vm, checkpoint: Checkpoint) -> bool:
    if vm.host.domains.halves(vm.document.domain):
        return False
    try:
        checkpoint.check()
    except NotFound:
        return False
    except Unsafe as error:
        vm.host.log.info(f"the checkpoint that is there is an older one: {error}")
        return False
    vm.disks.demote()
    return True
