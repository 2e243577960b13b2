"""Making resources on all members at once: empty ones, and clones of an image at rest (design: storage actions).

Everything here happens in sessions that roll back unless the action commits; `finish` is the last step before that.
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple
from zlib import crc32

from ..errors import BadConfig, Busy, Conflict, NoSpace, ToolMissing, Unsafe
from ..grammar import MIB, ResourceName
from ..tools import drbd
from ..tools.dialects import of_version
from ..tools.drbd import Dialect
from ..tools.resource import Member, ResourceSpec, new_secret
from ..tools.single import Single
from .session import Answer
from .sessions import Sessions
from .survey import Found, HostSurvey, Located, look_again, refuse_growing, survey

FRESH = "fresh-zero"


class Plan(NamedTuple):
    """A resource to be made: where (ssh names, in node-id order), in which pool, how large (bytes of data)."""

    name: ResourceName
    hosts: Tuple[str, ...]
    pool: str
    data_bytes: int
    vm: Optional[int] = None
    origin: Optional[ResourceName] = None

    @property
    def tags(self) -> Answer:
        """What the volume itself says of its purpose (design D6)."""
        tags: Answer = {"kind": self.name.kind.value}
        if self.vm is not None:
            tags["vm"] = self.vm
        if self.origin is not None:
            tags["origin"] = self.origin.text
        return tags


def make_empty(farm: Sessions, plan: Plan) -> ResourceSpec:
    """An empty resource, up on all members, replicas equal; the caller holds its locks and fills it.

    The volumes are fresh and read as zeros on every member: that is the proof by which no sync is needed.
    Raises NoSpace, Conflict, Unreachable.
    """
    drbd_version = require_dialect(farm, plan.hosts)
    slots = drbd_version.slots
    minor = reserve_minor(farm, plan.hosts, plan.name) if len(plan.hosts) > 1 else None
    size = drbd.volume_size(plan.data_bytes, slots)
    volumes = farm.all(
        "create_volume", plan.hosts, pool=plan.pool, name=plan.name.text, bytes=size, tags=plan.tags
    )
    spec = new_spec(farm, plan, minor, slots, volumes, day0=drbd_version.new_day0())
    farm.all("write_resource", plan.hosts, spec=spec.to_json())
    if spec.replicated:
        farm.all("create_metadata", plan.hosts, resource=spec.name)
    bring_up(farm, plan.hosts, spec)
    declare_equal(farm, plan, spec, FRESH)
    await_ready(farm, plan.hosts, spec)
    return spec._replace(proof=FRESH)


def make_clone(farm: Sessions, plan: Plan, image: Located) -> ResourceSpec:
    """A copy of an image at rest on its members, or fewer, or beside a copy of it; up and equal; both are locked.

    The snapshot holds DRBD's metadata too, so with 8.4 a clone of the same size needs nothing but a new name. A larger
    one, and with DRBD 9 any that is proven, gets new metadata by the proven order (NOTES-drbd9, c and g): grow,
    create-md, zero the old metadata area, declare equal or stamp with a UUID of its own. Raises Busy (the image is
    up), Unsafe (replicas not proven equal), NoSpace, Conflict.
    """
    image = look_again(farm, image)
    require_rest(farm, image)
    proof = proof_of_rest(farm, image)
    grow = plan.data_bytes > image.spec.data_bytes
    alone = image.spec.replicated and len(plan.hosts) == 1  # a clone without DRBD of an image with it
    # Unproven replicas DRBD itself has to compare: all of them, with the metadata that they have.
    if proof is None and (grow or set(plan.hosts) != set(image.holders)):
        what = "larger clone" if grow else "clone of some of them"
        raise Unsafe(
            f"{image.name}: its replicas are not proven equal, so no {what}",
            hint=f"bring it up once and let it resync: drbdadm up {image.name} on all members, wait, drbdadm down",
        )
    slots = 0 if alone else image.spec.slots
    day0 = require_dialect(farm, plan.hosts).new_day0() if proof is not None else None
    minor = reserve_minor(farm, plan.hosts, plan.name) if len(plan.hosts) > 1 else None
    wanted = drbd.volume_size(plan.data_bytes, slots) if grow else None
    volumes = farm.all(
        "clone_volume", plan.hosts, pool=plan.pool, origin=image.name.text, name=plan.name.text, bytes=wanted,
        tags=plan.tags,
    )
    node_ids = _node_ids(farm, plan, image)
    spec = new_spec(farm, plan, minor, slots, volumes, node_ids=node_ids, day0=day0)
    farm.all("write_resource", plan.hosts, spec=spec.to_json())
    renew = spec.replicated and (grow or day0 is not None)
    if renew:
        farm.all("create_metadata", plan.hosts, resource=spec.name)
    if image.spec.replicated and (grow or alone):
        zero_old_metadata(farm, plan.hosts, spec, volumes, image.spec.slots)
    bring_up(farm, plan.hosts, spec)
    if renew and proof is not None:
        declare_equal(farm, plan, spec, proof)
    await_ready(farm, plan.hosts, spec)
    return spec._replace(proof=proof)


def _node_ids(farm: Sessions, plan: Plan, image: Located) -> List[int]:
    """Each member's number as the image has it; a host that is none of its members gets one that is free."""
    taken = {farm.ssh_name(member.host): member.node_id for member in image.spec.replicas}
    used = {taken[host] for host in plan.hosts if host in taken}
    free = iter(number for number in range(32) if number not in used)
    return [taken[host] if host in taken else next(free) for host in plan.hosts]


def declare_equal(farm: Sessions, plan: Plan, spec: ResourceSpec, proof: str) -> None:
    """Once all are up; replicas that were stamped alike are equal already."""
    if spec.replicated and spec.day0 is None:
        farm.call(plan.hosts[0], "declare_equal", resource=spec.name, proof=proof)


def zero_old_metadata(
    farm: Sessions, hosts: Sequence[str], spec: ResourceSpec, volumes: Mapping[str, Answer], slots: int
) -> None:
    """What was metadata (of that many slots) of the volumes' origin, data from now on, becomes zeros (rule 12)."""
    old = {host: int(volumes[host]["origin_bytes"]) for host in hosts}
    farm.each("zero_old_metadata", {
        host: {"resource": spec.name, "from": drbd.data_end(old[host], slots), "to": old[host], "slots": slots}
        for host in hosts
    })


def require_rest(farm: Sessions, image: Located) -> None:
    """An image can be cloned while it is complete and down everywhere. Raises Unsafe, Busy, Unreachable."""
    image.require_complete(farm)
    refuse_growing(image)
    up = [host for host, found in image.found.items() if found.up] or runs_alone(farm, image)
    if up:
        raise Busy(f"image {image.name} is in use on {' '.join(up)}", hint="a persistent image serves one VM at a time")


def runs_alone(farm: Sessions, image: Located, besides: Optional[int] = None) -> List[str]:
    """Where an image without DRBD is used: nothing but the domain of the VM in its file can tell.

    besides: a VM whose use does not count.
    """
    vm = image.spec.vm
    if image.spec.replicated or vm is None or vm == besides:
        return []
    answers = farm.all("find_domain", image.hosts, name=f"one-{vm}")
    return [host for host, answer in answers.items() if answer.get("state") is not None]


def proof_of_rest(farm: Sessions, image: Located) -> Optional[str]:
    """Why all replicas of an image at rest are equal: the same clean data generation on every member; else None."""
    answers = farm.all("generation", image.holders, resource=image.name.text)
    if not image.spec.replicated:
        return "single"
    current = {str(answer["current"]) for answer in answers.values()}
    if len(current) == 1 and all(answer["clean"] for answer in answers.values()):
        return f"gi:{current.pop()}"
    farm.log.warn(f"{image.name}: replicas not proven equal, DRBD compares them: {_generations(answers)}")
    return None


def _generations(answers: Mapping[str, Answer]) -> str:
    return ", ".join(f"{host} {a['current']} {'clean' if a['clean'] else 'not clean'}" for host, a in answers.items())


def replicas_of_clone(image: Located, wanted: Optional[int], *, strict: bool) -> int:
    """How many members a clone has: no more than its image, whose replicas it is made of.

    strict: somebody asked for this very clone; else `wanted` may be a datastore's word, for other images.
    Raises Unsafe when more are asked for than the image has.
    """
    members = len(image.spec.replicas)
    if strict and wanted is not None and wanted > members:
        raise Unsafe(
            f"image {image.name} has {members} replica{'s' * (members > 1)}, {wanted} are wanted",
            hint=f"import it again with DNC_REPLICAS={wanted}, or take DNC_REPLICAS={members}",
        )
    return min(wanted or members, members)


def require_dialect(farm: Sessions, hosts: Iterable[str]) -> Dialect:
    """What DRBD on these hosts speaks, Single for one host.

    Raises ToolMissing (not loaded), BadConfig (different versions, more replicas than this one keeps).
    """
    hosts = tuple(hosts)
    if len(hosts) < 2:
        return Single()
    versions = {host: farm.about(host).get("drbd") for host in hosts}
    if len(set(versions.values())) != 1 and all(versions.values()):
        shown = ", ".join(f"{host} {version}" for host, version in versions.items())
        raise BadConfig("hosts have different versions of DRBD", hint=f"make them equal: {shown}")
    dialects = {host: of_version(version) for host, version in versions.items()}
    without = [host for host, dialect in dialects.items() if dialect is None]
    dialect = dialects[hosts[0]]
    if dialect is None or without:
        raise ToolMissing("DRBD is not loaded", host=without[0], hint="modprobe drbd, and have it loaded at boot")
    if len(hosts) > dialect.most_replicas:
        raise BadConfig(
            f"DRBD {dialect.name} keeps {dialect.most_replicas} replicas, not {len(hosts)}", host=hosts[0],
            hint=f'set REPLICAS="{dialect.most_replicas}" in dncrc, or install DRBD 9 on all hosts (docs/drbd-9.md)',
        )
    return dialect


def reserve_minor(farm: Sessions, hosts: Sequence[str], name: ResourceName) -> int:
    """One minor, and with it one port, that is free on all members; reserved until the resource is removed.

    The first host decides between actions that want the same one, so they never chase each other. Raises NoSpace.
    """
    config = farm.config
    taken = set().union(*(answer.minors for answer in survey(farm, hosts, []).values()))
    first, others = hosts[0], list(hosts[1:])
    # Where a host may become a client later, its minors should not all be taken by the same low numbers as here.
    start = crc32(name.text.encode()) % config.minor_count if require_dialect(farm, hosts).clients else 0
    for turn in range(config.minor_count):
        minor = config.minor_base + (start + turn) % config.minor_count
        if minor in taken or not farm.call(first, "reserve_minor", resource=name.text, minor=minor)["reserved"]:
            continue
        answers = farm.all("reserve_minor", others, resource=name.text, minor=minor)
        if all(answer["reserved"] for answer in answers.values()):
            return minor
        farm.all("release_minor", hosts, resource=name.text)
    raise NoSpace(
        f"all {config.minor_count} DRBD minors from {config.minor_base} are taken",
        hint="raise MINOR_COUNT in dncrc, or remove what is no longer needed",
    )


def new_spec(
    farm: Sessions, plan: Plan, minor: Optional[int], slots: int, volumes: Mapping[str, Answer],
    node_ids: Sequence[int] = (), day0: Optional[str] = None,
) -> ResourceSpec:
    """The record of a resource in the making. Raises BadConfig when a host has no address for replication."""
    replicated = len(plan.hosts) > 1
    members = []
    for number, host in enumerate(plan.hosts):
        about = farm.about(host)
        if not about.get("address"):
            raise BadConfig("host has no address in REPLICATION_NETWORK", host=host, hint="correct it in dncrc")
        node_id = node_ids[number] if node_ids else number
        members.append(Member(about["host"], about["address"], volumes[host]["device"], node_id))
    return ResourceSpec(
        name=plan.name.text, minor=minor, port=farm.config.port(minor) if minor is not None else None,
        secret=new_secret() if replicated else "", members=tuple(members), state="making",
        kind=plan.name.kind.value, vm=plan.vm, origin=plan.origin.text if plan.origin else None, proof=None,
        pool=plan.pool, data_bytes=plan.data_bytes, slots=slots, day0=day0,
    )


def bring_up(farm: Sessions, hosts: Iterable[str], spec: ResourceSpec) -> None:
    """Have the resource up on these hosts."""
    farm.all("bring_up", hosts, resource=spec.name)


def await_ready(
    farm: Sessions, hosts: Iterable[str], spec: ResourceSpec, *, without: Iterable[str] = ()
) -> None:
    """Wait until all replicas are connected, UpToDate and equal, but for those on the hosts in `without` (ssh names).

    Raises TimedOut, or what keeps them apart.
    """
    patience = farm.config.connect_timeout + farm.config.sync_timeout + 60.0
    left_out = [member for member in spec.hosts() if farm.ssh_name(member) in tuple(without)]
    more: Answer = {"without": left_out} if left_out else {}
    farm.all("await_ready", hosts, timeout=patience, resource=spec.name, **more)


def take_down(farm: Sessions, hosts: Iterable[str], name: ResourceName) -> None:
    """Put a resource to rest on these hosts. Raises Busy while it is held open."""
    farm.all("take_down", hosts, resource=name.text)


def format_disk(farm: Sessions, host: str, spec: ResourceSpec, filesystem: str) -> None:
    """Put a file system (or "swap") on a disk that is up; Primary on `host` only for that time."""
    farm.call(host, "promote", resource=spec.name)
    farm.call(host, "format", resource=spec.name, filesystem=filesystem)
    farm.call(host, "demote", resource=spec.name)


def finish(farm: Sessions, hosts: Iterable[str], spec: ResourceSpec) -> None:
    """Declare a resource complete on all members: from here on a retry accepts it."""
    args: Answer = {"resource": spec.name}
    if spec.proof is not None:
        args["proof"] = spec.proof
    farm.each("mark_ready", dict.fromkeys(hosts, args))


def remove(
    farm: Sessions, hosts: Iterable[str], name: ResourceName, pools: Iterable[str], without_volume: Iterable[str] = ()
) -> None:
    """Remove volume and resource on these hosts, in whatever state they are; absent is success.

    Volumes go first: when a clone needs one (Busy names it), the image is still whole. Raises Busy.
    """
    hosts = tuple(hosts)
    take_down(farm, hosts, name)
    for pool in dict.fromkeys(pools):
        holders = [host for host in hosts if host not in tuple(without_volume)]
        farm.all("remove_volume", holders, pool=pool, name=name.text)
    farm.all("remove_resource", hosts, resource=name.text)


def clear_leftovers(
    farm: Sessions, hosts: Sequence[str], name: ResourceName, pool: str, *, keep_ready: bool = False
) -> None:
    """Remove what an interrupted action left of a resource that is now to be made.

    keep_ready: a finished resource is somebody's data, not a left-over. Raises Conflict for it, or if one is in use.
    """
    answers: Dict[str, HostSurvey] = survey(farm, hosts, [name])
    left = {host: answer.of(name) for host, answer in answers.items() if answer.of(name).anything}
    if not left:
        return
    ready = [host for host, found in left.items() if found.spec is not None and found.spec.state == "ready"]
    if keep_ready and ready:
        raise Conflict(f"{name} exists already on {' '.join(ready)}", hint="does another OpenNebula use these hosts?")
    # Half made it is nobody's data: what was Primary for the import or mkfs that died goes, unless it is held open.
    used = [host for host, found in left.items() if found.primary and not _half_made(found)]
    if used:
        raise Conflict(f"{name} exists and is Primary on {' '.join(used)}", hint="see what uses it: xl list there")
    farm.log.info(f"{name}: removing what an interrupted action left on {' '.join(left)}")
    pools = [pool, *(found.volume.pool for found in left.values() if found.volume is not None)]
    remove(farm, tuple(left), name, pools)


def _half_made(found: Found) -> bool:
    return found.spec is not None and found.spec.state == "making"


def mib(data_bytes: int) -> int:
    """Bytes as whole MiB, rounded up."""
    return -(-data_bytes // MIB)

