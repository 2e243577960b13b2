"""The disks of VMs: have a private copy, an empty disk, or a persistent image ready on a host; put them to rest."""

from __future__ import annotations

import time
from typing import Iterable, NamedTuple, NoReturn, Optional, Sequence, Tuple

from ..errors import Busy, NotFound, Unsafe
from ..grammar import PoolSpec, ResourceKind, ResourceName, parse_resource
from ..tools.drbd import ResourceSpec
from . import clients, copies, making, replicas
from .finding import Register, find_hosts
from .making import Plan
from .placement import Wanted, farm_hosts
from .sessions import Sessions
from .survey import Found, Located, candidates, locate, look_again, parse_status, survey


def require_located(farm: Sessions, name: ResourceName, host: str) -> Located:
    """A resource that `host`, whose session is open, has a replica of or may use without one.

    Raises Unreachable, NotFound, Unsafe.
    """
    located = locate(farm, name, host)
    if host in farm.unreachable and (located is None or host not in located.hosts):
        raise farm.unreachable[host]
    if located is None:
        raise NotFound(f"{name} is on no host that answers", hint="see oneimage show, and HOSTS in dncrc")
    if host not in located.holders and not clients.permitted(farm, located.spec, host):
        refuse_foreign_host(located, host)
    return located


def find_image(farm: Sessions, name: ResourceName, host: str) -> Located:
    """An image to be cloned on `host`, where it may have no replica unless MISSING_REPLICA refuses that.

    Raises Unreachable, NotFound, Unsafe.
    """
    if farm.config.missing_replica == "refuse":
        return require_located(farm, name, host)
    located = locate(farm, name, host)
    if host in farm.unreachable:
        raise farm.unreachable[host]
    if located is None:
        refuse_unseen(farm)
        raise NotFound(f"{name} is on no host that answers", hint="see oneimage show, and HOSTS in dncrc")
    return located


def refuse_foreign_host(located: Located, host: str) -> NoReturn:
    """Raise: the VM has to run where its disks have replicas."""
    others = " ".join(sorted(located.holders + located.missing))
    raise Unsafe(
        f"{located.name} has no replica on {host}, only on {others}",
        hint="run the VM there, or see MISSING_REPLICA in dncrc",
    )


class Wish(NamedTuple):
    """How many replicas are asked for; None: nobody does. own: by the VM itself, not by a datastore for all."""

    replicas: Optional[int] = None
    own: bool = False


def ensure_clone(
    farm: Sessions, image_name: ResourceName, name: ResourceName, vm: int, data_bytes: int, host: str,
    wish: Wish = Wish(),  # noqa: B008  (an immutable record)
) -> ResourceSpec:
    """A VM's own copy of an image, up and equal on members of the image, usable on `host`.

    A host without a replica uses it as a client (DRBD 9), or gets a copy of the image first, and so a replica of the
    clone: MISSING_REPLICA decides. A complete earlier clone is accepted, since oned replays a prolog from its first
    line (observation 3); a half-made one is made again. Raises NotFound, Busy, Unsafe, NoSpace, Unreachable, GivenUp.
    """
    image = find_image(farm, image_name, host)
    image.require_all(farm)
    count = making.replicas_of_clone(image, wish.replicas, strict=wish.own)
    copied = host not in image.holders and not _as_client(farm, image, host, count)
    hosts = copies.clone_hosts(farm, image, host, name, count) if copied else _members(image, host, count)
    involved = tuple(dict.fromkeys((*image.holders, *hosts)))
    if copied:
        if not copies.ensure_copy(farm, image, host):
            farm.log.info(f"{name}: would then be cloned from it on {' '.join(hosts)}")
            return copies.plan_clone(farm, image, host, name)
        farm.lock(involved, [name.text])
    else:
        farm.lock(involved, [name.text], shared=[image_name.text])
    earlier = accept_earlier(farm, hosts, name, data_bytes)
    if earlier is not None:
        return clients.attach(farm, earlier, host)
    making.clear_leftovers(farm, involved, name, image.spec.pool)
    plan = Plan(name, hosts, image.spec.pool, max(data_bytes, image.spec.data_bytes), vm=vm, origin=image_name)
    spec = clients.attach(farm, making.make_clone(farm, plan, image), host)
    making.finish(farm, farm.ssh_names(spec.members), spec)
    return spec


def _as_client(farm: Sessions, image: Located, host: str, count: int) -> bool:
    """Whether `host` is to use a clone with `count` replicas over the network, rather than have one itself."""
    return farm.config.missing_replica == "auto" and count > 1 and clients.possible(farm, image.spec, host)


def _members(image: Located, host: str, count: int) -> Tuple[str, ...]:
    """So many members of the image, `host` first where it is one and not all are taken."""
    if count == len(image.holders):
        return image.holders
    return tuple(sorted(image.holders, key=lambda member: member != host))[:count]


def accept_earlier(
    farm: Sessions, hosts: Sequence[str], name: ResourceName, data_bytes: int
) -> Optional[ResourceSpec]:
    """A finished resource of that name and at least that size on all of the hosts, brought up; else None."""
    answers = survey(farm, hosts, [name])
    specs = [answers[host].of(name).spec for host in hosts]
    spec = specs[0]
    if spec is None or any(one != spec for one in specs) or spec.state != "ready" or spec.data_bytes < data_bytes:
        return None
    if set(farm.ssh_names(spec.replicas)) != set(hosts):
        return None
    farm.log.info(f"{name}: made by an earlier run, accepted")
    making.bring_up(farm, hosts, spec)
    making.await_ready(farm, hosts, spec)
    return spec


def make_volatile(
    farm: Sessions, name: ResourceName, vm: int, data_bytes: int, host: str, siblings: Iterable[ResourceName],
    pool: PoolSpec, replicas: int, register: Register,
) -> Tuple[ResourceSpec, bool]:
    """An empty disk on `host` and the hosts of the VM's other disks; True when an earlier run had finished it.

    A new one is up and equal but not finished: the caller formats it, then calls `making.finish`.
    """
    wanted = Wanted(name.text, pool, data_bytes, replicas, farm.config.pool_fill_limit, first=host)
    hosts = _volatile_hosts(farm, host, tuple(siblings), wanted, register)
    farm.lock(hosts, [name.text])
    earlier = accept_earlier(farm, hosts, name, data_bytes)
    if earlier is not None:
        return clients.attach(farm, earlier, host), True
    making.clear_leftovers(farm, hosts, name, str(pool))
    spec = making.make_empty(farm, Plan(name, hosts, str(pool), data_bytes, vm=vm))
    return clients.attach(farm, spec, host), False


def _volatile_hosts(
    farm: Sessions, host: str, siblings: Sequence[ResourceName], wanted: Wanted, register: Register
) -> Tuple[str, ...]:
    """Where the VM's other disks are, so that it can live-migrate with all of them; else by room."""
    farm.try_open(candidates(farm, host))
    if host in farm.unreachable:
        raise farm.unreachable[host]
    answers = survey(farm, [host], siblings)
    specs = [answers[host].of(name).spec for name in siblings]
    for spec in specs:
        if spec is not None and len(spec.replicas) == wanted.replicas:
            hosts = farm.ssh_names(spec.replicas)
            farm.open(hosts)
            return hosts
    return find_hosts(farm, wanted, farm_hosts(farm.config.hosts), register).choice.hosts


def ensure_persistent(farm: Sessions, image_name: ResourceName, vm: int, host: str) -> ResourceSpec:
    """The image volume itself, up for one VM; the resource's file says for which.

    Raises Busy when another VM has it, Unreachable when a member does not answer: without it nobody knows whose
    data are newest.
    """
    planned = _ensure_replica(farm, image_name, vm, host) if farm.config.missing_replica == "move" else None
    if planned is not None:
        return planned
    image = require_located(farm, image_name, host)
    image.require_all(farm)
    farm.lock(image.hosts, [image_name.text])
    image = replicas.settle(farm, look_again(farm, image))
    image.require_complete(farm)
    up = [one for one, found in image.found.items() if found.up]
    if up and image.spec.vm not in (vm, None):
        raise Busy(f"image {image_name} is up for VM {image.spec.vm}", hint="detach it there, or terminate that VM")
    users = making.runs_alone(farm, image, besides=vm)
    if users:
        raise Busy(f"image {image_name} is in use by VM {image.spec.vm}", hint="detach it there, or terminate that VM")
    if image.spec.vm is None and any(found.primary for found in image.found.values()):
        raise Busy(f"image {image_name} is Primary on {' '.join(up)}", hint="see what uses it: xl list, fuser")
    spec = image.spec._replace(vm=vm)
    farm.all("write_resource", image.hosts, spec=spec.to_json())
    making.bring_up(farm, image.hosts, spec)
    making.await_ready(farm, image.hosts, spec)
    return clients.attach(farm, spec, host)


def _ensure_replica(farm: Sessions, name: ResourceName, vm: int, host: str) -> Optional[ResourceSpec]:
    """Have a replica of a persistent image on `host`, if no other VM has it; in a dry run what it is now, else None."""
    image = replicas.find(farm, name, host)
    if image is None or host in image.holders or image.spec.vm not in (vm, None):
        return None
    image = replicas.move(farm, image, host)
    return None if host in image.holders else image.spec


def release_persistent(farm: Sessions, image: Located, vm: int) -> None:
    """Put a VM's persistent image to rest: Secondary, clean on all members, then down; no VM in its file.

    A member that does not answer is left behind; DRBD brings it up to date at the next start. Raises Busy.
    """
    if image.spec.vm not in (vm, None):
        farm.log.info(f"{image.name} belongs to VM {image.spec.vm} now: left alone")
        return
    moving = [host for host in image.hosts if image.found[host].intent]
    # A migration that nobody settled: its intent must not outlive it, it would allow two primaries to the next VM.
    farm.all("settle", moving, vm=vm, resources=[image.name.text], domain=f"one-{vm}", role_here=False)
    up = [host for host in image.hosts if image.found[host].up]
    farm.all("demote", up, resource=image.name.text)
    if not image.missing and len(up) == len(image.hosts):
        making.await_ready(farm, up, image.spec)
    else:
        _tell_missing(farm, image)
    image = clients.dismiss(farm, image)
    making.take_down(farm, image.hosts, image.name)
    farm.all("write_resource", image.hosts, spec=image.spec._replace(vm=None).to_json())


def _tell_missing(farm: Sessions, image: Located) -> None:
    for host in image.missing:
        farm.log.warn(f"{image.name}: {farm.unreachable[host].line()}it is brought up to date when it is back")


def make_available(farm: Sessions, located: Located, host: str) -> None:
    """Have a VM's disk up on `host` and on whatever other members answer, fit to be promoted there.

    With a member missing, this host's data count only if it was up here all the time: then it knows that it has
    the newest. Raises Unsafe, Busy (Primary elsewhere), Unreachable.
    """
    here = located.found[host]
    elsewhere = [other for other, found in located.found.items() if other != host and found.primary]
    if elsewhere:
        raise Busy(f"{located.name} is Primary on {' '.join(elsewhere)}", hint="does the VM run there? xl list")
    if located.spec.reverting:
        raise Unsafe(f"{located.name} is half reverted", hint=located.spec.revert_hint)
    if located.spec.state != "ready":
        raise Unsafe(f"{located.name} is half made", hint="onevm recover --recreate makes the disk anew")
    making.bring_up(farm, located.hosts, located.spec)
    if not located.missing:
        making.await_ready(farm, located.hosts, located.spec)
        return
    _require_alone(farm, located, host, here)


def _require_alone(farm: Sessions, located: Located, host: str, before: Found) -> None:
    """Refuse unless this host's replica is known to be the newest without asking the missing members (rule 5)."""
    lost = ", ".join(located.missing)
    if before.status is None and len(located.spec.replicas) < 3:
        raise Unsafe(
            f"{located.name} was down on {host}, and {lost} does not answer",
            hint="only both together know whose data are newest: bring it back",
        )
    if len(located.spec.replicas) > 2:
        # What was written is on most replicas, and DRBD lets nobody go on with less: together the others know (j).
        making.await_ready(farm, [host], located.spec, without=located.missing)
    answer = farm.call(host, "survey", resources=[located.name.text])["resources"][located.name.text]
    status = parse_status(answer["status"])
    if not status.usable or status.suspended:
        raise Unsafe(f"{located.name} is {status.disk.value} on {host}, {lost} does not answer", hint="bring it back")
    if any(peer.role.value == "Primary" for peer in status.peers):
        raise Busy(f"{located.name} is Primary on {lost}, which does not answer", hint="fence that host first")
    farm.log.warn(f"{located.name}: on {host} without {lost}, which is brought up to date when it is back")


def refuse_unseen(farm: Sessions) -> None:
    """Nobody who answered knows the resource; raise if somebody did not answer, since it may be there."""
    for error in farm.unreachable.values():
        raise error


def remove_link(farm: Sessions, host: Optional[str], path: str) -> None:
    """Remove a disk's link where there is a session; a host that is gone has no links that matter."""
    if host is not None and host in farm.sessions:
        farm.call(host, "remove_link", path=path)


def give_up(farm: Sessions, hosts: Iterable[str], name: ResourceName) -> None:
    """Tell actions on this disk that were started before now to stop (observation 2)."""
    farm.all("give_up", hosts, resource=name.text, frontend_time=time.time())


def own_names(names: Iterable[str], vm: int, disk: int) -> Tuple[ResourceName, ...]:
    """Those of the names that are a disk made for this VM under this number; never an image."""
    parsed = [parse_resource(name) for name in sorted(names)]
    return tuple(name for name in parsed if name.kind is not ResourceKind.IMAGE and (name.vm, name.disk) == (vm, disk))
