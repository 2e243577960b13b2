"""Where a domain really is, found out by looking, before oned is told anything (design rule 4).

A domain counts where it has its plain name and executes: not as the shell of a migration (--incoming), not as what
one leaves behind (--migratedaway), not while it is paused.
"""

from __future__ import annotations

import os
from typing import Dict, Iterable, List, NamedTuple, Optional

from ..errors import Busy, DncError, Unreachable, Unsafe
from ..farm.sessions import Sessions
from ..host.handover import see
from ..host.machine import Host
from ..opennebula.api import same_host
from ..opennebula.driver import Call
from ..tools.xl import DomainState
from .queue import Move


class Sight(NamedTuple):
    """What a host has of a domain. passing: half of a migration is there."""

    state: Optional[DomainState]
    passing: bool

    @property
    def runs(self) -> bool:
        """Whether the guest executes there."""
        return self.state is not None and self.state.alive


def require_moved(call: Call, move: Move, believed: str) -> None:
    """Return when the domain runs at the destination and at none of the other hosts that answer.

    believed: where oned has it. Raises Busy (it is on its way, or paused), Unsafe (it runs elsewhere, or twice, or
    nowhere), Unreachable (the destination cannot be looked at).
    """
    others = [host for host in dict.fromkeys((believed, move.source)) if host and not same_host(host, move.destination)]
    sights = _look(call, move, others)
    there = sights[move.destination]
    running = [host for host in others if host in sights and sights[host].runs]
    if there.runs and running:
        raise Unsafe(
            f"{move.name} runs on {move.destination} and on {running[0]}",
            hint="a person must decide which one to destroy (xl destroy)",
        )
    if there.runs:
        return
    if running:
        raise Unsafe(
            f"{move.name} runs on {running[0]}, not on {move.destination}", hint="nothing was told to oned: check argv"
        )
    if there.state is DomainState.PAUSED or any(sight.passing for sight in sights.values()):
        raise Busy(f"{move.name} is paused, or on its way to {move.destination}")
    raise Unsafe(
        f"{move.name} does not run on {move.destination}", hint="nothing was told to oned: start VMs with onevm resume"
    )


def _look(call: Call, move: Move, others: List[str]) -> Dict[str, Sight]:
    """The destination, in process when that is this host, and those of the others that answer, all at once."""
    here = os.uname().nodename
    sights: Dict[str, Sight] = {}
    for host in (move.destination, *others):
        if same_host(host, here) and _is_host(call, host):
            sights[host] = look_here(call, move.name)
    missing = [host for host in (move.destination, *others) if host not in sights]
    if missing:
        sights.update(_look_there(call, move, missing))
    return sights


def _is_host(call: Call, host: str) -> bool:
    """Whether this machine, which has that name, is one of HOSTS and has xl: a frontend may share the first label."""
    known = any(same_host(host, one) for one in call.config.hosts)
    return known and any(os.access(f"{place}/xl", os.X_OK) for place in ("/usr/sbin", "/sbin"))


def look_here(call: Call, name: str) -> Sight:
    """This host's own domain. Raises ToolFailed, NoPrivilege."""
    sight = see(Host(call.runner, call.config, call.log).domains.list(), name)
    halves = sight.incoming is not None or sight.away is not None
    return Sight(sight.plain.state if sight.plain else None, halves)


def _look_there(call: Call, move: Move, hosts: Iterable[str]) -> Dict[str, Sight]:
    with Sessions(call) as farm:
        wanted = {host: ssh_name(call, host) for host in hosts}
        unreachable = farm.try_open(wanted.values())
        for host, error in unreachable.items():
            if host == wanted.get(move.destination):
                raise _unseen(error, move)
            call.log.info(f"not looked at: {error.line()}")
        open_hosts = {host: name for host, name in wanted.items() if name in farm.sessions}
        answers, errors = farm.try_each("find_domain", {name: {"name": move.name} for name in open_hosts.values()})
        for host, name in open_hosts.items():
            if name in errors and host == move.destination:
                raise errors[name]
            if name in errors:
                call.log.info(f"not looked at: {errors[name].line()}")
        return {host: _sight(answers[name]) for host, name in open_hosts.items() if name in answers}


def _unseen(error: DncError, move: Move) -> DncError:
    """On the frontend this passes; on a host without keys for the others it does not."""
    return Unreachable(
        f"{move.destination} cannot be looked at: {error.what}",
        hint="call this on the frontend or on the destination, or wait until it answers",
    )


def ssh_name(call: Call, host: str) -> str:
    """A host by the name in HOSTS, which is what sessions are opened to; another name stays as it is."""
    return next((one for one in call.config.hosts if same_host(one, host)), host)


def _sight(answer: Dict[str, object]) -> Sight:
    state = answer.get("state")
    return Sight(DomainState(state) if state else None, bool(answer.get("incoming") or answer.get("away")))
