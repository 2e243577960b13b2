"""An image's content on a host that is no member of it, so that a VM can be started there (MISSING_REPLICA=copy).

It is copied once, byte for byte, metadata too, and proven equal by checksums of both volumes; whoever wants the same
copy meanwhile waits for it. From then on clones there are as instant as on the members. The members know who holds a
copy; an exclusive lock of the image on one of them ends its being current (journal.outdate_copies), and so does any
other data generation than the one that was copied.
"""

from __future__ import annotations

import time
from typing import Tuple

from ..errors import Busy, TimedOut, Unsafe
from ..grammar import MIB, ResourceName, parse_pool
from ..tools.drbd import Member, ResourceSpec
from . import making, transfer
from .placement import Wanted, choose, rules_of
from .session import Answer
from .sessions import Sessions
from .survey import Found, Located, look_again, survey

# A waiting action tells how far the copy is in these intervals, seconds.
_TELL_S = 15.0


def clone_hosts(farm: Sessions, image: Located, host: str, name: ResourceName, count: int) -> Tuple[str, ...]:
    """`host` and those members of the image that get a clone's other replicas: where an earlier run put them, else
    by room and rules, the same ones for all disks of a VM where that can be. Raises NoSpace."""
    everyone = (host, *image.holders)
    pool = parse_pool(image.spec.pool)
    answers = survey(farm, everyone, [name], [pool])
    for answer in answers.values():
        spec = answer.of(name).spec
        if spec is not None and spec.state == "ready":
            hosts = farm.ssh_names(spec.replicas)
            if host in hosts and set(hosts) <= set(everyone):
                return hosts
    spaces = {one: answer.pools[str(pool)] for one, answer in answers.items() if str(pool) in answer.pools}
    wanted = Wanted(f"vm-{name.vm}", pool, MIB, count, farm.config.pool_fill_limit, first=host)
    choice = choose(wanted, spaces, {}, rules_of(farm.config), stale=True)
    for line in choice.lines():
        farm.log.info(f"{name}: {line}")
    return choice.hosts


def ensure_copy(farm: Sessions, image: Located, host: str) -> bool:
    """Have the image's content on `host`, locked there and on the image's members until the sessions end.

    False where a dry run has only said that it would be copied, so that there is nothing to go on with.
    Raises Busy (the image is up), Unsafe (its replicas are not proven equal, or the copy differs), NoSpace, TimedOut.
    """
    farm.lock(image.holders, [], shared=[image.name.text])
    image = look_again(farm, image)
    making.require_rest(farm, image)
    if host in farm.ssh_names(image.spec.clients):
        raise Unsafe(
            f"{image.name} was put to rest while a member was away, and {host} is its client still",
            hint=f"run the VM on one of: {' '.join(image.holders)}",
        )
    proof = making.proof_of_rest(farm, image)
    if proof is None:
        raise Unsafe(
            f"{image.name}: its replicas are not proven equal, no copy to {host}",
            hint=f"bring it up once and let it resync: drbdadm up {image.name} on all members, wait, drbdadm down",
        )
    if _await_turn(farm, image, host, proof):
        return True
    _copy(farm, image, host, proof)
    return not farm.dry_run


def plan_clone(farm: Sessions, image: Located, host: str, name: ResourceName) -> ResourceSpec:
    """In a dry run: tell the host of a clone, so that the plan's later steps find it."""
    spec = _spec(farm, image, host, image.spec.backing(image.spec.replicas[0].host), image.spec.data_bytes)
    spec = spec._replace(name=name.text, kind=name.kind.value, state="making", image_hosts=())
    farm.call(host, "write_resource", spec=spec.to_json())
    return spec


def _is_current(farm: Sessions, image: Located, host: str, found: Found, proof: str) -> bool:
    """Whether the host's copy is what the members hold: all of them say so, and the generation is the same."""
    spec, name = found.spec, str(farm.about(host)["host"])
    known = all((image.found[one].copies or {}).get(name) is True for one in image.holders)
    return known and spec is not None and spec.state == "copy" and spec.proof == proof


def _await_turn(farm: Sessions, image: Located, host: str, proof: str) -> bool:
    """Lock the image on `host`: shared when its copy is current (True), else exclusively, to make it.

    Waits while another action makes it, as long as that makes progress. Raises TimedOut.
    """
    name, said, since, told = image.name.text, "", time.monotonic(), 0.0
    while True:
        if _is_current(farm, image, host, survey(farm, [host], [image.name])[host].of(image.name), proof):
            farm.lock([host], [], shared=[name])
            return True
        try:
            farm.call(host, "lock", resources=[name], timeout_s=1.0)
        except Busy as error:
            if error.what != said:
                # Another word, or another percentage: it goes on.
                told = 0.0 if error.what.partition(",")[0] != said.partition(",")[0] else told
                said, since = error.what, time.monotonic()
            if time.monotonic() - since > farm.config.sync_timeout:
                raise TimedOut(f"no copy of {name} on {host}: {said}", hint="see what that action waits for") from None
            if time.monotonic() - told > _TELL_S:
                told = time.monotonic()
                farm.log.info(f"{host}: waiting: {said}")
            image = look_again(farm, image)
            continue
        # Whoever held it may have finished the copy.
        image = look_again(farm, image)
        return _is_current(farm, image, host, survey(farm, [host], [image.name])[host].of(image.name), proof)


def _copy(farm: Sessions, image: Located, host: str, proof: str) -> None:
    name, source = image.name.text, image.holders[0]
    volume = image.found[source].volume
    if volume is None:
        raise Unsafe(f"{name} has no volume on {source}", hint="is the pool imported, the volume active?")
    holder = str(farm.about(host)["host"])
    where = f"run the VM on one of: {' '.join(image.holders)}"
    transfer.require_room(farm, image, host, volume.bytes, where)
    farm.log.info(f"{name}: no replica on {host}: copying {volume.bytes // MIB} MiB from {source}, once")
    # Noted before there is anything, and for good: removing the image has to look there.
    farm.all("note_copy", image.holders, resource=name, host=holder, current=False)
    farm.commit(image.holders)
    before = survey(farm, [host], [image.name])[host].of(image.name).spec
    if before is not None and not before.is_copy:
        farm.call(host, "remove_resource", resource=name)  # it was a client, and did not hear that it is none
    device = transfer.create_volume(farm, image, host, volume.bytes)
    spec = _spec(farm, image, host, device, volume.bytes)
    farm.call(host, "write_resource", spec=spec.to_json())
    if not farm.dry_run:
        transfer.carry(farm, image.name, source, host, volume.bytes)
    farm.all("take_down", [host], resource=name)
    farm.call(host, "write_resource", spec=spec._replace(state="copy", proof=proof).to_json())
    farm.commit([host])
    farm.all("note_copy", image.holders, resource=name, host=holder, current=True)


def _spec(farm: Sessions, image: Located, host: str, device: str, size: int) -> ResourceSpec:
    """What the holder's file says: a volume without DRBD, and where the replicas are."""
    about: Answer = farm.about(host)
    member = Member(str(about["host"]), str(about.get("address") or "0.0.0.0"), device, 0)
    return image.spec._replace(
        minor=None, port=None, secret="", members=(member,), state="copying", vm=None, proof=None, data_bytes=size,
        slots=0, image_hosts=tuple(member.host for member in image.spec.replicas),
    )
