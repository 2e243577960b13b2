"""VMM poll: one legacy line about a domain; OpenNebula's monitoring uses the probes instead (contract 2.4)."""

from __future__ import annotations

from ..grammar import parse_domain
from ..host.handover import see
from ..host.machine import Host
from ..opennebula.driver import Call
from ..tools.xl import DomainState

ARGUMENTS = ("deploy_id", "host", "vm?", "host_again?")

_LETTERS = {
    DomainState.RUNNING: "a", DomainState.BLOCKED: "a", DomainState.PAUSED: "p", DomainState.CRASHED: "e",
    DomainState.SHUTDOWN: "d", DomainState.DYING: "d",
}


def run(call: Call) -> str:
    """STATE a(ctive) p(aused) e(rror) d(isappeared), - where only half of it is here; memory in KiB."""
    name = call.arg("deploy_id")
    parse_domain(name)
    sight = see(Host(call.runner, call.config, call.log).domains.list(), name)
    domain = sight.plain
    if domain is None:
        return "STATE=-" if sight.incoming or sight.away else "STATE=d"
    return f"STATE={_LETTERS[domain.state]} USEDCPU=0.0 USEDMEMORY={domain.memory_mib * 1024}"
