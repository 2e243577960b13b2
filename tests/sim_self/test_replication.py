"""DRBD's behaviour over time, on simulated hosts: what is proven on the lab by the scenario, in more places."""

from __future__ import annotations

import pytest

from sim import drbd_meta
from sim.farm import SimFarm

pytestmark = pytest.mark.sim
MIB = 1 << 20


def ok(farm: SimFarm, host: str, *lines: str) -> str:
    out = ""
    for line in lines:
        done = farm.run(host, ["sh", "-c", line])
        assert done.status == 0, f"{line}: {done.stderr}"
        out += done.stdout
    return out


@pytest.mark.parametrize(("mib", "kib"), [(128, 131032), (192, 196564), (160, 163796), (64, 65496)])
def test_size_of_the_data_area(mib: int, kib: int) -> None:
    """84-grow-a, drbd-resize-ok, and the lab."""
    assert mib * 1024 - drbd_meta.area_kib(mib * 1024) == kib


def test_metadata_travels_with_a_clone_and_not_with_growth(lab: SimFarm) -> None:
    before = ok(lab, "node1", "drbdmeta 2 v08 /dev/zvol/tank/tz internal get-gi")
    ok(lab, "node1", "zfs snapshot tank/tz@x", "zfs clone tank/tz@x tank/x")
    assert ok(lab, "node1", "drbdmeta 77 v08 /dev/zvol/tank/x internal get-gi") == before
    ok(lab, "node1", "zfs set volsize=160M tank/x")
    done = lab.run("node1", ["drbdmeta", "77", "v08", "/dev/zvol/tank/x", "internal", "get-gi"])
    assert (done.status, done.stderr) == (255, "No valid meta data found\n")


def test_clone_of_a_running_primary_is_resynced_from_it(lab: SimFarm) -> None:
    """drbd-clone-of-live-primary: the activity log makes the clone's handshake copy what may differ."""
    for host in ("node1", "node2"):
        ok(lab, host, "lvcreate -q -y -kn -s -n s3 vg0/cl1")
    text = "resource s3 {{ device /dev/drbd24 minor 24; meta-disk internal; {} }}".format(" ".join(
        f"on {host} {{ disk /dev/vg0/s3; address 10.99.0.{n}:7024; }}" for n, host in ((1, "node1"), (2, "node2"))
    ))
    for host in ("node2", "node1"):
        ok(lab, host, f"echo '{text}' > /etc/drbd.d/s3.res")
    ok(lab, "node2", "drbdadm up s3")
    done = lab.run("node1", ["drbdadm", "up", "s3"])
    assert "Marked additional 4096 KB as out-of-sync based on AL." in done.stderr
    assert [(one["source"], one["target"], one["kib"]) for one in lab.resyncs] == [("node1", "node2", 4096)]


def test_resync_takes_time_when_told_so(lab: SimFarm) -> None:
    lab.resync_ticks(1000)
    ok(lab, "node2", "drbdadm invalidate tl")
    text = ok(lab, "node2", "cat /proc/drbd")
    assert " 1: cs:SyncTarget ro:Secondary/Secondary ds:Inconsistent/UpToDate C r-----\n" in text
    assert "sync'ed:" in text
    refused = lab.run("node1", ["drbdadm", "down", "tl"])
    assert refused.status == 0
    assert " ds:Inconsistent/DUnknown" in ok(lab, "node2", "cat /proc/drbd")
    assert lab.run("node2", ["drbdadm", "primary", "tl"]).status == 17


def test_wrong_secret_gives_the_connection_up(lab: SimFarm) -> None:
    for host, secret in (("node1", "one"), ("node2", "two")):
        ok(lab, host, "drbdadm down tl", f"sed -i 's/resource tl "
                                         f"{{/&\\nnet {{ cram-hmac-alg sha256; shared-secret {secret}; }}/' "
           "/etc/drbd.d/tl.res", "drbdadm up tl")  # fmt: skip
    assert " 1: cs:StandAlone" in ok(lab, "node1", "cat /proc/drbd")


def test_cut_network_and_return(lab: SimFarm) -> None:
    lab.disconnect("node1", "node2")
    ok(lab, "node1", "xl list")
    assert "12: cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown" in ok(lab, "node1", "cat /proc/drbd")
    ok(lab, "node1", "xl list")
    lab.reconnect("node1", "node2")
    assert "12: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate" in ok(lab, "node1",
        "drbdadm role cl1 >&2; cat /proc/drbd")
    assert [(one["resource"], one["source"]) for one in lab.resyncs] == [("cl1", "node1")]
    assert lab.violations() == []


def test_resize_needs_a_primary_and_both_volumes(lab: SimFarm) -> None:
    """drbd-resize, drbd-resize-ok."""
    assert "(131) Need one Primary node to resize." in lab.run("node1", ["drbdadm", "resize", "tl"]).stderr
    ok(lab, "node1", "lvextend -q -L 160M vg0/cl1", "drbdadm resize cl1")
    assert ok(lab, "node1", "cat /sys/class/block/drbd12/size") == f"{131032 * 2}\n"
    ok(lab, "node2", "lvextend -q -L 160M vg0/cl1")
    ok(lab, "node1", "drbdadm resize cl1")
    assert ok(lab, "node1", "cat /sys/class/block/drbd12/size") == f"{163796 * 2}\n"
    assert lab.violations() == []


@pytest.mark.parametrize("text", [
    "resource bad { options { quorum majority; } }", "resource bad { connection-mesh { hosts node1; } }",
    "resource bad { on node1 { node-id 0; } }", "resource bad { net { nonsense yes; } }",
    "resource bad { net { protocol C;",
])  # fmt: skip
def test_a_bad_file_stops_every_command(lab: SimFarm, text: str) -> None:
    """84-options: and an empty one does not."""
    ok(lab, "node1", f"echo '{text}' > /etc/drbd.d/bad.res")
    done = lab.run("node1", ["drbdadm", "status", "tl"])
    assert done.status == 10
    assert "Parse error" in done.stderr
    ok(lab, "node1", ": > /etc/drbd.d/bad.res", "drbdadm status tl")
