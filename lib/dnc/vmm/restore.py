"""VMM restore: continue a saved guest, also one that another host or datastore saved (contract 2.4)."""

from __future__ import annotations

import os

from ..errors import NotFound, ToolFailed, Unsafe
from ..grammar import parse_path
from ..opennebula.driver import Call
from .checkpoint import Checkpoint
from .start import Start, Vm, ensure_running, open_existing, open_vm

ARGUMENTS = ("checkpoint", "host", "deploy_id", "vm", "host_again")


def run(call: Call) -> None:
    """The configuration is rendered anew, for this host's paths. The checkpoint goes once the guest runs on: its
    memory no longer fits the disks then.

    One that does not fit them any more is refused; with DNC_RESTORE="boot" in the user template the VM boots instead.
    """
    path = parse_path(call.arg("checkpoint"))
    document = open_existing(call).document
    vm = open_vm(call, document, os.path.dirname(path))
    ensure_running(vm, call, Continuing(vm, Checkpoint(vm, path)))


class Continuing(Start):
    """A start from a checkpoint."""

    def __init__(self, vm: Vm, checkpoint: Checkpoint) -> None:
        self._vm = vm
        self._checkpoint = checkpoint
        self._boot = False

    def check(self) -> None:
        """See Start."""
        if self._vm.host.runner.dry_run:
            return
        try:
            self._checkpoint.check()
        except (NotFound, Unsafe) as error:
            if self._vm.document.user_template.get("DNC_RESTORE", "").strip().lower() != "boot":
                raise
            self._vm.host.log.warn(f"{error}. DNC_RESTORE says boot: the guest starts without its memory")
            self._boot = True

    def launch(self, config: str) -> None:
        """See Start."""
        name, domains = self._vm.document.domain, self._vm.host.domains
        before = None if self._boot or self._vm.host.runner.dry_run else self._checkpoint.states()
        self._checkpoint.spend()
        if self._boot:
            domains.create(name, config)
            return
        try:
            domains.restore(name, config, self._checkpoint.path, self._vm.document.memory_max_mib)
        except ToolFailed:
            if domains.find(name) is None:
                self._checkpoint.spare(before)
            raise

    def started(self) -> None:
        """See Start."""
        self._checkpoint.remove()
