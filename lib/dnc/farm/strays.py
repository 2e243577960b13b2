"""Replicas that do not count: on their way to a host, or left behind on one; noted on the members until they are gone.

What every move of a replica needs of a host that comes or goes (replicas.py, exchange.py).
"""

from __future__ import annotations

from typing import Iterable, List, Sequence

from ..errors import BadConfig, Conflict, DncError
from ..tools.drbd import Member, ResourceSpec
from . import making
from .sessions import Sessions
from .survey import Located, survey


def own_name(farm: Sessions, host: str) -> str:
    """How the host calls itself, as resource files do."""
    return str(farm.about(host)["host"])


def new_member(farm: Sessions, spec: ResourceSpec, host: str, device: str) -> Member:
    """The record of a new member; its number is nobody's. Raises BadConfig without an address for replication."""
    about = farm.about(host)
    address = about.get("address") or ("" if spec.replicated else "0.0.0.0")
    if not address:
        raise BadConfig("host has no address in REPLICATION_NETWORK", host=host, hint="correct it in dncrc")
    taken = {member.node_id for member in spec.members}
    return Member(str(about["host"]), str(address), device, min(set(range(32)) - taken))


def make_place(farm: Sessions, located: Located, host: str) -> None:
    """`host` locked, noted on the members, and without what an earlier attempt, or a copy of the image, left there.

    Raises Conflict (something else lies there), Busy (clones hang on the copy).
    """
    name, others = located.name, [one for one in located.holders if one != host]
    farm.open([host])
    farm.lock([host], [name.text])
    note(farm, located, others, own_name(farm, host))
    found = survey(farm, [host], [name])[host].of(name)
    if found.spec is not None and found.spec.state == "ready" and found.volume is not None:
        where = " ".join(others)
        raise Conflict(f"{host} has an old replica of {name}", hint=f"{where} do not know it: remove it there")
    if found.anything:
        farm.log.info(f"{name}: removing what lies on {host}")
        making.remove(farm, [host], name, [located.spec.pool])


def leave(farm: Sessions, located: Located, host: str, staying: Sequence[str]) -> None:
    """From here on the replica on `host` counts only if one that stays says so; noted there, so that it is cleared."""
    note(farm, located, staying, own_name(farm, host))
    knowing = tuple(own_name(farm, one) for one in staying)
    spec = located.spec._replace(state="leaving", image_hosts=knowing)
    farm.call(host, "write_resource", spec=spec.to_json())
    farm.commit([host])


def known(located: Located) -> List[str]:
    """What the members have noted, by the hosts' own names."""
    return sorted({stray for host in located.holders for stray in located.found[host].strays})


def note(farm: Sessions, located: Located, hosts: Iterable[str], *more: str) -> None:
    """On these hosts: beside the strays that are known already, `more`."""
    farm.each("note_strays", {
        host: {"resource": located.name.text, "hosts": sorted({*known(located), *more})} for host in hosts
    })


def pass_notes_on(farm: Sessions, located: Located, host: str) -> None:
    """The members' notes about an image, for a new member: who holds copies of it, and which file it is made of."""
    name = located.name.text
    for holder in sorted({one for found in located.found.values() for one in found.copies or {}}):
        farm.call(host, "note_copy", resource=name, host=holder, current=False)
    content = next((found.content for found in located.found.values() if found.content), None)
    if content is not None:
        farm.call(host, "note_content", resource=name, content=dict(content))


def clear(farm: Sessions, located: Located) -> None:
    """Remove what a move left on hosts that are members no more, or never became one, as far as they answer."""
    name, left = located.name, []
    members = located.spec.hosts()
    for stray in known(located):
        host = farm.ssh_name(stray)
        if stray in members:
            continue
        try:
            farm.open([host])
            farm.lock([host], [name.text])
            found = survey(farm, [host], [name])[host].of(name)
            if found.spec is None or _is_stray(found.spec):
                farm.log.info(f"{name}: removing what is left of it on {host}")
                making.remove(farm, [host], name, [located.spec.pool])
            farm.commit([host])
        except DncError as error:
            farm.log.warn(f"{error.line()}{name}: what lies on {host} is removed by the next migration of the VM")
            left.append(stray)
    if known(located) != left:
        farm.all("note_strays", located.holders, resource=name.text, hosts=left)


def _is_stray(spec: ResourceSpec) -> bool:
    """A replica on its way; a finished copy of an image is none."""
    return spec.state not in ("ready", "copy")
