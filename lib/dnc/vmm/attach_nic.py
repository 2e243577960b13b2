"""VMM attach_nic: plug an interface into the running guest (contract 2.4)."""

from __future__ import annotations

import os
from typing import Dict, Optional

from ..errors import DncError, NotFound, Unsafe
from ..grammar import shown
from ..opennebula.driver import Call
from ..opennebula.vm import VmDocument
from ..tools.xl import LiveNic
from ..tools.xl_config import nic_specification
from .guest import nic_config
from .start import Vm, open_existing

ARGUMENTS = ("deploy_id", "mac", "bridge", "model", "vn_mad", "target", "vm", "host")


def run(call: Call) -> None:
    """Returns when the guest has taken the interface; one that is plugged already is success.

    Raises NotFound, Unsafe (paused, dying, half migrated), TimedOut (the guest did not take it).
    """
    vm = open_existing(call)
    nic = nic_config(vm.document, _nic(vm.document, call.arg("mac").strip().lower()))
    specification = nic_specification(nic)
    name = vm.document.domain
    with vm.disks.locked(f"attach_nic of VM {vm.document.id}"):
        vm.host.domains.require_alive(name)
        live = _plugged(vm, nic.mac)
        if live is not None and _whole(vm, live):
            return
        if not os.path.isdir(f"/sys/class/net/{nic.bridge}"):
            # xl would fail too, but keep the interface: the guest's next reboot would end it (NOTES 3).
            raise NotFound(f"{name}: bridge {nic.bridge} is not on this host", hint="see the network driver's log")
        if live is not None:
            _take_out(vm, nic.mac)
        _attach(vm, nic.mac, specification)


def _attach(vm: Vm, mac: str, specification: str) -> None:
    name = vm.document.domain
    try:
        vm.host.domains.attach_nic(name, specification)
        live = None if vm.host.runner.dry_run else _plugged(vm, mac)
        if live is not None:
            vm.host.domains.await_nic_taken(name, live.devid)
        elif not vm.host.runner.dry_run:
            raise Unsafe(f"{name}: xl reports success, but the interface is not there", hint="see xl network-list")
    except BaseException:
        _take_out(vm, mac)
        raise


def _nic(document: VmDocument, mac: str) -> Dict[str, str]:
    for nic in document.nics:
        if nic.get("MAC", "").strip().lower() == mac:
            return nic
    raise NotFound(f"VM {document.id} has no NIC with MAC {shown(mac)}")


def _plugged(vm: Vm, mac: str) -> Optional[LiveNic]:
    details = vm.host.domains.details(vm.document.domain)
    return next((live for live in details.nics if live.mac == mac), None) if details else None


def _whole(vm: Vm, live: LiveNic) -> bool:
    """Whether a guest could use it: an attempt that was killed leaves one that no guest ever sees."""
    backends = vm.host.domains.network_backends(vm.document.domain)
    return any(backend.device == live.devid and backend.connected for backend in backends)


def _take_out(vm: Vm, mac: str) -> None:
    """What xl has kept of it would be there again at the guest's next reboot, and end it if it fails then."""
    name = vm.document.domain
    try:
        live = _plugged(vm, mac)
        if live is not None:
            vm.host.domains.detach_nic(name, live.devid, vm.host.config.shutdown_timeout)
    except DncError as error:
        vm.host.log.error(f"{name}: the failed interface stays in xl's records: {error}; do not reboot the guest")
