"""Growing a disk: on all members or on none, in the one order that is proven (NOTES-drbd9, g)."""

from __future__ import annotations

import pytest
from caller import TestCaller
from fake_hosts import FakeFarm, spec, status

from dnc.errors import BadInput, Busy, NoSpace, NotFound, Unreachable, Unsafe
from dnc.farm import growth, making, snapshots
from dnc.farm.saving import Saving
from dnc.farm.sessions import Sessions
from dnc.grammar import parse_resource
from dnc.tools import drbd

MIB = 1 << 20
NAME = parse_resource("one-7-42-0")
CHANGES = ("grow_volume", "promote", "resize", "zero_stale", "demote", "finish_growth")


@pytest.fixture
def hosts():
    return FakeFarm("node1", "node2")


@pytest.fixture
def farm(hosts):
    with Sessions(TestCaller('HOSTS="node1 node2"\n'), hosts.connect) as sessions:
        yield sessions


@pytest.fixture
def disk(hosts):
    """A disk of 64 MiB on both hosts, Secondary on both."""
    for name in ("node1", "node2"):
        hosts[name].have(spec("one-7-42-0", kind="clone", vm=42), status("one-7-42-0"))
        hosts[name].answers["grow_volume"] = lambda args: {"bytes": args["bytes"], "old_bytes": 65 * MIB}
        hosts[name].answers["resize"] = {"clean": True, "frozen_s": 0.0}
    return hosts


def primary(hosts, host):
    hosts[host].resources["one-7-42-0"]["status"]["role"] = "Primary"
    hosts[host].domains["one-42"] = "running"


def test_volumes_first_then_drbd_on_the_guests_host_then_the_files(farm, disk):
    primary(disk, "node2")
    assert growth.grow(farm, NAME, 200 * MIB, "node2", "one-42")
    assert disk["node1"].ops(*CHANGES) == ["grow_volume", "finish_growth"]
    assert disk["node2"].ops(*CHANGES) == ["grow_volume", "resize", "finish_growth"]
    wanted = drbd.volume_size(200 * MIB, 1)
    assert [disk[host].args("grow_volume")[0]["bytes"] for host in ("node1", "node2")] == [wanted, wanted]
    assert disk["node2"].args("resize") == [{
        "resource": "one-7-42-0", "data_bytes": 200 * MIB, "domain": "one-42",
        "start": drbd.data_end(65 * MIB, 1), "end": 65 * MIB}]
    assert disk["node1"].args("finish_growth") == [{"resource": "one-7-42-0", "data_bytes": 200 * MIB}]


def test_a_disk_that_a_killed_run_left_primary_is_put_to_rest(farm, disk):
    primary(disk, "node2")
    disk["node2"].domains.clear()
    assert growth.grow(farm, NAME, 200 * MIB, "node2", "one-42")
    assert disk["node2"].ops(*CHANGES) == ["grow_volume", "resize", "demote", "finish_growth"]


def test_a_disk_that_nobody_uses_is_primary_for_a_moment_only(farm, disk):
    assert growth.grow(farm, NAME, 200 * MIB, None, "one-42")
    assert disk["node1"].ops(*CHANGES) == ["grow_volume", "promote", "resize", "demote", "finish_growth"]
    assert disk["node2"].ops(*CHANGES) == ["grow_volume", "finish_growth"]


def test_unequal_old_volumes_are_zeroed_from_the_smallest_end_to_the_largest(farm, disk):
    disk["node2"].answers["grow_volume"] = lambda args: {"bytes": args["bytes"], "old_bytes": 68 * MIB}
    growth.grow(farm, NAME, 200 * MIB, "node1", "one-42")
    asked = disk["node1"].args("resize")[0]
    assert (asked["start"], asked["end"]) == (drbd.data_end(65 * MIB, 1), 68 * MIB)


def test_a_member_that_does_not_answer_leaves_nothing_grown(farm, disk):
    disk.fail("node2")
    with pytest.raises(Unreachable, match="one-7-42-0 cannot grow without its replica here") as caught:
        growth.grow(farm, NAME, 200 * MIB, "node1", "one-42")
    assert caught.value.line().startswith("node2: one-7-42-0") and "no route to host" in caught.value.line()
    assert disk["node1"].ops(*CHANGES) == []


@pytest.mark.parametrize(("ready", "kind"), [(Unsafe("not in sync"), Unsafe), (NoSpace("full"), NoSpace)])
def test_what_stops_it_before_drbd_is_told(farm, disk, ready, kind):
    disk["node2"].answers["await_ready" if kind is Unsafe else "grow_volume"] = ready
    with pytest.raises(kind):
        growth.grow(farm, NAME, 200 * MIB, "node1", "one-42")
    assert "resize" not in disk["node1"].ops() and "finish_growth" not in disk["node1"].ops()


def test_shrinking_migrating_half_made_and_unknown_are_refused(farm, disk):
    with pytest.raises(BadInput, match="has 64 MiB: it does not shrink to 32"):
        growth.grow(farm, NAME, 32 * MIB, "node1", "one-42")
    with pytest.raises(NotFound, match="one-7-43-0 is on no host"):
        growth.grow(farm, parse_resource("one-7-43-0"), 99 * MIB, "node1", "one-43")
    primary(disk, "node1")
    primary(disk, "node2")
    with pytest.raises(Busy, match="is being migrated"):
        growth.grow(farm, NAME, 200 * MIB, "node1", "one-42")
    for host in ("node1", "node2"):
        disk[host].resources["one-7-42-0"]["status"] = status("one-7-42-0", peer_role="Primary")
    with pytest.raises(Busy, match="Primary on a host without a replica"):
        growth.grow(farm, NAME, 200 * MIB, "node1", "one-42")
    disk["node2"].resources["one-7-42-0"]["spec"]["state"] = "making"
    with pytest.raises(Unsafe, match="not complete on node2"):
        growth.grow(farm, NAME, 200 * MIB, "node1", "one-42")
    assert disk["node1"].ops(*CHANGES) == disk["node2"].ops(*CHANGES) == []


def test_the_same_size_again_finishes_what_was_not(farm, disk):
    assert not growth.grow(farm, NAME, 64 * MIB, "node1", "one-42")
    assert "finish_growth" in disk["node1"].ops()


def test_found_larger_already_only_what_differs_is_zeroed(farm, disk):
    """A guest may have written to the new space: what it wrote is the same on both."""
    primary(disk, "node1")
    for host, blocks in (("node1", ["a", "b", "c"]), ("node2", ["a", "x", "c"])):
        disk[host].answers["block_digests"] = {"blocks": blocks + ["0"] * 7}
    disk["node1"].answers["resize"] = {"clean": False, "frozen_s": 0.0}
    growth.grow(farm, NAME, 200 * MIB, "node1", "one-42")
    start = drbd.data_end(65 * MIB, 1)
    assert disk["node1"].args("zero_stale") == [
        {"resource": "one-7-42-0", "blocks": {str(start + 4096): "b"}, "domain": "one-42"}]


def test_one_replica_has_no_drbd_to_tell(farm, hosts):
    hosts["node1"].have(spec("one-7-42-0", ("node1",), minor=None, port=None, secret="", kind="clone", slots=0))
    hosts["node1"].answers["grow_volume"] = lambda args: {"bytes": args["bytes"], "old_bytes": 64 * MIB}
    assert growth.grow(farm, NAME, 200 * MIB, "node1", "one-42")
    assert hosts["node1"].args("grow_volume")[0]["bytes"] == 200 * MIB
    assert hosts["node1"].ops(*CHANGES) == ["grow_volume", "finish_growth"]


@pytest.mark.parametrize("act", [
    lambda farm, disk: snapshots.create(farm, disk, "3", "one-42"),
    lambda farm, disk: snapshots.revert(farm, disk, "3"),
    lambda farm, disk: Saving(farm, disk, parse_resource("one-9"), None, "one-42").run(),
    making.require_rest,
])
def test_old_metadata_gets_into_no_snapshot_and_no_clone(farm, disk, act):
    disk["node2"].resources[NAME.text]["growing"] = True
    before = snapshots.find(farm, NAME, "node1")
    with pytest.raises(Unsafe, match="one-7-42-0 is half grown on node2"):
        act(farm, before)
