"""VMM save: the guest's memory goes to a file and the domain ends (contract 2.4)."""

from __future__ import annotations

import os

from ..errors import NotFound
from ..grammar import parse_path
from ..host.files import explain, sync_directory
from ..opennebula.driver import Call
from .start import Vm, demote_disks, open_existing

ARGUMENTS = ("deploy_id", "checkpoint", "host", "vm", "host_again")


def run(call: Call) -> None:
    """The checkpoint appears under its name only when it is whole; an older one is kept beside it until then."""
    vm = open_existing(call)
    name = vm.document.domain
    checkpoint = parse_path(call.arg("checkpoint"))
    if vm.host.domains.find(name) is None:
        raise NotFound(f"{name} does not run here", hint="there is nothing to save")
    passing = f"{checkpoint}.new"
    _prepare(vm, passing)
    try:
        vm.host.domains.save(name, passing, vm.document.memory_max_mib)
    except BaseException:
        vm.host.files.remove(passing)
        raise
    _put_in_place(vm, passing, checkpoint)
    demote_disks(vm, call.action)


def _prepare(vm: Vm, passing: str) -> None:
    """xl runs as root: a file that exists keeps our owner, and a mode that hides the guest's memory from others."""
    if vm.host.files.would(f"write {passing}"):
        return
    try:
        vm.host.files.remove(passing)
        os.close(os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        raise explain(error, passing) from None


def _put_in_place(vm: Vm, passing: str, checkpoint: str) -> None:
    if vm.host.files.would(f"rename {passing} to {checkpoint}"):
        return
    try:
        descriptor = os.open(passing, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if os.path.exists(checkpoint):
            os.replace(checkpoint, f"{checkpoint}.old")
        os.replace(passing, checkpoint)
        sync_directory(os.path.dirname(checkpoint))
    except OSError as error:
        raise explain(error, checkpoint) from None
