"""Live migration's storage side: prepare both hosts, and afterwards settle them on where the domain really is.

OpenNebula ignores a failing postmigrate and sometimes calls nobody at all (observations 3, 4); so the intent is
written down on both hosts before two primaries are allowed, and whoever looks later can settle it.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Sequence, Tuple

from ..errors import Busy, DncError, Unsafe
from ..grammar import ResourceName
from . import clients
from .files import HostDirectory, copy_files, same_directory
from .session import Answer
from .sessions import Sessions
from .survey import Found, HostSurvey, locate, look_again, survey


class Move(NamedTuple):
    """One live migration: hosts by ssh name, the VM's directory, its disks in order (disk id, resource)."""

    vm: int
    domain: str
    source: str
    destination: str
    directory: str
    disks: Tuple[Tuple[int, ResourceName], ...]

    @property
    def names(self) -> Tuple[ResourceName, ...]:
        """The resources."""
        return tuple(name for _disk, name in self.disks)

    @property
    def hosts(self) -> Tuple[str, str]:
        """Both hosts."""
        return (self.source, self.destination)


def prepare(farm: Sessions, move: Move) -> None:
    """Everything `xl migrate` needs at the destination: links, small files, Primary disks.

    All disks pass each stage before any goes to the next (rule 8). Nothing stays if the sessions end without
    commit. Raises Unsafe (a disk is not fit), Busy, Unreachable.
    """
    farm.open(move.hosts)
    texts = [name.text for name in move.names]
    farm.lock(move.hosts, texts)
    answers = survey(farm, move.hosts, move.names)
    if _admit(farm, move, answers):
        answers = survey(farm, move.hosts, move.names)
    if any(answers[host].of(name).intent for host in move.hosts for name in move.names):
        farm.log.info(f"{move.domain}: settling what an earlier migration left")
        _settle(farm, move, _places(farm, move))
        answers = survey(farm, move.hosts, move.names)
    places = _places(farm, move)
    if places[move.destination]:
        # An earlier migration, or the administrator, has moved it; `migrate` finds it there (contract 6.4).
        farm.log.info(f"{move.domain} runs on {move.destination} already: nothing to prepare")
        return
    for name in move.names:
        require_fit(farm, move, name, answers)
    for name in move.names:
        farm.all(
            "allow_two_primaries", move.hosts, resource=name.text, vm=move.vm,
            source=farm.about(move.source)["host"], destination=farm.about(move.destination)["host"],
        )
    here, there = (HostDirectory(farm, host, move.directory) for host in move.hosts)
    # An old checkpoint can be as large as the guest's memory, and no live migration needs it.
    copy_files(here, there, skip=("checkpoint", "."))
    for disk, name in move.disks:
        farm.call(move.destination, "ensure_link", path=f"{move.directory}/disk.{disk}", resource=name.text)
    for name in move.names:
        farm.call(move.destination, "promote", resource=name.text)


def _admit(farm: Sessions, move: Move, answers: Dict[str, HostSurvey]) -> bool:
    """With DRBD 9 a destination without a replica of a disk uses it as a client. True if one was made."""
    admitted = False
    for name in move.names:
        spec = answers[move.source].of(name).spec
        if spec is None or spec.state != "ready" or move.destination in [farm.ssh_name(one) for one in spec.hosts()]:
            continue
        if clients.permitted(farm, spec, move.destination):
            located = locate(farm, name, move.source)
            if located is not None:
                located.require_all(farm)
                farm.lock([host for host in located.hosts if host not in move.hosts], [name.text])
                clients.admit(farm, look_again(farm, located), move.destination)
                admitted = True
    return admitted


def require_fit(farm: Sessions, move: Move, name: ResourceName, answers: Dict[str, HostSurvey]) -> None:
    """Raise unless a disk may have a second Primary: whole, connected, UpToDate on both, Primary where the VM is."""
    found = {host: answers[host].of(name) for host in move.hosts}
    spec = found[move.source].spec
    if spec is None:
        raise Unsafe(f"{name} is not known on {move.source}", hint="does the VM run there? onevm show")
    if not spec.replicated:
        raise Unsafe(f"{name} has one replica: no live migration", hint="REPLICAS=2 makes it possible for new disks")
    holders = set(farm.ssh_names(spec.replicas))
    if move.destination not in holders and not clients.permitted(farm, spec, move.destination):
        others = " ".join(sorted(holders - {move.source}))
        raise Unsafe(f"{name} has no replica on {move.destination}", hint=f"migrate to one of: {others}")
    for host in move.hosts:
        _require_ready(name, host, found[host], farm.about(move.hosts[host == move.source]).get("host", ""))
    _require_disk(farm, name, move, found)
    if not found[move.source].primary:
        raise Unsafe(f"{name} is not Primary on {move.source}", hint=f"does {move.domain} run there? xl list")


def _require_disk(farm: Sessions, name: ResourceName, move: Move, found: Dict[str, Found]) -> None:
    """A guest may leave a host whose disk has failed; it does not go to one. Raises Unsafe."""
    here, there = found[move.source].status, found[move.destination].status
    if there is not None and not there.usable:
        raise Unsafe(
            f"{name} is {there.disk.value} on {move.destination}",
            hint=f"see dmesg there; drbdadm adjust {name}, or migrate to another host",
        )
    if here is not None and not here.usable:
        farm.log.warn(f"{name} is {here.disk.value} on {move.source}: the guest lives on the replica that it moves to")


def _require_ready(name: ResourceName, host: str, found: Found, other: str) -> None:
    """other: the host at the other end, by its own name; a third member may be away."""
    status = found.status
    if found.spec is None or found.spec.state != "ready":
        raise Unsafe(f"{name} is not complete on {host}", hint="look at its resource file there")
    if status is None or not found.up:
        raise Unsafe(f"{name} is down on {host}", hint=f"drbdadm up {name} there, wait for UpToDate, try again")
    if not status.in_step_with(other):
        raise Unsafe(f"{name} is not in sync: {host}: {status.summary()}", hint="wait for the resync, try again")


def settle(farm: Sessions, move: Move, *, keep: str) -> None:
    """Bring roles and two-primaries to what the domain's real place demands, and tidy the other host's directory.

    `keep` is the host that OpenNebula takes for the VM's, whose directory stays when the domain is nowhere.
    A host that does not answer is told in the log. Raises its error when no host answers, Unsafe when the domain
    runs on both.
    """
    farm.try_open(move.hosts)
    for error in farm.unreachable.values():
        farm.log.error(error.line())
    if not farm.sessions:
        raise next(iter(farm.unreachable.values()))
    farm.lock(farm.hosts, [name.text for name in move.names], ignore_given_up=True)
    places = _places(farm, move)
    _settle(farm, move, places)
    _release(farm, move, next((host for host, here in places.items() if here), keep))
    for host in places:
        if host != keep and not places[host] and (places.get(keep) or not any(places.values())):
            _tidy(farm, move, host)


def _release(farm: Sessions, move: Move, place: str) -> None:
    """The end that the VM has left is no client any more. What does not work now the VM's next move does."""
    if not clients.known(farm):
        return
    answers = survey(farm, [host for host in move.hosts if host in farm.sessions], move.names)
    for name in move.names:
        specs = [answer.of(name).spec for answer in answers.values()]
        if not any(spec is not None and clients.surplus(farm, spec, place) for spec in specs):
            continue
        try:
            located = locate(farm, name, place)
            if located is not None:
                farm.lock([host for host in located.hosts if host not in move.hosts], [name.text], ignore_given_up=True)
                clients.release(farm, look_again(farm, located), place)
        except DncError as error:
            farm.log.warn(f"{name}: a client stays: {error}")


def _places(farm: Sessions, move: Move) -> Dict[str, bool]:
    """Where the domain is, by looking at every host that answers (rule 4). Raises Unsafe when it is on two."""
    answers = farm.all("find_domain", [host for host in move.hosts if host in farm.sessions], name=move.domain)
    places = {host: answer.get("state") is not None for host, answer in answers.items()}
    if sum(places.values()) > 1:
        raise Unsafe(
            f"{move.domain} runs on {move.source} and on {move.destination}",
            hint="a person must decide which one to destroy (xl destroy), then run this again",
        )
    return places


def _settle(farm: Sessions, move: Move, places: Dict[str, bool]) -> None:
    """The host without the domain demotes while the one with it waits for that, then both forbid a second Primary."""
    names = [name.text for name in move.names]
    answers, errors = farm.try_each("settle", {
        host: {"vm": move.vm, "resources": names, "domain": move.domain, "role_here": here}
        for host, here in places.items()
    })
    problems = [problem for host, answer in answers.items() for problem in _unsettled(host, answer)]
    for problem in problems[1:]:
        farm.log.error(problem)
    for error in errors.values():
        raise error
    if problems:
        raise Busy(problems[0], hint="the next action on this VM tries it again")


def _unsettled(host: str, answer: Answer) -> Sequence[str]:
    """One text for each resource that could not be settled."""
    resources = answer.get("resources") or {}
    return [f"{name} on {host}: {one.get('why')}" for name, one in resources.items() if not one.get("settled")]


def _tidy(farm: Sessions, move: Move, host: str) -> None:
    """Remove the VM's directory from a host where it is not, unless both hosts share it."""
    other = next((one for one in move.hosts if one != host and one in farm.sessions), None)
    if other is None:
        return
    here, there = HostDirectory(farm, host, move.directory), HostDirectory(farm, other, move.directory)
    if here.exists() and not (there.exists() and same_directory(here, there)):
        here.remove()
