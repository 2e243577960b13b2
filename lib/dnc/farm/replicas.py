"""Replicas come to other hosts and leave them: add one, retire one, move one, and finish what was interrupted.

The caller holds the disk's locks (`find` takes them), has all its members' sessions, and commits at the end; these
functions commit by themselves wherever a step must not be taken back any more.

Which replicas count is what finished files say, the one with the highest `epoch` first (survey). Whoever comes or goes
says `joining` or `leaving`, which counts nowhere without the word of a host that stays. That is on disk before the
staying host's file changes, in one rename: so an interruption leaves the old replicas or the new ones, never both, and
a host that slept through it cannot start the VM from what it has. What is left over is noted on the members (strays).
"""

from __future__ import annotations

from typing import Dict, Iterable, NamedTuple, Optional, Sequence, Tuple

from ..errors import BadConfig, Busy, Conflict, Unreachable, Unsafe
from ..grammar import MIB, ResourceName, parse_pool
from ..tools.drbd import ResourceSpec
from . import clients, exchange, making, snapshots, strays, transfer
from .placement import Rules, allowed, rules_of
from .sessions import Sessions
from .survey import HostSurvey, Located, locate, look_again, refuse_growing, survey


class Leaving(NamedTuple):
    """The host whose replica is to go (its ssh name), and why that one."""

    host: str
    reason: str


def find(farm: Sessions, name: ResourceName, first: Optional[str]) -> Optional[Located]:
    """A resource, locked on all members that answer, with what an interrupted move left settled; None: nowhere.

    first: the host that OpenNebula named. Raises Unsafe (nobody who answers knows which replicas count), Busy.
    """
    located = locate(farm, name, first)
    while located is not None:
        farm.lock(located.hosts, [name.text])
        # Whoever had the locks before us may have moved it.
        again = locate(farm, name, first)
        if again is None or set(again.hosts) <= set(located.hosts):
            return settle(farm, again) if again is not None else None
        located = again
    return None


def settle(farm: Sessions, located: Located) -> Located:
    """Finish an interrupted move, or take back what was begun of it, and clear what lies about. Raises as `retire`.

    While a member does not answer nothing is touched: it may be the one that knows.
    """
    if located.missing:
        return located
    files = {host: located.found[host].spec for host in located.holders}
    moved = [host for host, spec in files.items() if spec is not None and (
        spec.moving or (spec.state, located.spec.state) == ("ready", "ready") and spec.epoch < located.spec.epoch)]
    if moved:
        farm.log.info(f"{located.name}: finishing an interrupted move on {' '.join(moved)}")
        request = {"spec": located.spec.to_json()}
        farm.each("change_members", dict.fromkeys(moved, request))
        farm.commit(moved)
        located = look_again(farm, located)
        _require_equal(farm, located)
    if located.spec.leaving is not None and located.complete:
        return retire(farm, located, farm.ssh_name(located.spec.leaving))
    strays.clear(farm, located)
    return located


def _require_equal(farm: Sessions, located: Located) -> None:
    """Before anything is removed that could replace them: all replicas that count are in sync."""
    if not located.spec.replicated or not located.complete:
        return
    resting = located.spec.vm is None and not any(found.up for found in located.found.values())
    making.bring_up(farm, located.hosts, located.spec)
    making.await_ready(farm, located.holders, located.spec)
    if resting:
        making.take_down(farm, located.hosts, located.name)
    farm.commit(located.hosts)


def move(
    farm: Sessions, located: Located, host: str, going: Optional[str] = None, siblings: Iterable[ResourceName] = ()
) -> Located:
    """A replica on `host` in place of another one, which goes once the new one is in sync; nobody uses the disk.

    With DRBD 9 the new one is added first, so that there is one more meanwhile. Else the disk is at rest meanwhile and
    copied byte for byte; the one that goes is not touched before the copy is proven. `going`: which one; None: the one
    that fits least (`to_retire`). siblings: the VM's other disks. In a dry run it is only told.
    Raises Unreachable, Unsafe (not equal, snapshots, rules), Busy (in use), NoSpace, Conflict, BadConfig.
    """
    if host in located.holders:
        return located
    farm.open([host])
    require_movable(farm, located, host)
    chosen = Leaving(going, "as was asked for") if going else to_retire(farm, located, host, siblings)
    volume = located.found[located.holders[0]].volume
    if volume is None:
        raise Unsafe(f"{located.name} has no volume on {located.holders[0]}", hint="is the pool imported?")
    transfer.require_room(farm, located, host, volume.bytes, f"run the VM on one of: {' '.join(located.holders)}")
    farm.log.info(f"{located.name}: its replica on {chosen.host} moves to {host}: {chosen.reason}")
    if farm.dry_run:
        _plan(farm, located, host, volume.device)
        return located
    if located.spec.replicated and making.require_dialect(farm, (located.holders[0], host)).clients:
        located = add(farm, located, host, leaving=chosen.host)
        return retire(farm, located, chosen.host)
    return exchange.exchange(farm, located, chosen.host, host, volume.bytes)


def _plan(farm: Sessions, located: Located, host: str, device: str) -> None:
    """In a dry run: tell the new host of the disk, so that the plan's later steps find it. A client knows it."""
    if host in located.clients:
        return
    alone = exchange.alone(located.spec, strays.new_member(farm, located.spec, host, device), located.spec.data_bytes)
    farm.call(host, "write_resource", spec=alone.to_json())


def require_movable(farm: Sessions, located: Located, host: str) -> None:
    """Raise unless every member answers, nobody uses the disk, and nothing hangs on one replica of it.

    Raises Unreachable, Unsafe, Busy.
    """
    for lost in located.missing:
        raise Unreachable(
            f"{located.name} gets no replica on {host} without this host", host=lost,
            hint=f"{farm.unreachable[lost].what}; until it is back run the VM on: {' '.join(located.holders)}",
        )
    _require_plain(farm, located)
    used = [one for one, found in located.found.items() if found.primary or found.intent]
    if located.spec.vm is not None:
        answers = farm.all("find_domain", located.hosts, name=f"one-{located.spec.vm}")
        used += [one for one, answer in answers.items() if answer.get("state") is not None]
    if used:
        raise Busy(f"{located.name} is in use on {' '.join(dict.fromkeys(used))}", hint="power its VM off first")


def _require_plain(farm: Sessions, located: Located) -> None:
    """Raise unless the disk is whole, and without snapshots, which no new replica would have. Raises Unsafe."""
    located.require_complete(farm)
    refuse_growing(located)
    kept = sorted(snapshots.known(farm, located))
    if kept:
        raise Unsafe(
            f"{located.name} has snapshots, which stay where they are: {' '.join(kept)}",
            hint=f"run the VM on one of: {' '.join(located.holders)}, or delete them",
        )


# -- which one goes ------------------------------------------------------------------------------------------------


def to_retire(farm: Sessions, located: Located, host: str, siblings: Iterable[ResourceName] = ()) -> Leaving:
    """The replica to go when `host` gets one: the rules of dncrc first, then the VM's other disks, then room.

    The same for the same input; of equals the one with the last name. Raises Unsafe when the rules allow none.
    """
    holders, pool, names = located.holders, parse_pool(located.spec.pool), tuple(siblings)
    answers = survey(farm, (*holders, host), names, [pool])
    rules = rules_of(farm.config)
    fitting = [one for one in holders if allowed(_instead(holders, one, host), rules)]
    if not fitting:
        raise Unsafe(
            f"{located.name} may not have replicas on {host} beside {' or '.join(holders)}",
            hint=f"HOST_PAIRS and FAILURE_DOMAINS of dncrc; run the VM on one of: {' '.join(holders)}",
        )
    if len(holders) == 1:
        return Leaving(holders[0], "there is no other")
    if len(fitting) == 1:
        return Leaving(fitting[0], _why_by_rules(rules, holders, host))
    limit = farm.config.pool_fill_limit
    beside = {one: _beside(farm, answers, names, one, host) for one in fitting}
    room = {one: answers[one].pools[str(pool)].usable(limit) for one in fitting}
    order = sorted(fitting, reverse=True)
    gone = min(order, key=lambda one: (beside[one], room[one]))
    if len(set(beside.values())) > 1:
        return Leaving(gone, f"the VM's other disks are on {host} and {' '.join(_instead(holders, gone, host)[:-1])}")
    return Leaving(gone, f"{room[gone] // MIB} MiB usable there, the least of {' '.join(fitting)}")


def _instead(holders: Sequence[str], gone: str, host: str) -> Tuple[str, ...]:
    return (*(one for one in holders if one != gone), host)


def _beside(farm: Sessions, answers: Dict[str, HostSurvey], names: Sequence[ResourceName], one: str, host: str) -> int:
    """How many of the VM's other disks have replicas on both hosts."""
    specs = [answers[host].of(name).spec for name in names]
    return sum(spec is not None and {one, host} <= set(farm.ssh_names(spec.replicas)) for spec in specs)


def _why_by_rules(rules: Rules, holders: Sequence[str], host: str) -> str:
    if any(rules.domain(one) == rules.domain(host) for one in holders):
        return f"both are in failure domain {rules.domain(host)}"
    return "only so the rules of dncrc are kept"


# -- one more, one less, while the disk is up (DRBD 9) -----------------------------------------------------------------


def add(farm: Sessions, located: Located, host: str, *, leaving: Optional[str] = None) -> Located:
    """One more replica, on `host`, in sync with the others when this returns; a VM may use the disk meanwhile.

    leaving: the one that is to go after that, noted in the files so that whoever comes later knows. Everything is
    committed on the way: once the other members know the new one, DRBD itself tells whose data are whole.
    Raises BadConfig (DRBD 8.4 has no room), Conflict (the minor is taken there), NoSpace, TimedOut, Unsafe.
    """
    name, others = located.name.text, located.holders
    if not making.require_dialect(farm, (others[0], host)).clients or not located.spec.replicated:
        raise BadConfig(f"{name} takes no more replicas while it is up", host=host, hint="that needs DRBD 9")
    _require_plain(farm, located)
    if host in located.clients:
        located = clients.dismiss(farm, located)
        farm.commit(located.hosts)
    making.bring_up(farm, located.hosts, located.spec)
    making.await_ready(farm, others, located.spec)
    after = _prepare_member(farm, located, host, leaving)
    members = tuple(one for one in located.hosts if one != host)
    farm.all("change_members", members, spec=after.to_json())
    farm.commit(members)
    making.bring_up(farm, [host], after)
    farm.commit([host])  # it goes on receiving data, whatever becomes of this action
    farm.log.info(f"{name}: {host} receives all data from {' '.join(others)}")
    making.await_ready(farm, (*others, host), after)
    farm.call(host, "change_members", spec=after.to_json())
    strays.pass_notes_on(farm, located, host)
    farm.commit([host])
    located = look_again(farm, located._replace(spec=after, hosts=(*others, host, *located.clients)))
    strays.clear(farm, located)
    return located


def _prepare_member(farm: Sessions, located: Located, host: str, leaving: Optional[str]) -> ResourceSpec:
    """A volume with fresh metadata on `host`, whose file says `joining`; the description with it as a member."""
    spec, name = located.spec, located.name.text
    size = max(found.volume.bytes for found in located.found.values() if found.volume is not None)
    strays.make_place(farm, located, host)
    if not farm.call(host, "reserve_minor", resource=name, minor=spec.minor)["reserved"]:
        raise Conflict(
            f"{name} gets no replica on {host}: its minor {spec.minor} is taken there",
            hint=f"run the VM on one of: {' '.join(located.holders)}",
        )
    member = strays.new_member(farm, spec, host, transfer.create_volume(farm, located, host, size))
    after = spec._replace(
        members=(*spec.replicas, member, *spec.clients), epoch=spec.epoch + 1,
        leaving=spec.member(strays.own_name(farm, leaving)).host if leaving else None,
    )
    # Not stamped with day0: the volume is empty, the replicas began with the image.
    farm.call(host, "write_resource", spec=after._replace(state="making", day0=None).to_json())
    farm.call(host, "create_metadata", resource=name)
    knowing = tuple(one.host for one in spec.replicas)
    farm.call(host, "write_resource", spec=after._replace(state="joining", image_hosts=knowing).to_json())
    farm.commit([host])
    return after


def retire(farm: Sessions, located: Located, host: str) -> Located:
    """The replica on `host` goes, all others in sync; a VM may use the disk on another host meanwhile (DRBD 9).

    Raises Unsafe (fewer than two would stay), Busy (Primary there), TimedOut.
    """
    spec, name = located.spec, located.name.text
    rest = tuple(one for one in located.holders if one != host)
    if len(rest) < 2:
        raise Unsafe(f"{name} keeps fewer than two replicas without {host}", hint="move it, or add one first")
    if located.found[host].primary:
        raise Busy(f"{name} is Primary on {host}", hint="migrate its VM first")
    making.bring_up(farm, located.hosts, spec)
    making.await_ready(farm, located.holders, spec)
    own = strays.own_name(farm, host)
    after = spec._replace(
        members=tuple(one for one in spec.members if one.host != own), epoch=spec.epoch + 1, leaving=None
    )
    strays.leave(farm, located, host, rest)
    making.take_down(farm, [host], located.name)
    staying = tuple(one for one in located.hosts if one != host)
    farm.all("change_members", staying, spec=after.to_json())
    farm.commit(staying)
    making.await_ready(farm, rest, after)
    found = {one: located.found[one] for one in staying}
    located = look_again(farm, located._replace(spec=after, hosts=staying, found=found))
    strays.clear(farm, located)
    return located


