"""VMM reset: end the domain and start it again at once; its disks stay Primary (contract 2.4)."""

from __future__ import annotations

from ..opennebula.driver import Call
from .deploy import Booting
from .start import ensure_running, open_existing

ARGUMENTS = ("deploy_id", "host", "vm", "host_again")


def run(call: Call) -> None:
    """The configuration is rendered from the document, so that what was plugged since the start is there again.

    Any state of the domain will do but none and a half migrated one. Raises NotFound, Unsafe, ToolFailed.
    """
    vm = open_existing(call)
    name = vm.document.domain
    if vm.host.domains.find(name) is None:
        vm.host.domains.require_alive(name)
    vm.configuration()  # a VM that could not start again is not ended
    vm.host.domains.destroy(name)
    ensure_running(vm, call, Booting(vm))
