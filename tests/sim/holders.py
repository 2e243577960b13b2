"""Who uses a backing device: an attached DRBD, a domain, or a process that has it open."""

from __future__ import annotations

import os

from sim.world import World, open_by_someone


def holder(world: World, device: str) -> str:
    """ "drbd", "domain", a process' name, or "" for a device of this host."""
    wanted = os.path.realpath(device)
    for resource in world.of()["drbd"]["resources"].values():
        if resource["disk"] != "Diskless" and os.path.realpath(resource["backing"]) == wanted:
            return "drbd"
    for domain in world.of()["xen"]["domains"].values():
        if any(os.path.realpath(disk["path"]) == wanted for disk in domain["disks"] if disk["path"]):
            return "domain"
    return open_by_someone(wanted)
