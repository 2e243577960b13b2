"""A small Ethernet switch in user space for three hosts: two hosts are connected directly, without it.

Each host has a datagram socket (labs/<name>/nodeN/link.sock) and the switch one for each host; a frame is a datagram.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .errors import LabError

MULTICAST_BIT = 1
BUFFER = 1 << 20


def port_socket(directory: Path, host: str) -> Path:
    """The switch's socket for a host: where the host sends its frames."""
    return directory / f"switch-{host}.sock"


def _pid_file(directory: Path) -> Path:
    return directory / "switch.pid"


def pid_of(directory: Path) -> int | None:
    """Process of the lab's switch, None when none runs."""
    try:
        pid = int(_pid_file(directory).read_text())
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if b"dnclab.switch" in argv and str(directory).encode() in argv else None


def ensure(directory: Path, hosts: Sequence[str], timeout: float = 10) -> None:
    """Start the switch of a lab with more than two hosts, if it does not run."""
    if len(hosts) <= 2 or pid_of(directory) is not None:
        return
    for host in hosts:
        port_socket(directory, host).unlink(missing_ok=True)
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).resolve().parent.parent))
    process = subprocess.Popen(
        [sys.executable, "-m", "dnclab.switch", str(directory), *hosts],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    _pid_file(directory).write_text(f"{process.pid}\n")
    deadline = time.monotonic() + timeout
    while not all(port_socket(directory, host).exists() for host in hosts):
        if process.poll() is not None or time.monotonic() > deadline:
            raise LabError(
                f"the switch of lab {directory.name} did not start in {timeout:.0f} s", "run `lab/lab down`, then up"
            )
        time.sleep(0.02)


def stop(directory: Path, timeout: float = 5) -> None:
    """Stop the lab's switch, if it runs."""
    pid = pid_of(directory)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout
        while pid_of(directory) is not None and time.monotonic() < deadline:
            time.sleep(0.02)
    _pid_file(directory).unlink(missing_ok=True)


class Switch:
    """Forwards each frame to the host that owns its destination address, or to all others."""

    def __init__(self, directory: Path, hosts: Sequence[str]) -> None:
        self.address = {host: str(directory / host / "link.sock") for host in hosts}
        self.learnt: dict[bytes, str] = {}
        self.ports: dict[str, socket.socket] = {}
        for host in hosts:
            port = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            port.bind(str(port_socket(directory, host)))
            port.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            port.setblocking(False)
            self.ports[host] = port

    def targets(self, source: str, frame: bytes) -> list[str]:
        """Hosts that get a frame which came from `source`; learns where the sender is."""
        self.learnt[frame[6:12]] = source
        destination = frame[:6]
        if not destination[0] & MULTICAST_BIT and destination in self.learnt:
            target = self.learnt[destination]
            return [target] if target != source else []
        return [host for host in self.ports if host != source]

    def forward(self, source: str) -> None:
        """Pass on what one host has sent; a host without power or with a full queue loses frames, as on a wire."""
        for _ in range(64):
            try:
                frame = self.ports[source].recv(65536)
            except BlockingIOError:
                return
            if len(frame) < 14:
                continue
            for target in self.targets(source, frame):
                try:
                    self.ports[target].sendto(frame, self.address[target])
                except OSError:
                    continue

    def run(self) -> None:
        """Forward frames until killed."""
        by_number = {port.fileno(): host for host, port in self.ports.items()}
        while True:
            for number in select.select(list(by_number), [], [])[0]:
                self.forward(by_number[number])


if __name__ == "__main__":
    Switch(Path(sys.argv[1]), sys.argv[2:]).run()
