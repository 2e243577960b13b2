"""Snapshots of a disk on all its members at once, equal by proof; reverting to one; removing it (design rules 1, 11).

A snapshot counts once every member has it and the barrier around all of them was seen to hold: then each member
records the proof with it. A snapshot without one was left by an interrupted action, and is nobody's.
"""

from __future__ import annotations

import secrets
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..errors import Busy, DncError, NotFound, Unsafe
from ..grammar import ResourceName
from ..tools import drbd
from ..tools.drbd import ResourceSpec
from . import making
from .session import Answer
from .sessions import Sessions
from .survey import Located, locate, look_again, refuse_growing, refuse_half_made


class Known(NamedTuple):
    """A snapshot as the members know it: label, its proof by host (None: not proven there), bytes."""

    label: str
    proofs: Mapping[str, Optional[str]]
    bytes: int

    def proof_on(self, hosts: Sequence[str]) -> Optional[str]:
        """The one proof of all these hosts, None unless all have it."""
        found = {self.proofs.get(host) for host in hosts}
        return found.pop() if len(found) == 1 else None


def find(farm: Sessions, name: ResourceName, host: Optional[str]) -> Located:
    """A disk whose members all answer, locked. `host`: where OpenNebula has it, None for the frontend."""
    located = locate(farm, name, host)
    if located is None:
        raise next(iter(farm.unreachable.values()), NotFound(f"{name} is on no host"))
    located.require_all(farm)
    farm.lock(located.hosts, [name.text])
    return look_again(farm, located)


def known(farm: Sessions, located: Located, *, room: bool = False) -> Dict[str, Known]:
    """All snapshots of a disk by label. room: raise NoSpace when a pool is too full for one more."""
    answers = farm.all("snapshots", located.holders, resource=located.name.text, room=room)
    found = {host: answer["snapshots"] for host, answer in answers.items()}
    labels = dict.fromkeys(label for mine in found.values() for label in mine)
    return {label: _known(label, {host: mine[label] for host, mine in found.items() if label in mine})
            for label in labels}


def _known(label: str, members: Mapping[str, Answer]) -> Known:
    return Known(
        label, {host: one["proof"] for host, one in members.items()}, max(int(one["bytes"]) for one in members.values())
    )


# -- making ------------------------------------------------------------------------------------------------------


def create(farm: Sessions, located: Located, label: str, domain: Optional[str], *, lasting: bool = True) -> str:
    """A snapshot on all members; the guest, if it runs, waits as long as the commands take. Returns the proof.

    One that an earlier run finished is accepted. `domain` is the VM's. Not lasting: the proof is not recorded, so that
    the next action takes it for a left-over if this one does not remove it. Raises Unsafe (not in sync, or the barrier
    broke: nothing is left then), NoSpace, Busy, Unreachable.
    """
    refuse_half_made(located)
    refuse_growing(located)
    refuse_moving(located)
    before = known(farm, located, room=True)
    earlier = before[label].proof_on(located.holders) if label in before else None
    if earlier is not None:
        farm.log.info(f"{located.name}: snapshot {label} was made by an earlier run, accepted")
        return earlier
    for one in before.values():
        if one.label == label or not any(one.proofs.values()):
            farm.log.info(f"{located.name}: removing snapshot {one.label}, left by an interrupted action")
            remove_label(farm, located, one.label)
    proof = _take(farm, located, label, domain)
    if lasting:
        farm.all("prove_snapshot", located.holders, resource=located.name.text, snapshot=label, proof=proof)
    return proof


def refuse_moving(located: Located) -> None:
    """Raise Busy while a live migration is under way."""
    if any(found.intent for found in located.found.values()):
        raise Busy(f"{located.name} is being migrated", hint="try again when the VM has arrived")


def _take(farm: Sessions, located: Located, label: str, domain: Optional[str]) -> str:
    """The snapshots themselves; why they are equal."""
    request: Answer = {"resource": located.name.text, "snapshot": label}
    if not located.spec.replicated:
        farm.all("create_snapshot", located.holders, **request)
        return "single"
    place = primary(farm, located)
    if place is not None:
        _take_behind_barrier(farm, located, place, request, domain)
        return f"barrier:{secrets.token_hex(8)}"
    resting = not any(found.up for found in located.found.values())
    if resting:
        proof = making.proof_of_rest(farm, located)
        if proof is None:
            raise Unsafe(f"{located.name}: its replicas are not proven equal", hint="bring it up once, let it resync")
    else:
        require_idle(located)
        proof = "idle"
    farm.all("create_snapshot", located.holders, **request)
    if not resting:
        # Whoever promoted it meanwhile, in spite of our lock, has spoilt it.
        require_idle(look_again(farm, located))
    # The number makes each snapshot's proof its own.
    return f"{proof}:{secrets.token_hex(8)}"


def primary(farm: Sessions, located: Located) -> Optional[str]:
    """The host that may write to the disk, by its ssh name; its session is open. Raises Unsafe when there are two."""
    statuses = [(host, found.status) for host, found in located.found.items() if found.status is not None]
    places = {host for host, _ in statuses if located.found[host].primary}
    for _, status in statuses:
        places |= {farm.ssh_name(peer.host) for peer in status.peers if peer.role is drbd.Role.PRIMARY}
    if len(places) > 1:
        raise Unsafe(f"{located.name} is Primary on {' '.join(sorted(places))}", hint="is it being migrated?")
    farm.open(places)
    return places.pop() if places else None


def require_idle(located: Located) -> None:
    """Raise unless all members are up, in sync, and nobody may write."""
    for host, found in located.found.items():
        if host in located.clients and found.status is None:
            continue
        if found.status is None or not found.status.ready or found.primary:
            seen = found.status.summary() if found.status else "down"
            raise Unsafe(f"{located.name} is not idle and in sync on {host}: {seen}", hint="wait for its resync")


def _take_behind_barrier(
    farm: Sessions, located: Located, place: str, request: Answer, domain: Optional[str]
) -> None:
    """Freeze, take all snapshots, thaw. The Primary's host takes its own without another word from here."""
    session = farm.sessions[place]
    frozen = session.send("freeze", {"resources": [located.name.text], "domain": domain})
    own = session.send("create_snapshot", request) if place in located.holders else None
    try:
        session.receive(frozen)
        farm.each("create_snapshot", {host: request for host in located.holders if host != place})
        if own is not None:
            session.receive(own)
    except DncError:
        farm.try_each("thaw", {place: {}})
        raise
    thawed = farm.call(place, "thaw")
    farm.log.info(f"{located.name}: the guest was frozen for {float(thawed['seconds']) * 1000:.0f} ms")
    if not thawed["intact"]:
        raise Unsafe(
            f"{located.name}: the barrier broke during the snapshot", hint="nothing of it is kept; try again"
        )


# -- removing ----------------------------------------------------------------------------------------------------


def remove_label(farm: Sessions, located: Located, label: str) -> None:
    """Remove a snapshot on all members, also one with children; absent is success."""
    farm.all("remove_snapshot", located.holders, resource=located.name.text, snapshot=label)


def refuse_unsettled(located: Located) -> None:
    """Raise while a revert is half done: which head counts is open until it is repeated."""
    if any(found.spec is not None and found.spec.reverting for found in located.found.values()):
        refuse_half_made(located)


# -- reverting ---------------------------------------------------------------------------------------------------


def revert(farm: Sessions, located: Located, label: str) -> ResourceSpec:
    """The disk is again as it was in that snapshot, on all members, without a resync; younger snapshots stay.

    Members whose snapshot has no proof, or who have none, are copied from the others. The disk is up afterwards,
    Secondary, unless it was at rest; the caller commits, then calls `settle`. Raises NotFound, Busy (in use), Unsafe.
    """
    require_revertible(located)
    snapshot = known(farm, located).get(label)
    if snapshot is None:
        raise NotFound(f"{located.name} has no snapshot {label}", hint="onevm show lists the snapshots")
    good, proof = _best(snapshot, located)
    farm.all("prepare_revert", good, resource=located.name.text, snapshot=label)
    return exchange(farm, located, label, good, proof)


def exchange(farm: Sessions, located: Located, label: str, good: Sequence[str], proof: str) -> ResourceSpec:
    """What was prepared on these members, equal by proof, takes the volume's place; the others copy it from them.

    The disk is up afterwards, Secondary, unless it was at rest; the caller commits, then calls `settle`.
    """
    name = located.name.text
    resting = located.spec.replicated and located.spec.vm is None and not any(
        found.up for found in located.found.values())
    spec = located.spec._replace(state="making", proof=f"{drbd.REVERT}{label}")
    if spec.replicated:
        # The contents begin anew: what was written since the old UUID says nothing about them.
        spec = spec._replace(day0=making.require_dialect(farm, located.holders).new_day0())
    farm.all("write_resource", located.hosts, spec=spec.to_json())
    making.take_down(farm, located.hosts, located.name)
    farm.all("swap_volume", good, resource=name)
    if spec.replicated:
        _join(farm, located, spec, good, proof)
        if resting:
            making.take_down(farm, located.hosts, located.name)
    spec = spec._replace(state="ready", proof=proof)
    making.finish(farm, located.hosts, spec)
    return spec


def require_revertible(located: Located) -> None:
    """Raise Busy, Unsafe unless the disk is complete, or half reverted, and nobody uses it."""
    for host, found in located.found.items():
        if found.spec is None or not (found.spec.state == "ready" or found.spec.reverting):
            raise Unsafe(f"{located.name} is not complete on {host}", hint="it was being made or removed")
    refuse_growing(located)
    refuse_moving(located)
    used = [host for host, found in located.found.items() if found.primary]
    if used:
        raise Busy(f"{located.name} is Primary on {' '.join(used)}", hint="power the VM off first")


def _best(snapshot: Known, located: Located) -> Tuple[List[str], str]:
    """(members whose snapshots are equal by one proof, that proof): the largest such set. Raises Unsafe."""
    sets: Dict[str, List[str]] = {}
    for host in located.holders:
        proof = snapshot.proofs.get(host)
        if proof is not None:
            sets.setdefault(proof, []).append(host)
    if not sets:
        raise Unsafe(
            f"snapshot {snapshot.label} of {located.name} was left by an interrupted action", hint="delete it"
        )
    proof = max(sets, key=lambda one: len(sets[one]))
    return sets[proof], proof


def _join(farm: Sessions, located: Located, spec: ResourceSpec, good: Sequence[str], proof: str) -> None:
    """Fresh metadata on all members, equal by proof; whoever has no part in the proof gets everything anew."""
    others = [host for host in located.holders if host not in good]
    if others:
        farm.log.warn(f"{spec.name}: {' '.join(others)} lacks a proven snapshot, all of it is copied from {good[0]}")
        farm.all("write_resource", others, spec=spec._replace(day0=None).to_json())
    farm.all("create_metadata", located.holders, resource=spec.name)
    if others:
        farm.all("write_resource", others, spec=spec.to_json())
    making.bring_up(farm, located.hosts, spec)
    if spec.day0 is None:
        farm.call(good[0], "declare_equal", resource=spec.name, proof=proof)
        farm.all("invalidate", others, resource=spec.name)
    making.await_ready(farm, located.hosts, spec)


def settle(farm: Sessions, located: Located) -> None:
    """After the commit: what the revert left goes. A failure is told only, since the next action does it, too."""
    request = {"resource": located.name.text}
    _answers, errors = farm.try_each("settle_snapshots", dict.fromkeys(located.holders, request))
    for error in errors.values():
        farm.log.warn(error.line())

