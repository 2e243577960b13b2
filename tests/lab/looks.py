"""What lab tests look at on both hosts."""

from __future__ import annotations

import os

MIB = 1 << 20
LAB = os.environ.get("DNC_LAB", "tests")  # name of the lab; that with three hosts has a 3 behind it


def equal_replicas(stage, backend, resource, size):
    digests = stage.digests(backend, resource, size)
    assert sorted(digests) == ["node1", "node2"]
    assert len(set(digests.values())) == 1, f"replicas of {resource} differ"
    return digests["node1"]


def no_two_primaries(stage, resource):
    """Neither side may be allowed to become a second primary any more."""
    for host in ("node1", "node2"):
        shown = stage.lab.root(host, ["drbdsetup", "show", resource]).stdout
        assert "allow-two-primaries\tyes" not in shown.replace(" ", "\t"), f"{host}: {shown}"


def began_resync(stage, resource):
    lines = []
    for host in stage.lab.running():
        log = stage.lab.root(host, ["dmesg"]).stdout
        lines += [line for line in log.splitlines() if resource in line and "Began resync" in line]
    return lines
