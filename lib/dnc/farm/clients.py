"""Hosts without a replica that use a resource all the same (DRBD 9): a VM's host, or the third vote of two replicas.

A client has the resource's file and kernel device, no volume: it can be taken away at any time. Two replicas alone
cannot know who went on when they lose each other; a client decides (NOTES-drbd9, j).
"""

from __future__ import annotations

from typing import Iterable, List, Optional, Sequence, Tuple

from ..errors import Busy, Conflict, DncError
from ..grammar import ResourceKind, parse_resource
from ..tools.dialects import of_version
from ..tools.resource import Member, ResourceSpec
from . import making
from .placement import rules_of
from .sessions import Sessions
from .survey import NOTHING, Located, survey

# Hosts that are asked to be the third vote before the disk goes without one.
_ASKED = 3


def known(farm: Sessions) -> bool:
    """Whether DRBD on any host of this action has clients at all."""
    dialects = [of_version(farm.about(host).get("drbd")) for host in farm.hosts]
    return any(dialect is not None and dialect.clients for dialect in dialects)


def possible(farm: Sessions, spec: ResourceSpec, host: str) -> bool:
    """Whether `host`, with an open session, can use the resource without a replica.

    Neither of a pair's hosts (HOST_PAIRS) is a client, or has one: the cable between both reaches nobody else.
    """
    holders = farm.ssh_names(spec.replicas)
    paired = not rules_of(farm.config).partners.keys().isdisjoint((host, *holders))
    if not spec.replicated or paired or host not in farm.sessions:
        return False
    dialect = of_version(farm.about(host).get("drbd"))
    versions = {farm.about(one).get("drbd") for one in (host, *holders) if one in farm.sessions}
    return dialect is not None and dialect.clients and len(versions) == 1


def permitted(farm: Sessions, spec: ResourceSpec, host: str) -> bool:
    """Whether a guest on `host` may use the resource without a replica there (MISSING_REPLICA of dncrc)."""
    return farm.config.missing_replica != "refuse" and possible(farm, spec, host)


def attach(farm: Sessions, spec: ResourceSpec, host: str) -> ResourceSpec:
    """Have a resource usable on `host`: as a client if it has no replica; else see that two replicas have a third vote.

    The replicas are up, with open sessions and locked. Raises Conflict (the minor is taken there), Busy.
    """
    clients = farm.ssh_names(spec.clients)
    holders = farm.ssh_names(spec.replicas)
    if host not in holders:
        return _change(farm, spec, [host])
    if len(holders) != 2 or clients or not possible(farm, spec, holders[0]):
        return spec
    for other in _candidates(farm, spec):
        try:
            return _change(farm, spec, [other])
        except DncError as error:
            farm.log.warn(f"{spec.name}: no third vote on {other}: {error}")
            farm.all("change_members", holders, spec=spec.to_json())
            farm.try_each("remove_resource", {other: {"resource": spec.name}})
    return spec


def admit(farm: Sessions, located: Located, host: str) -> Located:
    """Make `host` one more client, as a VM that is to run there needs it; the others stay. Raises Conflict, Busy."""
    clients = farm.ssh_names(located.spec.clients)
    spec = _change(farm, located.spec, [*clients, host])
    return located._replace(spec=spec, hosts=(*located.hosts, host), clients=(*located.clients, host))


def release(farm: Sessions, located: Located, keep: Optional[str]) -> ResourceSpec:
    """Take away the clients that nobody needs when the VM is on `keep` (None: nowhere): one stays for two replicas.

    Left for later while a replica does not answer, since its file has to follow. Raises Busy.
    """
    if located.missing or not surplus(farm, located.spec, keep):
        return located.spec
    return _change(farm, located.spec, _needed(farm, located.spec, keep, _alive(located)))


def surplus(farm: Sessions, spec: ResourceSpec, keep: Optional[str]) -> bool:
    """Whether it has clients that nobody needs when the VM is on `keep`."""
    return len(_needed(farm, spec, keep)) < len(spec.clients)


def _alive(located: Located) -> Tuple[str, ...]:
    """Clients that answer and have the resource's file."""
    return tuple(host for host in located.clients if located.found.get(host, NOTHING).spec is not None)


def _needed(
    farm: Sessions, spec: ResourceSpec, keep: Optional[str], alive: Optional[Sequence[str]] = None
) -> List[str]:
    clients = farm.ssh_names(spec.clients)
    needed = [host for host in clients if host == keep]
    votes = [host for host in clients if (alive is None or host in alive) and _apart(farm, spec, host)]
    return needed or (votes[:1] if len(spec.replicas) == 2 else [])


def dismiss(farm: Sessions, located: Located) -> Located:
    """Take away all clients: an image at rest has none. Raises Busy."""
    if located.missing or not located.spec.clients:
        return located
    spec = _change(farm, located.spec, [])
    holders = farm.ssh_names(spec.members)
    found = {host: one._replace(spec=spec) for host, one in located.found.items() if host in holders}
    return located._replace(spec=spec, hosts=located.holders, found=found, clients=())


def _apart(farm: Sessions, spec: ResourceSpec, host: str) -> bool:
    """Whether a host shares no failure domain with a replica: it would fall silent together with that one."""
    rules = rules_of(farm.config)
    return rules.domain(host) not in [rules.domain(holder) for holder in farm.ssh_names(spec.replicas)]


def _candidates(farm: Sessions, spec: ResourceSpec) -> Iterable[str]:
    """Hosts that could be the third vote and answer, in an order that spreads resources over them."""
    members = farm.ssh_names(spec.members)
    others = [host for host in farm.config.hosts if host not in members and _apart(farm, spec, host)]
    turn = (spec.minor or 0) % len(others) if others else 0
    for host in (others[turn:] + others[:turn])[:_ASKED]:
        if not farm.try_open([host]) and possible(farm, spec, host) and not _copied(farm, spec, host):
            yield host


def _change(farm: Sessions, spec: ResourceSpec, wanted: Sequence[str]) -> ResourceSpec:
    """Have exactly these clients (ssh names): who goes is down first, the others follow, then who comes is up (d)."""
    now = {farm.ssh_name(member.host): member for member in spec.clients}
    going = [host for host in now if host not in wanted]
    coming = [host for host in dict.fromkeys(wanted) if host not in now]
    if not going and not coming:
        return spec
    new = _members(farm, spec, coming)
    gone = _leave(farm, spec, going)
    kept = [member for member in spec.clients if farm.ssh_name(member.host) not in going]
    changed = spec._replace(members=(*spec.replicas, *kept, *new))
    holders = farm.ssh_names(spec.replicas)
    farm.all("change_members", [host for host in holders if host in farm.sessions], spec=changed.to_json())
    others = [farm.ssh_name(member.host) for member in kept]
    request = {"spec": changed.to_json()}
    _, errors = farm.try_each("change_members", {host: request for host in others if host in farm.sessions})
    for error in errors.values():
        farm.log.warn(error.line())  # it only votes
    for host in coming:
        farm.call(host, "write_resource", spec=changed.to_json())
        farm.call(host, "bring_up", resource=spec.name)
        farm.log.info(f"{spec.name}: {host} uses it without a replica")
    for host in gone:
        farm.log.info(f"{spec.name}: {host} uses it no more")
    return changed


def _members(farm: Sessions, spec: ResourceSpec, hosts: Sequence[str]) -> Tuple[Member, ...]:
    """Records of new clients, with the lowest free node ids; what an old one left there goes. Raises Conflict."""
    taken = {member.node_id for member in spec.members}
    made: List[Member] = []
    for host in hosts:
        farm.open([host])
        farm.lock([host], [spec.name])
        _clear(farm, spec, host)
        if not farm.call(host, "reserve_minor", resource=spec.name, minor=spec.minor)["reserved"]:
            raise Conflict(
                f"{spec.name} cannot be used on {host}: its minor {spec.minor} is taken there",
                hint="choose a host that has a replica: " + " ".join(member.host for member in spec.replicas),
            )
        node_id = min(set(range(32)) - taken)
        taken.add(node_id)
        made.append(Member(farm.about(host)["host"], farm.about(host)["address"], None, node_id))
    return tuple(made)


def _copied(farm: Sessions, spec: ResourceSpec, host: str) -> bool:
    """Whether a host has a copy of the image (copies.py)."""
    if spec.kind != ResourceKind.IMAGE.value:
        return False
    name = parse_resource(spec.name)
    found = survey(farm, [host], [name])[host].of(name).spec
    return found is not None and found.is_copy


def _clear(farm: Sessions, spec: ResourceSpec, host: str) -> None:
    """Remove what an earlier client left on a host that is to be one, or a copy of the image. Raises Busy."""
    name = parse_resource(spec.name)
    if not _copied(farm, spec, host):
        farm.call(host, "remove_resource", resource=spec.name)
        return
    try:
        making.remove(farm, [host], name, [spec.pool])
    except Busy as error:
        raise Busy(
            f"{host} has an old copy of {name} that VMs were cloned from: {error.what}",
            hint="choose a host that has a replica: " + " ".join(member.host for member in spec.replicas),
        ) from None


def _leave(farm: Sessions, spec: ResourceSpec, hosts: Sequence[str]) -> List[str]:
    """Take the resource away from clients; one that does not answer keeps a file that means nothing any more."""
    gone = []
    for host in hosts:
        if host not in farm.sessions and farm.try_open([host]):
            farm.log.warn(f"{spec.name}: {host} does not answer; it is no client any more when it is back")
            continue
        farm.lock([host], [spec.name], ignore_given_up=True)
        farm.call(host, "remove_resource", resource=spec.name)
        gone.append(host)
    return gone
