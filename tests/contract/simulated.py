"""The simulated farm with the suite installed and the stand-in for oned in front: the sim's twin of lab/stage.py."""

from __future__ import annotations

import os
import random
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oned import Datastore, Image, Oned, SshFarm, VirtualMachine
from sim.farm import Done, SimFarm

CHECKOUT = Path(__file__).resolve().parents[2]
POOLS = {"zfs": "zfs:tank/dnc", "thin": "lvm:vg0/pool"}
KERNEL = "/tmp/guest-kernel"
MIB = 1 << 20


class SimStage:
    """`with SimStage(directory) as stage:` gives hosts with one image datastore a backend."""

    def __init__(self, directory: Path, hosts: tuple[str, ...] = ("node1", "node2"), drbd: str = "8.4") -> None:
        self.directory = directory
        self.hosts = hosts
        self.drbd = drbd
        self.farm = SimFarm(directory / "sim", hosts, drbd=drbd)
        self.images = directory / "images"
        self.cloud: Oned = None  # type: ignore[assignment]  # set by start()
        self.datastores: dict[str, Datastore] = {}
        self._names = 0

    def start(self) -> None:
        """Hosts up, suite installed as a user would, then copied to the hosts as OpenNebula does."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o755)
        self.images.mkdir(exist_ok=True)
        self.farm.start()
        location = self.directory / "one"
        location.mkdir(exist_ok=True)
        self.cloud = Oned(location, SshFarm(self.hosts, self.directory / "sim" / "bin", user=None))
        self.cloud.start()
        self.cloud.environment["TMPDIR"] = str(self.directory)
        self.cloud.install(CHECKOUT)
        self.configure()
        for host in self.hosts:
            Path(self.farm.path(host, KERNEL)).write_text("kernel\n")
        self.cloud.create_datastore("system", type="SYSTEM")
        for backend, pool in POOLS.items():
            attributes = {"DNC_POOL": pool, "BRIDGE_LIST": " ".join(self.hosts[:2]), "SAFE_DIRS": str(self.images)}
            self.datastores[backend] = self.cloud.create_datastore(backend, type="IMAGE", template=attributes)
        self.cloud.create_network("guests", bridge="br0")

    def configure(self, **settings: str) -> None:
        """Write the frontend's dncrc and copy the remotes to the hosts."""
        values = {"HOSTS": " ".join(self.hosts), "REPLICATION_NETWORK": "10.99.0.0/24", "CONNECT_TIMEOUT": "20",
                  "SYNC_TIMEOUT": "20", "LOCK_TIMEOUT": "20", "SHUTDOWN_TIMEOUT": "20", "PVH_LOADER": "", **settings}
        text = "".join(f'{key}="{value}"\n' for key, value in values.items())
        (self.cloud.remotes / "dncrc").write_text(text)
        self.cloud.sync_hosts()

    def stop(self) -> None:
        """End everything."""
        if self.cloud is not None:
            self.cloud.stop()
        self.farm.stop()

    def __enter__(self) -> SimStage:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- user operations that tests repeat

    def holders(self, name: str) -> set[str]:
        """Hosts that have a volume of that name."""
        found = set()
        for host in self.hosts:
            try:
                self.farm.volume_data(host, name, 1)
                found.add(host)
            except FileNotFoundError:
                continue
        return found

    def new_name(self, what: str) -> str:
        """A name that no image of this stage has."""
        self._names += 1
        return f"{what}-{self._names}"

    def raw_file(self, size: int = 2 * MIB, seed: int = 1) -> Path:
        """A sparse file with some data at its start, in its middle and at its end."""
        path = self.images / f"raw-{size}-{seed}"
        if not path.exists():
            data = random.Random(seed).randbytes(65536)
            with path.open("wb") as file:
                for place in (0, size // 2 // 4096 * 4096, size - len(data)):
                    file.seek(place)
                    file.write(data)
            os.chmod(path, 0o644)
        return path

    def import_image(
        self, backend: str, path: Path | str | None = None, *, persistent: bool = False, **more: Any
    ) -> Image:
        """An image of a backend's datastore, imported; RuntimeError with the user's text when that failed."""
        source, store = str(path or self.raw_file()), self.datastores[backend]
        image = self.cloud.create_image(self.new_name("image"), source, store, persistent=persistent, **more)
        self.cloud.operations[-1].checked()
        return image

    def template(self, *disks: Image | dict[str, Any], **more: Any) -> dict[str, Any]:
        """A VM template with these disks."""
        given = [{"IMAGE": disk.name} if isinstance(disk, Image) else disk for disk in disks]
        whole = {"CPU": 1, "MEMORY": 64, "DISK": given, "NIC": {"NETWORK": "guests"},
                 "OS": {"KERNEL": KERNEL, "KERNEL_CMD": "console=hvc0"}, "CONTEXT": {"NETWORK": "YES"}, **more}
        return {name: value for name, value in whole.items() if value is not None}

    def instantiate(self, *disks: Image | dict[str, Any], host: str = "node1", **more: Any) -> VirtualMachine:
        """A VM running on a host."""
        vm = self.cloud.instantiate(self.template(*disks, **more), host=host)
        self.cloud.operations[-1].checked()
        return vm

    def tidy(self) -> None:
        """Remove the images that no VM uses any more: what is on the hosts after that is a left-over."""
        for image in list(self.cloud.images.values()):
            if not image.vm_ids:
                self.cloud.delete_image(image).checked()

    def bare(self, *disks: Image | dict[str, Any], host: str = "node1") -> VirtualMachine:
        """A running VM without context and network: the fewest calls an operation can make."""
        return self.instantiate(*disks, host=host, CONTEXT=None, NIC=None)

    def run(self, family: str, action: str, *argv: str, stdin: bytes = b"", **environment: str) -> Done:
        """An executable of the frontend with any argv and stdin, as a driver runs it."""
        path = self.cloud.remotes / family / "dnc" / action
        done = subprocess.run([str(path), *argv], input=stdin, capture_output=True, check=False, timeout=60,
                              env={**self.cloud.environment, **environment}, cwd=self.cloud.environment["PWD"])
        return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def line(self, text: str) -> Done:
        """One line of a transfer file, run as one_tm does."""
        done = self.cloud.transfer.run_line(text)
        return Done(done.rc, done.stdout, done.stderr)

    def migration(self, vm: VirtualMachine, action: str, source: str, target: str) -> Done:
        """premigrate, postmigrate or failmigrate, with the VM's document on stdin as OpenNebula gives it."""
        line = self.cloud.lines(vm).migrate(source, target)
        done = self.cloud.transfer.run_line(line, vm.xml(), "base64", action)
        return Done(done.rc, done.stdout, done.stderr)

    def await_delayed(self, host: str, pattern: str, seconds: float = 60.0) -> None:
        """Wait until a command of that text has met its delay on a host. Raises TimeoutError."""
        self._await(lambda: not any(one["pattern"] == pattern for one in self.farm.state["hosts"][host]["inject"]),
                    f"no {pattern or 'command'} came on {host}", seconds)

    def await_sync(self, resource: str, seconds: float = 60.0) -> None:
        """Wait until both kernels have it UpToDate and nothing is out of sync. Raises TimeoutError."""
        def synced(host: str) -> bool:
            found = self.farm.kernel(host, resource) or {}
            return (found.get("disk"), found.get("oos")) == ("UpToDate", [])

        self._await(lambda: all(map(synced, self.hosts)), f"{resource} is not in sync", seconds)

    @staticmethod
    def _await(happened: Callable[[], bool], complaint: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > end:
                raise TimeoutError(f"{complaint} within {seconds:g} s")
            time.sleep(0.02)

    # ---- looking

    def domain_hosts(self, vm: VirtualMachine) -> list[str]:
        """Hosts on which a domain of that VM exists under any name."""
        name = f"one-{vm.id}"
        return [host for host in self.hosts
                if any(one == name or one.startswith(f"{name}--") for one in self.farm.domains(host))]

    def roles(self, resource: str) -> dict[str, str]:
        """Role of a resource on each host where the kernel has it."""
        found = {host: self.farm.kernel(host, resource) for host in self.hosts}
        return {host: one["role"] for host, one in found.items() if one}

    def replicas_equal(self, resource: str, size: int) -> bool:
        """Whether all members' volumes hold the same first `size` bytes; False if there are fewer than two."""
        digests = []
        for host in self.hosts:
            try:
                digests.append(self.farm.digest(host, resource, size))
            except FileNotFoundError:
                continue
        return len(digests) > 1 and len(set(digests)) == 1

    def leftovers(self) -> list[str]:
        """What is on the hosts beyond the infrastructure."""
        return self.farm.leftovers()

    def remains(self, *images: Image) -> list[str]:
        """What is on the hosts beyond the infrastructure and these images."""
        names = [image.source for image in images]
        own = [re.compile(rf"(zfs tank/dnc/|lvm vg0/|/){name}(\.\w+)?(@.*)?$") for name in names]
        return [line for line in self.leftovers()
                if not any(one.search(line) for one in own) and self._minor_of(line) not in names]

    def _minor_of(self, line: str) -> str:
        """The resource that a minor's reservation among the left-overs is for."""
        host, _, path = line.partition(": file ")
        return Path(self.farm.path(host, path)).read_text().strip() if "/minors/" in path else ""

    def resyncs_of(self, resource: str) -> list[dict[str, Any]]:
        """Every resync that DRBD began for a resource."""
        return [one for one in self.farm.resyncs if one["resource"] == resource]

    def two_primaries_allowed(self) -> list[str]:
        """Resources that could still become Primary twice, as "host: resource"."""
        hosts = self.farm.state["hosts"]
        return [f"{host}: {name}" for host in self.hosts for name, one in hosts[host]["drbd"]["resources"].items()
                if one["net"].get("allow-two-primaries") == "yes"]

    def violations(self) -> list[str]:
        """Broken rules of safety so far."""
        return self.farm.violations()
