"""What oned is told of a host's VMs, decided from two looks at them. Pure: nothing here asks anybody.

oned acts on every line (contract 3.3): RUNNING revives a VM that is off, POWEROFF and SUSPENDED end a running one,
FAILURE makes it UNKNOWN; UNKNOWN as a state does nothing, but a VM that a full report leaves out becomes UNKNOWN
(MISSING_STATE). So a line is printed for what has lasted, and what is only passing gets the line that does nothing.
"""

from __future__ import annotations

import enum
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Set

from ..host.vm_places import Place
from .template import attribute, vector


class Condition(enum.Enum):
    """A VM's domain as one look finds it."""

    RUNNING = "running"
    PAUSED = "paused"
    CRASHED = "crashed"
    ENDED = "ended"
    PASSING = "passing"
    GONE = "gone"


class State(enum.Enum):
    """STATE of a VM in a message."""

    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    FAILURE = "FAILURE"
    POWEROFF = "POWEROFF"
    UNKNOWN = "UNKNOWN"


# Conditions that mean something once they have lasted; what PASSING will become, nobody knows yet.
_MEANING = {
    Condition.PAUSED: State.SUSPENDED, Condition.CRASHED: State.FAILURE, Condition.ENDED: State.POWEROFF,
}
ELSEWHERE = "ELSEWHERE"  # told last: that it may have moved


class Seen(NamedTuple):
    """A VM after a look. since: seconds on the clock of the looks; told: the STATE in the last message, or empty."""

    condition: Condition
    since: float
    told: str


class Memory(NamedTuple):
    """What one look leaves to the next. at: when it looked; synced: when everything was told, or NEVER."""

    at: float
    synced: float
    vms: Dict[int, Seen]

    def to_json(self) -> Dict[str, Any]:
        """Plain values for the sample."""
        vms = {str(vm): [seen.condition.value, seen.since, seen.told] for vm, seen in self.vms.items()}
        return {"at": self.at, "synced": self.synced, "vms": vms}


NEVER = -1.0


def memory_from_json(record: Mapping[str, Any]) -> Memory:
    """What `to_json` wrote; anything else, and one has never looked."""
    try:
        vms = {
            int(vm): Seen(Condition(condition), float(since), str(told))
            for vm, (condition, since, told) in record["vms"].items()
        }
        return Memory(float(record.get("at", 0.0)), float(record["synced"]), vms)
    except (KeyError, ValueError, TypeError, AttributeError):
        return Memory(0.0, NEVER, {})


class Look(NamedTuple):
    """What one look found: VMs with a domain, VMs with a directory here; seconds a condition has to last, and between
    two full reports."""

    at: float
    conditions: Mapping[int, Condition]
    directories: Set[int]
    settle: float
    sync: float


class Report(NamedTuple):
    """The message, empty when there is nothing to tell, and what to remember."""

    text: str
    memory: Memory


def report(before: Memory, look: Look, places: Callable[[Iterable[int]], Mapping[int, Place]]) -> Report:
    """The changes since the last message; everything when it is time, or when a VM may just have moved away.

    `places` tells of VMs without a domain what their disks say; it is asked only about those that count.
    """
    vms = _track(before, look)
    due = before.synced < 0 or look.at < before.synced or look.at - before.synced >= look.sync
    asked = {
        vm for vm, seen in vms.items()
        if seen.condition is Condition.GONE and vm in look.directories and _lasted(seen, look)
        and (due or seen.told not in (State.POWEROFF.value, ELSEWHERE))
    }
    found = dict(places(asked)) if asked else {}
    moved = {vm for vm in asked if found.get(vm) is Place.MAYBE_ELSEWHERE}
    full = due or any(vms[vm].told != ELSEWHERE for vm in moved)
    if full and not due:
        rest = {vm for vm, seen in vms.items() if seen.condition is Condition.GONE and vm in look.directories} - asked
        found.update(places({vm for vm in rest if _lasted(vms[vm], look)}))
    lines: List[str] = []
    for vm, seen in sorted(vms.items()):
        if found.get(vm) is Place.MAYBE_ELSEWHERE:
            vms[vm] = seen._replace(told=ELSEWHERE)
            continue
        state = _state(seen, look, found.get(vm))
        if state is not State.UNKNOWN and (full or state.value != seen.told):
            lines.append(_line(vm, state))
            vms[vm] = seen._replace(told=state.value)
        elif full and state is State.UNKNOWN and (seen.condition is not Condition.GONE or vm in look.directories):
            lines.append(_line(vm, state))
    head = attribute("SYNC_STATE", "yes") + attribute("MISSING_STATE", State.UNKNOWN.value) if full else ""
    return Report(head + "".join(lines), Memory(look.at, look.at if full else before.synced, vms))


def _track(before: Memory, look: Look) -> Dict[int, Seen]:
    """Each VM that has a domain or a directory here, or had one a moment ago."""
    vms: Dict[int, Seen] = {}
    for vm in {*look.conditions, *look.directories, *before.vms}:
        condition = look.conditions.get(vm, Condition.GONE)
        earlier = before.vms.get(vm)
        same = earlier is not None and earlier.condition is condition and earlier.since <= look.at
        seen = Seen(condition, earlier.since if earlier and same else look.at, earlier.told if earlier else "")
        if condition is not Condition.GONE or vm in look.directories or not _lasted(seen, look):
            vms[vm] = seen
    return vms


def _lasted(seen: Seen, look: Look) -> bool:
    return look.at - seen.since >= look.settle


def _state(seen: Seen, look: Look, place: Optional[Place]) -> State:
    if seen.condition is Condition.RUNNING:
        return State.RUNNING
    if not _lasted(seen, look):
        return State.UNKNOWN
    if seen.condition is Condition.GONE:
        known = place is Place.AT_REST or (place is None and seen.told == State.POWEROFF.value)
        return State.POWEROFF if known else State.UNKNOWN
    return _MEANING.get(seen.condition, State.UNKNOWN)


def _line(vm: int, state: State) -> str:
    return vector("VM", {"ID": vm, "DEPLOY_ID": f"one-{vm}", "STATE": state.value})
