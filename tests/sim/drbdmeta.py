"""Fake drbdmeta: works on a volume whose resource is down; v09 metadata are in drbdmeta9."""

from __future__ import annotations

import os

from sim import drbd_kernel as kernel
from sim import drbd_meta
from sim.fake import is_privileged
from sim.world import Refused, World


def run(world: World, argv: list[str]) -> tuple[int, str, str]:
    options, words = _parse(argv[1:])
    if len(words) < 5:
        return 20, "", "USAGE: drbdmeta [--force] DEVICE FORMAT [FORMAT ARGS...] COMMAND [CMD ARGS...]\n"
    device, version, backing, _where, command, *rest = words
    minor = int(device.rpartition("drbd")[2] if "drbd" in device else device.lstrip("-") or 0) if device != "-" else -1
    if not is_privileged() and not os.access(backing, os.R_OK):
        return 20, "", f"open({backing}) failed: Permission denied\n"
    with world.open():
        if version == "v09":
            from sim import drbdmeta9

            return drbdmeta9.run(world, minor, backing, command, rest, options)
        if command == "create-md":
            return create(world, minor, backing)
        if command not in (
            "get-gi",
            "show-gi",
            "dump-md",
            "set-gi",
            "apply-al",
            "read-dev-uuid",
            "wipe-md",
            "outdate",
            "dstate",
        ):
            return 20, "", f"Unknown command '{command}'.\n"
        metadata = _metadata(backing)
        if command in ("get-gi", "show-gi"):
            return 0, drbd_meta.line(metadata) + "\n", ""
        if command == "read-dev-uuid":
            return 0, metadata["device_uuid"] + "\n", ""
        if command == "dump-md":
            return _dump(metadata, backing)
        _not_attached(world, minor, backing)
        if command == "set-gi":
            return _set(world, backing, metadata, rest[0])
        if command == "wipe-md":
            size = os.path.getsize(os.path.realpath(backing)) // 4096 * 4096
            with open(backing, "r+b") as file:
                file.seek(size - drbd_meta.SUPER)
                file.write(b"\0" * drbd_meta.SUPER)
            return 0, "Wiping meta data...\nDRBD meta data block successfully wiped out.\n", ""
        return 0, "", ""


def _parse(words: list[str]) -> tuple[dict, list[str]]:
    options, rest = {}, []
    words = list(words)
    while words:
        word = words.pop(0)
        if word == "--node-id" and words:
            options["node-id"] = words.pop(0)
        elif word == "--force":
            options["force"] = "yes"
        elif not word.startswith("--") or word == "--":
            rest.append(word)
    return options, rest


def _metadata(backing: str) -> dict:
    if not os.path.exists(backing):
        raise Refused(20, f"open({backing}) failed: No such file or directory")
    found = drbd_meta.read(os.path.realpath(backing))
    if found is None:
        raise Refused(255, "No valid meta data found")
    return found


def _not_attached(world: World, minor: int, backing: str) -> None:
    for resource in kernel.resources(world).values():
        if resource["disk"] == "Diskless":
            continue
        if resource["minor"] == minor:
            raise Refused(20, f"Device '{minor}' is configured!")
        if os.path.realpath(resource["backing"]) == os.path.realpath(backing):
            raise Refused(20, f"open({backing}) failed: Device or resource busy")


def create(world: World, minor: int, backing: str) -> tuple[int, str, str]:
    """create-md --force. Raises Refused when the volume is missing or attached."""
    if not os.path.exists(backing):
        missing = f"open({backing}) failed: No such file or directory"
        raise Refused(20, f"{missing}\n{missing}")
    for resource in kernel.resources(world).values():
        if resource["minor"] == minor and resource["disk"] != "Diskless":
            raise Refused(20, (
                f"open({backing}) failed: Device or resource busy\n\nExclusive open failed. Do it anyways?\n"
                "*** confirmation forced via --force option ***\n"
                f"# Output might be stale, since minor {minor} is attached\nDevice '{minor}' is configured!"
            ))  # fmt: skip
    _not_attached(world, minor, backing)
    path = os.path.realpath(backing)
    drbd_meta.write(path, drbd_meta.fresh(path), world.host)
    return (
        0,
        (
            "initializing activity log\ninitializing bitmap (4 KB) to all zero\nWriting meta data...\n"
            "New drbd meta data block successfully created.\n"
        ),
        "",
    )


def _set(world: World, backing: str, metadata: dict, text: str) -> tuple[int, str, str]:
    """set-gi C:B:H1:H2[:flags]: a promise that nobody checks; on 8.4 all counts as out of sync then."""
    fields = text.split(":")
    metadata["uuids"] = [int(field or "0", 16) for field in (fields + ["0"] * 4)[:4]]
    for flag, value in zip(drbd_meta.FLAGS, fields[4:]):
        metadata["flags"][flag] = value == "1"
    path = os.path.realpath(backing)
    metadata["oos"] = [[0, -(-drbd_meta.data_kib(path) // 4)]]
    drbd_meta.write(path, metadata, world.host)
    return 0, f"previously {text}\nGI write pending... \nset GI to  {drbd_meta.line(metadata)}\n", ""


def _dump(metadata: dict, backing: str) -> tuple[int, str, str]:
    if metadata["flags"]["primary"]:
        return 1, "", 'Found meta data is "unclean", please apply-al first\n'
    volume = os.path.getsize(os.path.realpath(backing)) // 1024
    area = drbd_meta.area_kib(volume)
    uuids = " ".join(f"0x{uuid:016X};" for uuid in metadata["uuids"])
    return (
        0,
        (
            f'# DRBD meta data dump\n\nversion "v08";\n\n# md_size_sect {area * 2}\n\nuuid {{\n    {uuids}\n'
            f"    flags 0x{sum(1 << i for i, flag in enumerate(drbd_meta.FLAGS) if metadata['flags'][flag]):08X};\n}}\n"
            f"# al-extents 1237;\nla-size-sect {metadata['la_kib'] * 2};\nbm-byte-per-bit 4096;\ndevice-uuid "
            f"0x{metadata['device_uuid']};\n"
            "la-peer-max-bio-size 1048576;\nal-stripes 1;\nal-stripe-size-4k 8;\n"
        ),
        "",
    )
