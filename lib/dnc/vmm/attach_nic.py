"""VMM attach_nic: plug an interface into the running guest (contract 2.4)."""

from __future__ import annotations

import os
from typing import Dict

from ..errors import DncError, NotFound
from ..grammar import shown
from ..opennebula.driver import Call
from ..opennebula.vm import VmDocument
from ..tools.xl_config import nic_specification
from .guest import nic_config
from .start import Vm, open_existing

ARGUMENTS = ("deploy_id", "mac", "bridge", "model", "vn_mad", "target", "vm", "host")


def run(call: Call) -> None:
    """An interface that is plugged already is success."""
    vm = open_existing(call)
    nic = nic_config(vm.document, _nic(vm.document, call.arg("mac").strip().lower()))
    specification = nic_specification(nic)
    name = vm.document.domain
    details = vm.host.domains.details(name)
    if details is None:
        raise NotFound(f"{name} does not run here")
    if nic.mac in [live.mac for live in details.nics]:
        return
    if not os.path.isdir(f"/sys/class/net/{nic.bridge}"):
        # xl would fail too, but keep the interface in its records: the guest's next reboot would end it (NOTES 3).
        raise NotFound(f"{name}: bridge {nic.bridge} does not exist on this host", hint="see the network driver's log")
    try:
        vm.host.domains.attach_nic(name, specification)
    except DncError:
        _forget(vm, nic.mac)
        raise


def _nic(document: VmDocument, mac: str) -> Dict[str, str]:
    for nic in document.nics:
        if nic.get("MAC", "").strip().lower() == mac:
            return nic
    raise NotFound(f"VM {document.id} has no NIC with MAC {shown(mac)}")


def _forget(vm: Vm, mac: str) -> None:
    """Take a half-plugged interface out of xl's records again."""
    name = vm.document.domain
    try:
        details = vm.host.domains.details(name)
        for live in details.nics if details else ():
            if live.mac == mac:
                vm.host.domains.detach_nic(name, live.devid, vm.host.config.shutdown_timeout)
    except DncError as error:
        vm.host.log.warn(f"{name}: the failed interface stays in xl's records: {error}; do not reboot the guest")
