"""xl: argv of every command the suite uses, and parsers of what xl answers. Pure: nothing here starts a process.

Texts and statuses were recorded on Xen 4.20 (tests/data/xl).
"""

from __future__ import annotations

import enum
import json
import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..errors import DncError
from .xl_capacity import Capacity, parse_capacity

# While a migration hands over, xl gives the two halves these names (xl migrate, xl migrate-receive).
INCOMING = "--incoming"
MIGRATED_AWAY = "--migratedaway"


class DomainState(enum.Enum):
    """State of a domain, the gravest of the flags that xl shows."""

    RUNNING = "running"
    BLOCKED = "blocked"
    PAUSED = "paused"
    SHUTDOWN = "shut down"
    CRASHED = "crashed"
    DYING = "dying"

    @property
    def alive(self) -> bool:
        """Whether the guest can execute: scheduled, or waiting for an event."""
        return self in (DomainState.RUNNING, DomainState.BLOCKED)


class Domain(NamedTuple):
    """One line of `xl list`; memory in MiB, processor time in seconds."""

    name: str
    id: int
    memory_mib: int
    vcpus: int
    state: DomainState
    cpu_seconds: float


class LiveDisk(NamedTuple):
    """A disk of a domain as libxl keeps it."""

    vdev: str
    path: str
    readonly: bool


class LiveNic(NamedTuple):
    """A network interface of a domain as libxl keeps it."""

    devid: int
    mac: str
    vifname: str


class DomainDetails(NamedTuple):
    """One entry of `xl list -l`. cpu_masked: its CPU features are fewer than the host's, by its configuration."""

    id: int
    name: str
    uuid: str
    disks: Tuple[LiveDisk, ...]
    nics: Tuple[LiveNic, ...]
    capacity: Capacity
    cpu_masked: bool


# XenBus states 4 and 5: connected, and asked to close but still open in the guest.
IN_USE = (4, 5)


class Backend(NamedTuple):
    """One line of `xl block-list` or `xl network-list`: device number and XenBus state, as the guest's end has it.

    1 to 3: the guest has not taken it yet.
    """

    device: int
    state: int

    @property
    def connected(self) -> bool:
        """XenBus state 4: the guest's driver uses it."""
        return self.state == 4

    @property
    def dead(self) -> bool:
        """XenBus states 5 and 6: closing and closed. A backend that could not open its device ends there
        while xl reports success (lab/NOTES 3)."""
        return self.state >= 5


def info() -> List[str]:
    """The hypervisor's version, memory and CPU."""
    return ["xl", "info"]


def list_domains() -> List[str]:
    """All domains of the host, one line each."""
    return ["xl", "list"]


def list_details() -> List[str]:
    """All domains of the host, as JSON. A named domain instead would be refused when it is just leaving."""
    return ["xl", "list", "-l"]


def block_list(domain: str) -> List[str]:
    """Block devices of a domain, with backend states."""
    return ["xl", "block-list", domain]


def disk_capacity(domain_id: int, device: int) -> List[str]:
    """What blkback tells the guest of a block device's size, in sectors of 512 bytes."""
    return ["xenstore-read", f"/local/domain/0/backend/vbd/{domain_id}/{device}/sectors"]


def network_list(domain: str) -> List[str]:
    """Network interfaces of a domain, with backend states."""
    return ["xl", "network-list", domain]


def create(config: str) -> List[str]:
    """Start a domain from a configuration file."""
    return ["xl", "create", config]


def shutdown(domain: str) -> List[str]:
    """Ask the guest to power off; -F sends an ACPI event to guests without PV drivers."""
    return ["xl", "shutdown", "-F", domain]


def reboot(domain: str) -> List[str]:
    """Ask the guest to reboot; -F as in shutdown."""
    return ["xl", "reboot", "-F", domain]


def destroy(domain: str) -> List[str]:
    """End a domain at once; `domain` may be a number, for a domain that lost its name."""
    return ["xl", "destroy", domain]


def save(domain: str, checkpoint: str) -> List[str]:
    """Write memory and configuration to a file and end the domain."""
    return ["xl", "save", domain, checkpoint]


def restore(config: str, checkpoint: str) -> List[str]:
    """Continue a saved domain; `config` replaces the one inside the file, whose paths may be another host's."""
    return ["xl", "restore", config, checkpoint]


def migrate(domain: str, receiver: str) -> List[str]:
    """Move a running domain; `receiver` is the whole command line that reaches `xl migrate-receive`.

    With an empty -s xl hands the host argument to `sh -c` as it stands (main_migrate in xl_migrate.c).
    """
    return ["xl", "migrate", "-s", "", domain, receiver]


def pause(domain: str) -> List[str]:
    """Stop scheduling a domain."""
    return ["xl", "pause", domain]


def unpause(domain: str) -> List[str]:
    """Schedule a paused domain again."""
    return ["xl", "unpause", domain]


def resume(domain: str) -> List[str]:
    """Continue a domain that was suspended and is still in memory (Xen 4.20)."""
    return ["xl", "resume", domain]


def rename(domain: str, name: str) -> List[str]:
    """Give a domain another name."""
    return ["xl", "rename", domain, name]


def block_attach(domain: str, specification: str) -> List[str]:
    """Plug a disk; `specification` as in a configuration's disk list."""
    return ["xl", "block-attach", domain, specification]


def block_detach(domain: str, vdev: str, *, force: bool = False) -> List[str]:
    """Unplug a disk; `force` without asking the guest."""
    return ["xl", "block-detach", *(["--force"] if force else []), domain, vdev]


def network_attach(domain: str, specification: str) -> List[str]:
    """Plug an interface; `specification` as in a configuration's vif list."""
    return ["xl", "network-attach", domain, *specification.split(",")]


def network_detach(domain: str, device: str) -> List[str]:
    """Unplug an interface, by MAC address or device number."""
    return ["xl", "network-detach", domain, device]


def cd_insert(domain: str, vdev: str, path: str) -> List[str]:
    """Put a medium into an emulated CD-ROM drive."""
    return ["xl", "cd-insert", domain, vdev, path]


def cd_eject(domain: str, vdev: str) -> List[str]:
    """Empty an emulated CD-ROM drive."""
    return ["xl", "cd-eject", domain, vdev]


# Gravest first.
_FLAGS = (
    ("d", DomainState.DYING), ("c", DomainState.CRASHED), ("s", DomainState.SHUTDOWN), ("p", DomainState.PAUSED),
    ("b", DomainState.BLOCKED),
)


def parse_state(flags: str) -> DomainState:
    """The six letters or dashes of xl's State column; all dashes mean runnable."""
    return next((state for letter, state in _FLAGS if letter in flags), DomainState.RUNNING)


def parse_list(text: str) -> Tuple[Domain, ...]:
    """`xl list`. Raises DncError for a line that is none of it."""
    domains = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("Name "):
            continue
        fields = line.rsplit(None, 5)
        try:
            name, number, memory, vcpus, flags, seconds = fields
            domains.append(
                Domain(name.strip(), int(number), int(memory), int(vcpus), parse_state(flags), float(seconds))
            )
        except ValueError:
            raise DncError(f"xl list: line not understood: {line.strip()[:80]!r}") from None
    return tuple(domains)


def parse_details(text: str) -> Tuple[DomainDetails, ...]:
    """`xl list -l`. Raises DncError."""
    try:
        entries = json.loads(text) if text.strip() else []
        return tuple(_details(entry) for entry in entries)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise DncError(f"xl list -l: not understood: {type(error).__name__} {error}") from None


def _details(entry: Dict[str, Any]) -> DomainDetails:
    config = entry.get("config") or {}
    info = config.get("c_info") or {}
    disks = tuple(
        LiveDisk(disk.get("vdev") or "", disk.get("pdev_path") or "", not disk.get("readwrite"))
        for disk in config.get("disks") or ()
    )
    nics = tuple(
        LiveNic(int(nic.get("devid", -1)), str(nic.get("mac", "")).lower(), nic.get("ifname") or "")
        for nic in config.get("nics") or ()
    )
    build = config.get("b_info") or {}
    return DomainDetails(
        int(entry["domid"]), info.get("name") or "", info.get("uuid") or "", disks, nics, parse_capacity(build),
        bool(build.get("cpuid")),
    )


def parse_block_list(text: str) -> Tuple[Backend, ...]:
    """`xl block-list`: columns Vdev BE handle state. Raises DncError."""
    return _backends(text, "xl block-list", 3)


def parse_network_list(text: str) -> Tuple[Backend, ...]:
    """`xl network-list`: columns Idx BE Mac handle state. Raises DncError."""
    return _backends(text, "xl network-list", 4)


def _backends(text: str, what: str, state_column: int) -> Tuple[Backend, ...]:
    backends = []
    for line in text.splitlines():
        fields = line.split()
        if not fields or not fields[0].isdigit():
            continue
        try:
            backends.append(Backend(int(fields[0]), int(fields[state_column])))
        except (ValueError, IndexError):
            raise DncError(f"{what}: line not understood: {line.strip()[:80]!r}") from None
    return tuple(backends)


_VDEV = re.compile(r"(xvd|hd|sd)([a-z]{1,2})\Z")


def _letters(text: str) -> int:
    number = 0
    for letter in text:
        number = number * 26 + ord(letter) - ord("a") + 1
    return number - 1


def vdev_number(vdev: str) -> int:
    """The device number under which a virtual disk appears in XenStore (xen-vbd-interface).

    Raises DncError for a name that Xen has not.
    """
    match = _VDEV.match(vdev)
    if not match:
        raise DncError(f"{vdev!r} is not a virtual disk of Xen")
    prefix, index = match.group(1), _letters(match.group(2))
    if prefix == "xvd":
        return 202 << 8 | index << 4 if index < 16 else 1 << 28 | index << 8
    if prefix == "hd" and index < 4:
        return (3 if index < 2 else 22) << 8 | (index % 2) << 6
    if prefix == "sd" and index < 16:
        return 8 << 8 | index << 4
    raise DncError(f"Xen has no virtual disk {vdev}")


_ORIGIN = re.compile(r"\A(?:lib)?x\w+: (?:error|fatal error|panic): ?")
_CHATTER = re.compile(r"\A(?:lib)?x\w+: (?:info|progress|detail|debug|warning): ?")
_PLACE = re.compile(r"\A(?:panic: )?\w+\.c:\d+:\s*(?:\w+: )?|\ADomain \d+: ?|\Ascript: ")
_NOISE = (
    "Parsing config", "Loading new save file", "Savefile contains", "Saving to", "migration target:",
    "migration sender:",
)
_UNKNOWN = "is an invalid domain identifier"
_WRONG_COMMAND = re.compile(r"command not implemented|unknown command|invalid option")


def reason(stderr: str) -> Optional[str]:
    """What xl complained about first, without source file names: its last lines only tell of cleaning up."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    plain = [line for line in lines if not line.startswith(_NOISE) and not _CHATTER.match(line)]
    weak = []
    for index, line in enumerate(plain):
        if not _ORIGIN.match(line) or "report_child_exitstatus" in line:
            continue
        text = _ORIGIN.sub("", line)
        while _PLACE.match(text):
            text = _PLACE.sub("", text, count=1)
        if text.endswith(",") and index + 1 < len(plain):
            text += " " + plain[index + 1]  # a hotplug script's message goes on in the next line
        if not text.startswith("file/stream truncated"):
            return text.removesuffix(": Internal error")
        weak.append(text)
    said = [line for line in plain if not _ORIGIN.match(line)]
    return next(iter(said + weak), None)


def says_unknown_domain(stderr: str) -> bool:
    """Whether xl failed because the domain is not there."""
    return _UNKNOWN in stderr


def says_guest_did_not_hear(stderr: str) -> bool:
    """Whether the guest did not take the request up: it is still in its boot loader, or hangs."""
    return "didn't acknowledge control request" in stderr


def says_unknown_command(stderr: str) -> bool:
    """Whether this xl is too old for the command."""
    return _WRONG_COMMAND.search(stderr) is not None
