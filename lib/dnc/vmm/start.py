"""Bringing a VM's domain to life, the one way for deploy and restore: checked before, checked after (design rule 3)."""

from __future__ import annotations

import os
from typing import Callable, NamedTuple, Tuple

from ..errors import BadInput, Conflict, DncError, Unsafe
from ..grammar import parse_domain, parse_path
from ..host.files import explain
from ..host.machine import Host
from ..opennebula.action import parse_vmm_message
from ..opennebula.driver import Call
from ..opennebula.vm import VmDocument
from ..tools.xl import DomainDetails, DomainState
from ..tools.xl_config import DomainConfig, render
from .disks import VmDisks
from .guest import domain_config


class Vm(NamedTuple):
    """A VM on this host: its document, its directory, its disks."""

    host: Host
    document: VmDocument
    directory: str
    disks: VmDisks

    @property
    def config_path(self) -> str:
        """Where the xl configuration lies; it stays, for a person to look at."""
        return f"{self.directory}/{self.document.domain}.cfg"

    def configuration(self) -> DomainConfig:
        """What xl will be told. Raises BadInput."""
        return domain_config(self.document, self.directory, self.host.config, self.disks.device_of)


def open_vm(call: Call, document: VmDocument, directory: str) -> Vm:
    """The VM on this host; `directory` as it came in argv. Raises BadInput."""
    host = Host(call.runner, call.config, call.log)
    return Vm(host, document, parse_path(directory), VmDisks(host, document, call.started))


def open_existing(call: Call) -> Vm:
    """The VM of an action other than deploy: from the message on stdin and the DEPLOY_ID in argv. Raises BadInput."""
    name = call.arg("deploy_id")
    number = parse_domain(name)
    document = parse_vmm_message(call.stdin).vm
    if number != document.id:
        raise BadInput(f"{name} is not the domain of VM {document.id}", hint="argv and stdin contradict each other")
    datastore = document.history[-1].datastore if document.history else 0
    return open_vm(call, document, f"{call.config.datastore_location}/{datastore}/{document.id}")


def ensure_running(vm: Vm, call: Call, launch: Callable[[str], None]) -> bool:
    """Have the domain run on usable disks; False if it ran already, with the right disks.

    `launch` starts it from the configuration file it is given. Whatever fails: nothing runs and no disk is Primary
    after. Raises Unsafe, GivenUp, BadInput, ToolFailed.
    """
    name = vm.document.domain
    with vm.disks.locked(f"{call.action} of VM {vm.document.id}"):
        vm.disks.refuse_given_up()
        config = vm.configuration()
        if _runs_already(vm, config):
            vm.disks.check_primary()
            return False
        vm.disks.ensure_startable()
        text = render(config)
        _tell(call, config)
        try:
            vm.disks.promote()
            vm.host.files.write(vm.config_path, text, 0o600)
            launch(vm.config_path)
            vm.host.domains.verify_running(name, [disk.vdev for disk in config.disks])
            vm.disks.check_primary()
            vm.disks.refuse_given_up()
        except Conflict:
            raise  # somebody started it in between: it is not ours to end
        except BaseException:
            take_down(vm)
            raise
    return True


def demote_disks(vm: Vm, action: str) -> None:
    """After the domain's end: Secondary, still up and connected. A disk that stays Primary is told, no failure:
    the domain is gone, which is what OpenNebula asked for, and whatever comes next demotes again."""
    try:
        with vm.disks.locked(f"{action} of VM {vm.document.id}"):
            vm.disks.demote()
    except DncError as error:
        vm.host.log.warn(f"disks not demoted: {error}")


def take_down(vm: Vm) -> None:
    """End the domain and demote its disks, as far as it goes: the error that led here is the one to report."""
    try:
        vm.host.domains.destroy(vm.document.domain)
    except DncError as error:
        vm.host.log.error(f"{vm.document.domain} may still be there: {error}")
        return
    vm.disks.demote()


def _runs_already(vm: Vm, config: DomainConfig) -> bool:
    """True if the domain runs with exactly the managed disks of the document; a dead one is cleared away."""
    domain = vm.host.domains.find(config.name)
    if domain is None:
        return False
    if domain.state in (DomainState.SHUTDOWN, DomainState.CRASHED, DomainState.DYING):
        vm.host.log.info(f"{config.name} is {domain.state.value}: removing what is left of it")
        vm.host.domains.destroy(config.name)
        return False
    details = vm.host.domains.details(config.name)
    if details is None:
        return False
    _check_disks(vm, config, details)
    vm.host.domains.verify_running(config.name, [disk.vdev for disk in config.disks])
    vm.host.log.info(f"{config.name} runs already")
    return True


def _managed(vm: Vm) -> Tuple[str, ...]:
    return tuple(os.path.normpath(vm.disks.device_of(name)) for name in vm.disks.names)


def _check_disks(vm: Vm, config: DomainConfig, details: DomainDetails) -> None:
    wanted = {(disk.vdev, disk.path) for disk in config.disks if disk.path in _managed(vm)}
    live = {(disk.vdev, disk.path) for disk in details.disks}
    missing = sorted(vdev for vdev, _path in wanted - live)
    if missing:
        raise Unsafe(
            f"{config.name} runs already, without its disk {missing[0]}",
            hint="it is another VM's, or an old one: look at `xl list -l`, destroy it if nobody needs it",
        )


def _tell(call: Call, config: DomainConfig) -> None:
    for note in config.notes:
        call.log.info(f"{config.name}: {note}")


def write_file(path: str, data: bytes) -> None:
    """A file of OpenNebula's, as it came. Raises NoSpace, NoPrivilege."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
    except OSError as error:
        raise explain(error, path) from None
