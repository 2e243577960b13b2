"""Operations on resources, locks, marks and domains; operations.py says what each takes and answers."""

from __future__ import annotations

from functools import partial
from typing import Any, Dict, List, Optional

from ..errors import BadInput, Busy, DncError, Unsafe
from ..grammar import PoolSpec
from ..tools.drbd import ResourceSpec, ResourceStatus, Role
from . import arguments as a
from .resources import RELEASE_TIMEOUT_S
from .settle import settle as settle_disks
from .work import Operation, Reply, Work, offer


def survey(
    work: Work, resources: Optional[List[str]] = None, pools: Optional[List[PoolSpec]] = None, vm_directory: str = "",
    promises: bool = False,
) -> Reply:
    """What this host has; processes are started for pools only (and for status with DRBD 9)."""
    host = work.host
    files = host.resource_files
    specs = files.all() if resources is None else {
        name: spec for name, spec in ((name, files.find(name)) for name in resources) if spec is not None
    }
    statuses = host.resources.statuses(specs)
    names = list(specs) if resources is None else resources
    return {
        "resources": {name: _seen(work, name, specs.get(name), statuses.get(name)) for name in names},
        "pools": {str(spec): _space(work, spec, promises) for spec in pools or ()},
        "minors": list(host.minors.used()),
        "links": host.links.listing(vm_directory)[1] if vm_directory else {},
    }


def _space(work: Work, spec: PoolSpec, promises: bool) -> Dict[str, Any]:
    pool = work.host.pool(spec)
    space = pool.space()
    work.host.journal.note_fill(str(spec), space.fill)
    promised = sum(pool.volumes().values()) if promises else None
    return {**space.to_json(), "volumes": work.host.resource_files.count(), "promised": promised}


def _seen(work: Work, name: str, spec: Optional[ResourceSpec], status: Optional[ResourceStatus]) -> Dict[str, Any]:
    host = work.host
    pool = host.pool_of(spec) if spec else host.pool(host.config.pool)
    volume = pool.find(name)
    return {
        "spec": spec.to_json() if spec else None, "volume": volume.to_json() if volume else None,
        "status": status.to_json() if status else None, "given_up": host.journal.given_up(name),
        "intent": host.journal.intent(name), "unfinished": host.journal.unfinished(name),
        "copies": host.journal.copies(name) or None, "content": host.journal.content(name),
        "growing": host.journal.growth(name) is not None, "strays": host.journal.strays(name),
    }


def lock(
    work: Work, resources: List[str], shared: Optional[List[str]] = None, timeout_s: float = -1.0,
    ignore_given_up: bool = False,
) -> Reply:
    """Hold locks until the session ends."""
    timeout = work.host.config.lock_timeout if timeout_s < 0 else timeout_s
    work.ignores_marks = work.ignores_marks or ignore_given_up
    for name in resources:
        work.refuse_given_up(name)
    work.host.locks.acquire(resources, timeout, work.action, shared or ())
    for name in resources:
        work.host.journal.outdate_copies(name)
    work.refuse_all_given_up()
    return None


def reserve_minor(work: Work, resource: str, minor: int) -> Reply:
    """Take a minor, if it is free here."""
    work.own(resource)
    reserved = work.host.minors.reserve(resource, minor, work.host.config.port(minor))
    if reserved:
        work.undo.push(f"minor {minor} of {resource}", partial(work.host.minors.release, resource, minor))
    return {"reserved": reserved}


def release_minor(work: Work, resource: str, minor: Optional[int] = None) -> Reply:
    """Drop all reservations of a resource, or one."""
    work.host.minors.release(resource, minor)
    return None


def write_resource(work: Work, spec: ResourceSpec) -> Reply:
    """Write the resource file; a half-made one of other shape is taken down first."""
    work.own(spec.name)
    host = work.host
    before = host.resource_files.find(spec.name)
    if before is not None and (before.minor, before.members) != (spec.minor, spec.members):
        if before.state == "ready":
            raise Unsafe(f"{spec.name} is complete with other members or minor", hint="remove it first")
        host.resources.ensure_down(spec.name)
    host.resources.write(spec)
    if before is None or not _kept(before):
        work.undo.push(f"file of {spec.name}", partial(host.resource_files.remove, spec.name))
    else:
        work.undo.push(f"file of {spec.name} as it was", partial(host.resources.write, before))
    return None


def _kept(spec: ResourceSpec) -> bool:
    """Whether a file describes data that may be somebody's: it is put back as it was, never just removed."""
    return spec.state == "ready" or spec.reverting or spec.moving


def change_members(work: Work, spec: ResourceSpec) -> Reply:
    """Members came or went; everything else stays, but for the minor of a resource that is down."""
    work.own(spec.name)
    before = work.host.resource_files.get(spec.name)
    same = {key: getattr(before, key) for key in ("kind", "origin", "pool", "data_bytes", "slots", "day0", "secret")}
    if spec._replace(**same) != spec or spec.epoch < before.epoch:
        raise Unsafe(f"{spec.name} differs in more than its members", hint="another action changed it: try again")
    if spec.minor != before.minor and work.host.resources.status(spec.name) is not None:
        raise Unsafe(f"{spec.name} is up: its minor is not to be changed", hint=f"drbdadm down {spec.name}")
    gone = {member.node_id for member in before.members} - {member.node_id for member in spec.members}
    reused = [member for member in spec.members if member not in before.members and member.node_id in gone]
    if reused:
        raise Unsafe(f"{spec.name}: node id {reused[0].node_id} was another member's a moment ago")
    work.undo.push(f"members of {spec.name}", partial(work.host.resources.change_members, before))
    work.host.resources.change_members(spec)
    return _status(work, spec.name)


def mark_ready(work: Work, resource: str, proof: Optional[str] = None) -> Reply:
    """The resource is complete."""
    work.own(resource)
    before = work.host.resource_files.get(resource)
    work.host.resources.mark_ready(resource, proof)
    work.undo.push(f"{resource} is complete", partial(work.host.resources.write, before))
    return None


def generation(work: Work, resource: str) -> Reply:
    """What the metadata says."""
    _ensure_volume_device(work, resource)
    return work.host.resources.generation(resource).to_json()


def create_metadata(work: Work, resource: str) -> Reply:
    """Fresh metadata for a resource that is being made."""
    work.own(resource)
    _ensure_volume_device(work, resource)
    work.host.resources.create_metadata(resource)
    return None


def _ensure_volume_device(work: Work, resource: str) -> None:
    spec = work.host.resource_files.get(resource)
    if not spec.member(work.host.name).diskless:
        work.host.pool_of(spec).ensure_device(resource)


def bring_up(work: Work, resource: str) -> Reply:
    """Attach and connect."""
    work.own(resource)
    _ensure_volume_device(work, resource)
    was_down = work.host.resources.status(resource) is None
    work.host.resources.ensure_up(resource)
    if was_down:
        work.undo.push(f"{resource} is up", partial(work.host.resources.ensure_down, resource))
    return _status(work, resource)


def _status(work: Work, resource: str) -> Dict[str, Any]:
    status = work.host.resources.status(resource)
    return {"status": status.to_json() if status else None}


def declare_equal(work: Work, resource: str, proof: str) -> Reply:
    """No resync: the replicas are known to be equal."""
    work.own(resource)
    work.host.resources.declare_equal(resource)
    work.host.log.info(f"{resource}: replicas declared equal ({proof})")
    return None


def await_ready(work: Work, resource: str, timeout_s: float = 0.0, without: Optional[List[str]] = None) -> Reply:
    """Wait for all replicas to be equal; a disk that is given up meanwhile ends the wait."""
    config = work.host.config
    status = work.host.resources.await_ready(
        resource, timeout_s or config.connect_timeout, timeout_s or config.sync_timeout, without or ()
    )
    if work.host.locks.held(resource):
        work.refuse_given_up(resource)
    return {"status": status.to_json() if status else None}


def take_down(
    work: Work, resource: str, timeout_s: float = RELEASE_TIMEOUT_S, passing: bool = False
) -> Reply:
    """Put a resource to rest; passing: undo brings it up again."""
    work.devices.close(resource)
    if passing and work.host.resources.status(resource) is not None:
        work.undo.push(f"{resource} is down", partial(work.host.resources.ensure_up, resource))
    work.host.resources.ensure_down(resource, timeout_s)
    return None


def remove_resource(work: Work, resource: str) -> Reply:
    """File, minor, intent: everything but the volume."""
    work.own(resource)
    host = work.host
    spec = host.resource_files.find(resource)
    clones = host.pool_of(spec).needed_by(resource) if spec is not None and spec.kind == "image" else ()
    if clones:
        raise Busy(f"{resource} is the origin of {', '.join(clones)}", hint="remove these clones first")
    take_down(work, resource)
    host.resource_files.remove(resource)
    if spec is not None and (spec.state == "ready" or spec.reverting):
        # Until its volume is gone too, the removal can fail: a complete disk must not lose its description by that.
        work.undo.push(f"file of {resource} is removed", partial(_restore, work, spec))
    host.minors.release(resource)
    host.journal.clear_intent(resource)
    host.journal.clear_copies(resource)
    host.journal.clear_growth(resource)
    host.journal.clear_content(resource)
    host.journal.note_strays(resource, [])
    return None


def _restore(work: Work, spec: ResourceSpec) -> None:
    if work.host.pool_of(spec).find(spec.name) is not None:
        work.host.resources.write(spec)


def promote(work: Work, resource: str) -> Reply:
    """Primary here."""
    work.refuse_given_up(resource)
    before = work.host.resources.status(resource)
    status = work.host.resources.promote(resource)
    if before is not None and before.role is not Role.PRIMARY:
        work.undo.push(f"{resource} is Primary", partial(_demote_again, work, resource))
    return {"status": status.to_json() if status else None}


def _demote_again(work: Work, resource: str) -> None:
    work.devices.close(resource)
    work.host.resources.demote(resource)


def demote(work: Work, resource: str, timeout_s: float = RELEASE_TIMEOUT_S) -> Reply:
    """Secondary here."""
    work.devices.close(resource)
    status = work.host.resources.demote(resource, timeout_s)
    return {"status": status.to_json() if status else None}


def give_up(work: Work, resource: str, frontend_time: float) -> Reply:
    """OpenNebula wants the disk gone."""
    work.host.journal.give_up(resource, frontend_time)
    return None


def note_content(work: Work, resource: str, content: Dict[str, Any]) -> Reply:
    """The file that an image volume was made from."""
    work.own(resource)
    work.host.journal.note_content(resource, content)
    work.undo.push(f"{resource} is an import", partial(work.host.journal.clear_content, resource))
    return None


def note_strays(work: Work, resource: str, hosts: List[str]) -> Reply:
    """Where replicas that do not count may lie."""
    work.own(resource)
    work.host.journal.note_strays(resource, hosts)
    return None


def note_unfinished(work: Work, resource: str, hosts: List[str]) -> Reply:
    """A removal that did not reach some hosts."""
    work.host.journal.note_unfinished(resource, hosts)
    return None


def clear_unfinished(work: Work, resource: str) -> Reply:
    """The removal is finished."""
    work.host.journal.clear_unfinished(resource)
    return None


def allow_two_primaries(work: Work, resource: str, vm: int, source: str, destination: str) -> Reply:
    """For one live migration, between two hosts; the intent is on disk before DRBD hears of it."""
    host = work.host
    if host.name not in (source, destination) or source == destination:
        raise BadInput(f"{resource}: a migration from {source} to {destination} is not this host's", host=host.name)
    peer = destination if host.name == source else source
    work.undo.push(f"two primaries of {resource}", partial(_forbid, work, resource))
    host.journal.note_intent(resource, vm, source, destination)
    host.resources.allow_two_primaries(resource, peer)
    return None


def _forbid(work: Work, resource: str) -> None:
    work.host.resources.forbid_two_primaries(resource)
    work.host.journal.clear_intent(resource)


def settle(work: Work, vm: int, resources: List[str], domain: str, role_here: Optional[bool] = None) -> Reply:
    """Roles and two-primaries as the place of the domain demands."""
    running = work.host.domains.find(domain) is not None if role_here is None else role_here
    settled = settle_disks(work.host, resources, running)
    return {"resources": {name: one.to_json() for name, one in settled.items()}}


def find_domain(work: Work, name: str) -> Reply:
    """Whether a domain is here, and its state."""
    found = work.host.domains.find(name)
    return {"state": found.state.value if found else None}


def destroy_domain(work: Work, name: str) -> Reply:
    """End a domain at once."""
    present = work.host.domains.find(name) is not None
    if present:
        work.host.domains.destroy(name)
    return {"destroyed": present}


def commit(work: Work) -> Reply:
    """Keep everything, unless a disk was given up meanwhile."""
    work.refuse_all_given_up()
    if work.failed_write is not None:
        raise DncError(f"not committed: {work.failed_write.what}", hint="a quiet write failed before")
    work.undo.commit()
    return None


OPERATIONS: Dict[str, Operation] = {
    "survey": offer(survey, resources_=a.resources, pools_=a.pools, vm_directory_=a.path, promises_=a.flag),
    "lock": offer(
        lock, resources=a.resources, shared_=a.resources, timeout_s_=a.seconds, ignore_given_up_=a.flag
    ),
    "reserve_minor": offer(reserve_minor, resource=a.resource, minor=a.number),
    "release_minor": offer(release_minor, resource=a.resource, minor_=a.number),
    "write_resource": offer(write_resource, spec=a.spec),
    "change_members": offer(change_members, spec=a.spec),
    "mark_ready": offer(mark_ready, resource=a.resource, proof_=a.proof),
    "generation": offer(generation, resource=a.resource),
    "create_metadata": offer(create_metadata, resource=a.resource),
    "bring_up": offer(bring_up, resource=a.resource),
    "declare_equal": offer(declare_equal, resource=a.resource, proof=a.proof),
    "await_ready": offer(await_ready, resource=a.resource, timeout_s_=a.seconds, without_=a.hosts),
    "take_down": offer(take_down, resource=a.resource, timeout_s_=a.seconds, passing_=a.flag),
    "remove_resource": offer(remove_resource, resource=a.resource),
    "promote": offer(promote, resource=a.resource),
    "demote": offer(demote, resource=a.resource, timeout_s_=a.seconds),
    "give_up": offer(give_up, resource=a.resource, frontend_time=a.seconds),
    "note_content": offer(note_content, resource=a.resource, content=a.record),
    "note_strays": offer(note_strays, resource=a.resource, hosts=a.hosts),
    "note_unfinished": offer(note_unfinished, resource=a.resource, hosts=a.hosts),
    "clear_unfinished": offer(clear_unfinished, resource=a.resource),
    "allow_two_primaries": offer(
        allow_two_primaries, resource=a.resource, vm=a.number, source=a.host, destination=a.host
    ),
    "settle": offer(settle, vm=a.number, resources=a.resources, domain=a.text, role_here_=a.flag),
    "find_domain": offer(find_domain, name=a.text),
    "destroy_domain": offer(destroy_domain, name=a.text),
    "commit": offer(commit),
}
