"""The DRBD 9 kernel of every host: any number of peers, clients without a disk, quorum.

A resource has `peers` by node id; `conn`, `oos`, `net` at its top are a summary of them for those who look.
Devices are files and block special files as in drbd_kernel.
"""

from __future__ import annotations

import os

from sim import blocks, drbd9_meta, drbd_kernel, drbd_meta
from sim.drbd_kernel import EXTENT_BLOCKS, device, resources, volume
from sim.world import Refused, World, holder_of, open_by_someone

ATTACHED = ("Inconsistent", "Outdated", "Consistent", "UpToDate")
Resource = dict
Peer = dict


def make(world: World, name: str, minor: int, node_id: int, options: dict) -> Resource:
    """new-resource and new-minor. Raises Refused."""
    if not world.of()["drbd"]["loaded"]:
        raise Refused(20, "Could not connect to 'drbd' generic netlink family")
    for other in resources(world).values():
        if other["minor"] == minor:
            raise Refused(1, (
                f"new-minor {name} {minor} 0: sysfs node '/sys/devices/virtual/block/drbd{minor}' (already? still?) "
                f"exists\n{name}: Failure: (161) Minor or volume exists already (delete it first)\n"
                f"Command 'drbdsetup new-minor {name} {minor} 0' terminated with exit code 10"))  # fmt: skip
    made = {
        "name": name, "minor": minor, "node_id": node_id, "options": dict(options), "backing": "",
        "role": "Secondary",
        "disk": "Diskless", "client": False, "kib": 0, "slots": 0, "current": 0, "history": [0, 0], "crashed": False,
        "md_end": 0, "peers": {}, "free": {"uuid": 0, "oos": []}, "forgotten": {}, "al": [], "device_uuid": "",
        "stamp": None,
        "quorate": options.get("quorum") != "majority", "user_suspended": False, "io_failures": False,
        "stat": {"read": 0, "written": 0, "al": 0, "bm": 0}, "conn": "StandAlone", "oos": [], "net": {}, "sync": None,
    }  # fmt: skip
    resources(world)[name] = made
    publish(world, made)
    return made


def new_peer(resource: Resource, node_id: int, name: str, ends: tuple[str, str], net: dict, diskful: bool) -> Peer:
    """new-peer, new-path, and peer-device-options --bitmap=no for a client."""
    made = {
        "name": name, "conn": "StandAlone", "local": ends[0], "peer": ends[1], "net": dict(net), "bitmap": diskful,
        "repl": "Off", "sync": None, "discard": False, "received": 0, "sent": 0, "seen": False, "outdated": False,
        "uuid": 0, "oos": [],
    }  # fmt: skip
    resource["peers"][str(node_id)] = made
    return made


def ends(world: World, host: str, resource: Resource) -> list[tuple[str, Resource, Peer, Peer]]:
    """(host, resource, our record of it, its record of us) of each peer whose host can be reached and has us."""
    found = []
    for node, peer in resource["peers"].items():
        other = peer["name"]
        if other not in world.state["hosts"] or not world.linked(host, other):
            continue
        there = resources(world, other).get(resource["name"])
        if there is None or str(there["node_id"]) != node:
            continue
        back = there["peers"].get(str(resource["node_id"]))
        if back is not None and (peer["local"], peer["peer"]) == (back["peer"], back["local"]):
            found.append((other, there, peer, back))
    return found


def connected(world: World, host: str, resource: Resource) -> list[tuple[str, Resource]]:
    """The other ends that are connected."""
    return [
        (other, there) for other, there, peer, back in ends(world, host, resource)
        if peer["conn"] == "Connected" and back["conn"] == "Connected"
    ]  # fmt: skip


def good_peers(world: World, host: str, resource: Resource) -> list[tuple[str, Resource]]:
    return [(other, there) for other, there in connected(world, host, resource) if there["disk"] == "UpToDate"]


def vote(world: World, host: str, resource: Resource) -> tuple[int, int, bool]:
    """(diskful nodes visible, all of them, whether that is a quorum). Half of them need most of the clients.

    A peer that was removed counts until it is forgotten: its bitmap is still there (h-errors2, d-retire).
    """
    diskful = [peer for peer in resource["peers"].values() if peer["bitmap"]]
    clients = [peer for peer in resource["peers"].values() if not peer["bitmap"]]
    own = resource["disk"] in ATTACHED and resource["disk"] != "Outdated"
    voters = len(diskful) + len(resource["forgotten"]) + (0 if resource["client"] else 1)
    visible = sum(1 for peer in diskful if peer["conn"] == "Connected") + (1 if own else 0)
    if resource["options"].get("quorum") != "majority":
        return visible, voters, True
    if 2 * visible != voters:
        return visible, voters, 2 * visible > voters
    helpers = sum(1 for peer in clients if peer["conn"] == "Connected") + (1 if resource["client"] else 0)
    total = len(clients) + (1 if resource["client"] else 0)
    return visible, voters, bool(resource["quorate"]) and 2 * helpers > total


def suspended(resource: Resource) -> bool:
    """Whether writes wait: no quorum, or suspend-io."""
    bare = resource["disk"] == "Diskless" and not resource["client"]
    return bool(resource["user_suspended"] or (not resource["quorate"] and not bare))


def persist(world: World, resource: Resource, host: str = "") -> None:
    """Write the metadata as the state demands."""
    if resource["disk"] not in ATTACHED or not resource["backing"]:
        return
    here = host or world.host
    primary = resource["role"] == "Primary"
    # Only a Primary without a disk of its own shows in the metadata of its peers (i-suspend, i-hot-diskless).
    writers = [
        there for _other, there in connected(world, here, resource)
        if there["role"] == "Primary" and there["disk"] not in ATTACHED
    ]  # fmt: skip
    peers = dict(resource["forgotten"])
    for node, peer in resource["peers"].items():
        if peer.get("slot"):
            peers[node] = {"uuid": peer["uuid"], "oos": peer["oos"], "flags": {
                "connected": peer["conn"] == "Connected", "outdated": peer["outdated"], "fencing": False,
                "full_sync": False, "seen": peer["seen"],
            }}  # fmt: skip
    drbd_meta.write(volume(world, resource, here), {
        "version": 9, "slots": resource["slots"], "node_id": resource["node_id"], "current": resource["current"],
        "history": resource["history"], "free": resource["free"], "la_kib": resource["kib"], "al": resource["al"],
        "device_uuid": resource["device_uuid"], "peers": peers, "flags": {
            "consistent": resource["disk"] != "Inconsistent", "uptodate": resource["disk"] in ("UpToDate",),
            "primary": primary or bool(writers), "crashed": primary or resource["crashed"], "al_applied": False,
            "al_disabled": False, "lost_quorum": False,
        },
    }, here, resource["md_end"])  # fmt: skip


def new_generation(resource: Resource, uuid: int) -> None:
    """What is written from here on is tracked against the old generation, for all who are not here to see it."""
    old = resource["current"] & ~1
    for peer in resource["peers"].values():
        if peer.get("slot") and peer["conn"] != "Connected" and peer["uuid"] == 0:
            peer["uuid"] = old
    for kept in (*resource["forgotten"].values(), resource["free"]):
        if kept["uuid"] == 0:
            kept["uuid"] = old
    resource["history"] = [old, *resource["history"]][:2]
    resource["current"] = uuid | (1 if resource["role"] == "Primary" else 0)


def untracked(resource: Resource) -> bool:
    """Whether somebody who is away could not say later what this generation wrote."""
    away = any(
        peer.get("slot") and peer["conn"] != "Connected" and peer["uuid"] == 0 for peer in resource["peers"].values()
    )
    taken = sum(1 for peer in resource["peers"].values() if peer.get("slot"))
    return away or (resource["free"]["uuid"] == 0 and taken < resource["slots"])


def publish(world: World, resource: Resource, host: str = "") -> None:
    """The device node for the role, and the links of udev."""
    here = host or world.host
    path = device(world, resource, here)
    if os.path.lexists(path):
        os.unlink(path)
    source = ""
    if resource["role"] == "Primary":
        source = reference(world, here, resource)
    if source:
        blocks.copy(source, path, resource["kib"] * 1024)
        os.chmod(path, 0o666)
        resource["stamp"] = None
    else:
        os.link(world.path("/dev/.secondary", here), path)
    links = world.path(f"/dev/drbd/by-res/{resource['name']}", here)
    os.makedirs(links, exist_ok=True)
    if not os.path.islink(f"{links}/0"):
        os.symlink(f"../../../drbd{resource['minor']}", f"{links}/0")


def reference(world: World, host: str, resource: Resource) -> str:
    """The volume that a Primary's device shows: its own, or that of a good peer; "" if there is none."""
    if resource["disk"] in ATTACHED:
        return volume(world, resource, host)
    good = good_peers(world, host, resource)
    return volume(world, good[0][1], good[0][0]) if good else ""


def promote(world: World, resource: Resource, force: bool = False) -> None:
    """Secondary -> Primary. Raises Refused with DRBD's own reasons."""
    if resource["role"] == "Primary":
        return
    name, failed = resource["name"], f"{resource['name']}: State change failed: "
    command = f"\nCommand 'drbdsetup primary {name}{' --force' if force else ''}' terminated with exit code "
    for _other, there, peer, _back in ends(world, world.host, resource):
        if peer["conn"] == "Connected" and there["role"] == "Primary" and not two_allowed(peer):
            raise Refused(11, f"{failed}(-1) Multiple primaries not allowed by config{command}11")
    good = resource["disk"] == "UpToDate" or bool(good_peers(world, world.host, resource))
    if not good and not (force and resource["disk"] in ATTACHED):
        raise Refused(17, f"{failed}(-2) Need access to UpToDate data{command}17")
    if not resource["quorate"] and not force:
        visible, voters, _ = vote(world, world.host, resource)
        raise Refused(11, f"{failed}(-25) No quorum\nadditional info from kernel:\n{visible} of {voters} nodes "
                          f"visible, need {voters // 2 + 1} for quorum{command}11")  # fmt: skip
    if not good:
        resource["disk"] = "UpToDate"
    resource["role"] = "Primary"
    if resource["disk"] in ATTACHED:
        resource["current"] |= 1
    publish(world, resource)
    persist(world, resource)


def two_allowed(peer: Peer) -> bool:
    return bool(peer["net"].get("allow-two-primaries") == "yes")


def demote(world: World, resource: Resource, force: bool = False) -> None:
    """Primary -> Secondary. Raises Refused when somebody has it open for writing; force: they get errors."""
    if resource["role"] == "Secondary":
        return
    if not force:
        opener = writer(world, resource)
        if opener:
            raise Refused(11, (
                f"{resource['name']}: State change failed: (-12) Device is held open by someone\nadditional info from "
                f"kernel:\ndrbd{resource['minor']} opened by {opener} at 2026-11-20 11:56:26.610\n"
                f"Command 'drbdsetup secondary {resource['name']}' terminated with exit code 11"))  # fmt: skip
    flush(world, world.host, resource)
    become_secondary(world, world.host, resource)
    resource["io_failures"] = force and bool(opened(world, world.host, resource))


def become_secondary(world: World, host: str, resource: Resource) -> None:
    path = device(world, resource, host)
    # Who reads goes on holding the device, which here becomes another file.
    resource["held"] = list(_identity(path)) if host == world.host and os.path.isfile(path) else []
    resource["role"] = "Secondary"
    resource["current"] &= ~1
    resource["al"], resource["crashed"] = [], False
    publish(world, resource, host)
    persist(world, resource, host)
    for other, there in connected(world, host, resource):
        persist(world, there, other)


def opened(world: World, host: str, resource: Resource) -> str:
    """Who has the device open at all."""
    if host != world.host:
        return ""
    held = holder_of(*resource["held"]) if resource.get("held") else ""
    return held or drbd_kernel.opened(world, resource)


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def writer(world: World, resource: Resource) -> str:
    """Who has it open for writing: reading alone keeps nobody from becoming Secondary."""
    path = device(world, resource)
    for domain in world.of()["xen"]["domains"].values():
        for disk in domain["disks"]:
            if disk.get("open") and disk["mode"] == "w" and os.path.realpath(disk["path"]) == path:
                return f"domain {domain['name']}"
    return open_by_someone(path, writing=True)


def lost(world: World, host: str, resource: Resource, peer: Peer) -> None:
    """A peer is gone."""
    peer.update(conn="Connecting", repl="Off", sync=None)
    if world.of(host)["power"]:
        persist(world, resource, host)


def disconnect(world: World, host: str, resource: Resource, node: str) -> None:
    """This end StandAlone, the other waits again."""
    for other, there, peer, back in ends(world, host, resource):
        if peer is resource["peers"][node] and back["conn"] == "Connected":
            lost(world, other, there, back)
    resource["peers"][node].update(conn="StandAlone", repl="Off", sync=None)
    persist(world, resource, host)


def del_peer(world: World, resource: Resource, node: str) -> None:
    """The connection and its object go; the bitmap stays until forget-peer."""
    disconnect(world, world.host, resource, node)
    peer = resource["peers"].pop(node)
    if peer.get("slot"):
        resource["forgotten"][node] = {"uuid": peer["uuid"], "oos": peer["oos"],
                                       "flags": dict.fromkeys(drbd9_meta.PEER_FLAGS, False)}
    persist(world, resource)


def remove(world: World, resource: Resource) -> None:
    """Detach, and forget the minor and the resource."""
    for node in list(resource["peers"]):
        disconnect(world, world.host, resource, node)
    drbd_kernel.withdraw(world, resource)
    del resources(world)[resource["name"]]


def flush(world: World, host: str, resource: Resource) -> None:
    """Carry what was written through a Primary's device to all volumes, and to the bitmaps for who is away."""
    path = device(world, resource, host)
    if resource["role"] != "Primary" or suspended(resource) or not os.path.isfile(path):
        return
    status = os.stat(path)
    stamp = [status.st_mtime_ns, status.st_blocks]
    if resource["stamp"] == stamp:
        return
    resource["stamp"] = stamp if status.st_mtime_ns < drbd_kernel._now_ns() - 50_000_000 else None
    size, shown = resource["kib"] * 1024, reference(world, host, resource)
    if not shown:
        return
    if status.st_size < size:  # opened with O_TRUNC, which a real block device ignores
        short = status.st_size
        os.truncate(path, size)
        blocks.copy_runs(shown, path, [[-(-short // 4096), -(-size // 4096)]], size)
    runs = blocks.differences(path, shown, size)
    if runs:
        _carry(world, host, resource, path, runs, size)


def _carry(world: World, host: str, resource: Resource, path: str, runs: list, size: int) -> None:
    """Write to each connected leg; each keeps for itself what who is away has missed."""
    legs = [(host, resource)] if resource["disk"] in ATTACHED else []
    others = connected(world, host, resource)
    legs += [(other, there) for other, there in others if there["disk"] in ATTACHED]
    if any(untracked(leg) for _host, leg in legs if leg["disk"] == "UpToDate"):
        uuid = drbd_meta.new_uuid() & ~1
        for _host, leg in legs:
            if leg["disk"] == "UpToDate":
                new_generation(leg, uuid)
    touched = {first // EXTENT_BLOCKS for first, _ in runs} | {
        (first + count - 1) // EXTENT_BLOCKS for first, count in runs}
    for other, leg in legs:
        blocks.copy_runs(path, volume(world, leg, other), runs, size)
        leg["stat"]["written"] += blocks.total(runs) * 4
        leg["al"] = sorted(set(leg["al"]) | touched)
        for peer in leg["peers"].values():
            if peer.get("slot") and peer["conn"] != "Connected":
                peer["oos"] = blocks.merge(peer["oos"], runs)
        for kept in (*leg["forgotten"].values(), leg["free"]):
            kept["oos"] = blocks.merge(kept["oos"], runs)
        persist(world, leg, other)
    for other, there in others:
        theirs = device(world, there, other)
        if there["role"] == "Primary" and os.path.isfile(theirs):
            blocks.copy_runs(path, theirs, runs, size)


def summarize(resource: Resource) -> None:
    """What the 8.4 kernel has at the top of a resource, for those who look at either."""
    peers = list(resource["peers"].values())
    words = [peer["repl"] if peer["conn"] == "Connected" else peer["conn"] for peer in peers]
    odd = [word for word in words if word != "Established"]
    resource["conn"] = {"Connecting": "WFConnection"}.get(odd[0], odd[0]) if odd else "Connected"
    resource["oos"] = []
    for peer in peers:
        resource["oos"] = blocks.merge(resource["oos"], peer["oos"]) if peer["bitmap"] else resource["oos"]
    resource["net"] = {"allow-two-primaries": "yes"} if any(two_allowed(peer) for peer in peers) else {}
