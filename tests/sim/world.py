"""The state of the farm behind the fakes: one JSON document, changed under a lock by whichever tool runs.

Every host has its own part (pools, kernel, domains); what a host keeps on disk is in files of its own beside it.
"""

from __future__ import annotations

import fcntl
import json
import os
import time

TYPE_CHECKING = False  # typing costs each start of a tool some milliseconds
if TYPE_CHECKING:
    from typing import Any

LIVE = "/run/sim/live"
MIB = 1 << 20


class Refused(Exception):
    """A tool ends with this exit status and error text; what it did before is kept, as on a real host."""

    def __init__(self, status: int, text: str, out: str = "") -> None:
        super().__init__(text)
        self.status, self.text, self.out = status, text, out


def new_host(name: str, number: int, pool_bytes: int) -> dict:
    return {
        "name": name,
        "address": f"10.99.0.{number}",
        "power": True,
        "sudo": True,
        "zfs": {"pools": {"tank": {"size": pool_bytes, "reserved": 0}}, "datasets": {
            "tank": {"type": "filesystem", "props": {}, "created": 1, "txg": 1},
            "tank/dnc": {"type": "filesystem", "props": {}, "created": 1, "txg": 2},
        }},
        "lvm": {"vg0": {"size": 2 * pool_bytes, "volumes": {
            "pool": {"kind": "pool", "size": pool_bytes, "reserved": 0, "tags": [], "uuid": "pool"},
        }}},
        "drbd": {"loaded": True, "resources": {}},
        "xen": {"memory": 64 * 1024, "next": 1, "domains": {}},
        "inject": [],
        "count": 0,
    }  # fmt: skip


class World:
    """Access of one tool (or of the test) to the farm's state."""

    def __init__(self, live: str = LIVE, host: str = "") -> None:
        self.live, self.host = live, host
        self.state: dict[str, Any] = {}
        self._depth = self._umask = 0
        self._held: Any = None

    def open(self) -> World:
        """For `with`: holds the farm's lock; the state is saved at its end, also when the tool refuses. Nests."""
        return self

    def __enter__(self) -> dict[str, Any]:
        if self._depth == 0:
            self._umask = os.umask(0)
            self._held = open(f"{self.live}/lock", "a")
            fcntl.flock(self._held, fcntl.LOCK_EX)
            with open(f"{self.live}/state.json") as file:
                self.state = json.load(file)
        self._depth += 1
        return self.state

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.save()
            self._held.close()
            os.umask(self._umask)

    def save(self) -> None:
        path = f"{self.live}/state.json"
        with open(path + ".new", "w") as file:
            json.dump(self.state, file)
        os.replace(path + ".new", path)

    def of(self, host: str = "") -> dict[str, Any]:
        """State of one host (this one, if not named)."""
        return self.state["hosts"][host or self.host]

    def home(self, host: str = "") -> str:
        return f"{self.live}/hosts/{host or self.host}"

    def path(self, path: str, host: str = "") -> str:
        """A host's own file, e.g. /etc/drbd.d/x.res, as this process can reach it."""
        if host in ("", self.host) and self.live == LIVE:
            return path
        if path.startswith("/dev/"):
            return f"{self.home(host)}{path}"
        return f"{self.home(host)}/files{path}"

    def violate(self, text: str) -> None:
        """Note that a rule of safety was broken (once per text)."""
        if text not in self.state["violations"]:
            self.state["violations"].append(text)

    def others(self) -> list[str]:
        return [name for name in self.state["hosts"] if name != self.host]

    def linked(self, one: str, other: str) -> bool:
        """Whether the replication network between two hosts works."""
        cut = self.state["cut"]
        on = self.of(one)["power"] and self.of(other)["power"]
        return on and one not in cut and other not in cut and f"{min(one, other)}-{max(one, other)}" not in cut


def create(live: str, hosts: tuple[str, ...], pool_bytes: int, drbd: str) -> None:
    """Write the first state: empty pools, nothing up."""
    world = World(live)
    world.state = {
        "hosts": {name: new_host(name, number + 1, pool_bytes) for number, name in enumerate(hosts)},
        "violations": [],
        "cut": [],
        "drbd": drbd,
        "sync_ticks": 0,
        "txg": 10,
        "started": time.time(),
    }
    for path in ("lock", "commands.jsonl"):
        with open(f"{live}/{path}", "a"):
            os.chmod(f"{live}/{path}", 0o666)
    world.save()


def log_command(live: str, entry: dict) -> None:
    with open(f"{live}/commands.jsonl", "a") as file:
        file.write(json.dumps(entry) + "\n")


def open_by_someone(path: str, writing: bool = False) -> str:
    """ "name (pid N)" of a process that has this file open (writing: not only for reading), else ""."""
    try:
        wanted = os.stat(path)
    except FileNotFoundError:
        return ""
    return holder_of(wanted.st_dev, wanted.st_ino, writing)


def holder_of(device: int, inode: int, writing: bool = False) -> str:
    """ "name (pid N)" of a process that has this inode open, else ""."""
    proc = "/proc/.real" if os.path.isdir("/proc/.real") else "/proc"
    for pid in os.listdir(proc):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        try:
            with os.scandir(f"{proc}/{pid}/fd") as entries:
                for entry in entries:
                    found = os.stat(entry.path)
                    if (found.st_dev, found.st_ino) == (device, inode):
                        if writing and not _writes(f"{proc}/{pid}/fdinfo/{entry.name}"):
                            continue
                        with open(f"{proc}/{pid}/comm") as file:
                            return f"{file.read().strip()} (pid {pid})"
        except (PermissionError, FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            continue
    return ""


def _writes(info: str) -> bool:
    """Whether a descriptor is open for more than reading, by its line `flags: 0100002`."""
    with open(info) as file:
        flags = next((line.split()[1] for line in file if line.startswith("flags:")), "0")
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
