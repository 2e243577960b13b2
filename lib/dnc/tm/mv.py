"""TM mv: a VM that does not run goes to another host, to the frontend (stop, undeploy), or comes back (contract 1.2).

Disks stay where their replicas are; what moves is who may use them. A disk of a stopped or undeployed VM stays up
as Secondary, like that of a VM that is powered off: so a member that returns from a crash is resynced by DRBD
itself. The small files travel. A source that does not answer is a normal input: the VM is being restarted elsewhere.
"""

from __future__ import annotations

from ..errors import DncError, NotFound, Unreachable
from ..farm import disks
from ..farm.files import Directory, HostDirectory, move_files
from ..farm.sessions import Sessions
from ..farm.survey import locate, look_again
from ..grammar import parse_id
from ..opennebula.driver import Call
from ..opennebula.oned import vm_info
from ..opennebula.paths import DiskPath, RemotePath, is_disk_path, parse_disk_path, parse_remote_path
from ..opennebula.vm import DiskKind
from .hosts import frontend_directory, is_frontend, storage_host

ARGUMENTS = ("source", "destination", "vm", "datastore")


def run(call: Call) -> None:
    """A disk, or the directory with the small files (always last)."""
    vm = parse_id(call.arg("vm"), "VM id")
    if is_disk_path(call.arg("source")):
        _move_disk(call, parse_disk_path(call.arg("source")), parse_disk_path(call.arg("destination")), vm)
    else:
        _move_directory(call, parse_remote_path(call.arg("source")), parse_remote_path(call.arg("destination")))


def _move_disk(call: Call, source: DiskPath, target: DiskPath, vm: int) -> None:
    if source == target:
        return
    disk = vm_info(vm).disk(source.disk)
    if disk.kind is DiskKind.FOREIGN:
        call.log.info(f"disk {disk.id} of VM {vm} is not dnc's: it travels with the directory")
        return
    name = disk.resource(vm)
    leaving, coming = storage_host(call, source.host), storage_host(call, target.host)
    with Sessions(call) as farm:
        farm.try_open([host for host in (leaving, coming) if host is not None])
        if coming is not None and coming in farm.unreachable:
            raise farm.unreachable[coming]
        located = locate(farm, name, coming or leaving)
        if located is None:
            disks.refuse_unseen(farm)
            raise NotFound(f"{name} is on no host", hint="onevm recover --recreate makes the disk anew")
        farm.lock(located.hosts, [name.text])
        if leaving is not None and leaving in farm.sessions and leaving != coming:
            farm.call(leaving, "demote", resource=name.text)
        disks.remove_link(farm, leaving, source.path)
        if coming is not None:
            if coming not in located.hosts:
                disks.refuse_foreign_host(located, coming)
            if leaving != coming:
                disks.make_available(farm, look_again(farm, located), coming)
            farm.call(coming, "ensure_link", path=target.path, resource=name.text)
        farm.commit()


def _move_directory(call: Call, source: RemotePath, target: RemotePath) -> None:
    if source == target:
        return
    with Sessions(call) as farm:
        hosts = [host for host in (source.host, target.host) if not is_frontend(call, host)]
        farm.try_open(hosts)
        if target.host in farm.unreachable:
            raise farm.unreachable[target.host]
        there = _directory(call, farm, target)
        if source.host in farm.unreachable:
            _tell_lost(call, farm.unreachable[source.host], source)
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


def _tell_lost(call: Call, error: DncError, source: RemotePath) -> None:
    if not isinstance(error, Unreachable):
        raise error
    call.log.warn(f"{error.line()}The small files in {source.path} stay behind; OpenNebula makes new ones")
