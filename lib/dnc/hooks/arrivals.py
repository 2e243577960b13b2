"""Moves as this host sees them: who has come is here; where who has left may be is told by its disks."""

from __future__ import annotations

import os
from typing import List, Sequence, Set

from ..errors import BadInput
from ..grammar import parse_domain
from ..host.machine import Host
from ..opennebula.api import same_host
from ..opennebula.driver import Call
from ..tools.status import Role
from .queue import Move


def own_name(call: Call) -> str:
    """This host as HOSTS calls it, else by `uname -n`."""
    here = os.uname().nodename
    return next((one for one in call.config.hosts if same_host(one, here)), here)


def arrived(call: Call, names: Sequence[str]) -> List[Move]:
    """A move to this host for each domain of OpenNebula among `names`."""
    here = own_name(call)
    return [Move(vm, "", here, call.started) for vm in _numbers(names)]


def departed(call: Call, names: Sequence[str]) -> List[Move]:
    """A move for each domain whose disks one other host has Primary; those that just ended have none.

    What this host's own role is says nothing: after `xl migrate` by hand it stays Primary until somebody settles it.
    """
    here = own_name(call)
    host = Host(call.runner, call.config, call.log)
    specs = host.resource_files.all()
    moves: List[Move] = []
    for vm in _numbers(names):
        mine = {name: spec for name, spec in specs.items() if spec.vm == vm and spec.replicated}
        peers: Set[str] = set()
        for status in host.resources.statuses(mine).values() if mine else ():
            peers.update(peer.host for peer in status.peers if peer.role is Role.PRIMARY)
        if len(peers) == 1:
            there = peers.pop()
            moves.append(Move(vm, here, next((one for one in call.config.hosts if same_host(one, there)), there),
                              call.started))
    return moves


def _numbers(names: Sequence[str]) -> List[int]:
    """VMs among the domains; others are not OpenNebula's."""
    found: List[int] = []
    for name in names:
        try:
            found.append(parse_domain(name))
        except BadInput:
            continue
    return found
