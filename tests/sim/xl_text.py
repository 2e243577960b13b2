"""xl's configuration files, disk and interface specifications, and the tables it prints."""

from __future__ import annotations

import json

from sim.world import Refused

TYPE_CHECKING = False  # typing costs each start of a tool some milliseconds
if TYPE_CHECKING:
    from typing import Any

Domain = dict


class _Parser:
    """key = value lines; values are strings, numbers or lists of them."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text, self.position, self.line = name, text, 0, 0

    def fail(self, near: str, what: str) -> None:
        raise Refused(
            1,
            f"Parsing config from {self.name}\n{self.name}:{self.line}: config parsing error near {near}: syntax "
            f"error, {what}\n"
            "Failed to parse config: Invalid argument",
        )

    def skip(self, newlines: bool) -> None:
        while self.position < len(self.text):
            letter = self.text[self.position]
            if letter == "#":
                while self.position < len(self.text) and self.text[self.position] != "\n":
                    self.position += 1
            elif letter == "\n" and newlines:
                self.line += 1
                self.position += 1
            elif letter in " \t\r" or (letter == ";" and newlines):
                self.position += 1
            elif self.text.startswith("\\\n", self.position):
                self.position += 2
            else:
                return

    def parse(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while True:
            self.skip(True)
            if self.position >= len(self.text):
                return found
            start = self.position
            while self.text[self.position : self.position + 1].replace("_", "a").isalnum():
                self.position += 1
            key = self.text[start : self.position]
            self.skip(False)
            plus = self.text.startswith("+=", self.position)
            if not key or not (plus or self.text.startswith("=", self.position)):
                self.fail(f"`{self.text[self.position : self.position + 10]}'", "unexpected $undefined, expecting '='")
            self.position += 2 if plus else 1
            self.skip(False)
            value = self.value()
            if plus and isinstance(found.get(key), list):
                value = found[key] + value
            elif plus and key in found:
                value = str(found[key]) + str(value)
            found[key] = value

    def value(self) -> Any:
        letter = self.text[self.position : self.position + 1]
        if letter in ("", "\n"):
            self.fail("<newline>", "unexpected NEWLINE, expecting STRING or NUMBER or '['")
        if letter in "\"'":
            return self.string(letter)
        if letter == "[":
            return self.list()
        start = self.position
        while self.position < len(self.text) and self.text[self.position] not in " \t\r\n;#,]":
            self.position += 1
        word = self.text[start : self.position]
        try:
            return int(word, 0)
        except ValueError:
            self.fail(f"`{word}'", "unexpected IDENT, expecting STRING or NUMBER or '['")

    def string(self, quote: str) -> str:
        self.position += 1
        text = ""
        while self.position < len(self.text) and self.text[self.position] not in (quote, "\n"):
            if self.text[self.position] == "\\" and quote == '"':
                self.position += 1
            text += self.text[self.position]
            self.position += 1
        if self.text[self.position : self.position + 1] != quote:
            self.fail("<newline>", "unexpected NEWLINE")
        self.position += 1
        return text

    def list(self) -> list[Any]:
        self.position += 1
        found: list[Any] = []
        while True:
            self.skip(True)
            letter = self.text[self.position : self.position + 1]
            if letter == "]":
                self.position += 1
                return found
            if letter == ",":
                self.position += 1
                continue
            if letter == "":
                self.fail("<newline>", "unexpected end of file, expecting ']'")
            found.append(self.value())


def parse_config(name: str, text: str) -> dict[str, Any]:
    """Raises Refused as xl does for a syntax error."""
    return _Parser(name, text).parse()


def parse_disk(text: str) -> dict[str, Any]:
    """Either style of xl-disk-configuration: key=value with target last, or positional target,format,vdev,access."""
    disk = {"path": "", "vdev": "", "mode": "w", "script": "", "cdrom": False, "format": "raw", "open": False,
        "state": 4}
    rest, positional = text.strip(), 0
    while rest:
        if rest.lstrip().startswith("target="):
            disk["path"] = rest.lstrip()[len("target=") :]
            break
        word, _, rest = rest.partition(",")
        word = word.strip()
        key, equals, value = word.partition("=")
        if equals and "/" not in key:
            if key == "vdev":
                disk["vdev"] = value
            elif key == "access":
                disk["mode"] = "r" if value in ("ro", "r") else "w"
            elif key in ("format", "script"):
                disk[key] = value
            elif key == "devtype":
                disk["cdrom"] = value == "cdrom"
            continue
        if word in ("discard", "no-discard", "cdrom", "direct-io-safe"):
            continue
        if positional == 0 and word.startswith(("phy:", "file:", "drbd:")):
            disk["path"] = word.partition(":")[2]
            positional = 2
        elif positional == 0:
            disk["path"], positional = word, 1
        elif positional == 1:
            disk["format"], positional = word or "raw", 2
        elif positional == 2:
            vdev, _, kind = word.partition(":")
            disk["vdev"], disk["cdrom"], positional = vdev, kind == "cdrom", 3
        else:
            disk["mode"] = "r" if word in ("r", "ro") else "w"
    if disk["cdrom"]:
        disk["mode"] = "r"
    return disk


def parse_nic(words: list[str], number: int) -> dict[str, Any]:
    """mac=..,bridge=..,vifname=.."""
    given = dict(word.split("=", 1) for word in words if "=" in word)
    return {
        "devid": number,
        "mac": given.get("mac", f"00:16:3e:00:00:{number:02x}"),
        "bridge": given.get("bridge", "xenbr0"),
        "ifname": given.get("vifname", ""),
        "model": given.get("model", ""),
    }


def vdev_number(vdev: str) -> int:
    """xvda -> 51712, hda -> 768, sda -> 2048."""
    index = -1
    for letter in vdev.removeprefix("xvd" if vdev.startswith("xvd") else vdev[:2]) or "a":
        index = (index + 1) * 26 + ord(letter) - ord("a")
    if vdev.startswith("xvd"):
        return 202 << 8 | index << 4 if index < 16 else 1 << 28 | index << 8
    if vdev.startswith("hd"):
        return (3 if index < 2 else 22) << 8 | (index % 2) << 6
    return 8 << 8 | index << 4


FLAGS = {"running": "-b----", "paused": "--p---", "suspended": "---s--", "shutdown": "---s--", "crashed": "----c-",
    "dying": "-----d"}
HEAD = "Name                                        ID   Mem VCPUs\tState\tTime(s)\n"


VERBOSE_HEAD = HEAD[:-1] + "   UUID                            Reason-Code\tSecurity Label\n"
# Why a domain shut down, in xl's column of numbers.
REASONS = {"suspended": "2", "shutdown": "0", "crashed": "3"}


def verbose_row(domain: Domain) -> str:
    uuid = domain.get("uuid") or "00000000-0000-0000-0000-000000000000"
    reason = REASONS.get(domain["state"], "-") if domain["id"] else "-"
    return f"{row(domain)} {uuid} {reason:>8} {'-':>16}"


def row(domain: Domain) -> str:
    flags = "r-----" if domain["id"] == 0 else FLAGS[domain["state"]]
    numbers = f"{domain['id']:5d} {domain['memory']:5d} {domain['vcpus']:5d}"
    return f"{domain['name']:<40} {numbers}     {flags}  {domain['time']:8.1f}"


def details(domain: Domain) -> dict[str, Any]:
    """One entry of `xl list -l`."""
    scheduler = {"sched": "credit2", "weight": 256, "cap": 0}
    if domain["id"] == 0:
        info = {"max_memkb": 1048576, "target_memkb": 1048575, "sched_params": scheduler, "type.pv": {}}
        return {"domid": 0, "config": {"c_info": {"type": "pv", "name": "Domain-0"}, "b_info": info}}
    config: dict[str, Any] = {
        "c_info": {"type": domain["type"], "name": domain["name"], "domid": 4294967295, "uuid": domain["uuid"],
            "run_hotplug_scripts": "True"},
        "b_info": {
            "max_vcpus": domain["maxvcpus"],
            "avail_vcpus": list(range(domain["vcpus"])),
            "max_memkb": domain["maxmem"] * 1024,
            "target_memkb": domain["memory"] * 1024,
            "video_memkb": 0,
            "sched_params": scheduler,
            "claim_mode": "True",
            f"type.{domain['type']}": {},
            "arch_arm": {},
            "arch_x86": {"msr_relaxed": "False"},
        },
    }
    if domain["disks"]:
        config["disks"] = [_disk(disk) for disk in domain["disks"]]
    if domain["nics"]:
        config["nics"] = [
            {**{key: value for key, value in nic.items() if value != "" or key == "bridge"}, "nictype": "vif"}
            for nic in domain["nics"]
        ]
    return {"domid": domain["id"], "config": {**config, "on_reboot": "restart", "on_soft_reset": "soft_reset"}}


def _disk(disk: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"pdev_path": disk["path"], "vdev": disk["vdev"], "format": disk["format"]}
    if disk["cdrom"]:
        shown.update(removable=1, is_cdrom=1)
    if disk["mode"] == "w":
        shown["readwrite"] = 1
    return {**shown, "colo_restore_enable": "False"}


def json_text(domains: list[Domain]) -> str:
    return json.dumps([details(domain) for domain in domains], indent=4) + "\n\n"


def block_list(domain: Domain) -> str:
    text = "Vdev  BE  handle state evt-ch ring-ref BE-path                       \n"
    for disk in domain["disks"]:
        number = vdev_number(disk["vdev"])
        channel, ring = ("8", "8") if disk["state"] == 4 else ("-1", "-1")
        text += (
            f"{number:<5d} 0   {domain['id']:<6d} {disk['state']:<5d} {channel:<6s} {ring:<8s} "
            f"/local/domain/0/backend/vbd/{domain['id']}/{number}\n"
        )
    return text


def network_list(domain: Domain) -> str:
    text = "Idx BE Mac Addr.         handle state evt-ch   tx-/rx-ring-ref BE-path                       \n"
    for nic in domain["nics"]:
        text += (
            f"{nic['devid']:<3d} 0  {nic['mac']:<17s} {nic['devid']:5d}     4     -1   267/268         "
            f"/local/domain/0/backend/vif/{domain['id']}/{nic['devid']}\n"
        )
    return text
