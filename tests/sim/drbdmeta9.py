"""Fake drbdmeta on v09 metadata."""

from __future__ import annotations

import os

from sim import drbd9_meta, drbd_kernel, drbd_meta
from sim.drbdmeta import _not_attached
from sim.world import Refused, World


def run(world: World, minor: int, backing: str, command: str, rest: list[str], options: dict) -> tuple[int, str, str]:
    """One command, the minor and the volume already told apart. Raises Refused."""
    if command == "create-md":
        return create(world, minor, backing, int(rest[0]))
    if not os.path.exists(backing):
        raise Refused(20, f"open({backing}) failed: No such file or directory")
    path = os.path.realpath(backing)
    metadata = drbd9_meta.read(path)
    if metadata is None:
        raise Refused(255, "No valid meta data found")
    if command in ("get-gi", "show-gi", "set-gi") and "node-id" not in options:
        return 10, "", "The --node-id option is required\n"
    if command in ("get-gi", "show-gi"):
        return 0, drbd9_meta.line(metadata, int(options["node-id"])) + "\n", ""
    if command == "dump-md":
        if "force" not in options and any(
            os.path.realpath(one["backing"]) == path for one in drbd_kernel.resources(world).values() if one["backing"]
        ):
            return 20, "", (
                f"open({backing}) failed: Device or resource busy\n\nExclusive open failed. Do it anyways?\n"
                "stdin not a TTY, not waiting for confirmation\nOperation canceled.\n")  # fmt: skip
        if metadata["node_id"] >= 0 and not metadata["flags"]["al_applied"]:
            return 1, "", 'Found meta data is "unclean", please apply-al first\n'
        return 0, f'# DRBD meta data dump\n\nversion "v09";\n\nmax-peers {metadata["slots"]};\n', ""
    _not_attached(world, minor, backing)
    if command == "set-gi":
        return _set(world, path, metadata, int(options["node-id"]), rest[0])
    if command == "forget-peer":
        metadata["peers"].pop(options.get("node-id", ""), None)
        drbd_meta.write(path, metadata, world.host)
        return 0, "", ""
    return (0, "", "") if command == "apply-al" else (20, "", f"Unknown command '{command}'.\n")


def create(world: World, minor: int, backing: str, slots: int) -> tuple[int, str, str]:
    """create-md --force. Raises Refused when the volume is missing or attached."""
    if not os.path.exists(backing):
        missing = f"open({backing}) failed: No such file or directory"
        raise Refused(20, f"{missing}\n{missing}")
    for resource in drbd_kernel.resources(world).values():
        if resource["minor"] == minor and resource["disk"] != "Diskless":
            raise Refused(20, (
                f"open({backing}) failed: Device or resource busy\n\nExclusive open failed. Do it anyways?\n"
                "*** confirmation forced via --force option ***\n"
                f"# Output might be stale, since minor {minor} is attached\nDevice '{minor}' is configured!"
            ))  # fmt: skip
    _not_attached(world, minor, backing)
    path = os.path.realpath(backing)
    drbd_meta.write(path, drbd9_meta.fresh(slots), world.host)
    bitmap = drbd_meta.area_kib(os.path.getsize(path) // 1024, slots) - 36
    return 0, (
        f"initializing bitmap ({bitmap} KB) to all zero\ninitializing activity log\nWriting meta data...\n"
        "New drbd meta data block successfully created.\n"
    ), ""  # fmt: skip


def _set(world: World, path: str, metadata: dict, node: int, text: str) -> tuple[int, str, str]:
    """set-gi CURRENT:BITMAP:H1:H2[:flags]: a promise that nobody checks; one call does for all free slots."""
    before = drbd9_meta.line(metadata, node)
    fields = text.split(":")
    uuids = [int(field or "0", 16) for field in (fields + ["0"] * 4)[:4]]
    metadata.update(current=uuids[0], history=uuids[2:])
    for flag, value in zip(drbd9_meta.OWN_FLAGS, fields[4:]):
        metadata["flags"][flag] = value == "1"
    metadata["flags"]["al_applied"] = True
    if str(node) in metadata["peers"]:
        metadata["peers"][str(node)]["uuid"] = uuids[1]
    drbd_meta.write(path, metadata, world.host)
    after = drbd9_meta.line(metadata, node)
    return 0, f"previously {before}\nGI write pending... \nset GI to  {after}\n", ""
