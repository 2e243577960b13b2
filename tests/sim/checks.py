"""The rules of safety, looked at after every command: what breaks one is noted for the test."""

from __future__ import annotations

import os

from sim import blocks
from sim import drbd_kernel as kernel
from sim.world import World


def check(world: World) -> None:
    places: dict[str, list[str]] = {}
    for host in world.state["hosts"]:
        here = world.of(host)
        if not here["power"]:
            continue
        for domain in here["xen"]["domains"].values():
            if domain["state"] in ("running", "paused", "blocked"):
                places.setdefault(domain["name"], []).append(host)
            if domain["state"] == "running":
                _disks(world, host, domain)
        for resource in kernel.resources(world, host).values():
            _two_primaries(world, host, resource)
    for name, hosts in places.items():
        if len(hosts) > 1:
            running = [
                host
                for host in hosts
                if any(d["name"] == name and d["state"] == "running" for d in world.of(host)["xen"]["domains"].values())
            ]
            if len(running) > 1:
                world.violate(f"domain {name} runs on {' and '.join(running)} at once")


def _disks(world: World, host: str, domain: dict) -> None:
    for disk in domain["disks"]:
        if disk["path"] and disk["mode"] == "w" and not disk.get("open"):
            world.violate(f"domain {domain['name']} runs on {host} with a dead disk {disk['vdev']} ({disk['path']})")


def _two_primaries(world: World, host: str, resource: dict) -> None:
    """Two primaries are allowed only while the intent of a migration is written down on a host of it."""
    if resource["role"] != "Primary" or resource.get("quorate") is False:
        return  # without a quorum it is frozen: the others may go on
    for other in world.state["hosts"]:
        if other <= host or not world.of(other)["power"]:
            continue
        there = kernel.resources(world, other).get(resource["name"])
        if there and there["role"] == "Primary" and there.get("quorate") is not False:
            intents = [world.path(f"/var/lib/dnc/intents/{resource['name']}.json", one) for one in (host, other)]
            if not any(os.path.exists(path) for path in intents):
                world.violate(f"{resource['name']} is Primary on {host} and {other} without an intent")


def check_data(world: World) -> list[str]:
    """Connected, UpToDate on both, nothing out of sync: so equal data. Slow: only at the end of a test."""
    found = []
    for host in world.state["hosts"]:
        for resource in kernel.resources(world, host).values():
            for peer in kernel.connected_peers(world, host, resource):
                if peer[0] > host and resource["conn"] == "Connected":
                    found += _compare(world, host, resource, peer)
    return found


def _compare(world: World, host: str, resource: dict, peer: tuple[str, dict]) -> list[str]:
    if not resource["disk"] == peer[1]["disk"] == "UpToDate" or resource["oos"] or peer[1]["oos"]:
        return []
    runs = blocks.differences(
        kernel.volume(world, resource, host), kernel.volume(world, peer[1], peer[0]), resource["kib"] * 1024
    )
    text = f"{resource['name']}: {host} and {peer[0]} differ in {blocks.total(runs)} blocks, yet say UpToDate"
    return [text] if runs else []
