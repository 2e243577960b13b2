"""Making oned know that a domain is on another host: ask, look, tell, follow, settle."""

from __future__ import annotations

from ..errors import Busy, NotFound, TimedOut, Unsafe
from ..host.waiting import Patience
from ..opennebula.api import Api, KnownHost, VmRecord, by_name, same_host
from ..opennebula.driver import Call
from .places import require_moved
from .queue import Move
from .routes import Route, advice, choose
from .settling import settle

# What oned does after the call takes seconds: one session of the driver's to each host, or the same for each disk.
FOLLOW_S = 120.0
_INTERVAL_S = 0.5
_AT_REST = ("RUNNING", "POWEROFF", "SUSPENDED", "UNKNOWN")


def tell(call: Call, api: Api, move: Move, patience: Patience) -> str:
    """Make oned know, and wait until it shows the VM there; what was done, as one line.

    Raises Busy, Unreachable, TimedOut: it has to be tried again. Raises Unsafe, NotFound: never by itself.
    """
    record = api.vm(move.vm)
    if record is None:
        return f"{move.name}: oned knows no VM {move.vm}: nothing to do"
    route = choose(record, same_host(record.host, move.destination))
    if route is Route.NOTHING:
        what = "is DONE" if record.done else f"is {record.status} on {record.host}"
        return f"{move.name} {what} in OpenNebula: nothing to do"
    if route is Route.PERSON:
        raise Unsafe(f"VM {move.vm} is {record.status}, and runs on {move.destination}", hint=advice(record))
    if route is Route.WAIT:
        raise Busy(f"OpenNebula works on VM {move.vm}: {record.status}")
    target = _target(api, move)
    require_moved(call, move, record.host)
    if call.runner.dry_run:
        call.log.info(f"would tell oned to migrate VM {move.vm} to {target.name} ({route.value})")
        return f"{move.name}: {record.status} on {record.host}, would become {target.name}'s"
    call.log.info(f"{move.name} is {record.status} on {record.host} in OpenNebula: migrate ({route.value})")
    api.migrate(move.vm, target.id, live=route is Route.LIVE)
    after = _follow(api, move, target, record, patience)
    settle(call, move, record, after)
    return f"{move.name}: OpenNebula has it on {after.host} now, {after.status}"


def _target(api: Api, move: Move) -> KnownHost:
    hosts = api.hosts()
    target = by_name(hosts, move.destination)
    if target is None:
        known = " ".join(sorted(host.name for host in hosts)) or "none that this user may see"
        raise NotFound(f"oned knows no host {move.destination}", hint=f"it knows: {known[:200]}")
    if target.offline:
        raise Unsafe(f"host {target.name} is OFFLINE in OpenNebula", hint=f"onehost enable {target.name}, then again")
    return target


def _follow(api: Api, move: Move, target: KnownHost, before: VmRecord, patience: Patience) -> VmRecord:
    """Until the VM is at the target and nothing works on it. Raises Busy (it was refused on the way), TimedOut."""
    deadline = patience.now() + FOLLOW_S
    interval = _INTERVAL_S
    while True:
        record = api.vm(move.vm)
        if record is None or record.done:
            raise NotFound(f"VM {move.vm} was terminated meanwhile")
        if record.status.endswith("_FAILURE"):
            raise Unsafe(f"VM {move.vm} is {record.status}: {record.error[:120]}", hint=advice(record))
        if record.status in _AT_REST:
            if record.host == target.name:
                return record
            raise Busy(f"VM {move.vm} is {record.status} on {record.host} again: {record.error[:160] or 'see its log'}")
        patience.turn(deadline, interval, lambda: TimedOut(
            f"VM {move.vm} is not on {target.name} in OpenNebula within {FOLLOW_S:.0f} s (was {before.status})"
        ))
        interval = min(5.0, interval * 1.5)
