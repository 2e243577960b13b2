"""Loss and return of a host's power."""

from __future__ import annotations

import os
import time

from sim import drbd_kernel as kernel
from sim import drbd_link
from sim.world import World

WRITTEN_BACK_S = 30  # seconds until the kernel writes a file back by itself


def processes(host_pid: int, proc: str = "/proc") -> list[int]:
    """Processes that live in the host of this anchor, without the anchor itself."""
    wanted = os.readlink(f"{proc}/{host_pid}/ns/mnt")
    found = []
    for pid in os.listdir(proc):
        if pid.isdigit() and int(pid) != host_pid:
            try:
                if os.readlink(f"{proc}/{pid}/ns/mnt") == wanted:
                    found.append(int(pid))
            except (FileNotFoundError, PermissionError):
                continue
    return found


def cut(world: World, host: str) -> None:
    """Kernel state and domains are gone at once, what is on the volumes stays; the host's processes are killed."""
    with open(f"{world.home(host)}/off", "w"):
        pass
    with world.open():
        here = world.of(host)
        here["power"] = False
        for resource in list(kernel.resources(world, host).values()):
            kernel.flush(world, host, resource)
            kernel.withdraw(world, resource, host)
        here["drbd"]["resources"] = {}
        here["xen"]["domains"] = {}
        _lose_unsynced(world, host)
        drbd_link.settle(world)
    from sim.session import exchange

    sockets = f"{os.path.dirname(world.live)}/sock" if world.live != "/run/sim/live" else "/run/sim/sock"
    exchange(f"{sockets}/{host}", {"power": "off"})


def on(world: World, host: str) -> None:
    """Boot: an empty kernel, device links of the volumes, the resource files as they survived."""
    if os.path.exists(f"{world.home(host)}/off"):
        os.unlink(f"{world.home(host)}/off")
    with world.open():
        world.of(host)["power"] = True
        drbd_link.settle(world)


def _lose_unsynced(world: World, host: str) -> None:
    """Files written a moment ago and never fsynced are empty after the cut (seen on the lab's hosts)."""
    with open(f"{world.home(host)}/synced") as file:
        synced = set(file.read().split())
    for below in ("etc/drbd.d", "var/lib/dnc"):
        for place, _below, names in os.walk(f"{world.home(host)}/files/{below}"):
            for name in names:
                status = os.stat(f"{place}/{name}")
                young = time.time() - status.st_mtime < WRITTEN_BACK_S
                if status.st_size and young and str(status.st_ino) not in synced:
                    os.truncate(f"{place}/{name}", 0)
