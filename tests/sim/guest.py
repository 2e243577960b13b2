"""The guest in every running domain: counts, and writes its count to its first disk, so that lost writes show."""

from __future__ import annotations

import os

from sim.world import World

PLACE = 1 << 20  # byte offset of the counter on the disk, as the lab's guest has it


def tick(world: World) -> None:
    """Every running domain counts one further."""
    for host in world.state["hosts"]:
        here = world.of(host)
        if not here["power"]:
            continue
        for domain in list(here["xen"]["domains"].values()):
            if domain["state"] == "running":
                domain["time"] += 0.1
                _count(world, host, domain)
                _go_on(here, domain)


def _go_on(here: dict, domain: dict) -> None:
    """A guest that was asked to power off or reboot does so after a while."""
    if not domain["ending"]:
        return
    domain["ending"]["ticks"] -= 1
    if domain["ending"]["ticks"] > 0:
        return
    del here["xen"]["domains"][str(domain["id"])]
    # An interface that could not be attached cannot be now either: xl gives the domain up (lab/captures/xl-reboot).
    if domain["ending"]["how"] == "reboot" and all(nic.get("state", 4) == 4 for nic in domain["nics"]):
        domain.update(id=here["xen"]["next"], ending=None, time=0.0)
        here["xen"]["domains"][str(domain["id"])] = domain
        here["xen"]["next"] += 1


def _count(world: World, host: str, domain: dict) -> None:
    disk = next((disk for disk in domain["disks"] if disk.get("open") and disk["mode"] == "w"), None)
    if disk is None:
        return
    path = device_file(world, disk["path"], host)
    if not os.path.isfile(path) or os.path.getsize(path) < PLACE + 4096:
        return
    with open(path, "r+b") as file:
        file.seek(PLACE)
        found = file.read(32)
        expected = f"tick {domain['counter']}\n".encode()
        if domain["counter"] and not found.startswith(expected):
            world.violate(f"guest {domain['name']} on {host}: wrote {expected!r}, its disk says {found[:16]!r}")
        domain["counter"] += 1
        file.seek(PLACE)
        file.write(f"tick {domain['counter']}\n".encode().ljust(32, b"\0"))


def device_file(world: World, path: str, host: str) -> str:
    """The file behind a device path of a host, links followed within that host."""
    for _ in range(8):
        own = world.path(path, host)
        if not os.path.islink(own):
            return own
        target = os.readlink(own)
        if target.startswith("/run/sim/live/"):
            return world.live + target[len("/run/sim/live") :]
        path = target if target.startswith("/") else os.path.normpath(os.path.join(os.path.dirname(path), target))
    return world.path(path, host)
