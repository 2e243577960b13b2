"""MISSING_REPLICA=move: a VM that is off goes to a host without a replica, and one of its disks' replicas comes too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from lines import HeldVm, complaint, succeeds
from marks import THOROUGH, ZFS_FIRST
from simulated import MIB, SimStage
from test_copies import on_two, record, requires

from sim.farm import Done

pytestmark = pytest.mark.sim


@pytest.fixture
def stage(three: SimStage) -> Iterator[SimStage]:
    """Three hosts that move replicas."""
    three.configure(MISSING_REPLICA="move")
    yield three
    three.configure()


def replicas(stage: SimStage, name: str) -> set[str]:
    """The hosts that hold it, all of whose files agree on that, and say that it is finished."""
    where = stage.holders(name)
    for host in where:
        found = record(stage, host, name)
        assert found["state"] == "ready" and "leaving" not in found
        assert {member[0] for member in found["members"] if member[2]} == where, f"{name} on {host}"
    return where


def settled(stage: SimStage, name: str, host: str) -> set[str]:
    """As `replicas`, `host` among them, equal, and up everywhere (DRBD) with nobody Primary."""
    where = replicas(stage, name)
    assert host in where
    if len(where) > 1:
        assert stage.replicas_equal(name, 2 * MIB)
        assert {stage.roles(name)[one] for one in where} == {"Secondary"}
    return where


@pytest.fixture
def held(stage: SimStage) -> Iterator[Any]:
    """Makes a disk of a VM that never starts: moved by single lines of a transfer file; removed after the test."""
    made: list[HeldVm] = []

    def make(image: Any, host: str = "node1") -> tuple[HeldVm, str]:
        one = HeldVm(stage, image, host=host)
        made.append(one)
        succeeds(one.make())
        return one, image.source if image.persistent else f"{image.source}-{one.vm.id}-0"

    yield make
    stage.farm.clear_faults()
    for one in made:
        succeeds(one.delete())
        succeeds(one.delete_directory())
        one.forget()


def data(stage: SimStage, host: str, name: str) -> bytes:
    return stage.farm.volume_data(host, name, 2 * MIB)


@ZFS_FIRST
def test_a_vm_that_is_off_takes_a_replica_with_it(stage: SimStage, backend: str) -> None:
    """What was written is there, the scheduler knows, the guest starts."""
    image = on_two(stage, backend)
    vm = stage.bare(image, host="node1")
    name = f"{image.source}-{vm.id}-0"
    stage.cloud.poweroff(vm, hard=True).checked()
    before = data(stage, "node1", name)
    stage.cloud.migrate(vm, "node3").checked()
    other, = settled(stage, name, "node3") - {"node3"}
    assert data(stage, "node3", name) == before
    assert requires(vm) == {0: tuple(sorted(("node3", other)))}
    stage.cloud.resume(vm).checked()
    assert stage.domain_hosts(vm) == ["node3"]
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(image) == []


@THOROUGH
def test_two_disks_stay_together(stage: SimStage, backend: str) -> None:
    """Of a VM with two, so that it can go on moving live among its new hosts."""
    images = [on_two(stage, backend), on_two(stage, backend, path=stage.raw_file(seed=2))]
    vm = stage.bare(*images, host="node1")
    names = [f"{image.source}-{vm.id}-{number}" for number, image in enumerate(images)]
    stage.cloud.poweroff(vm, hard=True).checked()
    before = [data(stage, "node1", name) for name in names]
    stage.cloud.migrate(vm, "node3").checked()
    places = {frozenset(settled(stage, name, "node3")) for name in names}
    assert len(places) == 1 and len(next(iter(places))) == 2
    assert [data(stage, "node3", name) for name in names] == before
    resyncs = [one["target"] for name in names for one in stage.resyncs_of(name)]
    assert resyncs == ([] if stage.drbd == "8.4" else ["node3"] * len(resyncs))
    other, = next(iter(places)) - {"node3"}
    assert requires(vm) == {0: tuple(sorted(("node3", other))), 1: tuple(sorted(("node3", other)))}
    said = "".join(call.stderr for call in stage.cloud.calls if call.action == "mv")
    assert "MiB usable there, the least of node1 node2" in said and "the VM's other disks are on node3 and" in said
    stage.cloud.resume(vm).checked()
    assert stage.domain_hosts(vm) == ["node3"]
    stage.cloud.migrate(vm, other, live=True).checked()
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(*images) == []


def moves(stage: SimStage, one: HeldVm, target: str = "node3") -> str:
    """MV of disk 0 to a host; what it logged."""
    done = one.move(0, target)
    succeeds(done)
    one.host = target
    return done.stderr


@THOROUGH
def test_a_persistent_image_follows_its_vm(stage: SimStage, backend: str) -> None:
    """ln on a host without a replica, then mv to the host that lost its own; given back it rests on all members."""
    image = on_two(stage, backend, persistent=True)
    vm = stage.bare(image, host="node3")
    where = replicas(stage, image.source)
    gone, = {"node1", "node2", "node3"} - where
    assert gone != "node3"
    stage.cloud.poweroff(vm, hard=True).checked()
    before = data(stage, "node3", image.source)
    stage.cloud.migrate(vm, gone).checked()
    assert data(stage, gone, image.source) == before
    settled(stage, image.source, gone)
    stage.cloud.resume(vm).checked()
    assert stage.domain_hosts(vm) == [gone]
    stage.cloud.terminate(vm).checked()
    assert stage.roles(image.source) == {} and stage.remains(image) == []
    assert stage.replicas_equal(image.source, 2 * MIB)


@THOROUGH
def test_a_single_replica_moves(stage: SimStage) -> None:
    store = stage.datastores["thin"]
    store.template["BRIDGE_LIST"], store.template["DNC_REPLICAS"] = "node1", "1"
    image = stage.import_image("thin")
    store.template["BRIDGE_LIST"] = "node1 node2 node3"
    del store.template["DNC_REPLICAS"]
    vm = stage.bare(image, host="node1")
    name = f"{image.source}-{vm.id}-0"
    stage.cloud.undeploy(vm, hard=True).checked()
    before = data(stage, "node1", name)
    stage.cloud.resume(vm)
    stage.cloud.deploy(vm, host="node3").checked()
    assert replicas(stage, name) == {"node3"} and stage.domain_hosts(vm) == ["node3"]
    stage.cloud.poweroff(vm, hard=True).checked()
    assert data(stage, "node3", name)[:MIB] == before[:MIB]
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(image) == []


@THOROUGH
def test_what_cannot_move_is_refused_and_stays(stage: SimStage, held: Any) -> None:
    """No room, a member away, snapshots, the rules, another setting: what is wrong comes first, hosts that do last."""
    one, name = held(on_two(stage, "zfs"))
    stage.farm.fill_pool("node3", "tank", free=0)
    line = complaint(one.move(0, "node3"))
    assert line.startswith("node3: pool zfs:tank/dnc has no room for a copy of") and "node1 node2" in line
    stage.farm.empty_pool("node3", "tank")
    stage.farm.ssh_refuses("node2", "No route to host")
    line = complaint(one.move(0, "node3"))
    assert line.startswith(f"node2: {name} gets no replica on node3 without this host") and "node1" in line
    stage.farm.ssh_refuses("node2")
    stage.configure(MISSING_REPLICA="move", HOST_PAIRS="node1=node2")
    assert f"{name} may not have replicas on node3 beside node1 or node2"[:60] in complaint(one.move(0, "node3"))[:60]
    if stage.drbd == "8.4":
        stage.configure()
        line = complaint(one.move(0, "node3"))
        assert f"{name} has no replica on node3, only on node1 node2" in line and "MISSING_REPLICA" in line
    stage.configure(MISSING_REPLICA="move")
    assert settled(stage, name, "node1") == {"node1", "node2"}


@THOROUGH
def test_a_disk_with_snapshots_stays(stage: SimStage, backend: str) -> None:
    image = on_two(stage, backend)
    vm = stage.bare(image, host="node1")
    stage.cloud.poweroff(vm, hard=True).checked()
    stage.cloud.snapshot_disk(vm, 0, "s").checked()
    refused = stage.cloud.migrate(vm, "node3")
    assert not refused.ok and "has snapshots, which stay where they are: 0" in refused.error
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(image) == []


@THOROUGH
def test_the_rules_say_which_replica_goes(stage: SimStage, held: Any) -> None:
    """The one in the new host's failure domain; and in a dry run that is only told."""
    one, name = held(on_two(stage, "zfs"))
    stage.configure(MISSING_REPLICA="move", FAILURE_DOMAINS="a=node1,node3 b=node2")
    stage.cloud.environment["DNC_DRY_RUN"] = "1"
    try:
        planned = one.move(0, "node3")
    finally:
        del stage.cloud.environment["DNC_DRY_RUN"]
    succeeds(planned)
    reason = f"{name}: its replica on node1 moves to node3: both are in failure domain a"
    assert reason in planned.stderr and settled(stage, name, "node1") == {"node1", "node2"}
    assert reason in moves(stage, one)
    assert settled(stage, name, "node3") == {"node2", "node3"}


@THOROUGH
def test_twice_at_once(stage: SimStage, held: Any) -> None:
    """One moves it, the other one waits and finds it done."""
    one, name = held(on_two(stage, "zfs"))
    done: list[Done] = []
    threads = [threading.Thread(target=lambda: done.append(one.move(0, "node3"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one.host = "node3"
    for each in done:
        succeeds(each)
    assert sum("moves to node3" in each.stderr for each in done) == 1
    assert len(settled(stage, name, "node3")) == 2


def test_a_new_replica_that_drbd_refuses(stage: SimStage, held: Any) -> None:
    """The old ones are in use again at once, or (DRBD 9) as soon as somebody tries again."""
    one, name = held(on_two(stage, "zfs"))
    stage.farm.fail_at("node3", "drbdadm up")
    complaint(one.move(0, "node3"))
    if stage.drbd == "8.4":
        assert settled(stage, name, "node1") == {"node1", "node2"}
    moves(stage, one)
    assert len(settled(stage, name, "node3")) == 2


# Who loses power while what runs where; afterwards every host is up again.
CUTS = (("node1", "node3", "drbdadm up"), ("node2", "node3", "drbdadm up"), ("node3", "node3", "drbdadm up"),
        ("node1", "node1", "drbdadm down"), ("node2", "node2", "zfs destroy"), ("node1", "node1", "zfs destroy"))


@THOROUGH
@pytest.mark.parametrize(("lost", "host", "command"), CUTS)
def test_a_power_cut_on_the_way(stage: SimStage, held: Any, lost: str, host: str, command: str) -> None:
    """Whoever was away, and whatever it had on disk then: the repeat ends with two equal replicas and nothing else."""
    one, name = held(on_two(stage, "zfs"))
    before = data(stage, "node1", name)
    stage.farm.power_cut_at(host, 1, victim=lost, pattern=command)
    one.move(0, "node3")
    stage.farm.clear_faults()
    if not stage.farm.state["hosts"][lost]["power"]:
        stage.farm.power_on(lost)
    moves(stage, one)
    assert len(settled(stage, name, "node3")) == 2
    assert data(stage, "node3", name) == before


WAYS = (("node3", "before", "agent"), ("node1", "after", "action"), ("node2", "before", "action"),
        ("node3", "after", "action"), ("node2", "after", "agent"), ("node1", "before", "agent"))


def killed(stage: SimStage, one: HeldVm, n: int) -> bool:
    """The move, killed at the n-th point; whether it got that far."""
    host, when, target = WAYS[n % len(WAYS)]
    stage.farm.crash_at(host, (n + 2) // 3, when, target)
    done = one.move(0, "node3")
    met = not stage.farm.state["hosts"][host]["inject"]
    stage.farm.clear_faults()
    if not met:
        succeeds(done)
    return met


@pytest.mark.parametrize(("backend", "step"), [
    ("zfs", 17), pytest.param("zfs", 1, marks=THOROUGH), pytest.param("thin", 2, marks=THOROUGH)])
def test_a_move_killed(stage: SimStage, backend: str, step: int) -> None:
    """The repeat makes it whole; or the VM starts where it was; or the disk is removed, and nothing is left of it."""
    image, points, unmet = on_two(stage, backend), 0, 0
    content = None
    for n in range(step // 2 + 1, 400, step):
        one = HeldVm(stage, image)
        succeeds(one.make())
        name = f"{image.source}-{one.vm.id}-0"
        content = content or data(stage, "node1", name)
        met = killed(stage, one, n)
        points, unmet = points + met, 0 if met else unmet + 1
        if n % 3 == 0:
            moves(stage, one)
            assert data(stage, "node3", name) == content, n
            assert len(settled(stage, name, "node3")) == 2, n
        elif n % 3 == 1 and met:
            moves(stage, one, "node2")
            assert data(stage, "node2", name) == content, n
            assert len(settled(stage, name, "node2")) == 2, n
        succeeds(one.delete())
        for one.host in stage.hosts:
            succeeds(one.delete_directory())
        assert stage.remains(image) == [], f"after point {n}"
        one.forget()
        if unmet == 3:
            break
    assert points >= max(1, 30 // step)
