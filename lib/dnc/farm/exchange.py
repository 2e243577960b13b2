"""A replica in place of another one while the disk is at rest: a proven copy, then both change places.

DRBD 8.4 has room for two members, and a single replica has no DRBD: so there is never a third one beside them. The one
that goes is not touched before the copy is proven; replicas.py says what makes the change itself safe.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import DncError, Unsafe
from ..grammar import MIB
from ..tools.drbd import Member, ResourceSpec
from . import making, strays, transfer
from .sessions import Sessions
from .survey import Located, look_again


class Exchange(NamedTuple):
    """Hosts of an exchange, by ssh name: who stays, who goes, who comes; and the path of the new volume there."""

    staying: str
    going: str
    coming: str
    device: str


def exchange(farm: Sessions, located: Located, going: str, host: str, size: int) -> Located:
    """The replica on `host` is made of a copy of another one, while the disk is down; then both change places."""
    was_up = any(found.up for found in located.found.values())
    source = next((one for one in located.holders if one != going), going)
    proof = _rest(farm, located, was_up)
    device = _copy(farm, located, source, host, size)
    if located.spec.replicated:
        after = _switch(farm, located, Exchange(source, going, host, device), proof)
    else:
        after = _hand_over(farm, located, going, host, device)
    staying = farm.ssh_names(after.members)
    if located.spec.replicated and not was_up:
        making.take_down(farm, staying, located.name)
    farm.commit(staying)
    found = {one: located.found[one] for one in staying if one in located.found}
    located = look_again(farm, located._replace(spec=after, hosts=staying, found=found))
    strays.clear(farm, located)
    return located


def _rest(farm: Sessions, located: Located, was_up: bool) -> str:
    """All replicas down, and proven equal. They come up again if the sessions end before they are moved."""
    making.require_dialect(farm, located.holders)
    proof = None if was_up else making.proof_of_rest(farm, located)
    if proof is None:
        making.bring_up(farm, located.holders, located.spec)
        making.await_ready(farm, located.holders, located.spec)
        farm.all("take_down", located.holders, resource=located.name.text, passing=True)
        proof = making.proof_of_rest(farm, located)
    if proof is None:
        raise Unsafe(f"{located.name}: its replicas are not proven equal", hint="drbdadm verify, and see dmesg")
    return proof


def _copy(farm: Sessions, located: Located, source: str, host: str, size: int) -> str:
    """A proven copy on `host`, the path of its volume; its file says `copying`, and the members know where it is."""
    spec, name = located.spec, located.name.text
    strays.make_place(farm, located, host)
    device = transfer.create_volume(farm, located, host, size)
    alone_here = alone(spec, strays.new_member(farm, spec, host, device), size)
    farm.call(host, "write_resource", spec=alone_here.to_json())
    farm.log.info(f"{name}: copying {size // MIB} MiB from {source} to {host}")
    transfer.carry(farm, located.name, source, host, size)
    farm.all("take_down", [host], resource=name)  # closes what it was written through
    return device


def _switch(farm: Sessions, located: Located, places: Exchange, proof: str) -> ResourceSpec:
    """The new host in place of the old one: said by the file of the one that stays, once both say that it decides."""
    spec, name, (staying, going, host, device) = located.spec, located.name.text, places
    farm.call(host, "remove_resource", resource=name)  # the file of the copy, which knew no DRBD
    minor = _minor(farm, located, staying, host)
    old, new = strays.own_name(farm, going), strays.new_member(farm, spec, host, device)
    after = spec._replace(
        members=tuple(new if one.host == old else one for one in spec.members), epoch=spec.epoch + 1, minor=minor,
        port=farm.config.port(minor), proof=proof,
    )
    joining = after._replace(state="joining", image_hosts=(strays.own_name(farm, staying),))
    farm.call(host, "write_resource", spec=joining.to_json())
    farm.commit([host])
    try:
        strays.leave(farm, located, going, (staying,))
        farm.call(staying, "change_members", spec=after.to_json())
        farm.commit([staying])
        making.bring_up(farm, (staying, host), after)
        making.await_ready(farm, (staying, host), after)
        farm.call(host, "change_members", spec=after.to_json())
        strays.pass_notes_on(farm, located, host)
        strays.note(farm, located, (staying, host), strays.own_name(farm, going))
        farm.commit([staying, host])
    except DncError as error:
        _go_back(farm, located, places, error)
        raise
    if minor != spec.minor:
        farm.call(staying, "release_minor", resource=name, minor=spec.minor)
    return after


def _go_back(farm: Sessions, located: Located, places: Exchange, error: DncError) -> None:
    """The old pair again, by a later word of the host that stays. What does not work is done by the next action."""
    staying, going, host, _device = places
    farm.log.warn(f"{error.line()}{located.name} stays on {staying} {going}")
    before = located.spec._replace(epoch=located.spec.epoch + 2)
    try:
        making.take_down(farm, (staying, host), located.name)
        for one in (staying, going):
            farm.call(one, "change_members", spec=before.to_json())
            farm.commit([one])
        if any(found.up for found in located.found.values()):
            making.bring_up(farm, (staying, going), before)
            farm.commit((staying, going))
        making.remove(farm, [host], located.name, [located.spec.pool])
        farm.commit([host])
    except DncError as later:
        farm.log.warn(f"{later.line()}The next migration of the VM finishes that")


def _hand_over(farm: Sessions, located: Located, going: str, host: str, device: str) -> ResourceSpec:
    """The only replica: the file of the one that goes says where the data are from now on."""
    spec = located.spec
    after = spec._replace(members=(strays.new_member(farm, spec, host, device),), epoch=spec.epoch + 1)
    joining = after._replace(state="joining", image_hosts=(strays.own_name(farm, going),))
    farm.call(host, "write_resource", spec=joining.to_json())
    strays.pass_notes_on(farm, located, host)
    strays.note(farm, located, (host,), strays.own_name(farm, going))
    farm.commit([host])
    left = spec._replace(epoch=after.epoch, state="leaving", image_hosts=(strays.own_name(farm, host),))
    farm.call(going, "write_resource", spec=left.to_json())
    farm.commit([going])
    farm.call(host, "change_members", spec=after.to_json())
    farm.commit([host])
    return after


def _minor(farm: Sessions, located: Located, staying: str, host: str) -> int:
    """A minor for the new pair: the one that the disk has, if that is free on the new host too. Raises NoSpace."""
    minor = located.spec.minor
    if minor is not None and farm.call(host, "reserve_minor", resource=located.name.text, minor=minor)["reserved"]:
        return minor
    return making.reserve_minor(farm, (staying, host), located.name)


def alone(spec: ResourceSpec, member: Member, size: int) -> ResourceSpec:
    """What the host of a copy in the making says: a volume of that many bytes without DRBD, and who has the disk."""
    return spec._replace(
        minor=None, port=None, secret="", members=(member,), state="copying", slots=0, data_bytes=size,
        image_hosts=spec.hosts(),
    )


