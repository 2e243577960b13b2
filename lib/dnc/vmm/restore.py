"""VMM restore: continue a saved guest, also one that another host or datastore saved (contract 2.4)."""

from __future__ import annotations

import os

from ..errors import NotFound
from ..grammar import parse_path
from ..opennebula.driver import Call
from .start import ensure_running, open_existing, open_vm

ARGUMENTS = ("checkpoint", "host", "deploy_id", "vm", "host_again")


def run(call: Call) -> None:
    """The configuration is rendered anew, for this host's paths. The checkpoint goes once the guest runs on: its
    memory no longer fits the disks then."""
    checkpoint = parse_path(call.arg("checkpoint"))
    document = open_existing(call).document
    vm = open_vm(call, document, os.path.dirname(checkpoint))
    name = document.domain

    def launch(config: str) -> None:
        if not call.runner.dry_run and not os.path.exists(checkpoint):
            raise NotFound(f"{checkpoint} does not exist", hint="the VM was not saved here; boot it anew")
        vm.host.domains.restore(name, config, checkpoint, document.memory_max_mib)

    ensure_running(vm, call, launch)
    for old in (checkpoint, f"{checkpoint}.old"):
        vm.host.files.remove(old)
