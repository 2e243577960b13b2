"""Faults from inside a tool: the process that called it dies, or the host loses its power."""

from __future__ import annotations

import os

from sim.session import exchange
from sim.world import World

CLIENT = "sim-ssh"
DRIVERS = ("/tm/", "/vmm/", "/datastore/", "/im/", "dnc-action", "dnc-agent")


def _proc() -> str:
    return "/proc/.real" if os.path.isdir("/proc/.real") else "/proc"


def _parent(pid: int) -> int:
    """The parent, or, for the first process of a session, the ssh client that started it."""
    try:
        with open(f"/run/sim/live/sessions/{pid}") as file:
            return int(file.read().split()[0])
    except FileNotFoundError:
        pass_on = pid
    try:
        with open(f"{_proc()}/{pass_on}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return 0


def _command(pid: int) -> tuple[str, str]:
    """(name, whole command line) of a process."""
    try:
        with open(f"{_proc()}/{pid}/comm") as file:
            name = file.read().strip()
        with open(f"{_proc()}/{pid}/cmdline", "rb") as raw:
            return name, raw.read().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return "", ""


def _apart(pid: int) -> bool:
    """Whether a process was forked to outlive its parent: a session of its own, the same command line."""
    try:
        with open(f"{_proc()}/{pid}/stat") as file:
            session = int(file.read().rpartition(")")[2].split()[3])
    except FileNotFoundError:
        return False
    return session == pid and _command(pid)[1] == _command(_parent(pid))[1]


def callers() -> tuple[list[int], list[int]]:
    """Processes above this tool: (those on this host, those at the other side of its ssh session, drivers only)."""
    here: list[int] = []
    there: list[int] = []
    crossed, pid = False, _parent(os.getpid())
    while pid > 1:
        name, line = _command(pid)
        if "anchor.py" in line:
            break  # the farm itself, and above it the tests
        if name == CLIENT:
            crossed = True
        elif not crossed:
            # What kills an agent spares the process that it left behind for this very case.
            here += [] if _apart(pid) else [pid]
        elif any(word in line for word in DRIVERS):
            there.append(pid)
        else:
            break
        pid = _parent(pid)
    return here, there


def crash(world: World, target: str) -> None:
    """SIGKILL: target agent = all above this tool on the host, action = the driver on the frontend, both."""
    here, there = callers()
    chosen = {"agent": here, "action": there or here, "both": here + there}[target]
    # Outermost first: a shell that outlives its command would report the death, here-document and all.
    exchange(f"/run/sim/sock/{world.host}", {"kill": chosen[::-1]})
    if target != "action" or not there:
        os._exit(137)


def power_cut_from_inside(world: World, host: str) -> None:
    """The named host, which may be this one, loses power while this tool runs."""
    from sim.power import cut

    cut(world, host)
    if host == world.host:
        os.kill(os.getpid(), 9)
