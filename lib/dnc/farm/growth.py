"""Growing a disk that holds data, on all its members or on none (NOTES-drbd9, g; design rule 12).

The order: every replica answers and is in sync; every volume grows; DRBD takes them on the Primary, the guest held
still meanwhile; sizes are compared; the files say the new size. Killed anywhere, the same order run again ends it.
"""

from __future__ import annotations

from typing import Dict, Optional

from ..errors import BadInput, Busy, NotFound, Unreachable
from ..grammar import MIB, ResourceName
from ..tools import drbd
from ..tools.status import Role
from . import disks, making
from .session import Answer
from .sessions import Sessions
from .survey import Located, locate, look_again


def grow(farm: Sessions, name: ResourceName, data_bytes: int, host: Optional[str], domain: str) -> bool:
    """Have at least `data_bytes` on the disk; False when it had them. `host`: where its VM is, None: nowhere.

    No new space is resynced: it reads as zeros on every member. Raises Unreachable (one member is enough: nothing
    has grown then), Unsafe (not in sync), BadInput (smaller), Busy (migrating), NoSpace, NotFound.
    """
    located = locate(farm, name, host)
    if located is None:
        disks.refuse_unseen(farm)
        raise NotFound(f"{name} is on no host", hint="onevm recover --recreate makes the disk anew")
    _require_members(farm, located)
    farm.lock(located.hosts, [name.text])
    located = look_again(farm, located)
    located.require_complete(farm)
    spec = located.spec
    if data_bytes < spec.data_bytes:
        raise BadInput(
            f"{name} has {spec.data_bytes // MIB} MiB: it does not shrink to {data_bytes // MIB}",
            hint="disks only grow; copy the data to a smaller one",
        )
    if not spec.replicated:
        return _grow_alone(farm, located, data_bytes)
    primary = _primary(located, host)
    making.bring_up(farm, located.holders, spec)
    making.await_ready(farm, located.holders, spec)
    sizes = farm.all("grow_volume", located.holders, resource=name.text, bytes=drbd.volume_size(data_bytes, spec.slots))
    _resize(farm, located, primary, data_bytes, sizes, domain)
    making.await_ready(farm, located.holders, spec)
    farm.all("finish_growth", located.hosts, resource=name.text, data_bytes=data_bytes)
    return data_bytes > spec.data_bytes


def _require_members(farm: Sessions, located: Located) -> None:
    for host in located.missing:
        raise Unreachable(
            f"{located.name} cannot grow without its replica here", host=host,
            hint=f"{farm.unreachable[host].what}; bring the host back, nothing was changed",
        )


def _primary(located: Located, host: Optional[str]) -> str:
    """The member on which DRBD is told: where the guest is, else the VM's host, else any. Raises Busy."""
    primaries = [one for one in located.hosts if located.found[one].primary]
    if len(primaries) > 1 or any(found.intent for found in located.found.values()):
        raise Busy(f"{located.name} is being migrated", hint="wait until that has ended, then resize")
    peers = [peer for found in located.found.values() if found.status for peer in found.status.peers]
    elsewhere = not primaries and any(peer.role is Role.PRIMARY for peer in peers)
    if elsewhere or not set(primaries) <= set(located.holders):
        raise Busy(
            f"{located.name} is Primary on a host without a replica",
            hint="power the VM off, or migrate it to a member: " + " ".join(located.holders),
        )
    return (primaries or [one for one in located.holders if one == host] or list(located.holders))[0]


def _grow_alone(farm: Sessions, located: Located, data_bytes: int) -> bool:
    """One replica, no DRBD: the volume is the disk."""
    request: Answer = {"resource": located.name.text}
    farm.all("grow_volume", located.hosts, **request, bytes=drbd.volume_size(data_bytes, 0))
    farm.all("finish_growth", located.hosts, **request, data_bytes=data_bytes)
    return data_bytes > located.spec.data_bytes


def _resize(
    farm: Sessions, located: Located, primary: str, data_bytes: int, sizes: Dict[str, Answer], domain: str
) -> None:
    """DRBD takes what all volumes now have; a disk that no guest uses is Primary only for that time.

    One that is Primary without its domain was left so by a run that was killed: nothing else works on it meanwhile.
    """
    name, slots = located.name.text, located.spec.slots
    old = [int(answer["old_bytes"]) for answer in sizes.values()]
    area: Answer = {"start": min(drbd.data_end(one, slots) for one in old), "end": max(old)}
    promoted = located.found[primary].primary
    used = promoted and farm.call(primary, "find_domain", name=domain).get("state") is not None
    if not promoted:
        farm.call(primary, "promote", resource=name)
    answer = farm.call(primary, "resize", resource=name, data_bytes=data_bytes, domain=domain, **area)
    if not answer.get("clean", True):
        making.await_ready(farm, located.holders, located.spec)
        stale = _differing(farm, located, primary, area)
        answer = farm.call(primary, "zero_stale", resource=name, blocks=stale, domain=domain)
    if not used:
        farm.call(primary, "demote", resource=name)
    if answer.get("frozen_s"):
        farm.log.info(f"{name}: {domain} stood still for {answer['frozen_s']:.2f} s")


def _differing(farm: Sessions, located: Located, primary: str, area: Answer) -> Dict[str, str]:
    """Blocks of an area that differ between members: offset -> what the Primary has there.

    Two looks: a block that a guest is just writing may differ in one, and has changed by the other.
    """
    looks = [farm.all("block_digests", located.holders, resource=located.name.text, **area) for _ in range(2)]
    if looks[0] != looks[1]:
        farm.log.info(f"{located.name}: the guest writes where it has grown already")
    offsets = range(int(area["start"]), int(area["end"]), 4096)
    found = {}
    for number, offset in enumerate(offsets):
        one, other = ({host: look[host]["blocks"][number] for host in located.holders} for look in looks)
        if one == other and len(set(one.values())) > 1:
            found[str(offset)] = one[primary]
    return found
