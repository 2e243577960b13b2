"""The farm notices when a rule of safety is broken: each is broken here on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest
from captured_state import make_resource

from sim.farm import SimFarm

pytestmark = pytest.mark.sim


def ok(farm: SimFarm, host: str, *lines: str) -> None:
    for line in lines:
        done = farm.run(host, ["sh", "-c", line])
        assert done.status == 0, f"{line}: {done.stderr}"


def test_a_quiet_farm_breaks_none(lab: SimFarm) -> None:
    assert lab.violations() == []


def test_two_primaries_need_an_intent(lab: SimFarm) -> None:
    ok(lab, "node1", "drbdadm primary tl")
    ok(lab, "node2", "drbdadm primary tl")
    assert lab.violations() == ["tl is Primary on node1 and node2 without an intent"]


def test_two_primaries_with_an_intent(lab: SimFarm) -> None:
    ok(lab, "node2", "mkdir -p /var/lib/dnc/intents; echo {} > /var/lib/dnc/intents/tl.json", "drbdadm primary tl")
    ok(lab, "node1", "drbdadm primary tl")
    assert lab.violations() == []


def test_a_dead_disk(lab: SimFarm) -> None:
    ok(lab, "node2", "sed -n p > /root/g2.cfg <<'END'\nname = 'g2'\ndisk = [ 'phy:/dev/drbd13,xvda,w' ]\nEND",
        "xl create /root/g2.cfg")
    assert lab.violations() == ["domain g2 runs on node2 with a dead disk xvda (/dev/drbd13)"]


def test_one_domain_on_two_hosts(lab: SimFarm) -> None:
    ok(lab, "node2", "mkdir -p /var/lib/dnc/intents; echo {} > /var/lib/dnc/intents/cl1.json", "drbdadm primary cl1")
    Path(lab.path("node2", "/root/g1.cfg")).write_text(Path(lab.path("node1", "/root/g1.cfg")).read_text())
    ok(lab, "node2", "xl create /root/g1.cfg")
    assert "domain g1 runs on node1 and node2 at once" in lab.violations()


def test_different_data_that_say_they_are_equal(lab: SimFarm) -> None:
    """new-current-uuid --clear-bitmap over different volumes: the promise that DRBD never checks."""
    ok(lab, "node1", "lvcreate -q -y -V 64M -T vg0/pool -n lie", "echo data | dd of=/dev/vg0/lie conv=notrunc 2>&1")
    ok(lab, "node2", "lvcreate -q -y -V 64M -T vg0/pool -n lie")
    make_resource(lab, "lie", 20, "/dev/vg0/lie")
    assert lab.violations() == ["lie: node1 and node2 differ in 1 blocks, yet say UpToDate"]


def test_a_write_behind_the_guests_back(lab: SimFarm) -> None:
    ok(lab, "node1", "xl list")
    ok(lab, "node1", "printf 'tick 1\\n' | dd of=/dev/drbd12 bs=4096 seek=256 conv=notrunc 2>&1", "xl list")
    found = lab.violations()
    assert len(found) == 1
    assert found[0].startswith("guest g1 on node1: wrote ")


def test_what_is_left(lab: SimFarm) -> None:
    found = lab.leftovers()
    for line in ("node1: zfs tank/cz1", "node2: lvm vg0/cl1", "node1: drbd tl", "node1: domain g1",
        "node2: file /etc/drbd.d/tz.res"):
        assert line in found
    lab.reset()
    assert lab.leftovers() == []
