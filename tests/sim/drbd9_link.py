"""What happens between DRBD 9's hosts: handshakes pair by pair, comparison of generations, resync, quorum."""

from __future__ import annotations

import os

from sim import blocks, drbd_meta
from sim import drbd9_kernel as kernel
from sim.drbd_kernel import resources, volume, write_size
from sim.drbd_link import _show
from sim.world import World

End = tuple  # (host, Resource, its record of the other end)
GIVEN_UP = (100, -100, 1000)


def settle(world: World) -> None:
    """Bring the farm to rest: writes replicated, ends that can meet connected, resyncs a step further, files told."""
    every = [
        (host, found)
        for host in world.state["hosts"]
        if world.of(host)["power"]
        for found in resources(world, host).values()
    ]
    for host, found in every:
        _miss(world, host, found)
    _quorum(world, every)
    for host, found in every:
        kernel.flush(world, host, found)
    for host, found in every:
        for other, there, peer, back in kernel.ends(world, host, found):
            if peer["conn"] == back["conn"] == "Connecting":
                handshake(world, (host, found, peer), (other, there, back))
    _quorum(world, every)
    for host, found in every:
        for other, there, peer, back in kernel.ends(world, host, found):
            if peer["repl"] == "SyncSource":
                _progress(world, (host, found, peer), (other, there, back))
    for _host, found in every:
        kernel.summarize(found)
    _show(world)


def _miss(world: World, host: str, found: kernel.Resource) -> None:
    """Ends that have lost the other."""
    there = {id(peer): back for _other, _there, peer, back in kernel.ends(world, host, found)}
    for peer in found["peers"].values():
        back = there.get(id(peer))
        if peer["conn"] == "Connected" and (back is None or back["conn"] != "Connected"):
            kernel.lost(world, host, found, peer)


def _quorum(world: World, every: list[tuple[str, kernel.Resource]]) -> None:
    for host, found in every:
        found["quorate"] = kernel.vote(world, host, found)[2]


def handshake(world: World, one: End, other: End) -> None:
    """The two ends meet."""
    a, b = one[1], other[1]
    if any(one[2]["net"].get(key) != other[2]["net"].get(key) for key in ("shared-secret", "cram-hmac-alg")):
        give_up(world, one, other)
        return
    if kernel.two_allowed(one[2]) != kernel.two_allowed(other[2]):
        give_up(world, one, other)  # e-dualprimary: what was allowed to all peers while one was away
        return
    both = a["disk"] in kernel.ATTACHED and b["disk"] in kernel.ATTACHED
    if both and not _agree_size(world, one, other):
        return
    two = a["role"] == b["role"] == "Primary" and not kernel.two_allowed(one[2])
    if two and not (_steps_back(a) or _steps_back(b)):
        give_up(world, one, other)
        return
    outcome = compare(one, other) if both and one[2]["bitmap"] and other[2]["bitmap"] else 0
    if outcome in (100, -100) and one[2]["discard"] != other[2]["discard"]:
        outcome = -1 if one[2]["discard"] else 1
    if outcome in GIVEN_UP:
        give_up(world, one, other)
        return
    target = one if outcome < 0 else other if outcome > 0 else None
    if target and target[1]["role"] == "Primary" and not _yield(world, target):
        return
    if not both and not _exposed(one, other):
        return
    for end, opposite in ((one, other), (other, one)):
        end[2].update(conn="Connected", repl="Established", discard=False, seen=True,
                      outdated=opposite[1]["disk"] in ("Inconsistent", "Outdated"))
    if outcome == 0:
        _equal(world, one, other, both)
    else:
        source = one if outcome > 0 else other
        _start(world, source, one if source is other else other, full=abs(outcome) == 2)
    for end in (one, other):
        if end[1]["role"] == "Primary" and not os.path.isfile(kernel.device(world, end[1], end[0])):
            kernel.publish(world, end[1], end[0])


def _exposed(one: End, other: End) -> bool:
    """A client that is Primary takes no disk of another generation than the one it has shown (j-quorum)."""
    client, leg = (one, other) if one[1]["disk"] == "Diskless" else (other, one)
    if leg[1]["disk"] not in kernel.ATTACHED or client[1]["role"] != "Primary":
        if leg[1]["disk"] in kernel.ATTACHED:
            client[1]["current"], client[1]["kib"] = leg[1]["current"] & ~1, leg[1]["kib"]
        return True
    return bool(client[1]["current"] & ~1 == leg[1]["current"] & ~1)


def _equal(world: World, one: End, other: End, both: bool) -> None:
    for host, found, peer in (one, other):
        if both and found["current"] & ~1 != drbd_meta.JUST_CREATED:
            peer.update(uuid=0, oos=[])
            if found["disk"] == "Outdated" and "UpToDate" in (one[1]["disk"], other[1]["disk"]):
                found["disk"] = "UpToDate"
        elif both:
            peer["oos"] = [[0, -(-found["kib"] // 4)]]
        if found["crashed"] and found["role"] != "Primary":
            found["crashed"] = False
        if not both:
            write_size(world, found, host)
        kernel.persist(world, found, host)


def _steps_back(found: kernel.Resource) -> bool:
    """A Primary that lost its quorum, and is told what to do then."""
    return found["options"].get("on-suspended-primary-outdated") == "force-secondary" and not found["quorate"]


def _yield(world: World, target: End) -> bool:
    """A Primary that would become SyncTarget: only one that lost its quorum steps back, if it is told to."""
    host, found, peer = target
    force = _steps_back(found)
    if peer["net"].get("rr-conflict") != "retry-connect":
        peer.update(conn="StandAlone", repl="Off")
        found["disk"] = "Outdated"
        kernel.persist(world, found, host)
        return False
    if force:
        found["io_failures"] = True
        kernel.become_secondary(world, host, found)
    return force


def _agree_size(world: World, one: End, other: End) -> bool:
    """All take the smallest size, growing too; an end with good data does not shrink (c-maxpeers, g-clone-grow)."""
    own = {host: drbd_meta.data_kib("", found["slots"], found["md_end"]) for host, found, _peer in (one, other)}
    for end, peer in ((one, other), (other, one)):
        good = end[1]["disk"] != "Inconsistent"
        if good and min(own[peer[0]], peer[1]["kib"]) < min(end[1]["kib"], own[end[0]]):
            end[2].update(conn="StandAlone", repl="Off")
            kernel.persist(world, end[1], end[0])
            return False
    size = min(own.values())
    for host, found, _peer in (one, other):
        if found["kib"] != size:
            found["kib"] = size
            write_size(world, found, host)
            kernel.persist(world, found, host)
    return True


def give_up(world: World, one: End, other: End) -> None:
    """Both ends drop the connection."""
    for host, found, peer in (one, other):
        peer.update(conn="StandAlone", repl="Off", sync=None)
        kernel.persist(world, found, host)


def compare(one: End, other: End) -> int:
    """uuid_compare: 0 equal, 1/2 `one` is source (2: of all), -1/-2 target, 100 split brain, 1000 unrelated."""
    a, b = one[1], other[1]
    mine, theirs = a["current"] & ~1, b["current"] & ~1
    fresh = (drbd_meta.JUST_CREATED, 0)
    if mine in fresh and theirs in fresh:
        return 0
    if mine in fresh or theirs in fresh:
        return -2 if mine in fresh else 2
    if mine == theirs:
        return _crashed(a, b)
    if theirs == one[2]["uuid"] & ~1 or mine == other[2]["uuid"] & ~1:
        return 1 if theirs == one[2]["uuid"] & ~1 else -1
    if mine in b["history"] and not other[2]["uuid"]:
        return -2
    if theirs in a["history"] and not one[2]["uuid"]:
        return 2
    known = {uuid & ~1 for uuid in (*a["history"], one[2]["uuid"])} - {0}
    if known & {uuid & ~1 for uuid in (*b["history"], other[2]["uuid"], theirs)} or mine in b["history"]:
        return 100
    return 1000


def _crashed(a: kernel.Resource, b: kernel.Resource) -> int:
    """Equal generations: the host that crashed as Primary has written last, unless others had the quorum since."""
    if a["crashed"] == b["crashed"]:
        return -1 if a["crashed"] else 0
    sign = 1 if a["crashed"] else -1
    survivor = b if a["crashed"] else a
    outvoted = survivor["role"] == "Primary" or survivor["options"].get("quorum") == "majority"
    return -sign if outvoted else sign


def _start(world: World, source: End, target: End, full: bool) -> None:
    runs = [[0, -(-source[1]["kib"] // 4)]] if full else blocks.merge(source[2]["oos"], target[2]["oos"])
    busy = any(peer["repl"] == "SyncTarget" for peer in target[1]["peers"].values())
    target[1]["disk"] = "Inconsistent"
    if source[2]["uuid"] == 0:
        source[2]["uuid"] = drbd_meta.new_uuid() & ~1
    ticks = world.state["sync_ticks"]
    words = ("PausedSyncS", "PausedSyncT") if busy else ("SyncSource", "SyncTarget")
    for (host, found, peer), word in zip((source, target), words):
        peer.update(oos=runs, repl=word, sync={"left": ticks, "of": max(1, ticks), "kib": blocks.total(runs) * 4})
        kernel.persist(world, found, host)
    if busy:
        return
    world.state.setdefault("resyncs", []).append({
        "resource": source[1]["name"], "source": source[0], "target": target[0], "kib": blocks.total(runs) * 4,
    })  # fmt: skip
    if ticks == 0:
        finish(world, source, target)


def _progress(world: World, source: End, target: End) -> None:
    """One tick of a resync, counted at its source."""
    if world.state.get("sync_stalled") or target[2]["repl"] != "SyncTarget":
        return
    source[2]["sync"]["left"] -= 1
    if source[2]["sync"]["left"] <= 0:
        finish(world, source, target)
    else:
        target[2]["sync"] = dict(source[2]["sync"])


def finish(world: World, source: End, target: End) -> None:
    """The marked blocks are copied, and the target is of the source's generation; who waited for that is done too."""
    runs, size = source[2]["oos"], source[1]["kib"] * 1024
    blocks.copy_runs(volume(world, source[1], source[0]), volume(world, target[1], target[0]), runs, size)
    source[2]["sent"] += blocks.total(runs) * 4
    target[2]["received"] += blocks.total(runs) * 4
    target[1].update(
        current=source[1]["current"] & ~1, disk="UpToDate", crashed=False,
        history=[target[1]["current"] & ~1, *target[1]["history"]][:2],
    )
    for kept in (*target[1]["forgotten"].values(), target[1]["free"]):
        kept["oos"] = blocks.merge(kept["oos"], source[1]["free"]["oos"])
        kept["uuid"] = kept["uuid"] or source[1]["free"]["uuid"]
    _close(world, source, target)
    for other, there, peer, back in kernel.ends(world, target[0], target[1]):
        if peer["conn"] == "Connected" and peer["repl"] in ("PausedSyncT", "PausedSyncS"):
            _close(world, (other, there, back), (target[0], target[1], peer))
    if target[1]["role"] == "Primary":
        kernel.publish(world, target[1], target[0])


def _close(world: World, one: End, other: End) -> None:
    for host, found, peer in (one, other):
        peer.update(oos=[], uuid=0, repl="Established", sync=None, outdated=False)
        kernel.persist(world, found, host)
