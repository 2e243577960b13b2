"""How the machine reaches a host: ssh configurations, commands as root, free ports, clocks."""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

from .command import missing_tool
from .errors import LabError

FRONTEND_USER = "nobody"
# Constant text: unpack the suite's own host files and let its script prepare the host.
PREPARE = """set -e
rm -rf /root/dnc-host; mkdir -m 755 /root/dnc-host; tar -x -C /root/dnc-host
if [ -f /root/dnc-host/prepare ]; then chmod +x /root/dnc-host/prepare; cd /root/dnc-host; exec ./prepare; fi"""


def free_port(wanted: int | None = None) -> int:
    """A free TCP port on 127.0.0.1: the wanted one if it still is free, else another."""
    for candidate in (wanted, 0) if wanted else (0,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise LabError("no free TCP port on 127.0.0.1", "look at `ss -lnt`")


def write_ssh_configs(directory: Path, build: Path, ports: dict[str, int]) -> None:
    """ssh_config (oneadmin, for the frontend) and ssh_config.root (equipment) of a lab."""
    keys, hosts = directory / "keys", build / "keys/known_hosts"
    keys.mkdir(mode=0o755, exist_ok=True)
    for name, owner in (("frontend", FRONTEND_USER), ("root", "root")):
        shutil.copy(build / "keys" / name, keys / name)
        (keys / name).chmod(0o600)
        shutil.chown(keys / name, owner)
    common = f"""  IdentitiesOnly yes
  UserKnownHostsFile {hosts}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
  ConnectTimeout 10
  LogLevel ERROR
  ServerAliveInterval 10
"""
    frontend = "User oneadmin", f"  IdentityFile {keys / 'frontend'}\n" + common + "  ControlMaster no\n"
    equipment = (
        "User root",
        (
            f"  IdentityFile {keys / 'root'}\n"
            + common
            + f"  ControlMaster auto\n  ControlPath {directory}/ssh-%n\n  ControlPersist 600\n"
        ),
    )
    for name, (user, rest) in (("ssh_config", frontend), ("ssh_config.root", equipment)):
        text = "".join(
            f"Host {host}\n  HostName 127.0.0.1\n  Port {port}\n  HostKeyAlias {host}\n  {user}\n" + rest
            for host, port in ports.items()
        )
        (directory / name).write_text(text)
        (directory / name).chmod(0o644)


def ssh_argv(config: Path, host: str, argv: Sequence[str]) -> list[str]:
    """argv of an ssh that runs `argv` on a host, each word quoted for the remote shell."""
    return ["ssh", "-F", str(config), host, "--", *(_quote(word) for word in argv)]


def _quote(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def run_ssh(
    config: Path, host: str, argv: Sequence[str], *, data: str | bytes | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command on a host; LabError when the host does not answer or `timeout` (seconds) passes."""
    raw = data.encode() if isinstance(data, str) else data
    words = ssh_argv(config, host, argv)
    try:
        if raw is None:
            done = subprocess.run(words, capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL)
        else:
            done = subprocess.run(words, capture_output=True, timeout=timeout, input=raw)
    except FileNotFoundError:
        raise missing_tool("ssh") from None
    except subprocess.TimeoutExpired:
        raise LabError(
            f"{host}: {argv[0]} did not end in {timeout:.0f} s", "run `lab/lab console " + host + "`"
        ) from None
    out, err = (stream.decode("utf-8", "replace") for stream in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(list(argv), done.returncode, out, err)


def wait_for_ssh(config: Path, host: str, timeout: float) -> None:
    """Return when the host answers over ssh; LabError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    message = ""
    while time.monotonic() < deadline:
        try:
            done = run_ssh(config, host, ["true"], timeout=max(1.0, min(10.0, deadline - time.monotonic())))
        except LabError as error:
            message = str(error)
            continue
        if done.returncode == 0:
            return
        message = done.stderr.strip()
        time.sleep(0.1)
    raise LabError(f"{host} did not answer over ssh in {timeout:.0f} s ({message})", f"run `lab/lab logs {host}`")


def close_ssh(config: Path, host: str) -> None:
    """End the shared connection to a host, if there is one."""
    subprocess.run(
        ["ssh", "-F", str(config), "-O", "exit", host],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=20,
    )


def archive(directory: Path) -> bytes:
    """A directory as a tar archive, everything owned by root."""

    def owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        return entry

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(directory, arcname=".", filter=owned_by_root)
    return buffer.getvalue()
