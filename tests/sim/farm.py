"""SimFarm: what tests hold in their hands."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from sim import anchor, blocks, checks, drbd_link, power, world
from sim import drbd_kernel as kernel
from sim.faults import Faults
from sim.namespace import CLIENT, GLOBAL_CONF, write_program

ONEADMIN = 9869
GIB = 1 << 30
# Notes that stay by design: who gave up what and when, and the last known fill of a pool.
KEPT = ("/var/lib/dnc/given-up/", "/var/lib/dnc/fill-", "/var/lib/dnc/locks/", "/var/lib/dnc/monitoring/")
EMPTIED = ("/etc/drbd.d", "/var/lib/dnc", "/var/lib/drbd", "/var/lib/one", "/tmp", "/root", "/var/log/xen")
INFRASTRUCTURE = {"zfs": {"tank", "tank/dnc"}, "lvm": {"pool"}}


class Done(NamedTuple):
    """How a command on a host ended."""

    status: int
    stdout: str
    stderr: str


class Adapter(NamedTuple):
    """What the stand-in for oned needs of a farm (lab/oned/farm.py)."""

    hosts: tuple[str, ...]
    ssh_directory: Path
    user: str | None = None
    private_key: Path | None = None
    environment: dict[str, str] = {}


class SimFarm(Faults):
    """Simulated hosts; see README.md. Needs root. directory: for the ssh wrapper, made if absent."""

    def __init__(
        self, directory: str | os.PathLike[str], hosts: Sequence[str] = ("node1", "node2", "node3"), *,
        pool_bytes: int = 64 * GIB,
        user: str = "oneadmin", drbd: str = "8.4",
    ) -> None:  # fmt: skip
        self.hosts = tuple(hosts)
        self.directory = os.fspath(directory)
        self.user, self.pool_bytes, self.drbd = user, pool_bytes, drbd
        self._process: subprocess.Popen[str] | None = None
        self._ticking = threading.Event()
        self._pids: dict[str, Any] = {}
        self.base = self.live = self.sockets = ""

    def __enter__(self) -> SimFarm:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # life

    def start(self) -> None:
        """Make the hosts. Raises RuntimeError with the reason when the machine does not allow it."""
        if os.geteuid() != 0:
            raise RuntimeError("the simulated farm needs root: namespaces and overlays are mounted")
        self.base = tempfile.mkdtemp(prefix="dncsim-")
        os.chmod(self.base, 0o755)
        live, self.sockets = f"{self.base}/live", f"{self.base}/sock"
        os.mkdir(live)
        os.mkdir(self.sockets)
        os.chmod(self.sockets, 0o777)
        uid = ONEADMIN if self.user == "oneadmin" else 0
        spec = {
            "live": live, "sockets": self.sockets, "code": os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
            "hosts": [
                {"name": name, "number": number, "uid": uid, "gid": uid, "packages": _packages()}
                for number, name in enumerate(self.hosts, 1)
            ],
        }  # fmt: skip
        self._process = subprocess.Popen(
            ["/usr/bin/python3", "-IS", os.path.abspath(anchor.__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(spec))
        self._process.stdin.close()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the simulated farm did not start: its error is above")
        self._pids = json.loads(line)
        self.live = f"/proc/{self._pids['base']}/root{live}"
        world.create(self.live, self.hosts, self.pool_bytes, self.drbd)
        names = {name: name for name in self.hosts}
        names.update({f"10.99.0.{number}": name for number, name in enumerate(self.hosts, 1)})
        with open(f"{self.sockets}/hosts.json", "w") as file:
            json.dump(names, file)
        for tool in ("ssh", "scp"):
            write_program(
                f"{self.directory}/bin/{tool}", CLIENT.format(tool=tool, code=spec["code"], sockets=self.sockets)
            )
        with self._world().open():
            drbd_link.settle(self._opened)

    def stop(self) -> None:
        """End every process of the farm and forget it."""
        if self._process is None:
            return
        self._ticking.clear()
        for pid in self._pids.get("hosts", {}).values():
            for found in power.processes(pid):
                _kill(found)
        self._process.kill()
        self._process.wait()
        self._process = None
        shutil.rmtree(self.base, ignore_errors=True)

    def reset(self) -> None:
        """Back to empty hosts, as after start; what was copied to /var/tmp/one stays."""
        self.resync_ticks(0)
        for pid in self._pids["hosts"].values():
            for found in power.processes(pid):
                _kill(found)
        for host in self.hosts:
            for tool in os.listdir(f"/proc/{self._pids['hosts'][host]}/root/usr/sbin"):
                if tool.endswith(".removed"):
                    self.restore_tool(host, tool[: -len(".removed")])
            self._empty(f"{self.live}/hosts/{host}")
            Path(self.path(host, "/etc/drbd.d/global_common.conf")).write_text(GLOBAL_CONF)
        os.truncate(f"{self.live}/commands.jsonl", 0)
        world.create(self.live, self.hosts, self.pool_bytes, self.drbd)
        with self._world().open():
            drbd_link.settle(self._opened)

    @staticmethod
    def _empty(home: str) -> None:
        links = [f"dev/{name}" for name in os.listdir(f"{home}/dev") if name.startswith("drbd") and name != "drbd"]
        for place in ("dev/zvol", "dev/vg0", "dev/mapper", "dev/drbd/by-res", "sysblock", "volumes",
            *(f"files{path}" for path in EMPTIED)):
            links += [f"{place}/{name}" for name in os.listdir(f"{home}/{place}") if name not in ("global_common.conf",
                "datastores")]
        datastores = "files/var/lib/one/datastores"
        links += [f"{datastores}/{name}" for name in os.listdir(f"{home}/{datastores}")]
        for name in (*links, "off", "refuse"):
            path = f"{home}/{name}"
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            elif os.path.lexists(path):
                os.unlink(path)

    @property
    def adapter(self) -> Adapter:
        """For the stand-in for oned."""
        return Adapter(self.hosts, Path(self.directory, "bin"))

    # doing things on hosts

    def ssh(self, host: str, argv: Sequence[str] | str, *, stdin: bytes = b"", user: str = "") -> Done:
        """Run a command on a host through its ssh; a list is quoted as words, a text is a shell line."""
        line = argv if isinstance(argv, str) else " ".join(shlex.quote(word) for word in argv)
        words = [f"{self.directory}/bin/ssh", *(["-l", user] if user else []), host, line]
        done = subprocess.run(words, input=stdin, capture_output=True, check=False, timeout=120)
        return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def run(self, host: str, argv: Sequence[str]) -> Done:
        """Run a tool on a host as root."""
        return self.ssh(host, argv, user="root")

    def path(self, host: str, path: str) -> str:
        """A host's own file as the test can open it: below /etc/drbd.d, /var/lib/one, /tmp, /dev and such."""
        return world.World(self.live).path(path, host)

    # looking

    @property
    def commands(self) -> list[dict[str, Any]]:
        """Every fake command that ran: host, argv, status, err, started, seconds, privileged."""
        with open(f"{self.live}/commands.jsonl") as file:
            return [json.loads(line) for line in file]

    def clear_commands(self) -> None:
        os.truncate(f"{self.live}/commands.jsonl", 0)

    @property
    def state(self) -> dict[str, Any]:
        """A copy of the whole state, for looking only."""
        with self._world().open() as found:
            return json.loads(json.dumps(found))

    def kernel(self, host: str, resource: str) -> dict[str, Any] | None:
        """The kernel's view of a resource: role, disk, conn, oos, … or None when it is down."""
        return self.state["hosts"][host]["drbd"]["resources"].get(resource)

    def domains(self, host: str) -> dict[str, Any]:
        """Domains of a host by name."""
        return {found["name"]: found for found in self.state["hosts"][host]["xen"]["domains"].values()}

    def violations(self) -> list[str]:
        """Broken rules so far, and data that differs although DRBD calls it equal."""
        with self._world().open() as found:
            drbd_link.settle(self._opened)
            checks.check(self._opened)
            return [*found["violations"], *checks.check_data(self._opened)]

    def volume_path(self, host: str, resource: str) -> str:
        """The file behind a volume, whichever pool it is in. Raises FileNotFoundError."""
        for place in ("zfs/tank/dnc", "zfs/tank", "lvm/vg0"):
            path = f"{self.live}/hosts/{host}/volumes/{place}/{resource}"
            if os.path.exists(path):
                return path
        raise FileNotFoundError(f"{resource} has no volume on {host}")

    def volume_data(self, host: str, resource: str, size: int = -1) -> bytes:
        """Bytes of a volume, metadata at its end included unless `size` stops before it."""
        with self._world().open():
            drbd_link.settle(self._opened)
        with open(self.volume_path(host, resource), "rb") as file:
            return file.read(size)

    def digest(self, host: str, resource: str, size: int) -> str:
        """sha256 of a volume's first `size` bytes."""
        with self._world().open():
            drbd_link.settle(self._opened)
        return blocks.digest(self.volume_path(host, resource), size)

    def leftovers(self) -> list[str]:
        """What is on the hosts beyond the infrastructure: volumes, resources, domains, files, links."""
        found = []
        with self._world().open() as state:
            for host in self.hosts:
                here = state["hosts"][host]
                names = [f"zfs {name}" for name in here["zfs"]["datasets"] if name not in INFRASTRUCTURE["zfs"]]
                names += [
                    f"lvm vg0/{name}" for name in here["lvm"]["vg0"]["volumes"] if name not in INFRASTRUCTURE["lvm"]
                ]
                names += [f"drbd {name}" for name in kernel.resources(self._opened, host)]
                names += [f"domain {domain['name']}" for domain in here["xen"]["domains"].values()]
                found += [f"{host}: {name}" for name in names]
        return found + [f"{host}: {name}" for host in self.hosts for name in self._files(host)]

    def _files(self, host: str) -> list[str]:
        names = []
        for directory in ("/etc/drbd.d", "/var/lib/dnc", "/var/lib/one/datastores"):
            top = self.path(host, directory)
            for place, _below, files in os.walk(top):
                links = [name for name in os.listdir(place) if os.path.islink(f"{place}/{name}")]
                for name in sorted({*files, *links}):
                    shown = f"{directory}{place[len(top) :]}/{name}"
                    if not shown.endswith(("global_common.conf", ".lock")) and not shown.startswith(KEPT):
                        names.append(f"file {shown}")
        return names


def _packages() -> dict[str, str]:
    """Python packages that hosts need and this machine's own Python lacks: taken from the interpreter of the tests."""
    if os.path.isdir("/usr/lib/python3/dist-packages/lxml"):
        return {}
    found = importlib.util.find_spec("lxml")
    return {"lxml": os.path.dirname(found.origin)} if found and found.origin else {}


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return
