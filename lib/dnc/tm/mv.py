"""TM mv: a VM that does not run goes to another host, to the frontend (stop, undeploy), or comes back (contract 1.2).

Disks stay where their replicas are; what moves is who may use them. A disk of a stopped or undeployed VM stays up
as Secondary, like that of a VM that is powered off: so a member that returns from a crash is resynced by DRBD
itself. The small files travel, unless both ends see the same directory; between system datastores of one host they
are renamed. A source that does not answer is a normal input, as long as the VM's memory is not there: then the VM is
being restarted elsewhere.
"""

from __future__ import annotations

from ..errors import DncError, NotFound, Unreachable
from ..farm import clients, disks, replicas
from ..farm.files import Directory, HostDirectory, move_files
from ..farm.sessions import Sessions
from ..farm.survey import Located, look_again
from ..grammar import parse_id
from ..opennebula.driver import Call
from ..opennebula.oned import require_hosts, vm_info
from ..opennebula.paths import DiskPath, RemotePath, is_disk_path, parse_disk_path, parse_remote_path
from ..opennebula.vm import DiskKind, LcmState, VmDocument
from .hosts import frontend_directory, is_frontend, storage_host

ARGUMENTS = ("source", "destination", "vm", "datastore")
# Where the directory holds what `save` wrote a moment ago, or earlier.
_WITH_MEMORY = (LcmState.PROLOG_MIGRATE, LcmState.PROLOG_MIGRATE_SUSPEND, LcmState.EPILOG_STOP)


def run(call: Call) -> None:
    """A disk, or the directory with the small files (always last)."""
    vm = parse_id(call.arg("vm"), "VM id")
    if is_disk_path(call.arg("source")):
        _move_disk(call, parse_disk_path(call.arg("source")), parse_disk_path(call.arg("destination")), vm)
    else:
        _move_directory(call, parse_remote_path(call.arg("source")), parse_remote_path(call.arg("destination")), vm)


def _move_disk(call: Call, source: DiskPath, target: DiskPath, vm: int) -> None:
    if source == target:
        return
    document = vm_info(vm)
    disk = document.disk(source.disk)
    if disk.kind is DiskKind.FOREIGN:
        call.log.info(f"disk {disk.id} of VM {vm} is not dnc's: it travels with the directory")
        return
    name = disk.resource(vm)
    leaving, coming = storage_host(call, source.host), storage_host(call, target.host)
    with Sessions(call) as farm:
        farm.try_open([host for host in (leaving, coming) if host is not None])
        if coming is not None and coming in farm.unreachable:
            raise farm.unreachable[coming]
        located = replicas.find(farm, name, coming or leaving)
        if located is None:
            disks.refuse_unseen(farm)
            raise NotFound(f"{name} is on no host", hint="onevm recover --recreate makes the disk anew")
        if leaving is not None and leaving in farm.sessions and leaving != coming:
            farm.call(leaving, "demote", resource=name.text)
        holders = located.holders
        if coming is not None and coming not in holders and call.config.missing_replica == "move":
            located = _move_replica(farm, look_again(farm, located), coming, document)
        disks.remove_link(farm, leaving, source.path)
        if coming is not None and not (farm.dry_run and coming not in located.holders):
            fit = coming in located.holders or clients.permitted(farm, located.spec, coming)
            if not fit or (located.missing and coming not in located.hosts):
                disks.refuse_foreign_host(located, coming)
            if coming not in located.hosts:
                located = clients.admit(farm, look_again(farm, located), coming)
            if leaving != coming:
                disks.make_available(farm, look_again(farm, located), coming)
            farm.call(coming, "ensure_link", path=target.path, resource=name.text)
        clients.release(farm, located, coming)
        farm.commit()
        moved = set(holders) != set(located.holders)
    if moved:
        require_hosts(call, document, disk.id, located.holders)


def _move_replica(farm: Sessions, located: Located, host: str, document: VmDocument) -> Located:
    """A replica on `host` in place of another; with DRBD 9 and two of them a third vote again."""
    siblings = [disk.resource(document.id) for disk in document.managed_disks]
    located = replicas.move(farm, located, host, siblings=[name for name in siblings if name != located.name])
    if host not in located.holders:
        return located
    spec = clients.attach(farm, located.spec, host)
    members = farm.ssh_names(spec.members)
    return look_again(farm, located._replace(spec=spec, hosts=members, clients=farm.ssh_names(spec.clients)))


def _move_directory(call: Call, source: RemotePath, target: RemotePath, vm: int) -> None:
    if source == target:
        return
    with Sessions(call) as farm:
        hosts = [host for host in (source.host, target.host) if not is_frontend(call, host)]
        farm.try_open(hosts)
        if target.host in farm.unreachable:
            raise farm.unreachable[target.host]
        there = _directory(call, farm, target)
        if source.host in farm.unreachable:
            _tell_lost(call, farm.unreachable[source.host], source, vm)
            there.ensure()
        else:
            here = _directory(call, farm, source)
            moved = move_files(here, there)
            call.log.info(f"{source} to {target}: {moved >> 10} KiB of small files")
        farm.commit()


def _directory(call: Call, farm: Sessions, place: RemotePath) -> Directory:
    if is_frontend(call, place.host):
        return frontend_directory(call, place.path)
    return HostDirectory(farm, place.host, place.path)


def _tell_lost(call: Call, error: DncError, source: RemotePath, vm: int) -> None:
    """Go on without the small files, which OpenNebula makes anew; never without a guest's memory."""
    if not isinstance(error, Unreachable):
        raise error
    if vm_info(vm).lcm_state in _WITH_MEMORY:
        raise Unreachable(
            f"the saved memory of VM {vm} is here: {error.what}", host=source.host,
            hint="bring the host back and recover --retry; without it the VM has to boot anew",
        )
    call.log.warn(f"{error.line()}The small files in {source.path} stay behind; OpenNebula makes new ones")
