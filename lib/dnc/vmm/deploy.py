"""VMM deploy: start a VM; prints its DEPLOY_ID (contract 2.4). Idempotent: a retry finds it running."""

from __future__ import annotations

import os

from ..grammar import parse_path
from ..opennebula.driver import Call
from ..opennebula.vm import parse_vm
from .checkpoint import Checkpoint
from .start import Start, Vm, ensure_running, open_vm, write_file

ARGUMENTS = ("deployment_file", "host", "vm", "host_again")


def run(call: Call) -> str:
    """stdin is the whole VM document, which the contract wants kept under the path in argv."""
    document = parse_vm(call.stdin)
    path = parse_path(call.arg("deployment_file"))
    vm = open_vm(call, document, os.path.dirname(path))
    if not call.runner.dry_run:
        write_file(path, call.stdin)
    ensure_running(vm, call, Booting(vm))
    return document.domain


class Booting(Start):
    """A start from the disks alone: memory that was saved before fits them no longer."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self._checkpoint = Checkpoint(vm, f"{vm.directory}/checkpoint")

    def launch(self, config: str) -> None:
        """See Start."""
        self._checkpoint.spend()
        self._vm.host.domains.create(self._vm.document.domain, config)

    def started(self) -> None:
        """See Start."""
        self._checkpoint.remove()
