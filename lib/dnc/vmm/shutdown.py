"""VMM shutdown: the guest powers itself off; returns when the domain is gone (contract 2.4)."""

from __future__ import annotations

from ..opennebula.driver import Call
from .start import demote_disks, open_existing

ARGUMENTS = ("deploy_id", "host", "vm", "host_again")


def run(call: Call) -> None:
    """A guest that does not obey within SHUTDOWN_TIMEOUT runs on, and OpenNebula shows it running."""
    vm = open_existing(call)
    vm.host.domains.shutdown(vm.document.domain, call.config.shutdown_timeout)
    demote_disks(vm, call.action)
