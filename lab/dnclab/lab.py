"""A lab: two or three real Xen hosts in QEMU, their saved state, power and links."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from . import access, golden, qemu, state, switch
from .build import build, side_by_side
from .cache import LAB_SOURCE, REPOSITORY, cache_dir, locked, remove_tree
from .errors import LabError
from .progress import Steps
from .rootfs import MAX_HOSTS

BOOT_SECONDS = 400.0
RESUME_SECONDS = 120.0
PREPARE_SECONDS = 300.0
MEMORY_PER_HOST_MIB = qemu.MEMORY_MIB + 512
MAKE_POOLS = LAB_SOURCE / "host/make-pools"


class Lab:
    """One lab by name. Every method raises LabError with one line that says what to do next."""

    def __init__(self, name: str = "default", *, quiet: bool = False) -> None:
        self.name = name
        self.directory = state.lab_dir(name)
        self.quiet = quiet

    # ---- what there is

    @property
    def state(self) -> state.State:
        found = state.load(self.directory)
        if found is None:
            raise LabError(f"lab {self.name} was never up", f"run `lab/lab up --name {self.name}`")
        return found

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of the hosts, node1 first."""
        return tuple(f"node{number}" for number in range(1, self.state.hosts + 1))

    @property
    def artifacts(self) -> Path:
        """Artifacts that this lab's hosts were started from."""
        return cache_dir() / "build" / self.state.build

    @property
    def ssh_config(self) -> Path:
        """ssh configuration of the frontend (user oneadmin on the hosts)."""
        return self.directory / "ssh_config"

    @property
    def root_config(self) -> Path:
        """ssh configuration of the equipment (user root on the hosts)."""
        return self.directory / "ssh_config.root"

    @property
    def guest_image(self) -> Path:
        """The guest's raw disk image; guest.qcow2, guest-vmlinuz and guest-initrd are beside it."""
        return self.artifacts / "guest.raw"

    def running(self) -> dict[str, int]:
        """Hosts whose QEMU runs, with its process id."""
        if state.load(self.directory) is None:
            return {}
        pids = {host: qemu.pid_of(self.directory / host) for host in self.hosts}
        return {host: pid for host, pid in pids.items() if pid is not None}

    # ---- up and down

    def up(self, *, hosts: int | None = None, cold: bool = False) -> None:
        """Bring the lab to its saved state (made at the first call), or boot it from empty disks with `cold`.

        A lab that runs already is left as it is; hosts of it that have no power are switched on.
        """
        if not 2 <= (hosts or 2) <= MAX_HOSTS:
            raise LabError(f"a lab has 2 or {MAX_HOSTS} hosts, not {hosts}", "use --hosts 2 or --hosts 3")
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        with locked(f"lab-{self.name}", f"work on lab {self.name}", wait=True):
            running = self.running()
            if running and not cold and hosts in (None, self.state.hosts):
                for host in self.hosts:
                    if host not in running:
                        self._boot_from_disk(host)
                return
            if running:
                self._stop()
            artifacts = build(quiet=self.quiet)
            before = state.load(self.directory)
            self._start(artifacts, hosts or (before.hosts if before else 2), cold)

    def reset(self) -> None:
        """Return to the saved state of the lab's own build: every change since, power and links included, is undone."""
        with locked(f"lab-{self.name}", f"work on lab {self.name}", wait=True):
            hosts, artifacts = self.state.hosts, self.artifacts
            self._stop()
            if not (artifacts / "complete").exists():
                artifacts = build(quiet=self.quiet)
            self._start(artifacts, hosts, cold=False)

    def down(self) -> None:
        """Stop everything that runs for this lab. The next `up` starts from the saved state."""
        if state.load(self.directory) is not None:
            with locked(f"lab-{self.name}", f"work on lab {self.name}", wait=True):
                self._stop()

    def destroy(self) -> None:
        """Stop the lab and remove all that it has on disk (the build and the saved state stay)."""
        for path in sorted(self.directory.glob("node*")) if self.directory.exists() else []:
            qemu.kill(path)
        switch.stop(self.directory)
        remove_tree(self.directory)
        (cache_dir() / f"lab-{self.name}.lock").unlink(missing_ok=True)

    # ---- power and links

    def power_off(self, host: str) -> None:
        """Cut the power of a host: its QEMU is killed, its disks stay as they are."""
        self._known(host)
        access.close_ssh(self.root_config, host)
        qemu.kill(self.directory / host)

    def power_on(self, host: str) -> None:
        """Boot a host from its disks and wait until it is up; a host that runs is left alone."""
        self._known(host)
        if host not in self.running():
            self._boot_from_disk(host)

    def power_reset(self, host: str) -> None:
        """Power off, then on."""
        self.power_off(host)
        self.power_on(host)

    def cut_link(self, host: str | None = None) -> None:
        """Cut the network between the hosts (of one host, or of all): ssh from the machine still works."""
        self._set_link(host, up=False)

    def restore_link(self, host: str | None = None) -> None:
        """Mend what cut_link cut."""
        self._set_link(host, up=True)

    # ---- commands

    def root(
        self,
        host: str,
        argv: Sequence[str],
        *,
        check: bool = True,
        input: str | bytes | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root on a host (equipment only). `timeout` in seconds; `check`: a failure is a LabError."""
        return self._run(self.root_config, host, argv, check, input, timeout)

    def oneadmin(
        self,
        host: str,
        argv: Sequence[str],
        *,
        check: bool = True,
        input: str | bytes | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as oneadmin on a host, over the frontend's key."""
        return self._run(self.ssh_config, host, argv, check, input, timeout)

    def console_tail(self, name: str, lines: int = 50) -> str:
        """Last lines of a host's serial console (nodeN) or of a guest's console, wherever the guest is or was."""
        if name in self.hosts:
            text = (self.directory / name / "serial.log").read_text(errors="replace")
            return "\n".join(text.splitlines()[-lines:])
        # The newest log wins: a migrated guest goes on in guest-NAME--incoming.log of the other host.
        script = (
            'for f in /var/log/xen/console/guest-"$1".log /var/log/xen/console/guest-"$1"--incoming.log; do '
            '[ -f "$f" ] && stat -c "%Y %n" "$f"; done; true'
        )
        newest = (0, "", "")
        for host in self.running():
            for line in self.root(host, ["sh", "-c", script, "sh", name]).stdout.splitlines():
                when, path = line.split(" ", 1)
                newest = max(newest, (int(when), host, path))
        if not newest[1]:
            raise LabError(f"no host has a console log of guest {name}", "run `xl list` on the hosts")
        return self.root(newest[1], ["tail", "-n", str(lines), newest[2]]).stdout

    # ---- inside

    def _run(
        self, config: Path, host: str, argv: Sequence[str], check: bool, data: str | bytes | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        self._known(host)
        done = access.run_ssh(config, host, argv, data=data, timeout=timeout)
        if check and done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise LabError(f"{host}: {' '.join(argv)[:80]} ended with status {done.returncode}: {last}")
        return done

    def _known(self, host: str) -> None:
        if host not in self.hosts:
            raise LabError(f"lab {self.name} has no host {host!r}", "its hosts are " + ", ".join(self.hosts))

    def _plan(self, host: str) -> qemu.HostPlan:
        number, current = int(host.removeprefix("node")), self.state
        own = self.directory / host / "link.sock"
        if current.hosts == 2:
            peer = self.directory / f"node{3 - number}" / "link.sock"
        else:
            peer = switch.port_socket(self.directory, host)
        accelerator = (self.artifacts / "accelerator").read_text().strip()
        return qemu.HostPlan(
            number, self.directory / host, self.artifacts, current.ports[host], (own, peer), accelerator
        )

    def _start(self, artifacts: Path, hosts: int, cold: bool) -> None:
        check_memory(hosts)
        with Steps(self.quiet) as steps:
            old = state.load(self.directory)
            names = [f"node{number}" for number in range(1, hosts + 1)]
            ports = {name: access.free_port(old.ports.get(name) if old else None) for name in names}
            state.save(self.directory, state.State(artifacts.name, hosts, ports))
            access.write_ssh_configs(self.directory, self.artifacts, ports)
            saved = golden.path(self.artifacts, hosts)
            if cold or not golden.exists(saved):
                self._cold_boot(steps)
                if golden.exists(saved):
                    self._prepare(steps)
                    return
                with steps.step("save the golden state"):
                    golden.save(saved, [self._plan(host) for host in names], self.name)
                    self._forget_connections()
            with steps.step("resume from the golden state"):
                golden.restore(saved, [self._plan(host) for host in names])
                self._resume()
            self._prepare(steps)

    def _cold_boot(self, steps: Steps) -> None:
        with steps.step("boot the hosts"):
            self._clear_hosts()
            switch.ensure(self.directory, self.hosts)
            for host in self.hosts:
                qemu.create_disks(self._plan(host))
                qemu.start(self._plan(host), resume=False)
            self._on_each(lambda host: self._wait_until_up(host, 0))
        with steps.step("pools"):
            self._on_each(lambda host: self.root(host, ["sh"], input=MAKE_POOLS.read_text(), timeout=PREPARE_SECONDS))

    def _resume(self) -> None:
        switch.ensure(self.directory, self.hosts)
        for host in self.hosts:
            qemu.start(self._plan(host), resume=True)
        for host in self.hosts:
            with qemu.Monitor(self.directory / host) as monitor:
                monitor.execute("cont")
        self._on_each(lambda host: access.wait_for_ssh(self.root_config, host, RESUME_SECONDS))

    def _prepare(self, steps: Steps) -> None:
        """Set the clocks (they lag after a resume) and let the suite prepare the hosts."""
        with steps.step("clocks, host preparation"):
            self._on_each(self._prepare_host)

    def _prepare_host(self, host: str) -> None:
        self.root(host, ["date", "-s", f"@{time.time():.3f}"])
        files = REPOSITORY / "share/host"
        if files.is_dir():
            self.root(host, ["sh", "-c", access.PREPARE], input=access.archive(files), timeout=PREPARE_SECONDS)

    def _boot_from_disk(self, host: str) -> None:
        plan = self._plan(host)
        if not plan.disk("root").exists():
            raise LabError(f"{host} has no disks", f"run `lab/lab reset --name {self.name}`")
        serial = self.directory / host / "serial.log"
        start = serial.stat().st_size if serial.exists() else 0
        switch.ensure(self.directory, self.hosts)
        qemu.start(plan, resume=False)
        self._wait_until_up(host, start)
        self.root(host, ["date", "-s", f"@{time.time():.3f}"])

    def _wait_until_up(self, host: str, start: int) -> None:
        """Wait for the boot script's last line on the serial console, from position `start` of its log."""
        serial, deadline = self.directory / host / "serial.log", time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            if qemu.pid_of(self.directory / host) is None:
                raise LabError(f"{host}: QEMU ended while it booted", f"see {serial}")
            with serial.open("rb") as file:
                file.seek(start)
                if f"LAB-UP {host}".encode() in file.read():
                    access.wait_for_ssh(self.root_config, host, RESUME_SECONDS)
                    return
            time.sleep(0.1)
        raise LabError(f"{host} did not boot in {BOOT_SECONDS:.0f} s", f"see {serial}")

    def _set_link(self, host: str | None, *, up: bool) -> None:
        if host is not None:
            self._known(host)
        chosen = [host] if host is not None else list(self.running())
        for name in chosen:
            with qemu.Monitor(self.directory / name) as monitor:
                monitor.execute("set_link", name="between", up=up)

    def _stop(self) -> None:
        self._forget_connections()
        for host in self.hosts:
            qemu.kill(self.directory / host)
        switch.stop(self.directory)

    def _forget_connections(self) -> None:
        for host in self.hosts:
            access.close_ssh(self.root_config, host)

    def _clear_hosts(self) -> None:
        for path in self.directory.glob("node*"):
            qemu.kill(path)
            shutil.rmtree(path)

    def _on_each(self, job: Callable[[str], object]) -> None:
        def bound(host: str) -> Callable[[], None]:
            return lambda: void(job(host))

        side_by_side(*(bound(host) for host in self.hosts))


def void(_: object) -> None:
    """Drop a result."""


def check_memory(hosts: int) -> None:
    """Raise LabError when the machine has not enough free memory for that many hosts."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) // 1024
    needed = hosts * MEMORY_PER_HOST_MIB
    if free < needed:
        raise LabError(
            f"{free} MiB of memory are free, {hosts} hosts need {needed} MiB",
            "stop something (another lab?), then repeat",
        )


def labs() -> list[Lab]:
    """All labs that have a state on this machine."""
    top = cache_dir() / "labs"
    return [Lab(path.name, quiet=True) for path in sorted(top.iterdir()) if (path / "state.json").exists()]
