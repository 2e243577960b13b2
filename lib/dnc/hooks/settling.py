"""After oned has been told: what made the move possible is taken back, as postmigrate does for a migration of its own.

A cold route runs no postmigrate, and a failing one is ignored (design rule 2).
"""

from __future__ import annotations

from typing import List

from ..errors import DncError
from ..farm import migration
from ..farm.sessions import Sessions
from ..farm.survey import try_survey
from ..grammar import ResourceName, parse_resource
from ..opennebula.api import VmRecord
from ..opennebula.driver import Call
from .places import ssh_name
from .queue import Move


def settle(call: Call, move: Move, before: VmRecord, after: VmRecord) -> None:
    """Roles and two-primaries of the VM's disks between its old hosts and the new one, where an intent is left.

    What does not work now is told, and no failure: the next action on the VM, or whatever looks, tries it again.
    """
    there = ssh_name(call, move.destination)
    hosts = [ssh_name(call, host) for host in (before.host, move.source) if host]
    try:
        for source in dict.fromkeys(host for host in hosts if host != there):
            _settle(call, move, source, there, after)
    except DncError as error:
        call.log.warn(f"{move.name}: its disks are not settled yet: {error.line()}")


def _settle(call: Call, move: Move, source: str, there: str, after: VmRecord) -> None:
    with Sessions(call) as farm:
        farm.try_open((source, there))
        names = _with_intent(farm, move.vm)
        if not names:
            return
        directory = f"{call.config.datastore_location}/{after.datastore}/{move.vm}"
        disks = tuple(enumerate(names))
        migration.settle(farm, migration.Move(move.vm, move.name, source, there, directory, disks), keep=there)
        farm.commit()
        call.log.info(f"{move.name}: settled {' '.join(name.text for name in names)}")


def _with_intent(farm: Sessions, vm: int) -> List[ResourceName]:
    """Disks of the VM that two hosts may still be Primary of."""
    found = {
        name for answer in try_survey(farm, farm.hosts, None).values() for name, one in answer.resources.items()
        if one.intent is not None and one.intent.get("vm") == vm
    }
    return [parse_resource(name) for name in sorted(found)]
