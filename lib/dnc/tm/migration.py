"""What premigrate, postmigrate and failmigrate share: argv and the VM document on stdin (contract 1.2)."""

from __future__ import annotations

from typing import Tuple

from ..errors import BadInput, DncError
from ..farm.migration import Move, settle
from ..farm.sessions import Sessions
from ..grammar import parse_host, parse_id, parse_path
from ..opennebula.datastore import parse_encoded_vm
from ..opennebula.driver import Call
from ..opennebula.vm import DiskKind, VmDocument

ARGUMENTS = ("source", "destination", "directory", "vm", "datastore", "tm?")


def parse_move(call: Call) -> Tuple[Move, VmDocument]:
    """The migration that oned means. Raises BadInput, DncError (between datastores of one host)."""
    vm = parse_encoded_vm(call.stdin)
    number = parse_id(call.arg("vm"), "VM id")
    if vm.id != number:
        raise BadInput(f"the document on stdin is that of VM {vm.id}, not {number}")
    move = Move(
        vm=vm.id, domain=vm.domain, source=parse_host(call.arg("source")),
        destination=parse_host(call.arg("destination")),
        directory=parse_path(call.arg("directory")),
        disks=tuple((disk.id, disk.resource(vm.id)) for disk in vm.managed_disks),
    )
    return move, vm


def refuse_unmovable(move: Move, vm: VmDocument) -> None:
    """Raise for what cannot migrate live at all."""
    if move.source == move.destination:
        raise DncError(
            f"VM {vm.id} runs: no move between datastores of one host",
            hint='set DS_LIVE_MIGRATE="NO", or power it off first',
        )
    for disk in vm.disks:
        if disk.kind is DiskKind.FOREIGN:
            raise DncError(f"disk {disk.id} of VM {vm.id} is not dnc's: no live migration", hint="detach it first")


def settle_move(call: Call, keep: str) -> None:
    """Look at both hosts, settle both; `keep` says whose directory stays: that of "source" or "destination".

    A migration between datastores of one host never began. Raises DncError.
    """
    move, _vm = parse_move(call)
    if move.source == move.destination:
        return
    with Sessions(call) as farm:
        settle(farm, move, keep=parse_host(call.arg(keep)))
        farm.commit()
