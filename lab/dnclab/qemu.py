"""QEMU: the command line of a host, its monitor, its processes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .command import capture, missing_tool
from .errors import LabError

MEMORY_MIB = 2048
DOM0_MIB = 1024
# Disks of a host, in the order vda, vdb, vdc.
DISKS = ("root", "thin", "zfs")
DATA_BYTES = 8 << 30
SNAPSHOT = "golden"
XEN_ARGS = (
    f"dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M dom0_max_vcpus=1 com1=115200,8n1 console=com1"
    " loglvl=warning guest_loglvl=warning spec-ctrl=no xpti=off pv-l1tf=off pcid=0 smap=0 smep=0"
    " cpufreq=none cpuidle=0 ucode=no no-real-mode edd=off vga=none"
)
DOM0_ARGS = (
    "root=/dev/vda rw console=hvc0 quiet loglevel=4 mitigations=off nowatchdog audit=0 apparmor=0"
    " cgroup_disable=memory panic=0"
)


@dataclass(frozen=True)
class HostPlan:
    """All that the command line of one host depends on."""

    number: int
    directory: Path  # overlays, sockets, logs of this host
    build: Path
    ssh_port: int
    link: tuple[Path, Path]  # datagram sockets of the host network: own, the peer's (or the switch's)
    accelerator: str

    @property
    def name(self) -> str:
        return f"node{self.number}"

    def disk(self, kind: str) -> Path:
        return self.directory / f"{kind}.qcow2"


def machine_argv(accelerator: str) -> list[str]:
    """The part of the command line on which a saved state depends."""
    if accelerator == "kvm":
        cpu = ["-accel", "kvm", "-cpu", "host"]
    else:
        cpu = ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "qemu64,+npt"]
    return [
        "qemu-system-x86_64",
        "-M",
        "pc",
        *cpu,
        "-smp",
        "1",
        "-m",
        str(MEMORY_MIB),
        "-nodefaults",
        "-no-user-config",
        "-vga",
        "none",
        "-display",
        "none",
    ]


def host_argv(plan: HostPlan, *, resume: bool) -> list[str]:
    """The whole command line of a host; `resume` starts it, stopped, from its saved state."""
    build, number = plan.build, plan.number
    argv = machine_argv(plan.accelerator)
    argv += ["-name", plan.name, "-kernel", str(build / "xen"), "-append", XEN_ARGS]
    argv += ["-initrd", f"{build / 'vmlinux'} {DOM0_ARGS} lab.node={number},{build / 'initrd'}"]
    argv += [
        "-chardev",
        f"socket,id=console,path={plan.directory / 'console.sock'},server=on,wait=off,"
        f"logfile={plan.directory / 'serial.log'},logappend=on",
        "-serial",
        "chardev:console",
    ]
    argv += ["-qmp", f"unix:{plan.directory / 'monitor.sock'},server=on,wait=off"]
    for index, kind in enumerate(DISKS):
        # writeback: what a host flushed survives a kill of QEMU, what it did not may be lost, as with a real power cut
        argv += ["-drive", f"file={plan.disk(kind)},id=d{index},cache=writeback,if=none,format=qcow2,discard=unmap"]
        argv += ["-device", f"virtio-blk-pci,drive=d{index}"]
    argv += ["-netdev", f"user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{plan.ssh_port}-:22"]
    argv += ["-device", f"virtio-net-pci,netdev=n0,mac=52:54:00:aa:00:0{number},romfile="]
    own, peer = plan.link
    argv += ["-netdev", f"dgram,id=n1,local.type=unix,local.path={own},remote.type=unix,remote.path={peer}"]
    argv += ["-device", f"virtio-net-pci,netdev=n1,id=between,mac=52:54:00:bb:00:0{number},host_mtu=9000,romfile="]
    argv += ["-object", "rng-random,id=r0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=r0"]
    if resume:
        argv += ["-loadvm", SNAPSHOT, "-S"]
    return [*argv, "-daemonize", "-pidfile", str(plan.directory / "pid")]


def machine_key(accelerator: str) -> str:
    """A short hash over what a saved state depends on beside the build: QEMU's version and the machine."""
    place = Path("/nowhere")
    plan = HostPlan(1, place, place, 1, (place, place), accelerator)
    text = capture(["qemu-system-x86_64", "--version"]) + repr(host_argv(plan, resume=False))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def create_disks(plan: HostPlan) -> None:
    """Fresh disks for a first boot: an overlay over the built root image, empty data disks."""
    plan.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    base = ["-b", str(plan.build / "root.raw"), "-F", "raw"]
    capture(["qemu-img", "create", "-q", "-f", "qcow2", *base, str(plan.disk("root"))])
    for kind in DISKS[1:]:
        capture(["qemu-img", "create", "-q", "-f", "qcow2", str(plan.disk(kind)), str(DATA_BYTES)])


def start(plan: HostPlan, *, resume: bool) -> None:
    """Start a host's QEMU in the background; LabError says why it did not start."""
    for name in ("console.sock", "monitor.sock", "pid"):
        (plan.directory / name).unlink(missing_ok=True)
    log = plan.directory / "qemu.log"
    with log.open("w") as out:
        try:
            # A daemon keeps its standard error open until it is ready, so the file and not a pipe takes it.
            status = subprocess.run(
                host_argv(plan, resume=resume), stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=60
            ).returncode
        except FileNotFoundError:
            raise missing_tool("qemu-system-x86_64") from None
        except subprocess.TimeoutExpired:
            raise LabError(f"{plan.name}: QEMU did not start in 60 s", f"see {log}") from None
    if status != 0:
        text = " ".join(log.read_text().split())
        if "Could not set up host forwarding rule" in text:
            raise LabError(
                f"{plan.name}: port {plan.ssh_port} on 127.0.0.1 is taken", "repeat `lab/lab up`: it picks another"
            )
        if "Cannot allocate memory" in text or "cannot set up guest memory" in text:
            raise LabError(
                f"{plan.name}: not enough memory for a host of {MEMORY_MIB} MiB", "stop something, or use fewer hosts"
            )
        raise LabError(f"{plan.name}: QEMU did not start: {text[-300:]}", f"see {log}")


def pid_of(directory: Path) -> int | None:
    """Process of the QEMU that runs a host from this directory, None when none does."""
    try:
        pid = int((directory / "pid").read_text())
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    # The pid may have been reused: the command line must name this very directory.
    return pid if str(directory / "pid").encode() in argv else None


def kill(directory: Path, timeout: float = 10) -> None:
    """Pull the plug of a host: SIGKILL, and wait until the process is gone (seconds)."""
    pid = pid_of(directory)
    if pid is None:
        return
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    await_end(directory, timeout)


def await_end(directory: Path, timeout: float) -> None:
    """Wait until the QEMU of this directory is gone; LabError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while (pid := pid_of(directory)) is not None:
        if time.monotonic() > deadline:
            raise LabError(
                f"{directory.name}: QEMU (process {pid}) did not end in {timeout:.0f} s", "look at it with ps"
            )
        time.sleep(0.02)


class Monitor:
    """A QMP session with one host's QEMU. Use as a context manager."""

    def __init__(self, directory: Path, timeout: float = 120) -> None:
        self.name = directory.name
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(directory / "monitor.sock"))
        except OSError as error:
            raise LabError(
                f"{self.name}: its QEMU does not answer ({error.strerror})", "run `lab/lab status`"
            ) from None
        self._lines = self._socket.makefile("rb")
        self._lines.readline()
        self.execute("qmp_capabilities")

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def execute(self, command: str, **arguments: Any) -> Any:
        """One command and its result; LabError with QEMU's message when it fails."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        for line in self._lines:
            answer = json.loads(line)
            if "error" in answer:
                raise LabError(f"{self.name}: QEMU refused {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        if command == "quit":
            return None
        raise LabError(f"{self.name}: QEMU ended during {command}", "run `lab/lab logs`")

    def human(self, line: str) -> str:
        """One command of the human monitor; LabError when it says that something is wrong."""
        text = str(self.execute("human-monitor-command", **{"command-line": line})).strip()
        if text.startswith("Error"):
            raise LabError(f"{self.name}: QEMU refused {line}: {text}")
        return text
