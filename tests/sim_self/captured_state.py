"""What the hosts held when the captures were taken: resources, a guest, and how to make them."""

from __future__ import annotations

from pathlib import Path

from sim.farm import SimFarm

RESOURCE = """resource {name} {{
  device /dev/drbd{minor} minor {minor}; meta-disk internal;
  on node1 {{ disk {disk}; address 10.99.0.1:{port}; }}
  on node2 {{ disk {disk}; address 10.99.0.2:{port}; }}
}}
"""
COMMON = """global { usage-count no; }
common {
  net { protocol C; verify-alg md5; allow-two-primaries yes; }
  net { after-sb-0pri discard-zero-changes; after-sb-1pri discard-secondary; }
}
"""
GUEST = """name = "g1"
type = "pv"
memory = 192
kernel = "/etc/hostname"
disk = [ "phy:/dev/drbd12,xvda,w" ]
vif = [ "mac=00:16:3e:00:00:01,bridge=br0" ]
"""


def make_resource(farm: SimFarm, name: str, minor: int, disk: str) -> None:
    """The resource file on both hosts, metadata, up, declared equal."""
    for host in ("node1", "node2"):
        write_resource(farm, host, name, minor, disk)
        run(farm, host, [f"drbdadm create-md --force {name}", f"drbdadm up {name}"])
    run(farm, "node1", [f"drbdadm new-current-uuid --clear-bitmap {name}/0"])


def write_resource(farm: SimFarm, host: str, name: str, minor: int, disk: str) -> None:
    text = RESOURCE.format(name=name, minor=minor, disk=disk, port=7000 + minor)
    Path(farm.path(host, f"/etc/drbd.d/{name}.res")).write_text(text)


def run(farm: SimFarm, host: str, lines: list[str]) -> None:
    """One session for all lines: a session costs as much as a tool."""
    done = farm.run(host, ["sh", "-ec", "\n".join(lines)])
    assert done.status == 0, done.stderr
