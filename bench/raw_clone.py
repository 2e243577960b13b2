"""A clone by hand: only the commands that a replicated clone needs, one ssh a host, until the replicas agree.

No lock, no undo, no check, no reservation, no question asked twice: what remains is what no driver can save.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from .timing import CannotMeasure

MINOR = 900  # below the suite's own minors and ports
PORT = 6900
NAME = "raw"
PATIENCE_S = 120.0

# Constant text, run on a host by its python3; what to run comes as JSON on stdin. No shell.
SCRIPT = """
import json, os, subprocess, sys, time
plan = json.load(sys.stdin)
end = time.monotonic() + plan["patience"]
def wait(done, what):
    while not done():
        if time.monotonic() > end:
            sys.exit("waited in vain for " + what)
        time.sleep(0.01)
def agreed():
    for line in open("/proc/drbd"):
        words = line.split()
        if words and words[0] == plan["minor"] + ":":
            return "cs:Connected" in words and "ds:UpToDate/UpToDate" in words
    return False
for step in plan["steps"]:
    if step[0] == "write":
        with open(step[1], "w") as file:
            file.write(step[2])
    elif step[0] == "device":
        wait(lambda: os.path.exists(step[1]), step[1])
    elif step[0] == "agreed":
        wait(agreed, "the replicas to agree")
    else:
        done = subprocess.run(step, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            sys.exit(" ".join(step) + ": " + done.stderr.strip())
"""

Step = list[str]


def resource_file(hosts: Sequence[str], device: str) -> str:
    """The least resource file that DRBD 8.4 takes."""
    members = "".join(
        f"  on {host} {{ address 10.99.0.{number}:{PORT}; volume 0 {{ device minor {MINOR}; disk {device}; "
        f"meta-disk internal; }} }}\n"
        for number, host in enumerate(hosts, 1)
    )
    return f"resource {NAME} {{\n  net {{ protocol C; }}\n{members}}}\n"


def device_of(backend: str) -> str:
    """The volume's device."""
    return f"/dev/zvol/tank/dnc/{NAME}" if backend == "zfs" else f"/dev/vg0/{NAME}"


def make_steps(backend: str, image: str, hosts: Sequence[str]) -> list[Step]:
    """Snapshot, copy, proof of equality, resource file, up, wait: the same on each host."""
    device = device_of(backend)
    if backend == "zfs":
        volume = [
            ["sudo", "-n", "zfs", "snapshot", f"tank/dnc/{image}@{NAME}"],
            ["sudo", "-n", "zfs", "clone", "-o", "volmode=dev", f"tank/dnc/{image}@{NAME}", f"tank/dnc/{NAME}"],
        ]
    else:
        volume = [["sudo", "-n", "lvcreate", "-q", "-y", "-kn", "-s", "-n", NAME, f"vg0/{image}"]]
    return [
        *volume, ["device", device],
        ["sudo", "-n", "drbdmeta", str(MINOR), "v08", device, "internal", "get-gi"],
        ["write", f"/etc/drbd.d/{NAME}.res", resource_file(hosts, device)],
        ["sudo", "-n", "drbdadm", "up", NAME], ["agreed"],
    ]


def remove_steps(backend: str, image: str) -> list[Step]:
    """Away with it again."""
    if backend == "zfs":
        volume = [["sudo", "-n", "zfs", "destroy", f"tank/dnc/{NAME}"],
                  ["sudo", "-n", "zfs", "destroy", f"tank/dnc/{image}@{NAME}"]]
    else:
        volume = [["sudo", "-n", "lvremove", "-q", "-f", "-y", f"vg0/{NAME}"]]
    return [["sudo", "-n", "drbdadm", "down", NAME], *volume, ["rm", f"/etc/drbd.d/{NAME}.res"]]


def on_all(lab: Any, steps: Sequence[Step], minor: int = MINOR, hosts: Sequence[str] = ()) -> float:
    """Run the steps on all hosts (or these) at once, one ssh each, as oneadmin; seconds until the last has ended.

    `minor` is the DRBD minor that the step "agreed" waits for.

    Raises CannotMeasure with a host's last words.
    """
    from dnclab.access import ssh_argv

    plan = json.dumps({"steps": list(steps), "minor": str(minor), "patience": PATIENCE_S}).encode()
    begun = time.perf_counter()
    running = []
    for host in hosts or lab.hosts:
        argv = ssh_argv(lab.ssh_config, host, ["/usr/bin/python3", "-I", "-c", SCRIPT])
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        running.append((host, process))
        assert process.stdin is not None
        process.stdin.write(plan)
        process.stdin.close()
        process.stdin = None
    said = {host: process.communicate()[1].decode(errors="replace").strip() for host, process in running}
    seconds = time.perf_counter() - begun
    for host, process in running:
        if process.returncode != 0:
            raise CannotMeasure(f"{host}: by hand: {said[host] or process.returncode}")
    return seconds
