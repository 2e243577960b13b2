"""Fake xl: the commands that need no other host (Xen 4.20's texts and exit statuses)."""

from __future__ import annotations

import os

from sim import xen_backends, xl_text
from sim.fake import is_privileged
from sim.world import Refused, World
from sim.xl_domain import dom0, domains, end, find, from_config, make, no_bridge, plug_disk

TYPE_CHECKING = False  # typing costs each start of a tool some milliseconds
if TYPE_CHECKING:
    from typing import Callable

    Command = Callable[[World, list[str], set[str]], tuple[int, str, str]]



def run(world: World, argv: list[str]) -> tuple[int, str, str]:
    words = argv[1:]
    while words and words[0] in ("-v", "-vv", "-vvv", "-f", "-t", "-T"):
        words.pop(0)
    if not words:
        return 1, "Usage xl [-vfNtT] <subcommand> [args]\n", ""
    if not is_privileged():
        return 1, "", (
            "xencall: error: Could not obtain handle on privileged command interface: Permission denied\n"
            "libxl: error: libxl.c:110:libxl_ctx_alloc: cannot open libxc handle: Permission denied\ncannot init xl "
            "context\n"
        )
    command, rest = words[0], words[1:]
    if command in ("migrate", "migrate-receive"):
        from sim import xl_migrate

        return xl_migrate.COMMANDS[command](world, rest)
    if command in ("save", "restore"):
        from sim import xl_save

        return xl_save.COMMANDS[command](world, rest)
    if command not in COMMANDS:
        return 1, "", "command not implemented\n"
    flags = {word for word in rest if word.startswith("-") and word != "-"}
    names = [word for word in rest if word not in flags]
    with world.open():
        try:
            return COMMANDS[command](world, names, flags)
        finally:
            xen_backends.reflect(world)


def _list(world: World, names: list[str], flags: set[str]) -> tuple[int, str, str]:
    chosen = [find(world, name) if name not in ("0", "Domain-0") else dom0(world) for name in names]
    if not names:
        chosen = [dom0(world), *sorted(domains(world).values(), key=lambda domain: int(domain["id"]))]
    if flags & {"-l", "--long"}:
        return 0, xl_text.json_text(chosen), ""
    if flags & {"-v", "--verbose"}:
        return 0, xl_text.VERBOSE_HEAD + "".join(xl_text.verbose_row(domain) + "\n" for domain in chosen), ""
    return 0, xl_text.HEAD + "".join(xl_text.row(domain) + "\n" for domain in chosen), ""


def _create(world: World, names: list[str], flags: set[str]) -> tuple[int, str, str]:
    path = names[0]
    try:
        with open(path) as file:
            text = file.read()
    except OSError as error:
        raise Refused(1, f"Failed to read config file: {path}: {error.strerror}")
    config = xl_text.parse_config(path, text + "\n" + "\n".join(word for word in names[1:] if "=" in word))
    head = f"Parsing config from {path}\n"
    domain = from_config(path, config)
    if "-p" in flags:
        domain["state"] = "paused"
    try:
        make(world, domain)
    except Refused as refusal:
        raise Refused(refusal.status, head + refusal.text)
    return 0, "", head


def _shutdown(world: World, names: list[str], flags: set[str]) -> tuple[int, str, str]:
    domain = find(world, names[0])
    text = f"Shutting down domain {domain['id']}\n"
    if domain["name"] not in world.state.get("deaf", []) and domain["state"] == "running":
        domain["ending"] = {"ticks": 2, "how": "poweroff"}
    if flags & {"-w", "--wait"}:
        domain["ending"] = {"ticks": 0, "how": "poweroff"}
        text += f"Waiting for 1 domains\nDomain {domain['id']} has been shut down, reason code 0\n"
    return 0, "", text


def _reboot(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    domain = find(world, names[0])
    if domain["name"] not in world.state.get("deaf", []):
        domain["ending"] = {"ticks": 1, "how": "reboot"}
    return 0, "", f"Rebooting domain {domain['id']}\n"


def _destroy(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    end(world, find(world, names[0]))
    return 0, "", ""


def _pause(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    """Pauses add up: Xen counts those of the toolstack."""
    domain = find(world, names[0])
    domain["pauses"] = domain.get("pauses", int(domain["state"] == "paused")) + 1
    domain["state"] = "paused" if domain["state"] == "running" else domain["state"]
    return 0, "", ""


def _unpause(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    domain = find(world, names[0])
    domain["pauses"] = max(0, domain.get("pauses", 1) - 1)
    domain["state"] = "running" if domain["state"] == "paused" and not domain["pauses"] else domain["state"]
    return 0, "", ""


def _resume(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    domain = find(world, names[0])
    domain["state"] = "running" if domain["state"] == "suspended" else domain["state"]
    return 0, "", ""


def _rename(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    domain = find(world, names[0])
    if any(other["name"] == names[1] for other in domains(world).values()):
        raise Refused(1, f'libxl: error: libxl_domain.c:81:libxl__domain_rename: Domain {domain["id"]}:Domain with '
                         f'name "{names[1]}" '
                      f"already exists.\nCan't rename domain '{names[0]}'.")  # fmt: skip
    domain["name"] = names[1]
    return 0, "", ""


def _domid(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    try:
        return 0, f"{find(world, names[0])['id']}\n", ""
    except Refused:
        raise Refused(1, f"Can't get domid of domain name '{names[0]}', maybe this domain does not exist.")


def _domname(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    return 0, f"{find(world, names[0])['name']}\n", ""


def _block_list(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    return 0, xl_text.block_list(find(world, names[0])), ""


def _block_attach(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    domain = find(world, names[0])
    disk = xl_text.parse_disk(",".join(names[1:]))
    tail = "libxl: error: libxl_device.c:1500:device_addrm_aocomplete: unable to add device\n"
    tail += "libxl_device_disk_add failed."
    if disk["path"] and not os.path.exists(disk["path"]):
        raise Refused(1, f"libxl: error: libxl_device.c:468:libxl__device_disk_set_backend: Disk vdev={disk['vdev']} "
                         f"failed to stat: "
                      f"{disk['path']}: No such file or directory\n{tail}")  # fmt: skip
    if any(other["vdev"] == disk["vdev"] for other in domain["disks"]):
        raise Refused(1, f"libxl: error: libxl_disk.c:377:device_disk_add: Domain {domain['id']}:device already "
                         f"exists in xenstore\n{tail}")
    try:
        plug_disk(world, domain, disk, domain["id"],
            "libxl_device.c:1495:device_addrm_aocomplete: Domain {n}:unable to add device")
    except Refused as refusal:
        raise Refused(1, refusal.text.split("libxl: error: libxl_domain.c")[0] + "libxl_device_disk_add failed.")
    domain["disks"].append(disk)
    return 0, "", ""


def _block_detach(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    domain = find(world, names[0])
    for disk in domain["disks"]:
        if names[1] in (disk["vdev"], str(xl_text.vdev_number(disk["vdev"]))):
            domain["disks"].remove(disk)
            return 0, "", ""
    raise Refused(1, f"Error: Device {names[1]} not connected.")


def _network_list(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    return 0, xl_text.network_list(find(world, names[0])), ""


def _network_attach(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    domain = find(world, names[0])
    number = max((nic["devid"] for nic in domain["nics"]), default=-1) + 1
    nic = xl_text.parse_nic(names[1:], number)
    if nic["bridge"] != "br0" and not os.path.isdir(f"/sys/class/net/{nic['bridge']}"):
        raise Refused(1, no_bridge(nic["bridge"]) + (
            f"libxl: error: libxl_device.c:1495:device_addrm_aocomplete: Domain {domain['id']}:Unable to add vif with "
            f"id {number}\n"
            "libxl_device_nic_add failed."
        ))  # fmt: skip
    domain["nics"].append(nic)
    return 0, "", ""


def _network_detach(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    domain = find(world, names[0])
    for nic in domain["nics"]:
        if names[1].lower() in (str(nic["devid"]), nic["mac"].lower()):
            domain["nics"].remove(nic)
            return 0, "", ""
    raise Refused(1, f"Unknown device {names[1]}.")


def _mem_set(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    domain, amount = find(world, names[0]), int(names[1].rstrip("mM"))
    if amount > domain["maxmem"]:
        raise Refused(1, "libxl: error: libxl_mem.c:279:libxl_set_memory_target: memory_dynamic_max must be less than "
                         "or equal to "
                      "memory_static_max\ncannot set domid memory")  # fmt: skip
    domain["memory"] = amount
    return 0, "", ""


def _mem_max(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    find(world, names[0])["maxmem"] = int(names[1].rstrip("mM"))
    return 0, "", ""


def _vcpu_set(world: World, names: list[str], flags: set[str]) -> tuple[int, str, str]:
    domain, wanted = find(world, names[0]), int(names[1])
    if wanted > 1 and "--ignore-host" not in flags and "-i" not in flags:
        raise Refused(0, f"You are overcommmitting! You have 1 physical CPUs and want {wanted} vCPUs! Aborting, use "
                         f"--ignore-host to continue")
    domain["vcpus"] = min(wanted, domain["maxvcpus"])
    return 0, "", ""


def _cd(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    domain = find(world, names[0])
    for disk in domain["disks"]:
        if disk["vdev"] == names[1] and disk["cdrom"]:
            disk["path"] = names[2] if len(names) > 2 else ""
            return 0, "", ""
    raise Refused(1, f"Virtual device not found: {names[1]}")


def _info(world: World, _names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    total = world.of()["xen"]["memory"]
    free = total - 1024 - sum(domain["memory"] for domain in domains(world).values())
    facts = {
        "host": world.host, "release": "6.12.107+deb13-amd64", "machine": "x86_64", "nr_cpus": 4, "max_cpu_id": 3,
        "nr_nodes": 1,
        "cores_per_socket": 4, "threads_per_core": 1, "cpu_mhz": "2596.122", "virt_caps": "pv hvm gnttab-v1 gnttab-v2",
        "total_memory": total, "free_memory": max(0, free), "free_cpus": 0, "xen_major": 4, "xen_minor": 20,
        "xen_extra": ".4-pre",
        "xen_version": "4.20.4-pre",
        "xen_caps": "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ",
        "xen_commandline": "placeholder dom0_mem=1024M,max:1024M", "xen_scheduler": "credit2", "xen_pagesize": 4096,
    }  # fmt: skip
    return 0, "".join(f"{key:<23}: {value}\n" for key, value in facts.items()), ""


def _uptime(world: World, _names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    text = "Name                                ID Uptime\n"
    for domain in [dom0(world), *domains(world).values()]:
        text += f"{domain['name']:<35} {domain['id']:3d}  0:06:28\n"
    return 0, text, ""


def _vcpu_list(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    text = "Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)\n"
    for domain in [find(world, name) for name in names] or [dom0(world), *domains(world).values()]:
        for number in range(domain["vcpus"]):
            text += f"{domain['name']:<32} {domain['id']:5d} {number:5d}    0   -b-   "
            text += f"{domain['time']:7.1f}  all / all\n"
    return 0, text, ""


def _nothing(world: World, names: list[str], _flags: set[str]) -> tuple[int, str, str]:
    if names:
        find(world, names[0])
    return 0, "", ""


COMMANDS: dict[str, Command] = {
    "list": _list, "create": _create, "shutdown": _shutdown, "reboot": _reboot, "destroy": _destroy, "pause": _pause,
    "unpause": _unpause, "resume": _resume, "rename": _rename, "domid": _domid, "domname": _domname,
    "block-list": _block_list,
    "block-attach": _block_attach, "block-detach": _block_detach, "network-list": _network_list,
    "network-attach": _network_attach,
    "network-detach": _network_detach, "mem-set": _mem_set, "mem-max": _mem_max, "vcpu-set": _vcpu_set,
    "cd-insert": _cd, "cd-eject": _cd,
    "info": _info, "uptime": _uptime, "vcpu-list": _vcpu_list, "sysrq": _nothing, "trigger": _nothing,
    "dmesg": _nothing,
    "sched-credit2": _nothing, "config-update": _nothing,
}  # fmt: skip
