"""Fake LVM: one volume group with thin pools, thin volumes and snapshots, with the messages of LVM 2.03."""

from __future__ import annotations

import os
import re
import time

from sim import blocks, lvm_report, sizes
from sim.fake import is_privileged
from sim.holders import holder
from sim.world import Refused, World

EXTENT = 4 << 20
LONG = {
    "--virtualsize": "V", "--thin": "T", "--snapshot": "s", "--name": "n", "--size": "L", "--extents": "l",
    "--yes": "y", "--force": "f",
    "--quiet": "q", "--addtag": "+", "--deltag": "-", "--setactivationskip": "k", "--activate": "a",
    "--ignoreactivationskip": "K",
    "--wipesignatures": "W", "--zero": "Z", "--thinpool": "P", "--type": "t", "--options": "o", "--reportformat": "R",
    "--units": "u", "--nosuffix": "N", "--noheadings": "H", "--separator": "S", "--all": "A", "--select": "E",
    "--errorwhenfull": "e",
    "--permission": "p", "--resizefs": "r", "--fs": "F", "--monitor": "m", "--config": "C", "--readonly": "O",
    "--sort": "Q",
    "--binary": "b", "--poolmetadatasize": "M", "--chunksize": "c", "--unquoted": "U", "--nameprefixes": "X",
}  # fmt: skip
WITH_VALUE = "VnLl+-kaWZPtoRuSEepFmCQMc"
SWITCHES_IN_REPORTS = {"a": "A", "S": "E", "O": "Q"}


def run(world: World, argv: list[str]) -> tuple[int, str, str]:
    with world.open():
        tool = argv[0]
        if not is_privileged():
            return (
                5,
                "",
                (
                    "  WARNING: Running as a non-root user. Functionality may be unavailable.\n"
                    "  /run/lock/lvm/P_global:aux: open failed: Permission denied\n"
                ),
            )
        options, names = parse(argv[1:], tool in ("lvs", "vgs", "pvs", "lvremove"))
        if tool in lvm_report.REPORTS:
            return lvm_report.REPORTS[tool](world, options, names)
        return COMMANDS[tool](world, options, names)


def parse(words: list[str], report: bool) -> tuple[list[tuple[str, str]], list[str]]:
    options: list[tuple[str, str]] = []
    names, words = [], list(words)
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            letter = LONG.get(name)
            if letter is None:
                raise Refused(3, f"  unrecognized option '{name}'\n  Error during parsing of command line.")
            if letter in WITH_VALUE and not equals:
                value = words.pop(0) if words else ""
            options.append((letter, value))
        elif word.startswith("-") and len(word) > 1:
            letters = word[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                letter = SWITCHES_IN_REPORTS.get(letter, letter) if report else letter
                if letter in WITH_VALUE:
                    options.append((letter, letters or (words.pop(0) if words else "")))
                    break
                options.append((letter, ""))
        else:
            names.append(word)
    return options, names


def volume_file(world: World, group: str, name: str, host: str = "") -> str:
    return f"{world.home(host)}/volumes/lvm/{group}/{name}"


def group_of(world: World, group: str) -> dict:
    if group not in world.of()["lvm"]:
        raise Refused(5, f'  Volume group "{group}" not found\n  Cannot process volume group {group}')
    return world.of()["lvm"][group]


def split(full: str) -> tuple[str, str]:
    full = full[len("/dev/") :] if full.startswith("/dev/") else full
    group, _, name = full.partition("/")
    return group, name


def need(world: World, full: str) -> dict:
    group, name = split(full)
    found = group_of(world, group)["volumes"].get(name)
    if found is None:
        raise Refused(5, f'  Failed to find logical volume "{group}/{name}"')
    return found


def _extents(text: str, old: int = 0) -> tuple[int, str]:
    """Size in bytes, rounded up to whole extents, and LVM's remark about it."""
    size = sizes.parse(text.lstrip("+"), "m") + (old if text.startswith("+") else 0)
    rounded = -(-size // EXTENT) * EXTENT
    remark = f"  Rounding up size to full physical extent {sizes.lvm_words(rounded)}\n" if rounded != size else ""
    return rounded, remark


def _tags(options: list[tuple[str, str]]) -> list[str]:
    return [value for letter, value in options if letter == "+"]


def pool_used(world: World, group: str, pool: str) -> int:
    """Bytes that the thin pool has given out; a snapshot shares with its origin."""
    volumes = world.of()["lvm"][group]["volumes"]
    used = volumes[pool].get("reserved", 0)
    for name, volume in volumes.items():
        if volume.get("pool") == pool:
            own = blocks.allocated(volume_file(world, group, name))
            origin = volume.get("origin")
            shared = blocks.allocated(volume_file(world, group, origin)) if origin in volumes else 0
            used += max(0, own - shared)
    return min(used, volumes[pool]["size"])


def _new(world: World, group: str, name: str, **fields: object) -> dict:
    volumes = world.of()["lvm"][group]["volumes"]
    made = {
        "tags": [],
        "created": int(time.time()),
        "uuid": os.urandom(8).hex(),
        "active": True,
        "skip": False,
        **fields,
    }
    volumes[name] = made
    return made


def publish(world: World, group: str, name: str) -> None:
    os.makedirs(f"/dev/{group}", exist_ok=True)
    if not os.path.islink(f"/dev/{group}/{name}"):
        os.symlink(volume_file(world, group, name), f"/dev/{group}/{name}")
    mapped = f"/dev/mapper/{group}-{name.replace('-', '--')}"
    if not os.path.islink(mapped):
        os.symlink(volume_file(world, group, name), mapped)


def withdraw(group: str, name: str) -> None:
    for link in (f"/dev/{group}/{name}", f"/dev/mapper/{group}-{name.replace('-', '--')}"):
        if os.path.islink(link):
            os.unlink(link)


def _lvcreate(world: World, options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    letters = dict(options)
    kind = letters.get("t", "")
    target = names[0] if names else ""
    if "V" in letters or (("T" in letters or kind == "thin") and "s" not in letters and "L" not in letters):
        group, pool = split(target or letters.get("P", ""))
        return _thin(world, group, pool or split(letters.get("P", ""))[-1], letters, _tags(options))
    if "s" in letters:
        return _snapshot(world, target, letters, _tags(options))
    return _plain(world, target, letters, _tags(options))


def _name_free(world: World, group: str, name: str) -> None:
    if name in group_of(world, group)["volumes"]:
        raise Refused(5, f'  Logical Volume "{name}" already exists in volume group "{group}"')


def _room(world: World, group: str, pool: str) -> None:
    if pool_used(world, group, pool) >= group_of(world, group)["volumes"][pool]["size"]:
        raise Refused(5, f"  Cannot create new thin volume, free space in thin pool {group}/{pool} reached threshold.")


def _thin(world: World, group: str, pool: str, letters: dict, tags: list[str]) -> tuple[int, str, str]:
    volumes = group_of(world, group)["volumes"]
    if pool not in volumes:
        raise Refused(5, f"  Thin pool {group}/{pool} not found.")
    name = letters.get("n", "lvol1")
    _name_free(world, group, name)
    _room(world, group, pool)
    size, remark = _extents(letters["V"])
    blocks.create(volume_file(world, group, name), size)
    _new(world, group, name, kind="thin", size=size, pool=pool, tags=tags)
    publish(world, group, name)
    everything = sum(volume["size"] for volume in volumes.values() if volume["kind"] == "thin")
    out, err = f'{remark}  Logical volume "{name}" created.\n', ""
    if everything > volumes[pool]["size"]:
        err = (
            f"  WARNING: Sum of all thin volume sizes ({sizes.lvm_words(everything)}) exceeds the size of thin pool "
            f"{group}/{pool}"
            f" and the size of whole volume group ({sizes.lvm_words(group_of(world, group)['size'])}).\n"
        )
        out = (
            "  WARNING: You have not turned on protection against thin pools running out of space.\n"
            "  WARNING: Set activation/thin_pool_autoextend_threshold below 100 to trigger automatic extension of "
            "thin pools before "
            "they get full.\n"
        ) + out
    return 0, "" if "q" in letters else out, err


def _snapshot(world: World, target: str, letters: dict, tags: list[str]) -> tuple[int, str, str]:
    group, origin = split(target)
    volumes = group_of(world, group)["volumes"]
    if origin not in volumes:
        raise Refused(5, f"  Snapshot origin LV {origin} not found in Volume group {group}.")
    name = letters.get("n", "lvol1")
    _name_free(world, group, name)
    _room(world, group, volumes[origin]["pool"])
    skip = letters.get("k", "y") not in ("n", "no")
    blocks.copy(volume_file(world, group, origin), volume_file(world, group, name))
    _new(world, group, name, kind="thin", size=volumes[origin]["size"], pool=volumes[origin]["pool"], origin=origin,
        tags=tags,
         active=not skip, skip=skip)  # fmt: skip
    if not skip:
        publish(world, group, name)
    return 0, f'  Logical volume "{name}" created.\n', ""


def _plain(world: World, target: str, letters: dict, tags: list[str]) -> tuple[int, str, str]:
    group, pool = split(target)
    size, remark = _extents(letters.get("L", "4m"))
    used = sum(volume["size"] for volume in group_of(world, group)["volumes"].values() if volume["kind"] != "thin")
    free = group_of(world, group)["size"] - used
    if size > free:
        raise Refused(
            5,
            f'  Volume group "{group}" has insufficient free space ({free // EXTENT} extents): {size // EXTENT} '
            f'required.',
        )
    name = pool or letters.get("n", "lvol1")
    _name_free(world, group, name)
    if "T" in letters or letters.get("t") == "thin-pool":
        _new(world, group, name, kind="pool", size=size, reserved=0, tags=tags)
    else:
        os.makedirs(os.path.dirname(volume_file(world, group, name)), exist_ok=True)
        blocks.create(volume_file(world, group, name), size)
        _new(world, group, name, kind="linear", size=size, tags=tags)
        publish(world, group, name)
    return 0, f'{remark}  Logical volume "{name}" created.\n', ""


def _selected(world: World, group: str, expression: str) -> list[str]:
    """The volumes that a selection by name matches: lv_name="text" and lv_name=~"regex", joined by ||."""
    patterns = []
    for part in expression.split("||"):
        match = re.fullmatch(r'\s*lv_name=(~?)"([^"]*)"\s*', part)
        if match is None:
            raise Refused(5, f"  Selection syntax error at '{part}'.")
        patterns.append(match.group(2) if match.group(1) else f"^{re.escape(match.group(2))}$")
    volumes = sorted(group_of(world, group)["volumes"])
    return [f"{group}/{name}" for name in volumes if any(re.search(pattern, name) for pattern in patterns)]


def _lvremove(world: World, options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    out, err, status = "", "", 0
    if "E" in dict(options):
        names = [full for group in names for full in _selected(world, group, dict(options)["E"])]
    for full in names:
        group, name = split(full)
        try:
            found = need(world, full)
            dependent = [
                n
                for n, v in group_of(world, group)["volumes"].items()
                if found["kind"] == "pool" and v.get("pool") == name
            ]
            for one in [*dependent, name]:
                held = holder(world, f"/dev/{group}/{one}")
                if held:
                    text = "is used by another device" if held == "drbd" else "in use"
                    raise Refused(5, f"  Logical volume {group}/{one} {text}.")
        except Refused as refusal:
            err, status = err + refusal.text + "\n", refusal.status
            continue
        for one in [*dependent, name]:
            withdraw(group, one)
            if os.path.exists(volume_file(world, group, one)):
                os.unlink(volume_file(world, group, one))
            del group_of(world, group)["volumes"][one]
            out += f'  Logical volume "{one}" successfully removed.\n'
    return status, out, err


def _lvchange(world: World, options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    letters = dict(options)
    for full in names:
        group, name = split(full)
        found = need(world, full)
        for letter, value in options:
            if letter == "+" and value not in found["tags"]:
                found["tags"].append(value)
            elif letter == "-" and value in found["tags"]:
                found["tags"].remove(value)
            elif letter == "k":
                found["skip"] = value not in ("n", "no")
        if letters.get("a", "") in ("y", "ay") and (not found["skip"] or "K" in letters):
            found["active"] = True
            publish(world, group, name)
        elif letters.get("a", "") == "n":
            if holder(world, f"/dev/{group}/{name}"):
                raise Refused(5, f"  Logical volume {group}/{name} is used by another device.")
            found["active"] = False
            withdraw(group, name)
    changed = any(letter in "+-kep" for letter in letters)
    return 0, "".join(f"  Logical volume {'/'.join(split(full))} changed.\n" for full in names) if changed else "", ""


def _lvextend(world: World, options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    letters, full = dict(options), names[0]
    group, name = split(full)
    found = need(world, full)
    size, remark = _extents(letters["L"], found["size"])
    old, new = found["size"] // EXTENT, size // EXTENT
    if new == old:
        raise Refused(5, f"{remark}  New size ({new} extents) matches existing size ({old} extents).")
    if new < old:
        raise Refused(5, f"{remark}  New size given ({new} extents) not larger than existing size ({old} extents)")
    found["size"] = size
    os.truncate(volume_file(world, group, name), size)
    return (
        0,
        (
            f"{remark}  Size of logical volume {group}/{name} changed from {sizes.lvm_words(old * EXTENT)} ({old} "
            f"extents) to "
            f"{sizes.lvm_words(size)} ({new} extents).\n  Logical volume {group}/{name} successfully resized.\n"
        ),
        "",
    )


def _lvrename(world: World, _options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    group, old, new = names if len(names) == 3 else (*split(names[0]), split(names[1])[1] or names[1])
    need(world, f"{group}/{old}")
    _name_free(world, group, new)
    volumes = group_of(world, group)["volumes"]
    volumes[new] = volumes.pop(old)
    for volume in volumes.values():
        if volume.get("origin") == old:
            volume["origin"] = new
    withdraw(group, old)
    os.rename(volume_file(world, group, old), volume_file(world, group, new))
    if volumes[new]["active"]:
        publish(world, group, new)
    return 0, f'  Renamed "{old}" to "{new}" in volume group "{group}"\n', ""


COMMANDS = {
    "lvcreate": _lvcreate, "lvremove": _lvremove, "lvchange": _lvchange, "lvextend": _lvextend, "lvrename": _lvrename,
}  # fmt: skip
