"""Image volumes: made, cloned, put to rest, removed. At rest an image's resource is down on all members."""

from __future__ import annotations

from typing import Iterable, Mapping, Optional, Sequence

from ..command import Runner
from ..errors import Busy, Conflict, NotFound, Unsafe
from ..grammar import PoolSpec, ResourceName
from ..tools.resource import ResourceSpec
from . import making
from .finding import Register, find_hosts
from .importer import Progress, Spool, content, send
from .making import Plan
from .placement import Wanted, farm_hosts
from .removal import Removal
from .sessions import Sessions
from .source import ImageStream
from .survey import Located, locate


def place(
    farm: Sessions, name: ResourceName, data_bytes: int, pool: PoolSpec, bridge_list: Sequence[str], replicas: int,
    register: Register, first: Optional[str] = None,
) -> Plan:
    """Choose the members of a new image among the datastore's hosts (placement.py says how).

    `first` is one of them in any case, when given. Hosts that do not answer are passed over while enough others do.
    Raises NoSpace, Unreachable, BadConfig.
    """
    config = farm.config
    hosts = farm_hosts(config.hosts, bridge_list)
    wanted = Wanted(name.text, pool, data_bytes, replicas, config.pool_fill_limit, first)
    found = find_hosts(farm, wanted, hosts, register)
    taken = [host for host, answer in found.surveys.items() if _ready(answer.of(name).spec)]
    if taken:
        raise Conflict(f"{name} exists already on {' '.join(taken)}", hint="does another OpenNebula use these hosts?")
    return Plan(name, found.choice.hosts, str(pool), data_bytes)


def _ready(spec: ResourceSpec | None) -> bool:
    return spec is not None and spec.state == "ready"


def create(farm: Sessions, plan: Plan) -> ResourceSpec:
    """An empty resource for an image, up on its members, for the caller to fill. Raises Conflict, NoSpace."""
    farm.lock(plan.hosts, [plan.name.text])
    making.clear_leftovers(farm, plan.hosts, plan.name, plan.pool, keep_ready=True)
    return making.make_empty(farm, plan)


def fill(
    farm: Sessions, plan: Plan, stream: ImageStream, checksums: Mapping[str, str], runner: Runner, place: Spool
) -> ResourceSpec:
    """Make the resource and stream an image into it, on one member: DRBD carries it to the others. Then `rest`."""
    pieces = content(runner, stream, plan.data_bytes, place, hashed=bool(checksums))
    spec = create(farm, plan)
    host = plan.hosts[0]
    farm.call(host, "promote", resource=plan.name.text)
    send(farm.sessions[host], plan.name.text, pieces, Progress(farm.log, plan.name.text, plan.data_bytes))
    stream.tap.verify(dict(checksums))
    farm.call(host, "demote", resource=plan.name.text)
    return spec


def rest(farm: Sessions, plan: Plan, spec: ResourceSpec) -> None:
    """All replicas seen equal, then down: an image from here on."""
    making.await_ready(farm, plan.hosts, spec)
    making.take_down(farm, plan.hosts, plan.name)
    making.finish(farm, plan.hosts, spec)


def clone(
    farm: Sessions, source: ResourceName, name: ResourceName, data_bytes: int, replicas: Optional[int] = None
) -> Plan:
    """An image from an image, on the same members, by a snapshot of each replica: its cost is independent of size.

    replicas: what the new image says of itself; None: as many as the source has. Source and clone can
    be removed in any order: on ZFS the clone takes over what they share, on LVM they share nothing that matters.
    Raises NotFound, Busy, Unsafe, Conflict.
    """
    image = locate(farm, source, None)
    if image is None:
        raise next(iter(farm.unreachable.values()), NotFound(f"image {source} is on no host"))
    image.require_all(farm)
    farm.lock(image.holders, [name.text], shared=[source.text])
    making.clear_leftovers(farm, image.holders, name, image.spec.pool, keep_ready=True)
    hosts = image.holders[:making.replicas_of_clone(image, replicas, strict=True)]
    plan = Plan(name, hosts, image.spec.pool, max(data_bytes, image.spec.data_bytes), origin=source)
    rest(farm, plan, making.make_clone(farm, plan, image))
    return plan


def remove(farm: Sessions, name: ResourceName, pools: Iterable[PoolSpec]) -> None:
    """Remove an image everywhere; absent is success. Raises Busy while a VM uses it or ZFS clones need it."""
    removal = Removal(farm, name, pools, None)
    answers, _lost = removal.reach(None)
    users = [host for host, answer in answers.items() if answer.of(name).primary]
    if users:
        raise Busy(f"image {name} is Primary on {' '.join(users)}", hint="detach it from its VM first")
    found = {host: answer.of(name) for host, answer in answers.items()}
    vms = {one.spec.vm for one in found.values() if one.spec and one.up}
    for vm in vms - {None}:
        raise Unsafe(f"image {name} is up for VM {vm}", hint="detach it there, or terminate that VM")
    for host, one in found.items():
        if one.spec is not None and making.runs_alone(farm, Located(name, one.spec, (host,), (), {host: one})):
            raise Unsafe(f"image {name} is in use by VM {one.spec.vm}", hint="detach it there, or terminate that VM")
    removal.run(None)
