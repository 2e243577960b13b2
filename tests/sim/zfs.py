"""Fake zfs and zpool: datasets of one host, their snapshots and clones, with the messages of OpenZFS 2.3."""

from __future__ import annotations

import os
import time

from sim import blocks, sizes, zfs_report
from sim.fake import is_privileged
from sim.holders import holder
from sim.world import Refused, World

VOLBLOCKSIZE = 16384


def run(world: World, argv: list[str]) -> tuple[int, str, str]:
    if len(argv) < 2:
        return 2, "", f"missing command\nusage: {argv[0]} command args ...\n"
    with world.open():
        command = argv[1]
        if argv[0] == "zpool":
            return zfs_report.zpool(world, argv)
        if command in ("version", "--version", "-V"):
            return 0, "zfs-2.3.9-0+deb13u1\nzfs-kmod-2.3.9-0+deb13u1\n", ""
        if command in zfs_report.QUESTIONS:
            return zfs_report.QUESTIONS[command](world, argv[2:])
        if command not in COMMANDS:
            return 2, "", f"unrecognized command '{command}'\nusage: zfs command args ...\n"
        options, names = _options(argv[2:], VALUES.get(command, "o"))
        return COMMANDS[command](world, options, names)


def _options(words: list[str], with_value: str) -> tuple[list[tuple[str, str]], list[str]]:
    options: list[tuple[str, str]] = []
    names, words = [], list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word == "-":
            names.append(word)
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in with_value:
                options.append((letter, letters or (words.pop(0) if words else "")))
                break
            options.append((letter, ""))
    return options, names


def datasets(world: World) -> dict:
    return world.of()["zfs"]["datasets"]


def volume_file(world: World, name: str, host: str = "") -> str:
    return f"{world.home(host)}/volumes/zfs/{name}"


def need(world: World, name: str) -> dict:
    found = datasets(world).get(name)
    if found is None:
        raise Refused(1, f"cannot open '{name}': dataset does not exist")
    return found


def _privilege(what: str) -> None:
    if not is_privileged():
        raise Refused(1, f"{what}: permission denied")


def snapshots_of(world: World, name: str) -> list[str]:
    return sorted(other for other in datasets(world) if other.startswith(name + "@"))


def clones_of(world: World, snapshot: str) -> list[str]:
    return sorted(name for name, found in datasets(world).items() if found.get("origin") == snapshot)


def _properties(options: list[tuple[str, str]]) -> dict:
    return dict(value.split("=", 1) for letter, value in options if letter == "o" and "=" in value)


def _new(world: World, name: str, kind: str, **more: object) -> dict:
    world.state["txg"] += 1
    made = {"type": kind, "props": {}, "created": int(time.time()), "txg": world.state["txg"], **more}
    datasets(world)[name] = made
    return made


def _place_for(world: World, name: str, parents: bool) -> None:
    """Check that `name` can be made."""
    pool = name.split("/")[0]
    if pool not in world.of()["zfs"]["pools"]:
        raise Refused(1, f"cannot create '{name}': no such pool '{pool}'")
    if name in datasets(world):
        raise Refused(1, f"cannot create '{name}': dataset already exists")
    parent = os.path.dirname(name)
    if parent not in datasets(world):
        if not parents:
            raise Refused(1, f"cannot create '{name}': parent does not exist")
        _place_for(world, parent, True)
        _new(world, parent, "filesystem")
    if zfs_report.available(world, pool) <= 0:
        raise Refused(1, f"cannot create '{name}': out of space")


def publish(world: World, name: str) -> None:
    """The /dev/zvol link of a volume."""
    link = f"/dev/zvol/{name}"
    os.makedirs(os.path.dirname(link), exist_ok=True)
    if not os.path.islink(link):
        os.symlink(volume_file(world, name), link)


def withdraw(name: str) -> None:
    if os.path.islink(f"/dev/zvol/{name}"):
        os.unlink(f"/dev/zvol/{name}")


def _create(world: World, options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    letters = dict(options)
    if len(names) != 1:
        return 2, "", "missing volume name\n" if "V" in letters else "missing filesystem argument\n"
    name, properties = names[0], _properties(options)
    _privilege(f"cannot create '{name}'")
    _place_for(world, name, "p" in letters)
    if "V" not in letters:
        _new(world, name, "filesystem")["props"] = properties
        return 0, "", ""
    block = sizes.parse(letters.get("b") or properties.get("volblocksize", str(VOLBLOCKSIZE)))
    try:
        size = -(-sizes.parse(letters["V"]) // block) * block
    except (KeyError, ValueError):
        raise Refused(1, f"cannot create '{name}': bad volume size '{letters['V']}'")
    if "s" not in letters and size > zfs_report.available(world, name.split("/")[0]):
        raise Refused(1, f"cannot create '{name}': out of space")
    blocks.create(volume_file(world, name), size)
    made = _new(world, name, "volume", volsize=size)
    made["props"] = {**properties, "volblocksize": str(block), "refreservation": "0" if "s" in letters else str(size)}
    publish(world, name)
    return 0, "", ""


def _snapshot(world: World, options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    if not names:
        return 2, "", "missing snapshot argument\n"
    for full in names:
        _privilege(f"cannot create snapshot '{full}'")
        name = full.split("@")[0]
        if "@" not in full:
            raise Refused(2, f"cannot create snapshot '{full}': missing '@' delimiter in snapshot name")
        if name not in datasets(world):
            raise Refused(2, f"cannot open '{name}': dataset does not exist\nusage:\n\tsnapshot [-r] [-o "
                             f"property=value] ...")
        if full in datasets(world):
            raise Refused(1, f"cannot create snapshot '{full}': dataset already exists")
        if zfs_report.available(world, name.split("/")[0]) <= 0:
            raise Refused(1, f"cannot create snapshot '{full}': out of space")
    for full in names:
        origin = datasets(world)[full.split("@")[0]]
        made = _new(world, full, "snapshot", volsize=origin.get("volsize", 0))
        made["props"] = _properties(options)
        if origin["type"] == "volume":
            blocks.copy(volume_file(world, full.split("@")[0]), volume_file(world, full))
    return 0, "", ""


def _clone(world: World, options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    if len(names) != 2:
        return 2, "", "missing source dataset argument\n"
    snapshot, name = names
    _privilege(f"cannot create '{name}'")
    origin = need(world, snapshot)
    _place_for(world, name, "p" in dict(options))
    made = _new(world, name, "volume", volsize=origin["volsize"], origin=snapshot)
    made["props"] = {"volblocksize": str(VOLBLOCKSIZE), "refreservation": "0", **_properties(options)}
    os.makedirs(os.path.dirname(volume_file(world, name)), exist_ok=True)
    blocks.copy(volume_file(world, snapshot), volume_file(world, name))
    publish(world, name)
    return 0, "", ""


def _destroy(world: World, options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    letters = dict(options)
    if len(names) != 1:
        return 2, "", "missing dataset argument\n"
    name = names[0]
    if "@" in name:
        return _destroy_snapshots(world, name, letters)
    found = need(world, name)
    _privilege(f"cannot destroy '{name}'")
    below = [other for other in sorted(datasets(world)) if other.startswith((name + "/", name + "@"))]
    clones = [clone for other in below if "@" in other for clone in clones_of(world, other)]
    kind = "volume" if found["type"] == "volume" else "filesystem"
    if below and "r" not in letters and "R" not in letters:
        return (
            1,
            "",
            f"cannot destroy '{name}': {kind} has children\nuse '-r' to destroy the following datasets:\n"
            + "".join(other + "\n" for other in below),
        )
    if clones and "R" not in letters:
        return (
            1,
            "",
            f"cannot destroy '{name}': {kind} has dependent clones\nuse '-R' to destroy the following datasets:\n"
            + ("".join(clone + "\n" for clone in clones)),
        )
    for other in [*clones, *reversed(below), name]:
        if datasets(world).get(other, {}).get("type") == "volume" and holder(world, f"/dev/zvol/{other}"):
            raise Refused(1, f"cannot destroy '{other}': dataset is busy")
    for other in [*clones, *reversed(below), name]:
        forget(world, other)
    return 0, "", ""


def _destroy_snapshots(world: World, name: str, letters: dict) -> tuple[int, str, str]:
    dataset, _, wanted = name.partition("@")
    for one in wanted.split(","):
        full = f"{dataset}@{one}"
        if full not in datasets(world):
            if "," not in wanted:
                return 1, "", "could not find any snapshots to destroy; check snapshot names.\n"
            continue
        found = datasets(world)[full]
        _privilege(f"cannot destroy snapshot {full}")
        clones = clones_of(world, full)
        if found.get("holds"):
            return (
                1,
                "",
                f"cannot destroy snapshot {full}: it's being held. Run 'zfs holds -r {full}' to see holders.\n",
            )
        if clones and "d" in letters:
            found["deferred"] = True
            continue
        if clones and "R" not in letters:
            return (
                1,
                "",
                (
                    f"cannot destroy '{full}': snapshot has dependent clones\nuse '-R' to destroy the following "
                    f"datasets:\n"
                    + "".join(clone + "\n" for clone in clones)
                ),
            )
        for other in [*clones, full]:
            forget(world, other)
    return 0, "", ""


def forget(world: World, name: str) -> None:
    """Remove a dataset with its contents; a deferred snapshot goes with its last clone."""
    found = datasets(world).pop(name, None)
    if found is None:
        return
    withdraw(name)
    if os.path.exists(volume_file(world, name)):
        os.unlink(volume_file(world, name))
    origin = found.get("origin")
    if origin and datasets(world).get(origin, {}).get("deferred") and not clones_of(world, origin):
        forget(world, origin)


def _set(world: World, _options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    properties = dict(word.split("=", 1) for word in names if "=" in word)
    for name in (word for word in names if "=" not in word):
        found = need(world, name)
        _privilege(f"cannot set property for '{name}'")
        if "volsize" in properties:
            size = sizes.parse(properties["volsize"])
            if size % VOLBLOCKSIZE or size == 0:
                raise Refused(
                    1, f"cannot set property for '{name}': 'volsize' must be a multiple of volume block size (16K)"
                )
            found["volsize"] = size
            os.truncate(volume_file(world, name), size)
        found["props"].update({key: value for key, value in properties.items() if key != "volsize"})
    return 0, "", ""


def _inherit(world: World, _options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    for name in names[1:]:
        need(world, name)["props"].pop(names[0], None)
    return 0, "", ""


def _rollback(world: World, options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    snapshot = names[0]
    origin = need(world, snapshot)
    _privilege(f"cannot rollback '{snapshot}'")
    name = snapshot.split("@")[0]
    newer = [other for other in snapshots_of(world, name) if datasets(world)[other]["txg"] > origin["txg"]]
    if newer and "r" not in dict(options):
        return (
            1,
            "",
            f"cannot rollback to '{snapshot}': more recent snapshots or bookmarks exist\n"
            + (
                "use '-r' to force deletion of the following snapshots and bookmarks:\n"
                + "".join(x + "\n" for x in newer)
            ),
        )
    if holder(world, f"/dev/zvol/{name}"):
        raise Refused(1, f"cannot rollback '{name}': dataset is busy")
    for other in newer:
        forget(world, other)
    blocks.copy(volume_file(world, snapshot), volume_file(world, name))
    datasets(world)[name]["volsize"] = origin["volsize"]
    return 0, "", ""


def _rename(world: World, _options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    old, new = names
    found = need(world, old)
    _privilege(f"cannot rename '{old}'")
    if new in datasets(world):
        raise Refused(1, f"cannot rename '{old}': dataset already exists")
    if found["type"] == "volume" and holder(world, f"/dev/zvol/{old}"):
        raise Refused(1, f"cannot rename '{old}': dataset is busy")
    for name in [old, *snapshots_of(world, old)]:
        target = new + name[len(old) :]
        datasets(world)[target] = datasets(world).pop(name)
        withdraw(name)
        os.makedirs(os.path.dirname(volume_file(world, target)), exist_ok=True)
        if os.path.exists(volume_file(world, name)):
            os.rename(volume_file(world, name), volume_file(world, target))
        for clone in clones_of(world, name):
            datasets(world)[clone]["origin"] = target
        if datasets(world)[target]["type"] == "volume":
            publish(world, target)
    return 0, "", ""


def _promote(world: World, _options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    name = names[0]
    origin = need(world, name).get("origin")
    _privilege(f"cannot promote '{name}'")
    if not origin:
        raise Refused(1, f"cannot promote '{name}': not a cloned filesystem")
    old, _, _short = origin.partition("@")
    limit = datasets(world)[origin]["txg"]
    for snapshot in snapshots_of(world, old):
        if datasets(world)[snapshot]["txg"] <= limit:
            target = f"{name}@{snapshot.partition('@')[2]}"
            datasets(world)[target] = datasets(world).pop(snapshot)
            os.rename(volume_file(world, snapshot), volume_file(world, target))
            for clone in clones_of(world, snapshot):
                datasets(world)[clone]["origin"] = target
    # The promoted one takes over what the other hung on itself.
    datasets(world)[name].pop("origin")
    if "origin" in datasets(world)[old]:
        datasets(world)[name]["origin"] = datasets(world)[old]["origin"]
    datasets(world)[old]["origin"] = f"{name}@{origin.partition('@')[2]}"
    return 0, "", ""


def _hold(world: World, _options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    for name in names[1:]:
        need(world, name).setdefault("holds", []).append(names[0])
    return 0, "", ""


def _release(world: World, _options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    for name in names[1:]:
        holds = need(world, name).get("holds", [])
        if names[0] not in holds:
            raise Refused(1, f"cannot release hold from snapshot '{name}': no such tag on this dataset")
        holds.remove(names[0])
    return 0, "", ""


VALUES = {"create": "oVb", "set": ""}
COMMANDS = {
    "create": _create, "snapshot": _snapshot, "snap": _snapshot, "clone": _clone, "destroy": _destroy, "set": _set,
    "inherit": _inherit, "rollback": _rollback, "rename": _rename, "promote": _promote, "hold": _hold,
    "release": _release,
}  # fmt: skip
