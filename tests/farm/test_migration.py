"""Live migration's storage side: stages, refusals, and settling on where the domain is."""

from __future__ import annotations

import pytest
from caller import TestCaller
from fake_hosts import FakeFarm, spec, status

from dnc.errors import Busy, DncError, Unreachable, Unsafe
from dnc.farm.migration import Move, prepare, settle
from dnc.farm.sessions import Sessions
from dnc.grammar import clone_name, image_name

DISKS = ((0, clone_name(image_name(7), 42, 0)), (1, clone_name(image_name(8), 42, 1)))
MOVE = Move(42, "one-42", "node1", "node2", "/var/lib/one/datastores/0/42", DISKS)


@pytest.fixture
def hosts():
    found = FakeFarm("node1", "node2")
    found["node1"].domains["one-42"] = "running"
    for name, role in (("node1", "Primary"), ("node2", "Secondary")):
        for _disk, resource in DISKS:
            kept = spec(resource.text, kind="clone", vm=42)
            found[name].have(kept, status(resource.text, role=role))
    return found


@pytest.fixture
def farm(hosts):
    with Sessions(TestCaller(), hosts.connect) as sessions:
        yield sessions


def test_all_disks_pass_a_stage_before_any_goes_to_the_next(farm, hosts):
    prepare(farm, MOVE)
    ops = hosts["node2"].ops("allow_two_primaries", "ensure_link", "promote")
    assert ops == ["allow_two_primaries"] * 2 + ["ensure_link"] * 2 + ["promote"] * 2
    assert hosts["node1"].ops("allow_two_primaries", "promote") == ["allow_two_primaries"] * 2
    assert hosts["node2"].args("ensure_link")[1] == {
        "path": "/var/lib/one/datastores/0/42/disk.1", "resource": "one-8-42-1"
    }
    assert hosts.sessions == 2


@pytest.mark.parametrize(("host", "changed", "said"), [
    ("node1", status("x"), "is not Primary on node1"),
    ("node1", None, "is down on node1"),
    ("node2", None, "is down on node2"),
    ("node1", status("x", role="Primary", oos=4), "is not in sync: node1"),
    ("node2", status("x", disk="Inconsistent"), "is not in sync: node2"),
    ("node1", status("x", role="Primary", connection="StandAlone"), "is not in sync: node1"),
])
def test_one_unfit_disk_stops_all_before_anything_is_changed(farm, hosts, host, changed, said):
    hosts[host].have(spec("one-8-42-1", kind="clone", vm=42), changed)
    with pytest.raises(Unsafe, match=f"one-8-42-1 {said}"):
        prepare(farm, MOVE)
    assert not {"allow_two_primaries", "promote", "ensure_link"} & set(hosts["node1"].ops() + hosts["node2"].ops())


def test_a_destination_without_replica_is_told_with_the_right_ones(farm, hosts):
    other = spec("one-7-42-0", hosts=("node1", "node3"), kind="clone", vm=42)
    hosts["node1"].have(other, status("one-7-42-0", role="Primary"))
    hosts["node2"].resources.pop("one-7-42-0")
    with pytest.raises(Unsafe, match="has no replica on node2; migrate to one of: node3"):
        prepare(farm, MOVE)


def test_one_replica_cannot_migrate(farm, hosts):
    lone = spec("one-7-42-0", hosts=("node1",), minor=None, port=None, secret="", kind="clone", slots=0)
    hosts["node1"].have(lone, status("one-7-42-0", role="Primary"))
    with pytest.raises(Unsafe, match="has one replica: no live migration"):
        prepare(farm, MOVE)


def test_what_an_earlier_migration_left_is_settled_first(farm, hosts):
    left = {"vm": 42, "source": "node1", "destination": "node2", "since": 1.0}
    hosts["node2"].have(spec("one-7-42-0", kind="clone", vm=42), status("one-7-42-0"), intent=left)
    prepare(farm, MOVE)
    assert hosts["node1"].args("settle")[0]["role_here"] is True
    assert hosts["node2"].args("settle")[0]["role_here"] is False
    assert hosts["node2"].ops("settle", "allow_two_primaries")[0] == "settle"


@pytest.mark.parametrize(("running", "keep", "tidied"), [
    ("node2", "node2", "node1"), ("node1", "node2", None), ("node1", "node1", "node2"), (None, "node2", "node1"),
])
def test_both_hosts_settle_on_the_domains_place(farm, hosts, running, keep, tidied):
    hosts["node1"].domains.clear()
    if running:
        hosts[running].domains["one-42"] = "running"
    for name in ("node1", "node2"):
        hosts[name].links = {"disk.0": "x"}
    settle(farm, MOVE, keep=keep)
    for name in ("node1", "node2"):
        assert hosts[name].args("settle")[0]["role_here"] is (running == name)
        assert ("remove_directory" in hosts[name].ops()) is (name == tidied)


def test_a_domain_on_both_is_for_a_person(farm, hosts):
    hosts["node2"].domains["one-42"] = "running"
    with pytest.raises(Unsafe, match="one-42 runs on node1 and on node2"):
        settle(farm, MOVE, keep="node2")
    assert "settle" not in hosts["node1"].ops()


def test_a_silent_host_is_told_and_the_other_settled(farm, hosts):
    hosts.fail("node2")
    settle(farm, MOVE, keep="node1")
    assert hosts["node1"].args("settle")[0]["role_here"] is True
    assert "remove_directory" not in hosts["node1"].ops()


def test_nobody_answers_or_nothing_settles(farm, hosts):
    unsettled = {"resources": {"one-7-42-0": {"settled": False, "why": "both sides are Primary"}}}
    hosts["node1"].answers["settle"] = unsettled
    with pytest.raises(Busy, match="one-7-42-0 on node1: both sides are Primary"):
        settle(farm, MOVE, keep="node2")
    hosts["node1"].answers["settle"] = DncError("broken")
    with pytest.raises(DncError, match="broken"):
        settle(farm, MOVE, keep="node2")
    for name in ("node1", "node2"):
        hosts.fail(name)
    with Sessions(TestCaller(), hosts.connect) as again, pytest.raises(Unreachable):
        settle(again, MOVE, keep="node2")
