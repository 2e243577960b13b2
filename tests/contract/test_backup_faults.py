"""Backups and restores when something dies, does not answer or is full: nothing lost, nothing left, no guest frozen."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from lines import complaint, succeeds
from marks import THOROUGH
from simulated import SimStage
from test_backups import back_up, content, left, resource, store, stored, unpacked, write
from test_crashes import crashed
from test_snapshot_faults import goes_on

from oned import Datastore, Image, VirtualMachine
from sim.farm import Done

pytestmark = pytest.mark.sim
__all__ = ["store"]


def act(stage: SimStage, vm: VirtualMachine, action: str, *disks: str) -> Done:
    """A backup's TM action, with the VM's document on stdin."""
    line = stage.cloud.lines(vm).backup([*disks] or stage.cloud.backup_disks(vm))
    done = stage.cloud.transfer.run_line(line, vm.xml(), "plain", action)
    return Done(done.rc, done.stdout, done.stderr)


def two_disks(stage: SimStage, backend: str) -> tuple[VirtualMachine, list[Image]]:
    images = [stage.import_image(backend), stage.import_image(backend)]
    return stage.bare(*images), images


@THOROUGH
@pytest.mark.parametrize("mode", ["FULL", "INCREMENT"])
def test_prebackup_killed_at_every_command(stage: SimStage, backend: str, mode: str) -> None:
    """The guest goes on; what is left goes with postbackup, or with the next prebackup."""
    vm, images = two_disks(stage, backend)
    stage.cloud.configure_backup(vm, MODE=mode)
    for n in crashed(stage, lambda: act(stage, vm, "prebackup_live"), 0, step=2):
        goes_on(stage, vm)
        if n % 4 == 1:
            succeeds(act(stage, vm, "prebackup_live"))
        succeeds(act(stage, vm, "postbackup_live"))
        files = [line for line in left(stage) if "snap-backup-0" not in line]
        assert files == []
    stage.cloud.configure_backup(vm)
    succeeds(act(stage, vm, "prebackup_live"))
    succeeds(act(stage, vm, "postbackup_live"))
    assert left(stage) == []
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(*images) == []


@THOROUGH
def test_restore_killed_at_every_command(stage: SimStage, backend: str, store: Datastore) -> None:
    """The old data or the new, never a mixture that starts; the same restore again heals it."""
    vm, images = two_disks(stage, backend)
    names = [resource(image, vm, number) for number, image in enumerate(images)]
    saved = []
    stage.cloud.poweroff(vm, hard=True).checked()
    for _ in range(2):
        write(stage, vm)
        saved.append((back_up(stage, vm, store), [content(stage, name) for name in names]))
    assert saved[0][1] != saved[1][1]
    lines = stage.cloud.lines(vm)
    for _ in crashed(stage, lambda: stage.line(lines.restore(saved[0][0].id, -1, -1)), 0, step=2):
        succeeds(stage.line(lines.restore(saved[0][0].id, -1, -1)))
        assert [content(stage, name) for name in names] == saved[0][1]
        saved.reverse()
    stage.cloud.resume(vm).checked()
    for name in names:
        assert stage.resyncs_of(name) == []
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(*images) == []


def test_a_member_is_away(stage: SimStage, store: Datastore) -> None:
    """A full backup does without it; an increment and a restore say who is missing."""
    image = stage.import_image("zfs")
    vm = stage.bare(image)
    before = back_up(stage, vm, store)
    stage.farm.power_cut("node2")
    try:
        saved = back_up(stage, vm, store)
        assert len(unpacked(stored(store, saved))) == len(unpacked(stored(store, before)))
        stage.cloud.configure_backup(vm, MODE="INCREMENT")
        assert "node2" in complaint(act(stage, vm, "prebackup_live"))[:60]
        stage.cloud.poweroff(vm, hard=True).checked()
        data = stage.farm.volume_data("node1", resource(image, vm), 2 << 20)
        assert "node2" in complaint(stage.line(stage.cloud.lines(vm).restore(saved.id, -1, -1)))[:60]
        assert stage.farm.volume_data("node1", resource(image, vm), 2 << 20) == data
    finally:
        stage.farm.power_on("node2")
    assert left(stage) == []
    stage.cloud.resume(vm).checked()
    stage.cloud.terminate(vm, hard=True).checked()


def in_background(stage: SimStage, vm: VirtualMachine, store: Datastore, host: str, pattern: str) -> Callable[[], str]:
    """Begin a backup that hangs at a command; returns what waits for its end, and gives the error."""
    stage.farm.delay(host, pattern, 5.0)
    operation = stage.cloud.backup(vm, store, background=True)
    stage.await_delayed(host, pattern)
    return lambda: operation.wait(120).error


def test_backup_cancel(stage: SimStage, store: Datastore) -> None:
    """OpenNebula's way of ending a backup reaches prebackup, too; what it had begun is taken back."""
    image = stage.import_image("thin")
    vm = stage.bare(image)
    ended = in_background(stage, vm, store, "node1", ".backup")
    time.sleep(0.2)
    stage.cloud.cancel_backup(vm, store).checked()
    assert "was interrupted" in ended()
    assert vm.status == "RUNNING" and left(stage) == []
    goes_on(stage, vm)
    back_up(stage, vm, store)
    stage.cloud.terminate(vm, hard=True).checked()


@THOROUGH
def test_room_and_privileges(stage: SimStage, store: Datastore) -> None:
    """A full pool, and a tool that fails, are told before any guest waits, or leave nothing."""
    image = stage.import_image("thin")
    vm = stage.bare(image)
    stage.farm.fill_pool("node1", "vg0/pool")
    try:
        assert "full" in stage.cloud.backup(vm, store).error
    finally:
        stage.farm.empty_pool("node1", "vg0/pool")
    stage.farm.fail_at("node1", ".backup")
    assert not stage.cloud.backup(vm, store).ok
    stage.farm.clear_faults()
    assert left(stage) == []
    goes_on(stage, vm)
    saved = back_up(stage, vm, store)
    stage.cloud.poweroff(vm, hard=True).checked()
    stage.farm.fail_at("node2", ".next")
    before = content(stage, resource(image, vm))
    assert "node2" in complaint(stage.line(stage.cloud.lines(vm).restore(saved.id, -1, -1)))[:60]
    stage.farm.clear_faults()
    assert content(stage, resource(image, vm)) == before
    stage.cloud.restore(vm, saved).checked()
    stage.cloud.terminate(vm, hard=True).checked()


@THOROUGH
def test_one_replica(stage: SimStage, backend: str, store: Datastore) -> None:
    """Two disks without DRBD: nothing but a pause holds their guest."""
    stage.configure(REPLICAS="1")
    bridges = stage.datastores[backend].template["BRIDGE_LIST"]
    stage.datastores[backend].template["BRIDGE_LIST"] = "node1"
    try:
        vm, images = two_disks(stage, backend)
        names = [resource(image, vm, number) for number, image in enumerate(images)]
        since = len(stage.farm.commands)
        saved = back_up(stage, vm, store)
        assert ["xl", "pause", f"one-{vm.id}"] in [one["argv"] for one in stage.farm.commands[since:]]
        goes_on(stage, vm)
        write(stage, vm)
        stage.cloud.restore(vm, saved).checked()
        assert [content(stage, name) for name in names] == [unpacked(stored(store, saved, n)) for n in range(2)]
        stage.cloud.configure_backup(vm, MODE="INCREMENT")
        for _ in range(2):
            write(stage, vm)
            chain = back_up(stage, vm, store)
        stage.cloud.restore(vm, chain, increment=0).checked()
        stage.cloud.terminate(vm, hard=True).checked()
        assert stage.remains(*images) == []
    finally:
        stage.datastores[backend].template["BRIDGE_LIST"] = bridges
        stage.configure()


@THOROUGH
@pytest.mark.parametrize("mode", ["FULL", "INCREMENT"])
def test_a_guest_without_a_replica(three: SimStage, drbd: str, mode: str) -> None:
    """Its disks are read on a member, and stored from where it runs."""
    if drbd != "9":
        pytest.skip("DRBD 8.4 knows no clients")
    stage, cloud = three, three.cloud
    store = cloud.create_backup_datastore(stage.new_name("backups"), stage.directory / "backups")
    image = stage.import_image("zfs")
    place = next(host for host in stage.hosts if host not in stage.holders(image.source))
    vm = stage.bare(image, {"TYPE": "fs", "FS": "ext4", "SIZE": "4", "DNC_POOL": "zfs:tank/dnc"}, host=place)
    name = resource(image, vm)
    assert place not in stage.holders(name)
    cloud.configure_backup(vm, MODE=mode, BACKUP_VOLATILE="YES")
    for _ in range(2):
        saved = back_up(stage, vm, store)
        goes_on(stage, vm)
    assert any("is read on" in one.stderr for one in cloud.operations[-1].calls)
    write(stage, vm)
    cloud.restore(vm, saved).checked()
    if mode == "FULL":
        assert content(stage, name) == unpacked(stored(store, saved))
    cloud.resume(vm).checked()
    cloud.terminate(vm, hard=True).checked()
    assert stage.remains(image) == []


@THOROUGH
def test_a_dry_run_changes_nothing(stage: SimStage, store: Datastore) -> None:
    image = stage.import_image("zfs")
    vm = stage.bare(image)
    verb, _mad, *argv = stage.cloud.lines(vm).backup(["0"]).split()
    assert verb == "BACKUP"
    done = stage.run("tm", "prebackup_live", *argv, stdin=vm.xml().encode(), DNC_DRY_RUN="1")
    succeeds(done)
    assert "would" in done.stderr and left(stage) == []
    saved = back_up(stage, vm, store)
    stage.cloud.poweroff(vm, hard=True).checked()
    before = content(stage, resource(image, vm))
    _verb, _mad, *argv = stage.cloud.lines(vm).restore(saved.id, -1, -1).split()
    done = stage.run("tm", "restore", *argv, DNC_DRY_RUN="1")
    succeeds(done)
    assert "would" in done.stderr and content(stage, resource(image, vm)) == before
    stage.cloud.resume(vm).checked()
    stage.cloud.terminate(vm, hard=True).checked()
