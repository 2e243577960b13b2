"""One host in memory: a runner that answers xl and drbdadm as the real ones do, over a /proc/drbd in a directory.

Only what the VMM actions see. Faults are switched on by name in `faults`.
"""

from __future__ import annotations

import io
import json
import shlex
import sys
from pathlib import Path
from typing import Optional, Sequence

from dnc import config as configuration
from dnc.command import Result, Runner, failure
from dnc.host.machine import Host, Paths
from dnc.host.waiting import Patience
from dnc.log import Log
from dnc.opennebula.driver import Call, load_action, match_arguments
from dnc.tools import drbd, xl
from dnc.tools.drbd84 import Drbd84
from dnc.tools.resource import Member, ResourceSpec

LETTERS = {"running": "r-----", "blocked": "-b----", "paused": "--p---", "shutdown": "---s--", "crashed": "----c-"}


class Clock(Patience):
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.time = 0.0
        super().__init__(lambda: self.time, self._pass)

    def _pass(self, seconds: float) -> None:
        self.time += max(seconds, 0.05)


class Disk:
    """A replicated resource as this host sees it."""

    def __init__(self, name: str, minor: int) -> None:
        self.name, self.minor = name, minor
        self.role, self.peer_role = "Secondary", "Secondary"
        self.disk, self.peer_disk = "UpToDate", "UpToDate"
        self.connection, self.up = "Connected", True
        self.written, self.generation = 0, "2DABAB9FAB1A1036"

    def line(self) -> str:
        """Its two lines of /proc/drbd."""
        peer = (self.peer_role, self.peer_disk) if self.connection == "Connected" else ("Unknown", "DUnknown")
        return (
            f"{self.minor:4}: cs:{self.connection} ro:{self.role}/{peer[0]} ds:{self.disk}/{peer[1]} C r-----\n"
            f"    ns:0 nr:0 dw:{self.written} dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:0\n"
        )


class Guest:
    """A domain."""

    def __init__(self, name: str, number: int, state: str = "blocked") -> None:
        self.name, self.number, self.state = name, number, state
        self.disks: dict[str, str] = {}
        self.nics: dict[str, str] = {}
        self.held: set[str] = set()
        self.pauses = 1 if state == "paused" else 0
        self.memory, self.maxmem, self.vcpus, self.maxvcpus, self.weight = 128, 128, 1, 1, 256
        self.needs = 32  # MiB: its balloon gives no more than what lies above


class Machine(Runner):
    """The runner and the state behind it."""

    def __init__(self, root: Path, monkeypatch, *, remote: Optional[Machine] = None) -> None:
        self.messages = io.StringIO()
        super().__init__(Log("test", stream=self.messages))
        self.root = root
        self.disks: dict[str, Disk] = {}
        self.guests: dict[str, Guest] = {}
        self.faults: set[str] = set()
        self.commands: list[str] = []
        self.on_create = lambda: None
        self.remote = remote
        self.number = 0
        self.boots_for = 0
        self.paths = Paths(
            drbd_config=str(root / "drbd.d"), state=str(root / "state"), devices=str(root / "dev"),
            proc=str(root / "proc"), sys_block=str(root / "sys"),
        )
        for part in ("drbd.d", "state", "dev", "proc", "sys", "ds/100/901"):
            (root / part).mkdir(parents=True, exist_ok=True)
        self.config = configuration.parse(
            f"HOSTS='node1 node2'\nDATASTORE_LOCATION={root}/ds\nLOCK_TIMEOUT=0\nSHUTDOWN_TIMEOUT=30"
        )
        self.clock = Clock()
        self.kernel()
        monkeypatch.setattr("dnc.vmm.start.Host", self.host)
        monkeypatch.setattr("dnc.vmm.poll.Host", self.host)

    def host(self, runner: Runner, config: configuration.Config, log: Log) -> Host:
        """What the actions get for `Host(...)`."""
        made = Host(runner, config, log, paths=self.paths, patience=self.clock, name="node1")
        made.ensure_state_directories()
        return made

    def kernel(self) -> None:
        """Write /proc/drbd as it is now."""
        text = "version: 8.4.11 (api:1/proto:86-101)\n" + "".join(
            disk.line() for disk in self.disks.values() if disk.up
        )
        (self.root / "proc" / "drbd").write_text(text)

    def add_disk(self, name: str, *, state: str = "ready") -> Disk:
        """A resource with replicas on node1 and node2."""
        disk = self.disks[name] = Disk(name, 1000 + len(self.disks))
        members = tuple(Member(f"node{n}", f"192.0.2.{n}", f"/dev/vg0/{name}", n - 1) for n in (1, 2))
        spec = ResourceSpec(
            name, disk.minor, 7000 + disk.minor, "a" * 40, members, state, "volatile", 901, None, None,
            "lvm:vg0/pool", 1 << 26, 1,
        )
        (self.root / "drbd.d" / f"{name}.res").write_text(drbd.file_text(spec, Drbd84()))
        device = self.root / "dev" / "drbd" / "by-res" / name
        device.mkdir(parents=True)
        (device / "0").touch()
        self.kernel()
        return disk

    def device(self, name: str) -> str:
        """Its block device."""
        return f"{self.root}/dev/drbd/by-res/{name}/0"

    # The commands.

    def run(
        self, argv: Sequence[str], *, privileged: bool = False, changes: bool = True, stdin: Optional[bytes] = None,
        ok: tuple[int, ...] = (0,), timeout: float = 120.0,
    ) -> Result:
        self.commands.append(" ".join(argv))
        status, out, err = getattr(self, f"_{argv[0].replace('-', '_')}")(list(argv[1:]))
        result = Result(tuple(argv), status, out, err)
        if status not in ok:
            raise failure(result, argv[0], privileged=privileged)
        return result

    def _drbdadm(self, words: list[str]) -> tuple[int, str, str]:
        disk = self.disks[words[-1].removesuffix("/0")]
        if words[0] == "get-gi":
            return 0, f"{disk.generation}:0000000000000000:{'0' * 16}:{'0' * 16}:1:1:0:1:0:0:0\n", ""
        if words[0] == "primary":
            if f"primary {disk.name}" in self.faults or disk.peer_role == "Primary":
                return 11, "", f"{disk.minor}: State change failed: (-1) Multiple primaries not allowed by config\n"
            disk.role = "Primary"
        elif words[0] == "secondary":
            disk.role = "Secondary"
        elif words[0] == "up":
            disk.up = True
        self.kernel()
        return 0, "", ""

    def _xl(self, words: list[str]) -> tuple[int, str, str]:
        fault = next((fault for fault in sorted(self.faults) if fault == f"xl {words[0]}"), None)
        if fault:
            return 3, "", "libxl: error: libxl_x.c:1:f: Domain 9:no luck\nlibxl: error: libxl_y.c:2:g: Domain 9:gone\n"
        return getattr(self, "_xl_" + words[0].replace("-", "_"))(words[1:])

    def _named(self, name: str) -> Optional[Guest]:
        return self.guests.get(name)

    def _xenstore_read(self, words: list[str]) -> tuple[int, str, str]:
        number, device = (int(word) for word in words[0].split("/")[-3:-1])
        guest = next((one for one in self.guests.values() if one.number == number), None)
        path = next((p for v, p in guest.disks.items() if xl.vdev_number(v) == device), None) if guest else None
        if path is None:
            return 1, "", f"xenstore-read: couldn't read path {words[0]}\n"
        size = 1 << 26 if "deaf backend" in self.faults else Path(path).stat().st_size
        return 0, f"{size // 512}\n", ""

    def _xl_list(self, words: list[str]) -> tuple[int, str, str]:
        if words == ["-l"]:
            return 0, json.dumps([{
                "domid": guest.number,
                "config": {
                    "c_info": {"name": guest.name},
                    "b_info": {
                        "max_vcpus": guest.maxvcpus, "avail_vcpus": list(range(guest.vcpus)),
                        "max_memkb": guest.maxmem * 1024, "target_memkb": guest.memory * 1024,
                        "sched_params": {"sched": "credit2", "weight": guest.weight, "cap": 0},
                    },
                    "disks": [{"vdev": v, "pdev_path": p, "readwrite": 1} for v, p in guest.disks.items()],
                    "nics": [{"devid": n, "mac": mac} for n, mac in enumerate(guest.nics)],
                },
            } for guest in self.guests.values()]), ""
        lines = ["Name                                        ID   Mem VCPUs\tState\tTime(s)"]
        for guest in self.guests.values():
            memory = max(guest.memory, guest.needs)
            numbers = f"{guest.number:5} {memory:5} {guest.vcpus:5}"
            lines.append(f"{guest.name:40} {numbers}     {LETTERS[guest.state]}     {1.0}")
        return 0, "\n".join(lines) + "\n", ""

    def _xl_create(self, words: list[str]) -> tuple[int, str, str]:
        text = Path(words[0]).read_text()
        return self._build(text)

    def _build(self, text: str) -> tuple[int, str, str]:
        self.number += 1
        name = text.split('name = "')[1].split('"')[0]
        guest = Guest(name, self.number)
        for line in text.splitlines():
            if "target=" in line:
                fields = line.strip().strip('",')
                guest.disks[fields.split("vdev=")[1].split(",")[0]] = fields.split("target=")[1]
            elif "vifname=" in line:
                guest.nics[line.split("mac=")[1].split(",")[0]] = ""
        settings = dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line and line[0].isalpha())
        guest.memory, guest.maxmem = int(settings["memory"]), int(settings["maxmem"])
        guest.vcpus, guest.maxvcpus = int(settings["vcpus"]), int(settings["maxvcpus"])
        guest.weight = int(settings["cpu_weight"])
        self.guests[name] = guest
        self.on_create()
        return 0, "", "Parsing config from x\n"

    def _xl_block_list(self, words: list[str]) -> tuple[int, str, str]:
        lines = ["Vdev  BE  handle state evt-ch ring-ref BE-path"]
        for vdev, path in self.guests[words[0]].disks.items():
            dead = any(disk.role != "Primary" and path == self.device(disk.name) for disk in self.disks.values())
            dead = dead or "dead disk" in self.faults
            state = 6 if dead else 1 if "guest still boots" in self.faults else 4
            lines.append(f"{xl.vdev_number(vdev)} 0   3      {state}     8      8        /local/x")
        return 0, "\n".join(lines) + "\n", ""

    def _xl_shutdown(self, words: list[str]) -> tuple[int, str, str]:
        if self.boots_for > 0:
            self.boots_for -= 1
            return 1, "", "libxl: error: libxl_domain.c:850:pvcontrol_cb: guest didn't acknowledge control request\n"
        if "deaf guest" not in self.faults:
            self.guests.pop(words[-1])
        return 0, "", ""

    def _xl_destroy(self, words: list[str]) -> tuple[int, str, str]:
        if words[0] not in self.guests:
            return 1, "", f"{words[0]} is an invalid domain identifier (rc=-6)\n"
        self.guests.pop(words[0])
        return 0, "", ""

    def _xl_reboot(self, words: list[str]) -> tuple[int, str, str]:
        return 0, "", ""

    def _xl_unpause(self, words: list[str]) -> tuple[int, str, str]:
        guest = self.guests[words[0]]
        guest.pauses = max(0, guest.pauses - 1)
        guest.state = "paused" if guest.pauses else "blocked"
        return 0, "", ""

    _xl_resume = _xl_unpause

    def _xl_info(self, words: list[str]) -> tuple[int, str, str]:
        facts = {"free_memory": "100", "hw_caps": "078bf3fd:80002001", "xen_major": "4", "xen_minor": "20"}
        return 0, "".join(f"{key:<23}: {value}\n" for key, value in facts.items()), ""

    def _xl_mem_set(self, words: list[str]) -> tuple[int, str, str]:
        self.guests[words[0]].memory = int(words[1].rstrip("m"))
        return 0, "", ""

    def _xl_vcpu_set(self, words: list[str]) -> tuple[int, str, str]:
        if "vcpu-set does nothing" not in self.faults:
            self.guests[words[1]].vcpus = int(words[2])
        return 0, "", ""

    def _xl_sched_credit2(self, words: list[str]) -> tuple[int, str, str]:
        self.guests[words[1]].weight = int(words[3])
        return 0, "", ""

    def _xl_cd_insert(self, words: list[str]) -> tuple[int, str, str]:
        self.guests[words[0]].disks[words[1]] = words[2]
        return 0, "", ""

    def _xl_cd_eject(self, words: list[str]) -> tuple[int, str, str]:
        self.guests[words[0]].disks[words[1]] = ""
        return 0, "", ""

    def _xl_network_list(self, words: list[str]) -> tuple[int, str, str]:
        state = 1 if "guest still boots" in self.faults else 4
        lines = ["Idx BE Mac Addr.         handle state evt-ch   tx-/rx-ring-ref BE-path"]
        lines += [f"{number}   0  {mac} {number}     {state}     -1   267/268         /local/x"
                  for number, mac in enumerate(self.guests[words[0]].nics)]
        return 0, "\n".join(lines) + "\n", ""

    def _xl_network_attach(self, words: list[str]) -> tuple[int, str, str]:
        self.guests[words[0]].nics[words[1].removeprefix("mac=")] = ""
        if "vif script" in self.faults:
            return 1, "", "libxl: error: libxl_device.c:1351:f: script: Could not find bridge device nobr\n"
        return 0, "", ""

    def _xl_network_detach(self, words: list[str]) -> tuple[int, str, str]:
        nics = self.guests[words[0]].nics
        nics.pop(list(nics)[int(words[1])])
        return 0, "", ""

    def _xl_rename(self, words: list[str]) -> tuple[int, str, str]:
        guest = self.guests.pop(words[0])
        guest.name = words[1]
        self.guests[words[1]] = guest
        return 0, "", ""

    def _xl_save(self, words: list[str]) -> tuple[int, str, str]:
        Path(words[1]).write_text("memory of " + words[0])
        self.guests.pop(words[0])
        return 0, "", ""

    def _xl_restore(self, words: list[str]) -> tuple[int, str, str]:
        assert Path(words[1]).read_text().startswith("memory of")
        return self._build(Path(words[0]).read_text())

    def _xl_migrate(self, words: list[str]) -> tuple[int, str, str]:
        assert words[:2] == ["-s", ""] and self.remote is not None
        shlex.split(words[3])
        guest = self.guests.pop(words[2])
        if "receiver fails" in self.faults:
            self.guests[guest.name] = guest
            self.remote.guests[guest.name + "--incoming"] = Guest(guest.name + "--incoming", 5, "paused")
            return 1, "", "Migration failed, resuming at sender.\n"
        self.remote.guests[guest.name] = guest
        if "source stays paused" in self.faults:
            away = Guest(guest.name + "--migratedaway", guest.number, "paused")
            self.guests[away.name] = away
            return 1, "", "** Migration failed during final handshake **\n"
        return 0, "", "Migration successful.\n"

    def _xl_block_attach(self, words: list[str]) -> tuple[int, str, str]:
        spec = words[1]
        self.guests[words[0]].disks[spec.split("vdev=")[1].split(",")[0]] = spec.split("target=")[1]
        return 0, "", ""

    def _xl_block_detach(self, words: list[str]) -> tuple[int, str, str]:
        force = "--force" in words
        name, vdev = [word for word in words if word != "--force"]
        guest = self.guests[name]
        if not force and (vdev in guest.held or "guest still boots" in self.faults):
            return 1, "", "libxl: error: libxl_device.c:1194:f: Domain 2:unable to remove device with path /x - rc -9\n"
        guest.disks.pop(vdev)
        return 0, "", ""

    # The actions.

    def act(self, monkeypatch, action: str, *argv: str, stdin: str) -> Optional[str]:
        """Run an action as the driver's frame does."""
        module = load_action("vmm", action)
        values = match_arguments(module.ARGUMENTS, argv)
        stream = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        monkeypatch.setattr(sys, "stdin", stream)
        return module.run(Call("", "vmm", action, values, self.config, self.log, self, 1000.0))
