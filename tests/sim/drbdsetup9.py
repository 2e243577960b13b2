"""Fake drbdsetup of DRBD 9: questions, and forget-peer."""

from __future__ import annotations

from sim import drbd9_kernel as kernel
from sim import drbd9_link, drbd9_text, drbd_kernel
from sim.world import Refused, World


def run(world: World, command: str, names: list[str], options: set) -> tuple[int, str, str]:
    """One command; the caller holds the farm's lock and has looked at privileges. Raises Refused."""
    every = [found for _, found in sorted(drbd_kernel.resources(world).items())]
    chosen = [_find(world, names[0])] if names else every
    if command == "status" and "json" in options:
        return 0, drbd9_text.to_json(world, chosen), ""
    if command == "status":
        return 0, "".join(drbd9_text.status(world, found) for found in chosen), ""
    if command == "show":
        return 0, "\n".join(drbd9_text.show(found) for found in chosen), ""
    if command == "forget-peer":
        return _forget(world, chosen[0], names[1])
    if command not in ("primary", "secondary", "down"):
        return 20, "", f"{command} is not a command of this drbdsetup\n"
    if command == "primary":
        kernel.promote(world, chosen[0], "force" in options)
    else:
        kernel.demote(world, chosen[0], "force" in options)
        if command == "down":
            kernel.remove(world, chosen[0])
    drbd9_link.settle(world)
    return 0, "", ""


def _find(world: World, name: str) -> kernel.Resource:
    for resource in drbd_kernel.resources(world).values():
        if name in (resource["name"], str(resource["minor"])):
            return resource
    raise Refused(10, f"{name}: No such resource")


def _forget(world: World, found: kernel.Resource, node: str) -> tuple[int, str, str]:
    """Free the bitmap slot of a peer that left; harmless when it has none."""
    if node in found["peers"]:
        raise Refused(10, f"{found['name']}: Failure: (125) Device has a net-config (use disconnect first)")
    found["forgotten"].pop(node, None)
    kernel.persist(world, found)
    return 0, "", ""
