"""VMM detach_nic: unplug an interface from the running guest (contract 2.4)."""

from __future__ import annotations

from ..opennebula.driver import Call
from .start import open_existing

ARGUMENTS = ("deploy_id", "mac", "vm", "host")


def run(call: Call) -> None:
    """An interface that is not plugged is success. Raises TimedOut, Unsafe (half migrated)."""
    vm = open_existing(call)
    name = vm.document.domain
    mac = call.arg("mac").strip().lower()
    with vm.disks.locked(f"detach_nic of VM {vm.document.id}"):
        details = vm.host.domains.details(name)
        if details is None:
            vm.host.domains.require_absent(name)
        for live in details.nics if details else ():
            if live.mac == mac:
                vm.host.domains.detach_nic(name, live.devid, call.config.shutdown_timeout)
