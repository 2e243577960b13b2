"""What hosts know about resources and pools, asked of many at once, and where a resource's members are."""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, Iterable, Mapping, NamedTuple, Optional, Tuple

from ..errors import Busy, NotFound, Unsafe
from ..grammar import PoolSpec, ResourceName
from ..tools.drbd import DiskState, PeerStatus, ResourceSpec, ResourceStatus, Role, parse_spec
from .session import Answer
from .sessions import Sessions
from .space import Space


class Volume(NamedTuple):
    """A volume on one host; size in bytes."""

    pool: str
    name: str
    bytes: int
    device: str


class Found(NamedTuple):
    """A resource on one host; what is not there is None."""

    spec: Optional[ResourceSpec]
    volume: Optional[Volume]
    status: Optional[ResourceStatus]
    given_up: Optional[Mapping[str, float]]
    intent: Optional[Mapping[str, Any]]
    unfinished: Optional[Mapping[str, Any]]
    copies: Optional[Mapping[str, bool]] = None
    content: Optional[Mapping[str, Any]] = None
    growing: bool = False
    strays: Tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether the host has a file or a volume of that name."""
        return self.spec is not None or self.volume is not None

    @property
    def primary(self) -> bool:
        """Whether DRBD lets somebody on that host write."""
        return self.status is not None and self.status.minor is not None and self.status.role is Role.PRIMARY

    @property
    def up(self) -> bool:
        """Whether the resource is up under DRBD; a volume without DRBD is never `up`."""
        return self.status is not None and self.status.minor is not None


NOTHING = Found(None, None, None, None, None, None)


class HostSurvey(NamedTuple):
    """One host's answer. `links` are the disk links of the VM directory that was asked about."""

    resources: Dict[str, Found]
    pools: Dict[str, Space]
    minors: FrozenSet[int]
    links: Dict[str, str]

    def of(self, name: ResourceName) -> Found:
        """What the host has of that resource."""
        return self.resources.get(name.text, NOTHING)


def survey(
    farm: Sessions, hosts: Iterable[str], names: Optional[Iterable[ResourceName]], pools: Iterable[PoolSpec] = (),
    directory: Optional[str] = None,
) -> Dict[str, HostSurvey]:
    """Ask hosts about resources (None: all they have), pools, and a VM's directory. Raises the first host's error."""
    return {host: parse_survey(answer) for host, answer in farm.all("survey", hosts, **_question(
        names, pools, directory)).items()}


def try_survey(
    farm: Sessions, hosts: Iterable[str], names: Optional[Iterable[ResourceName]], pools: Iterable[PoolSpec] = (),
    *, promises: bool = False,
) -> Dict[str, HostSurvey]:
    """Like `survey`; a host that cannot answer is named in the log and left out. promises: with Space.promised."""
    question = _question(names, pools, None)
    if promises:
        question["promises"] = True
    answers, errors = farm.try_each("survey", dict.fromkeys(hosts, question))
    for host, error in errors.items():
        farm.refusals[host] = error
        farm.log.warn(error.line())
    return {host: parse_survey(answer) for host, answer in answers.items()}


def _question(
    names: Optional[Iterable[ResourceName]], pools: Iterable[PoolSpec], directory: Optional[str]
) -> Answer:
    question: Answer = {"resources": None if names is None else [name.text for name in names]}
    question["pools"] = [str(pool) for pool in pools]
    if directory is not None:
        question["vm_directory"] = directory
    return question


def parse_survey(answer: Answer) -> HostSurvey:
    """The records of a survey's answer."""
    return HostSurvey(
        {name: _found(record) for name, record in (answer.get("resources") or {}).items()},
        {pool: Space(**record) for pool, record in (answer.get("pools") or {}).items()},
        frozenset(answer.get("minors") or ()),
        dict(answer.get("links") or {}),
    )


def _found(record: Answer) -> Found:
    spec, volume, status = record.get("spec"), record.get("volume"), record.get("status")
    return Found(
        parse_spec(spec) if spec else None,
        Volume(volume["pool"], volume["name"], volume["bytes"], volume["device"]) if volume else None,
        parse_status(status) if status else None,
        record.get("given_up"), record.get("intent"), record.get("unfinished"), record.get("copies"),
        record.get("content"), bool(record.get("growing")), tuple(record.get("strays") or ()),
    )


def parse_status(record: Answer) -> ResourceStatus:
    """STATUS of the agent's protocol."""
    peers = tuple(
        PeerStatus(
            peer["host"], peer["connection"], Role(peer["role"]), DiskState(peer["disk"]), peer["replication"],
            int(peer["out_of_sync"]), client=bool(peer.get("client")),
        ) for peer in record["peers"]
    )
    return ResourceStatus(
        record["name"], record["minor"], Role(record["role"]), DiskState(record["disk"]), bool(record["suspended"]),
        peers, client=bool(record.get("client")),
    )


class Located(NamedTuple):
    """A resource and its members: `hosts` have a session, `missing` do not answer. ssh names, in node-id order.

    clients: those of `hosts` without a replica (DRBD 9); one that does not answer is not missed.
    """

    name: ResourceName
    spec: ResourceSpec
    hosts: Tuple[str, ...]
    missing: Tuple[str, ...]
    found: Dict[str, Found]
    clients: Tuple[str, ...] = ()

    @property
    def holders(self) -> Tuple[str, ...]:
        """Those of `hosts` that have a replica."""
        return tuple(host for host in self.hosts if host not in self.clients)

    @property
    def complete(self) -> bool:
        """Whether every member answered and has the finished resource."""
        found = (self.found[host].spec for host in self.holders)
        return not self.missing and all(spec is not None and spec.state == "ready" for spec in found)

    def require_all(self, farm: Sessions) -> None:
        """Raise the error of a member that does not answer."""
        for host in self.missing:
            raise farm.unreachable[host]

    def require_complete(self, farm: Sessions) -> None:
        """Raise unless every member answers and has the finished resource. Raises Unreachable, Unsafe."""
        self.require_all(farm)
        refuse_half_made(self)


def refuse_half_made(located: Located) -> None:
    """Raise Unsafe unless every member that answers has the finished resource; an open revert is called by its name."""
    bad = {host: located.found[host] for host in located.holders if not _ready(located.found[host])}
    if bad:
        specs = [found.spec for found in bad.values() if found.spec is not None]
        hints = [spec.revert_hint for spec in specs if spec.reverting]
        if hints:
            what, hint = "half reverted", hints[0]
        elif any(spec.moving for spec in specs):
            what, hint = "half moved", "a cold migration of its VM, or its next start, finishes that: try it again"
        else:
            what, hint = "not complete", "it was being made or removed: remove it, make it again"
        raise Unsafe(f"{located.name} is {what} on {' '.join(bad)}", hint=hint)


def refuse_growing(located: Located) -> None:
    """Raise Unsafe where a growth was begun and not finished: old metadata may still lie in what is data by now."""
    hosts = [host for host, found in located.found.items() if found.growing]
    if hosts:
        raise Unsafe(f"{located.name} is half grown on {' '.join(hosts)}", hint="resize the disk again")


def _ready(found: Found) -> bool:
    return found.spec is not None and found.spec.state == "ready"


def candidates(farm: Sessions, first: Optional[str]) -> Tuple[str, ...]:
    """The hosts to ask at once: the one that OpenNebula named, and in a farm no larger than a resource all others.

    So an action has all its sessions after one wait, and never one with a host that is not involved.
    """
    hosts = farm.config.hosts
    if first is None or len(hosts) <= farm.config.replicas:
        return tuple(dict.fromkeys(((first,) if first else ()) + hosts))
    return (first,)


def locate(farm: Sessions, name: ResourceName, first: Optional[str]) -> Optional[Located]:
    """Find a resource from the file on `first`, else on any host of the farm; opens sessions with its members.

    None: no host that answers knows it. Hosts that do not answer are in `farm.unreachable`. Raises Unsafe when
    hosts tell different things about it.
    """
    farm.try_open(candidates(farm, first))
    answers = try_survey(farm, farm.hosts, [name])
    _ask(farm, name, answers, _knowing(farm, name, answers))
    if _agreed(name, _told(farm, name, answers)) is None:
        _ask(farm, name, answers, farm.config.hosts)
    told = _told(farm, name, answers)
    # Who was asked later may know that replicas have moved on.
    while _ask(farm, name, answers, _members_told(farm, name, told)):
        told = _told(farm, name, answers)
    spec = _agreed(name, told)
    if spec is None:
        _refuse_undecided(farm, name, answers)
        return None
    members, clients = farm.ssh_names(spec.members), farm.ssh_names(spec.clients)
    hosts = tuple(host for host in members if host in answers)
    missing = tuple(host for host in members if host not in answers and host not in clients)
    for host in missing:
        refusal = farm.refusals.get(host, NotFound(f"no answer about {name}", host=host))
        farm.unreachable.setdefault(host, refusal)
    found = {host: answers[host].of(name) for host in hosts}
    return Located(name, spec, hosts, missing, found, tuple(host for host in clients if host in hosts))


def _ask(farm: Sessions, name: ResourceName, answers: Dict[str, HostSurvey], hosts: Iterable[str]) -> bool:
    """Ask those of the hosts that were not asked yet; True if any of them answered."""
    farm.try_open(host for host in hosts if host not in farm.sessions and host not in farm.unreachable)
    new = [host for host in dict.fromkeys(hosts) if host in farm.sessions and host not in answers]
    more = try_survey(farm, [host for host in new if host not in farm.refusals], [name])
    answers.update(more)
    return bool(more)


def _knowing(farm: Sessions, name: ResourceName, answers: Mapping[str, HostSurvey]) -> Tuple[str, ...]:
    """Whom to ask where all files so far are copies, or of replicas that may not count."""
    found = [spec for answer in answers.values() if (spec := answer.of(name).spec) is not None]
    if not all(spec.is_copy or spec.moving for spec in found):
        return ()
    return tuple(farm.ssh_name(host) for spec in found for host in spec.image_hosts)


def _refuse_undecided(farm: Sessions, name: ResourceName, answers: Mapping[str, HostSurvey]) -> None:
    """Only replicas that may not count were found: raise unless those who would know say that it is gone."""
    silent = sorted({host for host in _knowing(farm, name, answers) if host not in answers})
    if silent:
        raise Unsafe(
            f"{name}: a move of its replicas was cut short, and {' '.join(silent)} does not answer",
            hint="only that host knows which replicas count: bring it back",
        )


def _replica(found: Found) -> Optional[ResourceSpec]:
    """What a host says as a member; an image's copy is none."""
    return None if found.spec is None or found.spec.is_copy else found.spec


def _told(farm: Sessions, name: ResourceName, answers: Mapping[str, HostSurvey]) -> Dict[str, ResourceSpec]:
    """What hosts, by their own names, say of a resource as members of it."""
    found = {str(farm.about(host).get("host", host)): _replica(answer.of(name)) for host, answer in answers.items()}
    return {host: spec for host, spec in found.items() if spec is not None}


def _members_told(farm: Sessions, name: ResourceName, told: Mapping[str, ResourceSpec]) -> Tuple[str, ...]:
    spec = _agreed(name, told)
    return farm.ssh_names(spec.members) if spec is not None else ()


def _agreed(name: ResourceName, told: Mapping[str, ResourceSpec]) -> Optional[ResourceSpec]:
    """The one description: a finished one before one in the making, then the latest; None: nobody here can know.

    A client that was away when it was taken from the members has an old file: who has a replica knows better. So does
    everybody than a host whose replica may not count, unless the one that left says that it arrived there.
    """
    clients = {host for host, spec in told.items() if host in (member.host for member in spec.clients)}
    sure = {host: spec for host, spec in told.items() if not spec.moving}
    specs = [spec for host, spec in sure.items() if host not in clients] or list(sure.values())
    if not specs:
        return _arrived(told)
    ordered = sorted(specs, key=lambda spec: (spec.state != "ready", -spec.epoch))
    best = ordered[0]
    for spec in ordered[1:]:
        if (spec.state, spec.epoch) == (best.state, best.epoch) and _shape(spec) != _shape(best):
            raise Unsafe(
                f"{name}: its members describe it differently", hint=f"compare {name}.res on {' '.join(best.hosts())}"
            )
    return best


def _shape(spec: ResourceSpec) -> Tuple[object, ...]:
    return spec.members, spec.minor, spec.pool


def _arrived(told: Mapping[str, ResourceSpec]) -> Optional[ResourceSpec]:
    """The single replica that another host has given up in favour of this one (farm/replicas)."""
    for gone in told.values():
        for host in gone.image_hosts:
            new = told.get(host)
            if gone.state == "leaving" and new is not None and (new.state, new.epoch) == ("joining", gone.epoch):
                return new._replace(state="ready", image_hosts=())
    return None


def look_again(farm: Sessions, located: Located) -> Located:
    """The same members, asked once more: what counts is what is so under the lock."""
    answers = survey(farm, located.hosts, [located.name])
    found = {host: answers[host].of(located.name) for host in located.hosts}
    told = _told(farm, located.name, answers)
    spec = _agreed(located.name, told)
    if spec is None:
        raise NotFound(f"{located.name} is gone", hint="another action removed it meanwhile")
    if not set(farm.ssh_names(spec.replicas)) <= {*located.hosts, *located.missing}:
        raise Busy(f"{located.name}: its replicas were moved meanwhile", hint="try again")
    return located._replace(found=found, spec=spec)
