"""TM delete: a VM's disk or its directory goes away (contract 1.2, 1.5; observations 1 and 2).

It comes for persistent images too, for disks that never were, with dead hosts and with the frontend as host, and
while a clone or deploy of the same disk still runs. What the disk is, the VM document tells; absent is success.
"""

from __future__ import annotations

from typing import List, Optional

from ..errors import Unreachable
from ..farm import disks
from ..farm.removal import Removal, forget_move, release
from ..farm.sessions import Sessions
from ..farm.survey import locate, look_again, survey
from ..grammar import PoolSpec, ResourceName, parse_id
from ..opennebula.driver import Call
from ..opennebula.oned import require_hosts, vm_info
from ..opennebula.paths import DiskPath, RemotePath, is_disk_path, parse_disk_path, parse_remote_path
from ..opennebula.vm import Disk, DiskKind, VmDocument
from .hosts import frontend_directory, is_frontend, storage_host

ARGUMENTS = ("path", "vm", "datastore")


def run(call: Call) -> None:
    """One disk, or the directory with what is left in it."""
    vm = parse_id(call.arg("vm"), "VM id")
    if is_disk_path(call.arg("path")):
        _delete_disk(call, parse_disk_path(call.arg("path")), vm_info(vm))
    else:
        _delete_directory(call, parse_remote_path(call.arg("path")))


def _delete_disk(call: Call, place: DiskPath, vm: VmDocument) -> None:
    disk = next((disk for disk in vm.disks if disk.id == place.disk), None)
    host = storage_host(call, place.host)
    domain = vm.domain if vm.being_removed else None
    with Sessions(call) as farm:
        if disk is None:
            _delete_unknown(farm, place, vm, host)
        elif disk.kind is DiskKind.PERSISTENT:
            _unlink_persistent(farm, disk.resource(vm.id), place, vm, host)
        elif disk.kind is DiskKind.FOREIGN:
            call.log.info(f"disk {disk.id} of VM {vm.id} is not dnc's: left to the directory's removal")
        else:
            Removal(farm, disk.resource(vm.id), _pools(call, disk), domain).run(host, place.path)
            _reclaim_imports(farm, disk)
        if farm.sessions:
            farm.commit()
    require_hosts(call, vm, place.disk, ())


def _reclaim_imports(farm: Sessions, disk: Disk) -> None:
    if disk.file:
        from ..farm.imports import reclaim  # only file-based datastores pay for it

        reclaim(farm)


def _pools(call: Call, disk: Disk) -> List[PoolSpec]:
    return [disk.pool, call.config.pool] if disk.pool else [call.config.pool]


def _delete_unknown(farm: Sessions, place: DiskPath, vm: VmDocument, host: Optional[str]) -> None:
    """The document has no such disk (any more): only what bears this VM's and disk's number may go."""
    farm.try_open(farm.config.hosts)
    if not farm.sessions:
        raise next(iter(farm.unreachable.values()), Unreachable("no hosts are configured"))
    known = survey(farm, farm.hosts, None)
    names = {found.spec.name for answer in known.values() for found in answer.resources.values() if found.spec}
    for name in disks.own_names(names, vm.id, place.disk):
        Removal(farm, name, [farm.config.pool], None).run(host, place.path)


def _unlink_persistent(
    farm: Sessions, name: ResourceName, place: DiskPath, vm: VmDocument, host: Optional[str]
) -> None:
    """An image outlives every VM: unlink it and put it to rest, as far as hosts answer."""
    image = locate(farm, name, host)
    if image is None or not image.hosts:
        farm.log.info(f"{name} is on no host that answers: nothing to unlink")
        return
    disks.give_up(farm, image.hosts, name)
    farm.lock(image.hosts, [name.text], ignore_given_up=True)
    image = look_again(farm, image)
    if image.spec.vm == vm.id:
        held = any(found.primary for found in image.found.values())
        up = [one for one, found in image.found.items() if found.up]
        if held and vm.being_removed:
            release(farm, up, name, vm.domain, held=True)
            image = look_again(farm, image)
        forget_move(farm, image.found.values(), host, place.path)
        disks.release_persistent(farm, image, vm.id)
    disks.remove_link(farm, host, place.path)


def _delete_directory(call: Call, place: RemotePath) -> None:
    if is_frontend(call, place.host):
        frontend_directory(call, place.path).remove()
        return
    with Sessions(call) as farm:
        try:
            farm.open([place.host])
        except Unreachable as error:
            # What is left there is links to disks that are gone; a dead host must not stop the removal of its VMs.
            call.log.warn(f"{error.line()}{place} is left there")
            return
        farm.call(place.host, "remove_directory", path=place.path)
        farm.commit()

