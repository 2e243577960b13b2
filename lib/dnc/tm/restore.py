"""TM restore: disks of a powered-off VM become what they were in a backup (contract 1.2, 1.4)."""

from __future__ import annotations

from typing import List, Optional

from ..errors import BadInput, NotFound
from ..farm import restoring
from ..farm.backup_stream import check_url
from ..farm.importer import Spool
from ..farm.restoring import Wanted
from ..farm.sessions import Sessions
from ..grammar import ResourceName, parse_id
from ..opennebula.backups import Contents, contents
from ..opennebula.driver import Call
from ..opennebula.paths import parse_remote_path
from ..opennebula.vm import DiskKind

ARGUMENTS = ("directory", "vm", "image", "increment", "disk")


def run(call: Call) -> None:
    """One disk or all that the backup has; their data on all members before any disk is exchanged.

    OpenNebula forgets the snapshots of all non-persistent disks with it: they are removed.
    """
    host, _directory = parse_remote_path(call.arg("directory"))
    vm, image = parse_id(call.arg("vm"), "VM id"), parse_id(call.arg("image"), "image id")
    increment, disk = _number(call.arg("increment"), "increment"), _number(call.arg("disk"), "DISK_ID")
    found = contents(call.remotes, call.runner, vm, image, -1 if increment is None else increment)
    wanted = _wanted(call, found, image, disk)
    with Sessions(call) as farm, Spool() as place:
        restoring.restore(farm, call.runner, call.remotes, host, wanted, place)
        restoring.forget_snapshots(farm, _forgotten(found), host)
        farm.commit()
    call.log.info(f"VM {vm}: {' '.join(one.name.text for one in wanted)} as in backup image {image}")


def _number(text: str, what: str) -> Optional[int]:
    """None for -1: the last increment, all disks."""
    return None if text == "-1" else parse_id(text, what)


def _wanted(call: Call, found: Contents, image: int, only: Optional[int]) -> List[Wanted]:
    """The disks to restore. Raises NotFound, BadInput."""
    if only is not None and only not in found.urls:
        raise NotFound(f"backup image {image} has no disk {only}", hint="oneimage show lists its disks")
    present = {disk.id: disk for disk in found.vm.disks}
    wanted = []
    for number, url in sorted(found.urls.items()):
        if only not in (None, number):
            continue
        if number not in present and only is None:
            call.log.warn(f"VM {found.vm.id} has no disk {number} any more: left out")
            continue
        check_url(url)
        wanted.append(Wanted(found.vm.disk(number).resource(found.vm.id), url))
    if not wanted:
        raise BadInput(f"backup image {image} has no disk of VM {found.vm.id}")
    return wanted


def _forgotten(found: Contents) -> List[ResourceName]:
    """Disks whose snapshots OpenNebula knows no more after this: those of persistent images stay."""
    vm = found.vm
    disks = [disk for disk in vm.managed_disks if disk.id in vm.disks_with_snapshots]
    return [disk.resource(vm.id) for disk in disks if disk.kind is not DiskKind.PERSISTENT]
