"""What fake zfs and zpool answer to questions: list, get, space."""

from __future__ import annotations

from sim import blocks, sizes
from sim.world import Refused, World

SIZES = ("used", "available", "referenced", "volsize", "written", "logicalreferenced", "logicalused", "refreservation",
         "reservation", "usedbydataset", "usedbysnapshots", "volblocksize", "quota")  # fmt: skip
ALIASES = {
    "avail": "available",
    "refer": "referenced",
    "refreserv": "refreservation",
    "reserv": "reservation",
    "volblock": "volblocksize",
}
NATIVE = ("type", "creation", "used", "available", "referenced", "origin", "reservation", "volsize", "volblocksize",
          "compression", "readonly", "createtxg", "refreservation", "guid", "written", "logicalused", "volmode",
          "snapdev")  # fmt: skip


def _path(world: World, name: str) -> str:
    return f"{world.home()}/volumes/zfs/{name}"


def own_bytes(world: World, name: str) -> int:
    """Bytes that only this dataset uses: a clone shares with its origin, a volume with its snapshots."""
    everything = world.of()["zfs"]["datasets"]
    found = everything[name]
    here = blocks.allocated(_path(world, name))
    if found["type"] == "snapshot":
        return max(8192, here - blocks.allocated(_path(world, name.split("@")[0])))
    if found.get("origin") in everything:
        return max(8192, here - blocks.allocated(_path(world, found["origin"])))
    return max(here, 57344)


def available(world: World, pool: str) -> int:
    """Bytes that can still be allocated in the pool."""
    state = world.of()["zfs"]
    names = [name for name in state["datasets"] if name.split("/")[0].split("@")[0] == pool]
    reserved = sum(int(state["datasets"][name]["props"].get("refreservation", 0) or 0) for name in names)
    used = sum(own_bytes(world, name) for name in names if "@" in name or state["datasets"][name]["type"] == "volume")
    return max(0, state["pools"][pool]["size"] - used - reserved - state["pools"][pool]["reserved"])


def _used(world: World, name: str) -> int:
    everything = world.of()["zfs"]["datasets"]
    below = [other for other in everything if other == name or other.startswith((name + "/", name + "@"))]
    extra = world.of()["zfs"]["pools"][name]["reserved"] if name in world.of()["zfs"]["pools"] else 0
    return extra + sum(
        max(own_bytes(world, other), int(everything[other]["props"].get("refreservation", 0) or 0)) for other in below
    )


def value(world: World, name: str, prop: str) -> tuple[str, str]:
    """(value, source) of a property, exact."""
    found = world.of()["zfs"]["datasets"][name]
    kind, props = found["type"], found["props"]
    prop = ALIASES.get(prop, prop)
    if ":" in prop:
        return _user_property(world, name, prop)
    computed = {
        "name": lambda: name,
        "type": lambda: kind,
        "creation": lambda: str(found["created"]),
        "createtxg": lambda: str(found["txg"]),
        "guid": lambda: str(10**18 + found["txg"] * 7919),
        "used": lambda: str(_used(world, name) if kind == "filesystem" else own_bytes(world, name)),
        "available": lambda: "-" if kind == "snapshot" else str(available(world, name.split("/")[0])),
        "referenced": lambda: str(max(57344, blocks.allocated(_path(world, name)))),
        "logicalreferenced": lambda: str(max(57344, blocks.allocated(_path(world, name)))),
        "logicalused": lambda: str(own_bytes(world, name)),
        "written": lambda: str(own_bytes(world, name)),
        "usedbydataset": lambda: str(own_bytes(world, name)),
        "usedbysnapshots": lambda: "0",
        "origin": lambda: found.get("origin", "-"),
        "volsize": lambda: str(found["volsize"]) if kind == "volume" or found.get("volsize") else "-",
        "volblocksize": lambda: props.get("volblocksize", "-"),
        "refreservation": lambda: props.get("refreservation", "0"),
        "mountpoint": lambda: "-" if kind != "filesystem" else "/" + name,
        "clones": lambda: ",".join(_clones(world, name)) if kind == "snapshot" else "-",
        "defer_destroy": lambda: ("on" if found.get("deferred") else "off") if kind == "snapshot" else "-",
        "userrefs": lambda: str(len(found.get("holds", []))) if kind == "snapshot" else "-",
    }
    if prop in computed:
        return computed[prop](), "local" if prop == "volsize" else "-"
    defaults = {
        "compression": "lz4",
        "readonly": "off",
        "volmode": "default",
        "snapdev": "hidden",
        "reservation": "0",
        "quota": "0",
    }
    if prop in props:
        return props[prop], "local"
    if prop in defaults:
        return defaults[prop], "default"
    raise Refused(2, f"bad property list: invalid property '{prop}'\nusage: ...")


def _clones(world: World, snapshot: str) -> list[str]:
    return sorted(name for name, found in world.of()["zfs"]["datasets"].items() if found.get("origin") == snapshot)


def _user_property(world: World, name: str, prop: str) -> tuple[str, str]:
    everything, place = world.of()["zfs"]["datasets"], name
    while place:
        if place in everything and prop in everything[place]["props"]:
            return everything[place]["props"][prop], "local" if place == name else f"inherited from {place}"
        place = place.split("@")[0] if "@" in place else place.rpartition("/")[0]
    return "-", "-"


def _show(text: str, prop: str, exact: bool) -> str:
    if not exact and ALIASES.get(prop, prop) in SIZES and text.isdigit():
        return sizes.zfs_human(int(text))
    return text


def _chosen(world: World, names: list[str], types: set[str], depth: float) -> list[str]:
    everything = world.of()["zfs"]["datasets"]
    chosen: list[str] = []
    for start in names or sorted(name for name in everything if "/" not in name and "@" not in name):
        if start not in everything:
            raise Refused(1, f"cannot open '{start}': dataset does not exist")
        for name in sorted(
            everything, key=lambda name: (name.split("@")[0], everything[name]["txg"] if "@" in name else 0)
        ):
            if name != start and not name.startswith((start + "/", start + "@")):
                continue
            level = name[len(start) :].count("/") + name[len(start) :].count("@")
            if (
                level <= depth
                and name not in chosen
                and (everything[name]["type"] in types or (name == start and depth == 0))
            ):
                chosen.append(name)
    return chosen


def _parse(words: list[str], with_value: str) -> tuple[dict, list[str]]:
    options, rest, words = {}, [], list(words)
    while words:
        word = words.pop(0)
        if word.startswith("-") and len(word) > 1:
            letters = word[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                if letter in with_value:
                    options[letter] = letters or (words.pop(0) if words else "")
                    break
                options[letter] = "yes"
        else:
            rest.append(word)
    return options, rest


def _types(options: dict, default: str) -> set[str]:
    wanted = set(options.get("t", default).split(","))
    short = {"fs": "filesystem", "vol": "volume", "snap": "snapshot"}
    wanted = {short.get(kind, kind) for kind in wanted}
    return {"filesystem", "volume", "snapshot"} if "all" in wanted else wanted


def _depth(options: dict, names: list[str]) -> float:
    if "d" in options:
        return int(options["d"])
    return float("inf") if "r" in options or not names else 0


def list_(world: World, words: list[str]) -> tuple[int, str, str]:
    options, names = _parse(words, "otdsS")
    columns = options.get("o", "name,used,available,referenced,mountpoint").split(",")
    rows, errors, status = [], "", 0
    chosen: list[str] = []
    for name in names or [""]:
        try:
            chosen += _chosen(
                world, [name] if name else [], _types(options, "filesystem,volume"), _depth(options, names)
            )
        except Refused as refusal:
            errors, status = errors + refusal.text + "\n", 1
    if options.get("s") == "createtxg":
        chosen.sort(key=lambda name: world.of()["zfs"]["datasets"][name]["txg"])
    for name in chosen:
        rows.append([_show(value(world, name, column)[0], column, "p" in options) for column in columns])
    if "H" in options:
        return status, "".join("\t".join(row) + "\n" for row in rows), errors
    if not rows:
        return status, "" if errors else "no datasets available\n", errors
    titles = {"available": "AVAIL", "referenced": "REFER"}
    return status, _table([titles.get(ALIASES.get(c, c), c.upper()) for c in columns], rows, columns), errors


def _table(heads: list[str], rows: list[list[str]], columns: list[str]) -> str:
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    lines = []
    for row in [heads, *rows]:
        cells = [
            cell.rjust(width) if ALIASES.get(column, column) in SIZES or column == "userrefs" else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns)
        ]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)


def get(world: World, words: list[str]) -> tuple[int, str, str]:
    options, rest = _parse(words, "otdsS")
    if not rest:
        return 2, "", "missing property argument\n"
    wanted, names = rest[0].split(","), rest[1:]
    columns = options.get("o", "name,property,value,source").replace("all", "name,property,value,source").split(",")
    rows = []
    for name in _chosen(world, names, _types(options, "all"), _depth(options, names)):
        own = [key for key in world.of()["zfs"]["datasets"][name]["props"] if ":" in key]
        for prop in [*NATIVE, *own] if wanted == ["all"] else wanted:
            text, source = value(world, name, prop)
            if "s" in options and source.split()[0] not in options["s"].split(","):
                continue
            shown = {"name": name, "property": prop, "value": _show(text, prop, "p" in options), "source": source}
            rows.append([shown[column] for column in columns])
    if "H" in options:
        return 0, "".join("\t".join(row) + "\n" for row in rows), ""
    return 0, _table([column.upper() for column in columns], rows, columns), ""


def holds(world: World, words: list[str]) -> tuple[int, str, str]:
    _options, names = _parse(words, "")
    everything = world.of()["zfs"]["datasets"]
    return (
        0,
        "".join(
            f"{name}\t{tag}\tFri Nov 20 10:45 2026\n" for name in names for tag in everything[name].get("holds", [])
        ),
        "",
    )


def zpool(world: World, argv: list[str]) -> tuple[int, str, str]:
    if argv[1] != "list":
        return 0, "all pools are healthy\n" if argv[1] == "status" else "", ""
    options, names = _parse(argv[2:], "oT")
    pools = world.of()["zfs"]["pools"]
    columns = options.get("o", "name,size,alloc,free,ckpoint,expandsz,frag,cap,dedup,health,altroot").split(",")
    rows = []
    for name in names or sorted(pools):
        if name not in pools:
            return 1, "", f"cannot open '{name}': no such pool\n"
        free = available(world, name)
        size = pools[name]["size"]
        exact = {"size": size, "alloc": size - free, "allocated": size - free, "free": free}
        other = {"name": name, "frag": "0", "cap": str((size - free) * 100 // size),
            "capacity": str((size - free) * 100 // size),
                 "dedup": "1.00", "health": "ONLINE"}  # fmt: skip
        rows.append([
            other.get(c, "-") if c not in exact else str(exact[c]) if "p" in options else sizes.zfs_human(exact[c])
            for c in columns
        ])  # fmt: skip
    if "H" in options:
        return 0, "".join("\t".join(row) + "\n" for row in rows), ""
    return 0, _table([column.upper() for column in columns], rows, columns), ""


QUESTIONS = {"list": list_, "get": get, "holds": holds}
