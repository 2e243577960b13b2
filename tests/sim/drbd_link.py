"""What happens between the two ends of a DRBD connection: handshake, comparison of generations, resync."""

from __future__ import annotations

import os

from sim import blocks, drbd_meta
from sim.drbd_kernel import (
    CONNECTED,
    RANK,
    Resource,
    connected_peer,
    flush,
    lost,
    peer_of,
    persist,
    publish,
    resources,
    volume,
    write_size,
)
from sim.world import World

End = tuple  # (host, Resource)


def settle(world: World) -> None:
    """Bring the farm to rest: writes replicated, ends that can meet connected, resyncs a step further, files told."""
    if world.state["drbd"] == "9":
        from sim import drbd9_link

        drbd9_link.settle(world)
        return
    ends = [
        (host, found)
        for host in world.state["hosts"]
        if world.of(host)["power"]
        for found in resources(world, host).values()
    ]
    for host, found in ends:
        if found["conn"] in CONNECTED and connected_peer(world, host, found) is None:
            lost(world, host, found)
    for host, found in ends:
        flush(world, host, found)
    for host, found in ends:
        if found["conn"] == "WFConnection":
            peer = peer_of(world, host, found)
            if peer and peer[1]["conn"] == "WFConnection":
                handshake(world, (host, found), peer)
    for host, found in ends:
        if found["sync"]:
            _progress(world, (host, found))
    _show(world)


def _both(one: End, other: End, **values: object) -> None:
    one[1].update(values)
    other[1].update(values)


def handshake(world: World, one: End, other: End) -> None:
    """The two ends meet."""
    a, b = one[1], other[1]
    if a["net"].get("shared-secret") != b["net"].get("shared-secret") or a["net"].get("cram-hmac-alg") != b["net"].get(
        "cram-hmac-alg"
    ):
        give_up(world, one, other)
        return
    if a["disk"] != "Diskless" and b["disk"] != "Diskless" and not _agree_size(world, one, other):
        give_up(world, one, other)
        return
    if a["role"] == b["role"] == "Primary" and "yes" not in (
        a["net"].get("allow-two-primaries"),
        b["net"].get("allow-two-primaries"),
    ):
        give_up(world, one, other)
        return
    outcome = compare(a, b)
    if a["disk"] == "Diskless" or b["disk"] == "Diskless":
        outcome = 0
    if outcome in (100, -100) and a["discard"] != b["discard"]:
        outcome = -1 if a["discard"] else 1
    if (
        outcome in (100, -100, 1000)
        or (outcome < 0 and a["role"] == "Primary")
        or (outcome > 0 and b["role"] == "Primary")
    ):
        give_up(world, one, other)
        return
    _both(one, other, conn="Connected", discard=False, pending=False)
    if outcome == 0:
        for host, found in (one, other):
            if found["crashed"] and found["role"] != "Primary":
                found["crashed"] = False
            persist(world, found, host)
        return
    source, target = (one, other) if outcome > 0 else (other, one)
    _start(world, source, target, full=abs(outcome) == 2)


def rejoin(world: World, host: str, found: Resource) -> None:
    """A disk that was attached while the peer is connected, whose data are newer if it wrote meanwhile."""
    peer = connected_peer(world, host, found)
    if peer is not None and peer[1]["disk"] == "UpToDate":
        peer[1]["pending"] = False
        outcome = compare(found, peer[1])
        if outcome:
            _start(world, peer, (host, found), full=outcome not in (1, -1))


def _agree_size(world: World, one: End, other: End) -> bool:
    """Both take the smaller size; an end with good data does not shrink."""
    size = min(own_kib(world, one), own_kib(world, other))
    for _host, found in (one, other):
        if size < found["kib"] and RANK.index(found["disk"]) > RANK.index("Inconsistent"):
            return False
    for host, found in (one, other):
        if found["kib"] != size:
            found["kib"] = size
            found["oos"] = [
                [first, min(count, -(-size // 4) - first)] for first, count in found["oos"] if first < -(-size // 4)
            ]
            write_size(world, found, host)
    return True


def own_kib(world: World, end: End) -> int:
    return drbd_meta.data_kib(volume(world, end[1], end[0]))


def give_up(world: World, one: End, other: End) -> None:
    """Both ends drop the connection."""
    for host, found in (one, other):
        found.update(conn="StandAlone", local="", peer="", sync=None)
        persist(world, found, host)


def compare(a: Resource, b: Resource) -> int:
    """drbd_uuid_compare: 0 equal, 1/2 `a` is source (2: of all), -1/-2 target, 100 split brain, 1000 unrelated."""
    mine, theirs = [uuid & ~1 for uuid in a["uuids"]], [uuid & ~1 for uuid in b["uuids"]]
    fresh = (drbd_meta.JUST_CREATED, 0)
    if mine[0] in fresh and theirs[0] in fresh:
        return 0
    if mine[0] in fresh:
        return -2
    if theirs[0] in fresh:
        return 2
    if mine[0] == theirs[0]:
        crashed = (1 if a["crashed"] else 0) + (2 if b["crashed"] else 0)
        return {0: 0, 1: 1, 2: -1, 3: -1}[crashed]
    if mine[0] == theirs[1]:
        return -1
    if mine[0] in theirs[2:]:
        return -2
    if theirs[0] == mine[1]:
        return 1
    if theirs[0] in mine[2:]:
        return 2
    if mine[1] == theirs[1] and mine[1]:
        return 100
    if set(mine[2:]) & set(theirs[2:]) - {0}:
        return -100
    return 1000


def _start(world: World, source: End, target: End, full: bool) -> None:
    size = source[1]["kib"]
    runs = [[0, -(-size // 4)]] if full else blocks.merge(source[1]["oos"], target[1]["oos"])
    target[1]["disk"] = "Inconsistent"
    if source[1]["uuids"][1] == 0:
        source[1]["uuids"][1] = drbd_meta.new_uuid() & ~1
    ticks = world.state["sync_ticks"]
    for (host, found), state in ((source, "SyncSource"), (target, "SyncTarget")):
        found.update(oos=runs, conn=state, sync={"left": ticks, "of": max(1, ticks), "kib": blocks.total(runs) * 4})
        persist(world, found, host)
    world.state.setdefault("resyncs", []).append({
        "resource": source[1]["name"], "source": source[0], "target": target[0], "kib": blocks.total(runs) * 4,
    })  # fmt: skip
    if ticks == 0:
        finish(world, source, target)


def _progress(world: World, end: End) -> None:
    """One tick of a resync, counted at its source."""
    host, found = end
    peer = connected_peer(world, host, found)
    if found["conn"] != "SyncSource" or peer is None or world.state.get("sync_stalled"):
        return
    found["sync"]["left"] -= 1
    if found["sync"]["left"] <= 0:
        finish(world, end, peer)
    else:
        peer[1]["sync"] = dict(found["sync"])


def finish(world: World, source: End, target: End) -> None:
    """The marked blocks are copied, and both ends are of one generation again."""
    runs, size = source[1]["oos"], source[1]["kib"] * 1024
    blocks.copy_runs(volume(world, source[1], source[0]), volume(world, target[1], target[0]), runs, size)
    amount = blocks.total(runs) * 4
    source[1]["stat"]["ns"] += amount
    target[1]["stat"]["nr"] += amount
    current, bitmap, *history = source[1]["uuids"]
    source[1]["uuids"] = [current, 0, bitmap, history[0]]
    old = target[1]["uuids"][0] & ~1
    target[1]["uuids"] = [current & ~1, 0, bitmap, old]
    for host, found in (source, target):
        found.update(oos=[], conn="Connected", disk="UpToDate", sync=None, crashed=False)
        persist(world, found, host)
    if target[1]["role"] == "Primary":
        publish(world, target[1], target[0])


def _show(world: World) -> None:
    """Write /proc/drbd of every host, where it changed."""
    from sim.drbd_text import proc_drbd

    for host in world.state["hosts"]:
        path = f"{world.home(host)}/proc-drbd"
        text = proc_drbd(world, host) if world.of(host)["drbd"]["loaded"] and world.of(host)["power"] else None
        if text is None:
            if os.path.exists(path):
                os.unlink(path)
            continue
        if _read(path) != text:
            with open(path + ".new", "w") as file:
                file.write(text)
            os.replace(path + ".new", path)


def _read(path: str) -> str:
    if not os.path.exists(path):
        return ""
    with open(path) as file:
        return file.read()
