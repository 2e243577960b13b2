"""A lab with the suite installed and the stand-in for oned in front: where demo, lab tests and benchmarks play."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from dnclab import Lab
from dnclab.cache import locked
from dnclab.counter import Counter, longest_pause, read_counter
from oned import Datastore, Image, Oned, VirtualMachine, lab_farm
from oned.calls import Progress

CHECKOUT = Path(__file__).resolve().parent.parent
# Both backends of each host, by the name that tests and demo give them.
POOLS = {"zfs": "zfs:tank/dnc", "thin": "lvm:vg0/pool"}
GUEST = "/var/lib/dnc-lab/guest"
BASE_OF_POOL = {"zfs": "/dev/zvol/tank/dnc", "thin": "/dev/vg0"}


class Stage:
    """`with Stage("name") as stage:` gives a lab fresh from its saved state, with one image datastore a backend."""

    def __init__(self, name: str, *, quiet: bool = False, progress: Progress | None = None, hosts: int = 2) -> None:
        self.lab = Lab(name, quiet=quiet)
        self._held = contextlib.ExitStack()
        self._hosts = hosts
        self._progress = progress
        self.cloud: Oned = None  # type: ignore[assignment]  # set by start()
        self.datastores: dict[str, Datastore] = {}

    def start(self) -> None:
        """Lab up at its saved state; suite installed on the frontend as a user would, then copied to the hosts.

        A lab has one stage at a time: who comes second, from another checkout perhaps, waits and is told for whom.
        """
        self._held.enter_context(locked(f"stage-{self.lab.name}", f"a play on lab {self.lab.name}", wait=True))
        if self.lab.running():
            self.lab.reset()
        else:
            self.lab.up(hosts=self._hosts)
        location = self.lab.directory / "frontend"
        shutil.rmtree(location, ignore_errors=True)
        location.mkdir(mode=0o755)
        farm = lab_farm(self.lab.directory, self.lab.hosts, location)
        self.cloud = Oned(location, farm, progress=self._progress)
        self.cloud.start()
        self.cloud.install(CHECKOUT)
        self.configure()
        self.cloud.create_datastore("system", type="SYSTEM")
        for backend, pool in POOLS.items():
            bridges = " ".join(self.lab.hosts[:2])
            attributes = {"DNC_POOL": pool, "BRIDGE_LIST": bridges, "SAFE_DIRS": str(self.lab.artifacts)}
            self.datastores[backend] = self.cloud.create_datastore(backend, type="IMAGE", template=attributes)
        self.cloud.create_network("guests", bridge="br0")

    def configure(self, **settings: str) -> None:
        """Write the frontend's dncrc and copy the remotes to the hosts, as `onehost sync` does."""
        values = {"HOSTS": " ".join(self.lab.hosts), "REPLICATION_NETWORK": "10.99.0.0/24", "CONNECT_TIMEOUT": "120",
                  **settings}
        text = "".join(f'{key}="{value}"\n' for key, value in values.items())
        (self.cloud.remotes / "dncrc").write_text(text)
        self.cloud.sync_hosts()

    def stop(self, *, down: bool = True) -> None:
        """Stop the stand-in, and the lab with it."""
        if self.cloud is not None:
            self.cloud.stop()
        if down:
            self.lab.down()
        self._held.close()

    def __enter__(self) -> Stage:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- user operations that demo and tests repeat

    def import_guest(self, backend: str, name: str, *, persistent: bool = False, file: str = "guest.qcow2") -> Image:
        """The guest's image, imported into a backend's datastore; the operation that did it is checked."""
        image = self.cloud.create_image(
            name, str(self.lab.artifacts / file), self.datastores[backend], persistent=persistent,
        )
        self.cloud.operations[-1].checked()
        return image

    def template(self, image: Image, **more: object) -> dict[str, object]:
        """A VM template that boots the guest's kernel as PVH."""
        return {
            "CPU": "0.5", "VCPU": "1", "MEMORY": "160", "DISK": {"IMAGE": image.name}, "NIC": {"NETWORK": "guests"},
            "OS": {"KERNEL": f"{GUEST}/guest-vmlinuz", "INITRD": f"{GUEST}/guest-initrd",
                   "KERNEL_CMD": "console=hvc0 quiet mitigations=off"},
            "CONTEXT": {"NETWORK": "YES"},
            **more,
        }

    def instantiate(self, image: Image, host: str, **more: object) -> VirtualMachine:
        """A VM of that image running on a host."""
        vm = self.cloud.instantiate(self.template(image, **more), host=host)
        self.cloud.operations[-1].checked()
        return vm

    # ---- looking

    def domain_hosts(self, vm: VirtualMachine) -> list[str]:
        """Hosts on which a domain of that VM exists under any name."""
        found = []
        for host in self.lab.running():
            listing = self.lab.root(host, ["xl", "list"]).stdout
            found += [host for line in listing.splitlines() if re.match(rf"one-{vm.id}(?:\s|--)", line)]
        return found

    def last_tick(self, vm: VirtualMachine) -> int:
        """The last tick that the guest printed; 0 before the first."""
        text = self.lab.console_tail(f"one-{vm.id}", 200)
        ticks = [int(number) for number in re.findall(r"\btick (\d+)", text)]
        return ticks[-1] if ticks else 0

    def wait_for_tick(self, vm: VirtualMachine, beyond: int, seconds: float = 300) -> int:
        """Wait until the guest has printed a tick larger than `beyond`; RuntimeError after `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            tick = self.last_tick(vm)
            if tick > beyond:
                return tick
            time.sleep(0.5)
        raise RuntimeError(f"guest one-{vm.id} did not write beyond tick {beyond} within {seconds:.0f} s")

    def status(self, host: str, resource: str) -> str:
        """DRBD's own words about a resource on a host."""
        return self.lab.root(host, ["drbdadm", "status", resource], check=False).stdout

    def proc_drbd(self, host: str, resource: str) -> dict[str, str]:
        """The kernel's line of a resource: cs, ro, ds, oos, ns, nr and so on; empty while it is down."""
        minor = self.lab.root(host, ["drbdadm", "sh-minor", resource], check=False).stdout.strip()
        text = self.lab.root(host, ["cat", "/proc/drbd"]).stdout
        match = re.search(rf"^ *{minor}: (.*?)(?=^ *\d+: cs|\Z)", text, re.MULTILINE | re.DOTALL) if minor else None
        return dict(re.findall(r"\b([a-z]+):(\S+)", match.group(1))) if match else {}

    def wait_until_synced(self, host: str, resource: str, seconds: float = 180) -> dict[str, str]:
        """Wait until a resource is connected and UpToDate on both sides; the kernel's line. RuntimeError when late."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            seen = self.proc_drbd(host, resource)
            if (seen.get("cs"), seen.get("ds"), seen.get("oos")) == ("Connected", "UpToDate/UpToDate", "0"):
                return seen
            time.sleep(0.5)
        raise RuntimeError(f"{resource} was not in sync within {seconds:.0f} s: {self.status(host, resource)}")

    def volume(self, backend: str, resource: str) -> str:
        """Path of a resource's volume on any host."""
        return f"{BASE_OF_POOL[backend]}/{resource}"

    def digests(self, backend: str, resource: str, size: int) -> dict[str, str]:
        """sha256 of the first `size` bytes of the volume on each running host that has it."""
        path = self.volume(backend, resource)
        found = {}
        for host in self.lab.running():
            script = 'test -e "$1" && head -c "$2" "$1" | sha256sum'
            # Read past the page cache of the volume: DRBD writes below it.
            self.lab.root(host, ["sh", "-c", 'test ! -e "$1" || blockdev --flushbufs "$1"', "sh", path])
            done = self.lab.root(host, ["sh", "-c", script, "sh", path, str(size)], check=False, timeout=300)
            if done.returncode == 0:
                found[host] = done.stdout.split()[0]
        return found

    def counter(self, backend: str, resource: str, host: str) -> Counter:
        """What the guest's counter holds on a host's replica: last tick, holes, torn records."""
        return read_counter(self._start_of(backend, resource, host))

    def longest_pause(self, backend: str, resource: str, host: str, since: int) -> int:
        """Milliseconds that the guest missed at most between two ticks after tick `since`."""
        return longest_pause(self._start_of(backend, resource, host), since)

    def _start_of(self, backend: str, resource: str, host: str) -> io.BytesIO:
        """The first 64 MiB of a replica."""
        script = 'blockdev --flushbufs "$1"; head -c 67108864 "$1" | gzip -1 | base64'
        text = self.lab.root(host, ["sh", "-c", script, "sh", self.volume(backend, resource)], timeout=300).stdout
        return io.BytesIO(gzip.decompress(base64.b64decode(text)))

    def leftovers(self) -> list[str]:
        """Everything of VMs and images that is left on running hosts: volumes, resources, minors, domains, links."""
        checks: Sequence[tuple[str, list[str]]] = (
            ("volume", ["lvs", "--noheadings", "-o", "lv_name", "vg0"]),
            ("dataset", ["zfs", "list", "-H", "-o", "name", "-t", "all", "-r", "tank/dnc"]),
            ("file", ["find", "/etc/drbd.d", "/var/lib/dnc/minors", "/var/lib/dnc/intents", "/var/lib/dnc/unfinished",
                      "/var/lib/dnc/growing", "/var/lib/dnc/imports", "/var/lib/dnc/single", "/var/lib/dnc/copies",
                      "/var/lib/dnc/strays",
                      "-name", "[0-9o]*", "-type", "f"]),
            ("domain", ["sh", "-c", "xl list | tail -n +3"]),
            ("vm directory", ["sh", "-c", "find /var/lib/one/datastores -mindepth 2"]),
            ("kernel", ["sh", "-c", "grep -E '^ *[0-9]+: cs:' /proc/drbd | grep -v Unconfigured || true"]),
        )
        left = []
        for host in self.lab.running():
            for what, argv in checks:
                for line in self.lab.root(host, argv, check=False).stdout.splitlines():
                    if line.strip() and line.strip() not in ("pool", "tank/dnc"):
                        left.append(f"{host}: {what} {line.strip()}")
        return left
