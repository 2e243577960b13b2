"""What making, cloning, moving and removing disks asks of hosts, and what it refuses."""

from __future__ import annotations

import pytest
from caller import TestCaller
from fake_hosts import FakeFarm, spec, status

from dnc.errors import (
    BadConfig,
    Busy,
    Conflict,
    DncError,
    GivenUp,
    NotFound,
    TimedOut,
    ToolMissing,
    Unreachable,
    Unsafe,
)
from dnc.farm import disks, images, making
from dnc.farm.finding import nobody
from dnc.farm.making import Plan
from dnc.farm.removal import Removal
from dnc.farm.sessions import Sessions
from dnc.farm.survey import locate, look_again
from dnc.grammar import clone_name, image_name, parse_pool, volatile_name
from dnc.tools import drbd

MIB = 1 << 20
HOSTS = 'HOSTS="node1 node2 node3"\n'
IMAGE, CLONE = image_name(7), clone_name(image_name(7), 42, 0)
POOL = parse_pool("zfs:tank/dnc")


@pytest.fixture
def hosts():
    found = FakeFarm("node1", "node2", "node3")
    for name in ("node1", "node2"):
        found[name].have(spec("one-7"))
    return found


@pytest.fixture
def farm(hosts):
    with Sessions(TestCaller(HOSTS), hosts.connect) as sessions:
        yield sessions


def clone(farm, data_bytes=0, host="node1"):
    return disks.ensure_clone(farm, IMAGE, CLONE, 42, data_bytes, host)


def test_a_clone_of_the_same_size_keeps_its_metadata_and_records_the_proof(farm, hosts):
    made = clone(farm)
    assert hosts.sessions == 2, "one session an involved host, none with the third"
    for name in ("node1", "node2"):
        ops = hosts[name].ops("clone_volume", "write_resource", "bring_up", "await_ready", "mark_ready")
        assert ops == ["clone_volume", "write_resource", "bring_up", "await_ready", "mark_ready"]
        assert "create_metadata" not in hosts[name].ops()
        assert "declare_equal" not in hosts[name].ops()
        assert hosts[name].args("mark_ready") == [{"resource": "one-7-42-0", "proof": "gi:AAAA"}]
        assert hosts[name].args("clone_volume")[0]["tags"] == {"kind": "clone", "vm": 42, "origin": "one-7"}
    assert (made.minor, made.port) == (1000, 7000)
    assert made.state == "making", "the file says ready only after mark_ready"


def test_a_larger_clone_gets_new_metadata_in_the_proven_order(farm, hosts):
    clone(farm, 128 * MIB)
    order = [
        "clone_volume", "write_resource", "create_metadata", "zero_old_metadata", "bring_up", "declare_equal",
        "await_ready",
    ]
    assert hosts["node1"].ops(*order) == order
    assert "declare_equal" not in hosts["node2"].ops(), "one member declares it"
    for name in ("node1", "node2"):
        zeroed = hosts[name].args("zero_old_metadata")[0]
        assert (zeroed["from"], zeroed["to"]) == (drbd.data_end(65 * MIB, 1), 65 * MIB)
        assert hosts[name].args("clone_volume")[0]["bytes"] == drbd.volume_size(128 * MIB, 1)


@pytest.mark.parametrize("second", [{"current": "BBBB", "clean": True}, {"current": "AAAA", "clean": False}])
def test_without_proof_a_larger_clone_is_refused_and_an_equal_one_left_to_drbd(farm, hosts, second):
    hosts["node2"].generation = second
    with pytest.raises(Unsafe, match="not proven equal"):
        clone(farm, 128 * MIB)
    assert "clone_volume" not in hosts["node1"].ops()
    clone(farm)
    assert "declare_equal" not in hosts["node1"].ops()
    assert hosts["node1"].args("mark_ready") == [{"resource": "one-7-42-0"}], "no proof is recorded"


def test_an_image_in_use_or_half_made_is_not_cloned(farm, hosts):
    hosts["node2"].have(spec("one-7"), status("one-7", role="Primary"))
    with pytest.raises(Busy, match="image one-7 is in use on node2"):
        clone(farm)
    hosts["node2"].have(spec("one-7", state="making"))
    with pytest.raises(Unsafe, match="one-7 is not complete on node2"):
        clone(farm)


def test_a_host_without_replica_is_refused_with_those_that_would_do(hosts):
    caller = TestCaller(HOSTS + 'MISSING_REPLICA="refuse"\n')
    with Sessions(caller, hosts.connect) as farm, pytest.raises(Unsafe) as caught:
        clone(farm, host="node3")
    line = "one-7 has no replica on node3, only on node1 node2; run the VM there, or see MISSING_REPLICA in dncrc. "
    assert caught.value.line() == line


def test_an_unknown_image_and_a_silent_member(farm, hosts):
    with pytest.raises(NotFound, match="one-8 is on no host"):
        disks.ensure_clone(farm, image_name(8), clone_name(image_name(8), 42, 0), 42, 0, "node1")
    hosts.fail("node2")
    with Sessions(TestCaller(HOSTS), hosts.connect) as again, pytest.raises(Unreachable) as lost:
        clone(again)
    assert lost.value.host == "node2"
    assert "clone_volume" not in hosts["node1"].ops()


def test_a_finished_earlier_clone_is_accepted_and_a_half_made_one_made_again(farm, hosts):
    for name in ("node1", "node2"):
        hosts[name].have(spec("one-7-42-0", kind="clone", vm=42))
    clone(farm)
    assert "clone_volume" not in hosts["node1"].ops()
    assert hosts["node1"].ops("bring_up", "await_ready") == ["bring_up", "await_ready"]
    del hosts["node2"].resources["one-7-42-0"]
    clone(farm)
    assert hosts["node1"].ops("remove_volume", "remove_resource", "clone_volume") == [
        "remove_volume", "remove_resource", "clone_volume"
    ]


def test_a_smaller_earlier_clone_does_not_do(farm, hosts):
    for name in ("node1", "node2"):
        hosts[name].have(spec("one-7-42-0", kind="clone", vm=42))
    clone(farm, 128 * MIB)
    assert "clone_volume" in hosts["node1"].ops()


def test_a_primary_leftover_is_never_removed(farm, hosts):
    hosts["node1"].have(spec("one-7-42-0", kind="clone", vm=42), status("one-7-42-0", role="Primary"))
    with pytest.raises(Conflict, match="one-7-42-0 exists and is Primary on node1"):
        clone(farm)
    half_made = spec("one-7-42-0", kind="clone", vm=42, state="making")
    hosts["node1"].have(half_made, status("one-7-42-0", role="Primary"))
    clone(farm)
    assert "remove_volume" in hosts["node1"].ops()


def test_minors_taken_on_any_host_are_passed_over(farm, hosts):
    hosts["node1"].minors = {1000, 1002}
    hosts["node2"].minors = {1001}
    assert clone(farm).minor == 1003


def test_a_minor_lost_to_another_action_is_given_back(farm, hosts):
    refused = []

    def reserve(args):
        refused.append(args["minor"])
        return {"reserved": len(refused) > 1}

    hosts["node2"].answers["reserve_minor"] = reserve
    assert clone(farm).minor == 1001
    assert hosts["node1"].ops("release_minor") == ["release_minor"]


def test_hosts_with_different_drbd_or_no_address(farm, hosts):
    farm.open(["node1", "node2"])
    farm.sessions["node2"].about["drbd"] = "9"
    with pytest.raises(BadConfig, match="different versions of DRBD"):
        making.make_empty(farm, Plan(volatile_name(1, 1), ("node1", "node2"), str(POOL), MIB))
    farm.sessions["node2"].about.update(drbd="8.4", address="")
    with pytest.raises(BadConfig, match="node2: host has no address"):
        making.make_empty(farm, Plan(volatile_name(1, 1), ("node1", "node2"), str(POOL), MIB))


def test_three_replicas_need_drbd_9(farm, hosts):
    farm.open(["node1", "node2", "node3"])
    with pytest.raises(BadConfig, match="DRBD 8.4 keeps 2 replicas, not 3") as refusal:
        making.make_empty(farm, Plan(volatile_name(1, 1), ("node1", "node2", "node3"), str(POOL), MIB))
    assert 'REPLICAS="2"' in refusal.value.hint and "DRBD 9" in refusal.value.hint
    farm.sessions["node2"].about["drbd"] = None
    with pytest.raises(ToolMissing, match="node2: DRBD is not loaded"):
        making.require_dialect(farm, ["node1", "node2"])


def test_one_replica_is_the_same_path_without_drbd(farm, hosts):
    farm.open(["node1"])
    made = making.make_empty(farm, Plan(volatile_name(1, 1), ("node1",), str(POOL), 16 * MIB))
    assert (made.minor, made.port, made.secret, made.slots) == (None, None, "", 0)
    assert hosts["node1"].args("create_volume")[0]["bytes"] == 16 * MIB
    assert not {"reserve_minor", "create_metadata", "declare_equal"} & set(hosts["node1"].ops())


def test_a_volatile_disk_goes_where_the_vms_other_disks_are(farm, hosts):
    spec_, finished = disks.make_volatile(farm, volatile_name(42, 1), 42, MIB, "node2", [IMAGE], POOL, 2, nobody)
    assert set(spec_.hosts()) == {"node1", "node2"}
    assert finished is False
    assert hosts.sessions == 2


def test_the_first_disk_of_a_vm_goes_by_room(farm, hosts):
    hosts["node1"].free = 1 << 30
    spec_, _ = disks.make_volatile(farm, volatile_name(42, 1), 42, MIB, "node2", [], POOL, 2, nobody)
    assert spec_.hosts() == ("node2", "node3")


def test_a_persistent_image_notes_its_vm_and_refuses_another(farm, hosts):
    disks.ensure_persistent(farm, IMAGE, 42, "node1")
    assert hosts["node2"].args("write_resource")[0]["spec"]["vm"] == 42
    for name in ("node1", "node2"):
        hosts[name].have(spec("one-7", vm=42), status("one-7"))
    disks.ensure_persistent(farm, IMAGE, 42, "node1")
    with pytest.raises(Busy, match="image one-7 is up for VM 42"):
        disks.ensure_persistent(farm, IMAGE, 43, "node1")


def test_giving_an_image_back_waits_for_equal_replicas_then_takes_it_down(farm, hosts):
    for name in ("node1", "node2"):
        hosts[name].have(spec("one-7", vm=42), status("one-7"))
    image = locate(farm, IMAGE, "node1")
    assert image is not None
    disks.release_persistent(farm, image, 42)
    assert hosts["node1"].ops("demote", "await_ready", "take_down", "write_resource") == [
        "demote", "await_ready", "take_down", "write_resource"
    ]
    assert hosts["node1"].args("write_resource")[0]["spec"]["vm"] is None


def test_an_image_that_serves_another_vm_now_is_left_alone(farm, hosts):
    for name in ("node1", "node2"):
        hosts[name].have(spec("one-7", vm=43), status("one-7", role="Primary"))
    image = locate(farm, IMAGE, "node1")
    assert image is not None
    disks.release_persistent(farm, image, 42)
    assert "take_down" not in hosts["node1"].ops()
    assert "demote" not in hosts["node1"].ops()


def available(farm, hosts, here, lost="node1"):
    """Resume on node2 with node1 silent."""
    hosts["node2"].have(spec("one-7-42-0", kind="clone", vm=42), here)
    hosts.fail(lost)
    located = locate(farm, CLONE, "node2")
    assert located is not None
    assert located.missing == (lost,)
    disks.make_available(farm, located, "node2")


def test_a_survivor_that_was_up_may_go_on_alone(farm, hosts):
    available(farm, hosts, status("one-7-42-0", connection="Connecting"))
    assert "bring_up" in hosts["node2"].ops()
    assert "await_ready" not in hosts["node2"].ops()


@pytest.mark.parametrize(("here", "kind", "said"), [
    (None, Unsafe, "was down on node2, and node1 does not answer"),
    (status("one-7-42-0", disk="Inconsistent", connection="Connecting"), Unsafe, "is Inconsistent on node2"),
    (status("one-7-42-0", peer_role="Primary"), Busy, "is Primary on node1, which does not answer"),
])
def test_a_survivor_that_cannot_know_is_refused(farm, hosts, here, kind, said):
    with pytest.raises(kind, match=said):
        available(farm, hosts, here)


def test_removal_marks_first_then_locks_then_removes_volumes_before_files(farm, hosts):
    for name in ("node1", "node2"):
        hosts[name].have(spec("one-7-42-0", kind="clone", vm=42), status("one-7-42-0"))
    Removal(farm, CLONE, [POOL], None).run("node1", "/ds/0/42/disk.0")
    ops = hosts["node1"].ops(
        "give_up", "lock", "remove_link", "take_down", "remove_volume", "remove_resource", "find_domain"
    )
    assert ops[:4] == ["give_up", "lock", "remove_link", "take_down"]
    assert ops[-2:] == ["remove_volume", "remove_resource"]
    assert "find_domain" not in ops, "nobody can use a Secondary"
    assert hosts["node1"].args("lock")[0]["ignore_given_up"] is True
    assert hosts.sessions == 2


def test_a_domain_on_the_disks_of_a_vm_that_goes_is_destroyed_first(farm, hosts):
    hosts["node1"].domains["one-42"] = "running"
    for name in ("node1", "node2"):
        role = "Primary" if name == "node1" else "Secondary"
        hosts[name].have(spec("one-7-42-0", kind="clone", vm=42), status("one-7-42-0", role=role))
    Removal(farm, CLONE, [POOL], "one-42").run("node1")
    ops = hosts["node1"].ops("destroy_domain", "take_down", "remove_volume")
    assert ops[:2] == ["destroy_domain", "take_down"]


def test_a_domain_of_a_living_vm_is_left_and_the_removal_refused(farm, hosts):
    hosts["node1"].domains["one-42"] = "running"
    hosts["node1"].answers["take_down"] = Busy("its device is held open")
    for name in ("node1", "node2"):
        hosts[name].have(spec("one-7-42-0", kind="clone", vm=42), status("one-7-42-0", role="Primary"))
    with pytest.raises(Busy):
        Removal(farm, CLONE, [POOL], None).run("node1")
    assert hosts["node1"].domains
    assert "remove_volume" not in hosts["node1"].ops()


def test_a_dead_member_is_noted_and_everything_absent_is_success(farm, hosts):
    hosts["node1"].have(spec("one-7-42-0", kind="clone", vm=42), status("one-7-42-0"))
    hosts.fail("node2")
    Removal(farm, CLONE, [POOL], None).run("node1")
    assert hosts["node1"].args("note_unfinished") == [{"resource": "one-7-42-0", "hosts": ["node2"]}]
    assert "remove_volume" in hosts["node1"].ops()


def test_removal_finds_members_without_help_from_the_host_argument(farm, hosts):
    for name in ("node1", "node2"):
        hosts[name].have(spec("one-7-42-0", kind="clone", vm=42), status("one-7-42-0"))
    hosts.fail("node3")
    Removal(farm, CLONE, [POOL], None).run("node3")
    assert "remove_volume" in hosts["node2"].ops()
    assert "note_unfinished" not in hosts["node2"].ops()


def test_no_host_at_all_is_an_error(farm, hosts):
    for name in ("node1", "node2", "node3"):
        hosts.fail(name)
    with pytest.raises(Unreachable):
        Removal(farm, CLONE, [POOL], None).run("node1")


def test_an_action_that_is_given_up_ends_without_commit(farm, hosts):
    hosts["node2"].answers["await_ready"] = GivenUp("one-7-42-0 was given up while this action ran")
    with pytest.raises(GivenUp):
        clone(farm)
    assert "mark_ready" not in hosts["node1"].ops()
    assert not hosts["node1"].committed


def test_hosts_that_contradict_each_other_stop_everything(farm, hosts):
    hosts["node2"].have(spec("one-7", minor=1001))
    farm.open(["node1", "node2"])
    with pytest.raises(Unsafe, match="describe it differently"):
        locate(farm, IMAGE, "node1") and look_again(farm, locate(farm, IMAGE, "node2"))


def test_an_image_that_exists_is_somebodys_data(farm, hosts):
    with pytest.raises(Conflict, match="one-7 exists already"):
        images.place(farm, IMAGE, MIB, POOL, (), 2, nobody)


def test_an_import_passes_over_a_dead_host_while_enough_others_answer(farm, hosts):
    hosts.fail("node2")
    assert images.place(farm, image_name(9), MIB, POOL, (), 2, nobody).hosts == ("node1", "node3")
    hosts.fail("node3")
    with Sessions(TestCaller(HOSTS), hosts.connect) as again, pytest.raises(Unreachable):
        images.place(again, image_name(9), MIB, POOL, (), 2, nobody)


def test_an_image_in_use_is_not_removed(farm, hosts):
    for name in ("node1", "node2"):
        hosts[name].have(spec("one-7", vm=42), status("one-7"))
    with pytest.raises(Unsafe, match="image one-7 is up for VM 42"):
        images.remove(farm, IMAGE, [POOL])
    hosts["node1"].have(spec("one-7", vm=42), status("one-7", role="Primary"))
    with pytest.raises(Busy, match="image one-7 is Primary on node1"):
        images.remove(farm, IMAGE, [POOL])
    assert "remove_volume" not in hosts["node1"].ops()


def test_a_deadline_that_passes_while_somebody_holds_the_disk_is_an_error(farm, hosts, monkeypatch):
    from dnc.farm import removal

    monkeypatch.setattr(removal, "_LET_GO", -1.0)
    hosts["node1"].answers["take_down"] = TimedOut("still held")
    for name in ("node1", "node2"):
        hosts[name].have(spec("one-7-42-0", kind="clone", vm=42), status("one-7-42-0", role="Primary"))
    with pytest.raises(DncError, match="still held"):
        Removal(farm, CLONE, [POOL], "one-42").run("node1")
