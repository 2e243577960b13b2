"""xl save and restore: the file holds the domain's configuration and the guest's memory, that is its counter."""

from __future__ import annotations

import json

from sim import xl_text
from sim.world import Refused, World
from sim.xl_domain import Domain, end, find, from_config, make

MAGIC = "Xen saved domain, xl format\n \0 \r"
KINDS = {"pv": "x86 PV"}


def transmitted(domain: Domain) -> Domain:
    """What goes into a stream: no device is open in it."""
    copy: Domain = json.loads(json.dumps(domain))
    for disk in copy["disks"]:
        disk.update(open=False, state=4)
    copy.update(ending=None, time=0.0, state="running")
    return copy


def _save(world: World, words: list[str]) -> tuple[int, str, str]:
    flags = {word for word in words if word.startswith("-")}
    name, path, *_ = [word for word in words if word not in flags]
    with world.open():
        domain = find(world, name)
        try:
            with open(path, "w", newline="") as file:
                file.write(MAGIC + json.dumps(transmitted(domain)))
                file.write("\n" + "m" * 65536)
        except OSError as error:
            if error.errno == 28:
                raise Refused(1, (
                    f"Saving to {path} new xl format (info 0x3/0x0/1257)\nxc: info: Saving domain {domain['id']}, "
                    f"type x86 PV\n"
                    "xc: error: Failed to write page data to stream (28 = No space left on device): Internal error\n"
                    "xc: error: Save failed (28 = No space left on device): Internal error\n"
                    f"libxl: error: libxl_stream_write.c:347:libxl__xc_domain_save_done: Domain {domain['id']}:saving "
                    f"domain: domain "
                    "responded to suspend request: No space left on device\nFailed to save domain, resuming domain"
                ))  # fmt: skip
            raise Refused(1, f"Failed to open temp file {path} for writing")
        if not flags & {"-c", "-p"}:
            end(world, domain)
        elif "-p" in flags:
            domain["state"] = "paused"
    return 0, "", (
        f"Saving to {path} new xl format (info 0x3/0x0/1257)\nxc: info: Saving domain {domain['id']}, type "
        f"{KINDS.get(domain['type'], 'x86 HVM')}\nxc: progress: Frames: 49152/49152  100%\nxc: progress: End of "
        f"stream: 0/0    0%\n"
    )


def _restore(world: World, words: list[str]) -> tuple[int, str, str]:
    flags = {word for word in words if word.startswith("-")}
    *config, path = [word for word in words if word not in flags]
    try:
        with open(path, newline="", errors="replace") as file:
            text = file.read()
    except OSError as error:
        raise Refused(2, f"Can't open restore file: {error.strerror}")
    if not text.startswith(MAGIC):
        raise Refused(1, (
            f"libxl: error: libxl_utils.c:507:libxl_read_exactly: file/stream truncated reading header from {path}\n"
            'xl: fatal error: xl_vmcontrol.c:751: Protocol error: libxl_read_exactly( ctx, restore_fd, &hdr, '
            'sizeof(hdr), restore_source, '
            '"header")'
        ))  # fmt: skip
    head = f"Loading new save file {path} (new xl fmt info 0x3/0x0/1257)\n"
    head += " Savefile contains xl domain config in JSON format\n"
    try:
        saved: Domain = json.loads(text[len(MAGIC) :].partition("\n")[0])
    except ValueError:
        raise Refused(1, head + "xc: error: Failed to read Record Header from stream (0 = Success): Internal error\n"
                      "xc: error: Restore failed (0 = Success): Internal error")  # fmt: skip
    if config:
        with open(config[0]) as file:
            fresh = from_config(config[0], xl_text.parse_config(config[0], file.read()))
        fresh.update(counter=saved["counter"], uuid=saved["uuid"])
        saved, head = fresh, head + f"Parsing config from {config[0]}\n"
    else:
        head += "Parsing config from <saved>\n"
    with world.open():
        try:
            make(world, saved, restored=True)
        except Refused as refusal:
            raise Refused(1, head + refusal.text)
        if "-p" in flags:
            saved["state"] = "paused"
    return 0, "", head + (
        "xc: info: Found x86 PV domain from Xen 4.20\nxc: info: Restoring domain\nxc: info: Restore successful\n"
        "xc: info: XenStore: mfn 0x7c416, dom 0, evt 1\nxc: info: Console: mfn 0x7c415, dom 0, evt 2\n"
    )


COMMANDS = {"save": _save, "restore": _restore}
