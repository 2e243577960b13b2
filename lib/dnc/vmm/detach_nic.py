"""VMM detach_nic: unplug an interface from the running guest (contract 2.4)."""

from __future__ import annotations

from ..opennebula.driver import Call
from .start import open_existing

ARGUMENTS = ("deploy_id", "mac", "vm", "host")


def run(call: Call) -> None:
    """An interface that is not plugged is success."""
    vm = open_existing(call)
    name = vm.document.domain
    mac = call.arg("mac").strip().lower()
    details = vm.host.domains.details(name)
    for live in details.nics if details else ():
        if live.mac == mac:
            vm.host.domains.detach_nic(name, live.devid, call.config.shutdown_timeout)
