"""What the actions on a VM's backups share: argv, the document on stdin, which disks are meant (contract 1.2, 1.4)."""

from __future__ import annotations

import base64
import os
from typing import Dict, NamedTuple, Sequence, Tuple

from ..errors import BadInput, DncError
from ..farm.backups import FULL, Backup, Chain, Place, tidy
from ..farm.sessions import Sessions
from ..grammar import ResourceName, parse_id
from ..opennebula.backups import BackupConfig, FsFreeze, base_path, parse_backup
from ..opennebula.driver import Call
from ..opennebula.paths import parse_remote_path
from ..opennebula.vm import DiskKind, VmDocument

ARGUMENTS = ("directory", "disks", "domain", "job", "vm", "datastore")


class Order(NamedTuple):
    """What is to be saved, and where the files are expected."""

    vm: VmDocument
    config: BackupConfig
    place: Place
    disks: Dict[int, ResourceName]


def parse_order(call: Call) -> Order:
    """argv and stdin. Raises BadInput."""
    document, config = parse_backup(call.stdin)
    vm = parse_id(call.arg("vm"), "VM id")
    host, directory = parse_remote_path(call.arg("directory"))
    if document.id != vm or os.path.basename(directory) != str(vm):
        raise BadInput(f"argv is about VM {vm}, the document or the path is not")
    place = Place(config.bridge or host, base_path(call.remotes, os.path.dirname(directory)), vm)
    wanted = [parse_id(word, "DISK_ID") for word in call.arg("disks").split(":") if word]
    return Order(document, config, place, _disks(call, document, wanted))


def _disks(call: Call, vm: VmDocument, wanted: Sequence[int]) -> Dict[int, ResourceName]:
    """The resources of these disks. OpenNebula 6.10 also names what can hold nothing of the user's."""
    found: Dict[int, ResourceName] = {}
    for number in wanted:
        disk = vm.disk(number)
        if disk.swap or disk.cdrom:
            call.log.info(f"disk {number} is {'swap' if disk.swap else 'a CD-ROM'}: not backed up")
            continue
        if disk.kind is DiskKind.FOREIGN:
            raise BadInput(
                f"disk {number} of VM {vm.id} is of another driver: no backup with it",
                hint="leave it out with DISK_IDS in BACKUP_CONFIG",
            )
        found[number] = disk.resource(vm.id)
    return found


def make(call: Call) -> None:
    """All disks at one moment; whether the VM runs is seen on the hosts, not believed (rule 4)."""
    _answer_to_cancel(call)
    order = parse_order(call)
    if order.config.interactive:
        raise DncError("interactive backups are not supported by dnc", hint="INTERACTIVE=NO in BACKUP_CONFIG")
    if not order.disks:
        raise BadInput(f"VM {order.vm.id} has no disk to back up")
    if order.config.fs_freeze is FsFreeze.AGENT:
        call.log.warn("FS_FREEZE=AGENT: Xen reaches no agent in the guest, which is paused instead, as by SUSPEND")
    chain = Chain(order.config.last_increment) if order.config.increments else None
    with Sessions(call) as farm:
        pause = order.config.fs_freeze is not FsFreeze.NONE
        backup = Backup(farm, order.place, order.vm.domain, chain=chain, pause=pause)
        backup.make(order.disks, base64.encodebytes(call.stdin))
        farm.commit()
    kind = "full" if chain is None else f"increment {chain.number}"
    call.log.info(f"{kind} backup of VM {order.vm.id}, disks {call.arg('disks')}, in {order.place.path}")


def _answer_to_cancel(call: Call) -> None:
    """`onevm backup-cancel` ends, by SIGTERM, the processes named ruby that run a prebackup of the VM: so be one.

    OpenNebula's own prebackup is Ruby; its backup_cancel asks `ps -C ruby` and knows no other.
    """
    try:
        with open("/proc/self/comm", "w", encoding="ascii") as stream:
            stream.write("ruby")
    except OSError as error:
        call.log.debug(f"backup-cancel will not reach this process: {error}")


def clean(call: Call) -> None:
    """Remove the files and what else a backup left. A failure is told only: the next backup, or the VM's end, has it.

    As with the shipped drivers: a backup that is stored must not count as failed because of what it left behind.
    """
    order = parse_order(call)
    try:
        with Sessions(call) as farm:
            tidy(farm, order.place, order.disks, _kept(order.config))
            farm.commit()
    except DncError as error:
        call.log.warn(error.line())


def _kept(config: BackupConfig) -> Tuple[str, ...]:
    """Snapshots that the next increment is compared with, whether this one was stored or not."""
    if not config.increments:
        return ()
    numbers = (config.last_increment, config.last_increment + 1)
    return tuple(f"{FULL}-{number}" for number in numbers if number >= 0)
