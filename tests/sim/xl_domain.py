"""Domains of a simulated host: made, ended, and their disks opened, with libxl's messages of Xen 4.20."""

from __future__ import annotations

import os
import stat

from sim import xl_text
from sim.guest import PLACE
from sim.world import Refused, World

TYPE_CHECKING = False  # typing costs each start of a tool some milliseconds
if TYPE_CHECKING:
    from typing import Any

Domain = dict
CREATE_FAILED = 3


def domains(world: World) -> dict[str, Domain]:
    return world.of()["xen"]["domains"]


def find(world: World, name: str) -> Domain:
    """By name or number. Raises Refused."""
    for domain in domains(world).values():
        if name in (domain["name"], str(domain["id"])):
            return domain
    raise Refused(1, f"{name} is an invalid domain identifier (rc=-6)")


def dom0(world: World) -> Domain:
    used = sum(domain["memory"] for domain in domains(world).values())
    return {"name": "Domain-0", "id": 0, "memory": 1024, "vcpus": 1, "state": "running", "time": 50.1 + used / 100}


def clean_up(number: int) -> str:
    """What libxl says when it gives a new domain up."""
    return (
        f"libxl: error: libxl_domain.c:354:libxl_domain_info: Domain {number}:Getting domain info: No such process\n"
        f"libxl: error: libxl_domain.c:1179:libxl__destroy_domid: Domain {number}:Non-existant domain\n"
        f"libxl: error: libxl_domain.c:1133:domain_destroy_callback: Domain {number}:Unable to destroy guest\n"
        f"libxl: error: libxl_domain.c:1060:domain_destroy_cb: Domain {number}:Destruction of domain failed\n"
    )


def from_config(path: str, config: dict[str, Any]) -> Domain:
    """The domain that a configuration describes, not yet made. Raises Refused."""
    if not config.get("name"):
        raise Refused(1, f"Parsing config from {path}\nDomain name must be specified.")
    vcpus = int(config.get("vcpus", 1))
    memory = int(config.get("memory", 128))
    kind = config.get("type") or {"hvm": "hvm"}.get(str(config.get("builder", "")), "pv")
    return {
        "name": config["name"], "uuid": config.get("uuid") or _uuid(), "memory": memory, "type": kind, "vcpus": vcpus,
        "maxmem": max(memory, int(config.get("maxmem", memory))),
        "maxvcpus": max(vcpus, int(config.get("maxvcpus", vcpus))),
        "disks": [xl_text.parse_disk(text) for text in config.get("disk", [])],
        "nics": [xl_text.parse_nic(text.split(","), number) for number, text in enumerate(config.get("vif", []))],
        "kernel": config.get("kernel", ""), "ramdisk": config.get("ramdisk", ""),
        "bootloader": config.get("bootloader", ""),
        "cmdline": config.get("cmdline", ""), "weight": int(config.get("cpu_weight", 256)),
        "state": "running", "time": 0.0, "counter": 0, "ending": None, "id": -1,
    }  # fmt: skip


def _uuid() -> str:
    text = os.urandom(16).hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def make(world: World, domain: Domain, restored: bool = False) -> None:
    """Build the domain and plug its devices. Raises Refused with status 3; a dead disk is no error, as on real Xen."""
    here = world.of()["xen"]
    number = here["next"]
    here["next"] += 1
    name = domain["name"]
    if any(other["name"] == name for other in domains(world).values()):
        raise Refused(CREATE_FAILED, (
            f'libxl: error: libxl_domain.c:81:libxl__domain_rename: Domain {number}:Domain with name "{name}" already '
            f'exists.\n'
            f"libxl: error: libxl_create.c:1351:initiate_domain_create: Domain {number}:cannot make domain: -6\n"
        ) + clean_up(number))  # fmt: skip
    _disks_exist(domain, number)
    used = sum(other["memory"] for other in domains(world).values())
    if used + domain["memory"] > here["memory"]:
        raise Refused(CREATE_FAILED, (
            "xc: error: panic: xg_dom_boot.c:119: xc_dom_boot_mem_init: can't allocate low memory for domain: Out of "
            "memory\n"
            "libxl: error: libxl_dom.c:581:libxl__build_dom: xc_dom_boot_mem_init failed: Cannot allocate memory\n"
            f"libxl: error: libxl_create.c:1695:domcreate_rebuild_done: Domain {number}:cannot (re-)build domain: -3\n"
        ) + clean_up(number))  # fmt: skip
    if not restored:
        _boot_files(domain, number)
    for disk in domain["disks"]:
        plug_disk(world, domain, disk, number, "libxl_create.c:1727:domcreate_launch_dm: Domain {n}:unable to add "
                                               "disk devices")
    for nic in domain["nics"]:
        _bridge(nic, number)
    domain["id"] = number
    if not restored:
        domain["counter"] = _count_on_disk(domain)
    write_logs(name)
    domains(world)[str(number)] = domain


def write_logs(name: str) -> None:
    os.makedirs("/var/log/xen/console", exist_ok=True)
    with open(f"/var/log/xen/console/guest-{name}.log", "a") as file:
        file.write("GUEST-READY\n")


def _disks_exist(domain: Domain, number: int) -> None:
    for index, disk in enumerate(domain["disks"]):
        if disk["path"] and not os.path.exists(disk["path"]):
            raise Refused(CREATE_FAILED, (
                f"libxl: error: libxl_device.c:468:libxl__device_disk_set_backend: Disk vdev={disk['vdev']} failed to "
                f"stat: "
                f"{disk['path']}: No such file or directory\n"
                f"libxl: error: libxl_create.c:1373:initiate_domain_create: Domain {number}:Unable to set disk "
                f"defaults for disk {index}\n"
            ) + clean_up(number))  # fmt: skip


def _boot_files(domain: Domain, number: int) -> None:
    for path, what in ((domain["kernel"], "kernel"), (domain["ramdisk"], "ramdisk")):
        if path and not os.path.exists(path):
            raise Refused(CREATE_FAILED, (
                f"xc: error: panic: xg_dom_core.c:205: failed to open file '{path}': No such file or directory: "
                f"Internal error\n"
                f"libxl: error: libxl_dom.c:641:libxl__build_pv: xc_dom_{what}_file failed: No such file or directory\n"
                f"libxl: error: libxl_create.c:1695:domcreate_rebuild_done: Domain {number}:cannot (re-)build domain: "
                f"-3\n"
            ) + clean_up(number))  # fmt: skip
    if domain["bootloader"] and domain["disks"] and not _opens(domain["disks"][0]["path"]):
        raise Refused(CREATE_FAILED, (
            f"libxl: error: libxl_bootloader.c:648:bootloader_finished: Domain {number}:bootloader failed - consult "
            f"logfile "
            f"/var/log/xen/bootloader.{number}.log\n"
            f"libxl: error: libxl_exec.c:117:libxl_report_child_exitstatus: bootloader [4711] exited with error "
            f"status 1\n"
            f"libxl: error: libxl_create.c:1695:domcreate_rebuild_done: Domain {number}:cannot (re-)build domain: -3\n"
        ) + clean_up(number))  # fmt: skip


def _opens(path: str) -> bool:
    """Whether the backend could open it: a DRBD Secondary cannot."""
    try:
        return not stat.S_ISBLK(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def plug_disk(world: World, domain: Domain, disk: dict[str, Any], number: int, failure: str) -> None:
    """Run the block script and open the device. Raises Refused when a domain of this host has it for writing."""
    if disk["cdrom"] and not disk["path"]:
        disk["state"] = 4
        return
    target = os.path.realpath(disk["path"])
    for other in domains(world).values():
        if other is domain:
            continue
        for used in other["disks"]:
            if used["path"] and os.path.realpath(used["path"]) == target and "w" in (used["mode"], disk["mode"]):
                raise Refused(CREATE_FAILED, (
                    "libxl: error: libxl_exec.c:117:libxl_report_child_exitstatus: /etc/xen/scripts/block add [3090] "
                    "exited with error status 1\n"
                    f"libxl: error: libxl_device.c:1351:device_hotplug_child_death_cb: script: Device {disk['path']} "
                    f"is mounted in a "
                    "guest domain,\nand so cannot be mounted now.\n"
                    f"libxl: error: {failure.replace('{n}', str(number))}\n"
                ) + clean_up(number))  # fmt: skip
    disk["open"] = _opens(disk["path"])
    disk["state"] = 4 if disk["open"] else 6 if domain["state"] == "running" else 1


def _bridge(nic: dict[str, Any], number: int) -> None:
    if nic["bridge"] != "br0" and not os.path.isdir(f"/sys/class/net/{nic['bridge']}"):
        raise Refused(CREATE_FAILED, no_bridge(nic["bridge"]) + (
            f"libxl: error: libxl_create.c:1982:domcreate_attach_devices: Domain {number}:unable to add vif devices\n"
        ) + clean_up(number))  # fmt: skip


def no_bridge(bridge: str) -> str:
    return (
        "libxl: error: libxl_exec.c:117:libxl_report_child_exitstatus: /etc/xen/scripts/vif-bridge online [3003] "
        "exited with error status 1\n"
        f"libxl: error: libxl_device.c:1351:device_hotplug_child_death_cb: script: Could not find bridge device "
        f"{bridge}\n"
    )


def _count_on_disk(domain: Domain) -> int:
    """Where the guest goes on counting when it boots."""
    first = next((disk for disk in domain["disks"] if disk["open"] and disk["mode"] == "w"), None)
    if first is None or os.path.getsize(os.path.realpath(first["path"])) < PLACE + 4096:
        return 0
    with open(first["path"], "rb") as file:
        file.seek(PLACE)
        words = file.read(32).split(b"\n")[0].split()
    return int(words[1]) if len(words) == 2 and words[0] == b"tick" and words[1].isdigit() else 0


def end(world: World, domain: Domain) -> None:
    domains(world).pop(str(domain["id"]), None)
