"""lvs, vgs, pvs: plain columns and JSON."""

from __future__ import annotations

import time

from sim import blocks, sizes
from sim.world import Refused, World

TYPE_CHECKING = False  # typing costs each start of a tool some milliseconds
if TYPE_CHECKING:
    from typing import Callable

    Report = Callable[[World, list[tuple[str, str]], list[str]], tuple[int, str, str]]

HEADS = {
    "lv_name": "LV", "vg_name": "VG", "lv_attr": "Attr", "lv_size": "LSize", "pool_lv": "Pool", "origin": "Origin",
    "data_percent": "Data%",
    "metadata_percent": "Meta%", "move_pv": "Move", "mirror_log": "Log", "copy_percent": "Cpy%Sync",
    "convert_lv": "Convert",
    "lv_uuid": "LV UUID", "lv_tags": "LV Tags", "lv_path": "Path", "vg_size": "VSize", "vg_free": "VFree",
    "pv_count": "#PV",
    "lv_count": "#LV", "snap_count": "#SN", "vg_attr": "Attr", "vg_uuid": "VG UUID", "vg_extent_size": "Ext",
    "vg_extent_count": "#Ext", "vg_free_count": "Free", "pv_name": "PV", "pv_fmt": "Fmt", "pv_attr": "Attr",
    "pv_size": "PSize", "pv_free": "PFree", "lv_time": "CTime", "lv_active": "Active", "lv_device_open": "DevOpen",
    "lv_health_status": "Health", "lv_kernel_major": "KMaj", "lv_metadata_size": "MSize", "lv_full_name": "LV",
    "vg_tags": "VG Tags",
    "lv_layout": "Layout", "lv_role": "Role", "lv_when_full": "WhenFull", "zero": "Zero",
}  # fmt: skip
SHORT = {
    "name": "lv_name",
    "attr": "lv_attr",
    "size": "lv_size",
    "uuid": "lv_uuid",
    "tags": "lv_tags",
    "path": "lv_path",
}
SIZES = ("lv_size", "vg_size", "vg_free", "pv_size", "pv_free", "vg_extent_size", "lv_metadata_size")
NUMBERS = (*SIZES, "data_percent", "metadata_percent", "copy_percent", "pv_count", "lv_count", "snap_count")
LVS = (
    "lv_name,vg_name,lv_attr,lv_size,pool_lv,origin,data_percent,metadata_percent,move_pv,mirror_log,copy_percent,"
    "convert_lv"
)


def _lv(world: World, group: str, name: str) -> dict[str, object]:
    from sim.lvm import pool_used, volume_file
    from sim.world import open_by_someone

    volume = world.of()["lvm"][group]["volumes"][name]
    used: object = ""
    if volume["kind"] == "pool":
        share = pool_used(world, group, name) / volume["size"]
        used, attributes = f"{share * 100:.2f}", "twi-aotzD-" if share >= 1 else "twi-aotz--"
        opened = True
    else:
        path = volume_file(world, group, name)
        opened = any(
            r["disk"] != "Diskless" and r["backing"] == f"/dev/{group}/{name}"
            for r in world.of()["drbd"]["resources"].values()
        )
        opened = opened or bool(open_by_someone(path))
        used = f"{min(1, blocks.allocated(path) / volume['size']) * 100:.2f}" if volume["active"] else ""
        attributes = (
            f"V{'w'}i-{'a' if volume['active'] else '-'}{'o' if opened else '-'}tz-{'k' if volume['skip'] else '-'}"
        )
    return {
        "lv_name": name, "vg_name": group, "lv_attr": attributes, "lv_size": volume["size"],
        "pool_lv": volume.get("pool", ""),
        "origin": volume.get("origin") if volume.get("origin") in world.of()["lvm"][group]["volumes"] else "",
        "data_percent": used,
        "metadata_percent": volume.get("metadata_percent", "11.72") if volume["kind"] == "pool" else "",
        "lv_uuid": volume["uuid"],
        "lv_tags": ",".join(sorted(volume["tags"])),
        "lv_path": "" if volume["kind"] == "pool" else f"/dev/{group}/{name}",
        "lv_time": time.strftime("%Y-%m-%d %H:%M:%S +0000", time.gmtime(volume.get("created", 0))),
        "lv_active": "active" if volume.get("active", True) else "", "lv_device_open": "open" if opened else "",
        "zero": "zero" if volume["kind"] == "pool" else "",
        "lv_health_status": "out_of_data" if attributes[-2] == "D" else "", "lv_full_name": f"{group}/{name}",
        "lv_metadata_size": 4 << 20 if volume["kind"] == "pool" else "",
        "lv_layout": "thin,pool" if volume["kind"] == "pool" else "thin,sparse",
    }  # fmt: skip


def _vg(world: World, group: str) -> dict[str, object]:
    state = world.of()["lvm"][group]
    used = sum(volume["size"] for volume in state["volumes"].values() if volume["kind"] != "thin") + (8 << 20)
    return {
        "vg_name": group, "vg_size": state["size"], "vg_free": state["size"] - used, "pv_count": 1,
        "lv_count": len(state["volumes"]),
        "snap_count": 0, "vg_attr": "wz--n-", "vg_uuid": f"{group}-uuid", "vg_extent_size": 4 << 20,
        "vg_extent_count": state["size"] >> 22, "vg_free_count": (state["size"] - used) >> 22, "vg_tags": "",
    }  # fmt: skip


def _wanted(options: list[tuple[str, str]], default: str) -> list[str]:
    text = dict(options).get("o", "")
    if not text:
        return default.split(",")
    names = (default + "," + text[1:] if text.startswith("+") else text).split(",")
    names = [SHORT.get(name, name) for name in names]
    for name in names:
        if name not in HEADS:
            raise Refused(3, f"  Unrecognised field: {name}")
    return names


def _text(field: str, value: object, options: dict) -> str:
    if value in ("", None):
        return ""
    if field in SIZES:
        unit = options.get("u", "")
        if unit and unit[0] in "bB":
            return f"{value}{'' if 'N' in options else 'B'}"
        if unit and unit[0] in "kKmMgGsS":
            scale = 512 if unit[0] in "sS" else sizes.UNITS[unit[0].upper()]
            number = f"{value // scale}" if unit[0] in "sS" else f"{int(str(value)) / scale:.2f}"
            return number + ("" if "N" in options else unit[0])
        text = sizes.lvm_human(int(str(value)))
        return text[:-1] if "N" in options else text
    return str(value)


def _report(kind: str, rows: list[dict[str, object]], fields: list[str], options: list[tuple[str, str]]) -> str:
    letters = dict(options)
    table = [[_text(field, row.get(field, ""), letters) for field in fields] for row in rows]
    if letters.get("R", "").startswith("json"):
        lines = ["                  {" + ", ".join(f'"{f}":"{v}"' for f, v in zip(fields, row)) + "}" for row in table]
        body = ",\n".join(lines) + "\n" if lines else ""
        return (
            "  {\n      \"report\": [\n          {\n              \"" + kind + "\": [\n" + body
            + "              ]\n          }\n      ]\n      ,\n      \"log\": [\n      ]\n  }\n"
        )  # fmt: skip
    separator = letters.get("S")
    heads = [] if "H" in letters else [[HEADS[field] for field in fields]]
    lines = []
    everything = heads + table
    widths = [max((len(row[i]) for row in everything), default=0) for i in range(len(fields))]
    for row in everything:
        if separator is not None:
            lines.append("  " + separator.join(row) + "\n")
        else:
            cells = [
                c.rjust(w) if f in NUMBERS and row not in heads else c.ljust(w) for c, w, f in zip(row, widths, fields)
            ]
            lines.append("  " + " ".join(cells) + "\n")
    return "".join(lines)


def _select(rows: list[dict[str, object]], expression: str) -> list[dict[str, object]]:
    """The simple selections only: field=value, joined by && or a comma."""
    for part in expression.replace("&&", ",").split(","):
        field, _, value = part.strip().strip("()").partition("=")
        field, value = SHORT.get(field.strip(), field.strip()), value.strip(' "{}')
        rows = [row for row in rows if value in str(row.get(field, "")).split(",")]
    return rows


def lvs(world: World, options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    fields, letters = _wanted(options, LVS), dict(options)
    rows, errors = [], ""
    for full in names or sorted(world.of()["lvm"]):
        full = full[len("/dev/") :] if full.startswith("/dev/") else full
        group, _, name = full.partition("/")
        if full.startswith("@"):
            rows += [
                _lv(world, g, n)
                for g, state in world.of()["lvm"].items()
                for n, v in state["volumes"].items()
                if full[1:] in v["tags"]
            ]
            continue
        if group not in world.of()["lvm"]:
            errors += f'  Volume group "{group}" not found\n  Cannot process volume group {group}\n'
            continue
        volumes = world.of()["lvm"][group]["volumes"]
        if name and name not in volumes:
            errors += f'  Failed to find logical volume "{group}/{name}"\n'
            continue
        rows += [_lv(world, group, one) for one in ([name] if name else sorted(volumes))]
    if letters.get("E"):
        rows = _select(rows, letters["E"])
    if errors and not rows and not letters.get("R"):
        return 5, "", errors
    return 5 if errors else 0, _report("lv", rows, fields, options), errors


def vgs(world: World, options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    fields = _wanted(options, "vg_name,pv_count,lv_count,snap_count,vg_attr,vg_size,vg_free")
    for name in names:
        if name not in world.of()["lvm"]:
            return 5, "", f'  Volume group "{name}" not found\n  Cannot process volume group {name}\n'
    return 0, _report("vg", [_vg(world, name) for name in names or sorted(world.of()["lvm"])], fields, options), ""


def pvs(world: World, options: list[tuple[str, str]], names: list[str]) -> tuple[int, str, str]:
    fields = _wanted(options, "pv_name,vg_name,pv_fmt,pv_attr,pv_size,pv_free")
    rows = []
    for group in sorted(world.of()["lvm"]):
        facts = _vg(world, group)
        rows.append({"pv_name": "/dev/vdb", "vg_name": group, "pv_fmt": "lvm2", "pv_attr": "a--",
            "pv_size": facts["vg_size"],
                     "pv_free": facts["vg_free"]})  # fmt: skip
    return 0, _report("pv", rows, fields, options), ""


REPORTS: dict[str, Report] = {"lvs": lvs, "vgs": vgs, "pvs": pvs}
