"""IM vm/status: states of the VMs on this host: changes, and everything from time to time (contract 3.3)."""

from __future__ import annotations

import re
import time
from typing import Dict, Iterable, Mapping, Sequence

from ..host.hypervisor import Hypervisor
from ..host.machine import Host
from ..host.vm_places import Place, disks_of, places, vm_directories
from ..opennebula.driver import Call
from ..opennebula.monitoring import parse_configuration
from ..opennebula.vm_state import Condition, Look, memory_from_json, report
from ..tools.xl import INCOMING, MIGRATED_AWAY, DomainState
from ..tools.xl_info import ListedDomain, ShutdownReason

ARGUMENTS = ("words...",)

_NAME = re.compile(rf"one-([0-9]{{1,10}})({INCOMING}|{MIGRATED_AWAY})?\Z")
_SHORTEST_SETTLE_S = 10.0

_CONDITIONS = {
    DomainState.RUNNING: Condition.RUNNING, DomainState.BLOCKED: Condition.RUNNING,
    DomainState.PAUSED: Condition.PAUSED, DomainState.CRASHED: Condition.CRASHED,
    DomainState.SHUTDOWN: Condition.ENDED, DomainState.DYING: Condition.ENDED,
}


def run(call: Call) -> str:
    """The message for oned; empty when nothing has changed."""
    host = Host(call.runner, call.config, call.log)
    monitoring = parse_configuration(call.stdin, call.config.datastore_location, call.log)
    directories = vm_directories(monitoring.datastore_location)
    at = time.monotonic()
    conditions = _conditions(Hypervisor(call.runner, call.log).domains())
    settle = max(_SHORTEST_SETTLE_S, 3.0 * monitoring.state_period)
    look = Look(at, conditions, set(directories), settle, float(monitoring.sync_period))

    def ask(vms: Iterable[int]) -> Mapping[int, Place]:
        return places(host, {vm: disks_of(directories[vm]).values() for vm in vms})

    with host.samples.open("vm-status") as sample:
        before = memory_from_json(sample.seen)
        if before.at > at:
            return ""  # another one of us has looked later, and told it
        result = report(before, look, ask)
        # In quiet times nothing is written; what a killed probe did not tell is in the next full report.
        if result.memory._replace(at=before.at) != before:
            sample.keep(result.memory.to_json())
    return result.text


def _conditions(domains: Sequence[ListedDomain]) -> Dict[int, Condition]:
    """What each VM's domain is like. A shell that receives a migration is not the VM yet; what a migration leaves
    behind on its source is only passing."""
    found: Dict[int, Condition] = {}
    for domain in domains:
        match = _NAME.match(domain.name)
        if match is None or match[2] == INCOMING:
            continue
        vm = int(match[1])
        if match[2] is None:
            found[vm] = _condition(domain)
        else:
            found.setdefault(vm, Condition.PASSING)
    return found


def _condition(domain: ListedDomain) -> Condition:
    if domain.state is DomainState.SHUTDOWN and domain.reason == ShutdownReason.SUSPEND:
        return Condition.PASSING  # being saved, migrated or snapshot, however long its memory takes
    if domain.state is DomainState.SHUTDOWN and domain.reason == ShutdownReason.CRASH:
        return Condition.CRASHED
    return _CONDITIONS[domain.state]
