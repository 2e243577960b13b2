"""The DRBD 8.4 kernel of every host: attach, connect, roles, generations, replication between the hosts.

A Secondary's device is a block special file without a driver (opening it fails); a Primary's is a file with the data
area, and whatever changed in it is carried to the volume and to the connected peer whenever any tool runs.
"""

from __future__ import annotations

import os

from sim import blocks, drbd_meta
from sim.world import Refused, World, open_by_someone

TYPE_CHECKING = False  # typing costs each start of a tool some milliseconds
if TYPE_CHECKING:
    from typing import Any

CONNECTED = ("Connected", "SyncSource", "SyncTarget", "PausedSyncS", "PausedSyncT", "VerifyS", "VerifyT")
RANK = ("Diskless", "Failed", "Inconsistent", "Outdated", "DUnknown", "Consistent", "UpToDate")
EXTENT_BLOCKS = 1024  # an activity log extent of 4 MiB
Resource = dict


def resources(world: World, host: str = "") -> dict[str, Any]:
    return world.of(host)["drbd"]["resources"]


def make(world: World, name: str, minor: int) -> Resource:
    """new-resource and new-minor. Raises Refused."""
    if not world.of()["drbd"]["loaded"]:
        raise Refused(20, "Could not connect to 'drbd' generic netlink family")
    for other in resources(world).values():
        if other["minor"] == minor:
            raise Refused(10, f"{minor}: Failure: (161) Minor or volume exists already (delete it first)")
    made = {
        "name": name, "minor": minor, "backing": "", "local": "", "peer": "", "peer_host": "", "net": {},
        "role": "Secondary",
        "disk": "Diskless", "conn": "StandAlone", "uuids": [0, 0, 0, 0], "crashed": False, "oos": [], "al": [],
        "kib": 0,
        "stat": {"ns": 0, "nr": 0, "dw": 0, "dr": 0, "al": 0}, "pending": False, "discard": False, "stamp": None,
        "sync": None,
        "device_uuid": "",
    }  # fmt: skip
    resources(world)[name] = made
    publish(world, made)
    return made


def attach(world: World, resource: Resource, backing: str) -> str:
    """Attach the volume -> text for stderr. Raises Refused."""
    path = os.path.realpath(backing)
    metadata = drbd_meta.read(path)
    if metadata is None:
        raise Refused(1, "No valid meta data found")
    kib = drbd_meta.data_kib(path)
    text = ""
    resource.update(
        backing=backing,
        uuids=metadata["uuids"],
        oos=metadata["oos"],
        al=[],
        kib=kib,
        device_uuid=metadata["device_uuid"],
    )
    flags = metadata["flags"]
    resource["crashed"] = flags["primary"] or flags["crashed_primary"]
    if flags["primary"] and metadata["al"]:
        marked = [[extent * EXTENT_BLOCKS, EXTENT_BLOCKS] for extent in sorted(metadata["al"])]
        limit = -(-kib // 4)
        marked = [[first, min(count, limit - first)] for first, count in marked if first < limit]
        resource["oos"] = blocks.merge(resource["oos"], marked)
        text = f"Marked additional {_size(blocks.total(marked) * 4)} as out-of-sync based on AL.\n"
    if not flags["consistent"]:
        resource["disk"] = "Inconsistent"
    else:
        resource["disk"] = "UpToDate" if flags["uptodate"] else "Outdated"
    if metadata["la_kib"] == 0 and resource["disk"] == "Inconsistent":
        resource["oos"] = [[0, -(-kib // 4)]]
        resource["stat"]["al"] = 8
    write_size(world, resource)
    persist(world, resource)
    return text


def _size(kib: int) -> str:
    for unit in ("KB", "MB", "GB"):
        if kib < 10000:
            return f"{kib} {unit}"
        kib = (kib + 512) // 1024
    return f"{kib} TB"


def connect(world: World, resource: Resource, local: str, peer: str, peer_host: str, net: dict[str, str]) -> None:
    resource.update(local=local, peer=peer, peer_host=peer_host, net=dict(net), conn="WFConnection")


def volume(world: World, resource: Resource, host: str = "") -> str:
    """The volume file behind a resource, as this process can reach it."""
    found = os.path.realpath(resource["backing"]) if host in ("", world.host) and world.live == "/run/sim/live" else ""
    return found or backing_file(world, resource["backing"], host)


def backing_file(world: World, backing: str, host: str = "") -> str:
    kind = "zfs" if backing.startswith("/dev/zvol/") else "lvm"
    name = backing[len("/dev/zvol/") :] if kind == "zfs" else backing[len("/dev/") :]
    return f"{world.home(host)}/volumes/{kind}/{name}"


def device(world: World, resource: Resource, host: str = "") -> str:
    return world.path(f"/dev/drbd{resource['minor']}", host)


def peer_of(world: World, host: str, resource: Resource) -> tuple[str, Resource] | None:
    """The resource at the other end of the connection, if its host can be reached."""
    for other in world.state["hosts"]:
        if other == host or not world.linked(host, other):
            continue
        for found in resources(world, other).values():
            if resource["local"] and found["local"] == resource["peer"] and found["peer"] == resource["local"]:
                return other, found
    return None


def connected_peer(world: World, host: str, resource: Resource) -> tuple[str, Resource] | None:
    found = peer_of(world, host, resource) if resource["conn"] in CONNECTED else None
    return found if found and found[1]["conn"] in CONNECTED else None


def connected_peers(world: World, host: str, resource: Resource) -> list[tuple[str, Resource]]:
    """All of them; with 8.4 there is one at most."""
    if world.state["drbd"] == "9":
        from sim import drbd9_kernel

        return drbd9_kernel.connected(world, host, resource)
    found = connected_peer(world, host, resource)
    return [found] if found else []


def persist(world: World, resource: Resource, host: str = "") -> None:
    """Write the metadata as the state demands."""
    if resource["disk"] == "Diskless" or not resource["backing"]:
        return
    peer = connected_peer(world, host or world.host, resource)
    rank = RANK.index(resource["disk"])
    flags = {
        "consistent": rank > RANK.index("Inconsistent"), "uptodate": rank > RANK.index("Outdated"),
        "primary": resource["role"] == "Primary", "connected": resource["conn"] in CONNECTED, "full_sync": False,
        "peer_outdated": bool(peer and peer[1]["disk"] in ("Inconsistent", "Outdated")),
        "crashed_primary": resource["crashed"],
    }  # fmt: skip
    drbd_meta.write(volume(world, resource, host), {
        "uuids": resource["uuids"], "flags": flags, "la_kib": resource["kib"], "al": resource["al"],
        "oos": resource["oos"],
        "device_uuid": resource["device_uuid"], "clean": resource["role"] != "Primary",
    }, host or world.host)  # fmt: skip


def new_generation(resource: Resource) -> None:
    """The current UUID becomes the bitmap's: what is written from here on is tracked against the peer's generation."""
    resource["uuids"][1] = resource["uuids"][0] & ~1
    resource["uuids"][0] = drbd_meta.new_uuid() | (1 if resource["role"] == "Primary" else 0)
    resource["pending"] = False


def publish(world: World, resource: Resource, host: str = "") -> None:
    """The device node for the role, and the links of udev."""
    path = device(world, resource, host)
    if os.path.lexists(path):
        os.unlink(path)
    if resource["role"] == "Primary" and resource["disk"] != "Diskless":
        blocks.copy(volume(world, resource, host), path, resource["kib"] * 1024)
        os.chmod(path, 0o666)
        resource["stamp"] = None
    else:
        os.link(world.path("/dev/.secondary", host), path)
    links = world.path(f"/dev/drbd/by-res/{resource['name']}", host)
    os.makedirs(links, exist_ok=True)
    if not os.path.islink(f"{links}/0"):
        os.symlink(f"../../../drbd{resource['minor']}", f"{links}/0")


def write_size(world: World, resource: Resource, host: str = "") -> None:
    """The size in /sys/class/block, in sectors."""
    directory = f"{world.home(host)}/sysblock/drbd{resource['minor']}"
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/size", "w") as file:
        file.write(f"{resource['kib'] * 2}\n")


def withdraw(world: World, resource: Resource, host: str = "") -> None:
    path, links = device(world, resource, host), world.path(f"/dev/drbd/by-res/{resource['name']}", host)
    for one in (path, f"{links}/0"):
        if os.path.lexists(one):
            os.unlink(one)
    if os.path.isdir(links):
        os.rmdir(links)
    size = f"{world.home(host)}/sysblock/drbd{resource['minor']}"
    if os.path.isdir(size):
        os.unlink(f"{size}/size")
        os.rmdir(size)


def opened(world: World, resource: Resource) -> str:
    """Who holds the device open: a domain or a process; "" if nobody."""
    path = device(world, resource)
    for domain in world.of()["xen"]["domains"].values():
        for disk in domain["disks"]:
            if disk.get("open") and os.path.realpath(disk["path"]) == path:
                return f"domain {domain['name']}"
    return open_by_someone(path) if resource["role"] == "Primary" else ""


def promote(world: World, resource: Resource, force: bool = False) -> None:
    """Secondary -> Primary. Raises Refused with DRBD's own reasons."""
    if resource["role"] == "Primary":
        return
    minor, peer = resource["minor"], connected_peer(world, world.host, resource)
    failed = f"{minor}: State change failed: "
    command = f"\nCommand 'drbdsetup-84 primary {minor}{' --force' if force else ''}' terminated with exit code "
    if peer and peer[1]["role"] == "Primary":
        if resource["net"].get("allow-two-primaries") != "yes":
            raise Refused(11, f"{failed}(-1) Multiple primaries not allowed by config{command}11")
        if peer[1]["net"].get("allow-two-primaries") != "yes":
            raise Refused(11, f"{failed}(-10) State change was refused by peer node{command}11")
    data = resource["disk"] == "UpToDate" or (peer is not None and peer[1]["disk"] == "UpToDate")
    if not data:
        if not force or resource["disk"] == "Diskless":
            raise Refused(17, f"{failed}(-2) Need access to UpToDate data{command}17")
        resource["disk"] = "UpToDate"
    resource["role"] = "Primary"
    if (peer is None and resource["uuids"][1] == 0) or force:
        new_generation(resource)
    resource["uuids"][0] |= 1
    publish(world, resource)
    persist(world, resource)


def demote(world: World, resource: Resource, command: str) -> None:
    """Primary -> Secondary. Raises Refused when somebody has it open."""
    if resource["role"] == "Secondary":
        return
    if opened(world, resource):
        raise Refused(11, command)
    flush(world, world.host, resource)
    resource["role"] = "Secondary"
    resource["uuids"][0] &= ~1
    resource["al"], resource["crashed"] = [], False
    publish(world, resource)
    persist(world, resource)


def disconnect(world: World, host: str, resource: Resource) -> None:
    """This end StandAlone, the other waits again."""
    peer = connected_peer(world, host, resource)
    resource.update(conn="StandAlone", local="", peer="", sync=None)
    if resource["role"] == "Primary":
        resource["pending"] = True
    if resource["disk"] != "Diskless":
        persist(world, resource, host)
    if peer:
        lost(world, peer[0], peer[1])


def lost(world: World, host: str, resource: Resource) -> None:
    """The peer is gone."""
    resource["conn"], resource["sync"] = "WFConnection", None
    if resource["role"] == "Primary" and resource["uuids"][1] == 0:
        resource["pending"] = True
    if world.of(host)["power"]:
        persist(world, resource, host)


def remove(world: World, resource: Resource) -> None:
    """Detach, and forget the minor and the resource."""
    disconnect(world, world.host, resource)
    withdraw(world, resource)
    del resources(world)[resource["name"]]


def flush(world: World, host: str, resource: Resource) -> None:
    """Carry what was written through a Primary's device to the volume, and to the peer or its bitmap."""
    if world.state["drbd"] == "9":
        from sim import drbd9_kernel

        drbd9_kernel.flush(world, host, resource)
        return
    path = device(world, resource, host)
    if resource["role"] != "Primary" or not os.path.isfile(path):
        return
    if resource["disk"] == "Diskless":
        _flush_to_peer(world, path, connected_peer(world, host, resource))
        return
    status = os.stat(path)
    stamp = [status.st_mtime_ns, status.st_blocks]
    if resource["stamp"] == stamp:
        return
    resource["stamp"] = stamp if status.st_mtime_ns < _now_ns() - 50_000_000 else None
    size = resource["kib"] * 1024
    if status.st_size < size:  # opened with O_TRUNC, which a real block device ignores
        short = status.st_size
        os.truncate(path, size)
        blocks.copy_runs(volume(world, resource, host), path, [[-(-short // 4096), -(-size // 4096)]], size)
    runs = blocks.differences(path, volume(world, resource, host), size)
    if not runs:
        return
    peer = connected_peer(world, host, resource)
    if resource["pending"] and (peer is None or peer[1]["disk"] == "Diskless"):
        new_generation(resource)
    blocks.copy_runs(path, volume(world, resource, host), runs, size)
    resource["stat"]["dw"] += blocks.total(runs) * 4
    touched = {first // EXTENT_BLOCKS for first, _ in runs} | {
        (first + count - 1) // EXTENT_BLOCKS for first, count in runs
    }
    resource["al"] = sorted(set(resource["al"]) | touched)
    if peer and peer[1]["disk"] in ("UpToDate", "Inconsistent", "Consistent") and peer[1]["kib"]:
        carry(world, path, peer, runs, size)
        resource["stat"]["ns"] += blocks.total(runs) * 4
    else:
        resource["oos"] = blocks.merge(resource["oos"], runs)
        if peer and peer[1]["disk"] == "Diskless" and peer[1]["role"] == "Primary":
            _show(world, path, peer, runs, size)
    persist(world, resource, host)


def _flush_to_peer(world: World, path: str, peer: tuple[str, Resource] | None) -> None:
    """What a Primary without a disk writes: the peer has it, and marks it for the disk that is away."""
    if peer is None or peer[1]["disk"] != "UpToDate":
        return
    host, there = peer
    runs = blocks.differences(path, volume(world, there, host), there["kib"] * 1024)
    if not runs:
        return
    if there["pending"]:
        new_generation(there)
    carry(world, path, peer, runs, there["kib"] * 1024)
    there["oos"] = blocks.merge(there["oos"], runs)
    persist(world, there, host)


def _show(world: World, path: str, peer: tuple[str, Resource], runs: list[list[int]], size: int) -> None:
    """Written here, seen through the device of a peer that is Primary too."""
    theirs = device(world, peer[1], peer[0])
    if peer[1]["role"] == "Primary" and os.path.isfile(theirs):
        blocks.copy_runs(path, theirs, runs, size)


def carry(world: World, path: str, peer: tuple[str, Resource], runs: list[list[int]], size: int) -> None:
    """Replicate blocks to the connected peer, also into its device if it is a Primary too."""
    other, there = peer
    blocks.copy_runs(path, volume(world, there, other), runs, size)
    _show(world, path, peer, runs, size)
    there["stat"]["nr"] += blocks.total(runs) * 4
    there["stat"]["dw"] += blocks.total(runs) * 4


def _now_ns() -> int:
    import time

    return time.time_ns()
