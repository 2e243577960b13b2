"""Snapshots, reverts and saved disks when something dies or does not answer: nothing lost, no guest left frozen."""

from __future__ import annotations

import time

import pytest
from lines import complaint, succeeds
from marks import THOROUGH
from simulated import SimStage
from test_crashes import crashed
from test_snapshots import content, disk_of, runs, snapshot

from oned import VirtualMachine
from sim.farm import Done

pytestmark = pytest.mark.sim


def act(stage: SimStage, vm: VirtualMachine, verb: str, label: int) -> Done:
    """One line of a transfer file for a snapshot of disk 0."""
    return stage.line(stage.cloud.lines(vm).snapshot(verb, vm.disks[0], label))


def goes_on(stage: SimStage, vm: VirtualMachine) -> None:
    """The guest runs within a few seconds, whoever was killed."""
    end = time.monotonic() + 10
    while True:
        try:
            runs(stage, vm)
            return
        except AssertionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def remains_of_snapshots(stage: SimStage) -> list[str]:
    return [line for line in stage.leftovers() if any(part in line for part in (".snap-", ".branch-", ".next", ".old"))]


@THOROUGH
def test_a_live_snapshot_killed_at_every_command(stage: SimStage, backend: str) -> None:
    """The guest goes on, and the next snapshot clears what is left."""
    vm = stage.bare(stage.import_image(backend))
    used = [0]
    for n in crashed(stage, lambda: act(stage, vm, "SNAP_CREATE_LIVE", used[-1]), 0):
        goes_on(stage, vm)
        if n % 2:
            succeeds(act(stage, vm, "SNAP_CREATE_LIVE", used[-1]))
        used.append(n)
    for number in used:
        succeeds(act(stage, vm, "SNAP_DELETE", number))
    assert remains_of_snapshots(stage) == []
    stage.cloud.terminate(vm, hard=True).checked()


@THOROUGH
def test_a_revert_killed_at_every_command(stage: SimStage, backend: str) -> None:
    """The same revert run again heals it; so does the removal of the VM."""
    vm = stage.bare(stage.import_image(backend))
    name = disk_of(stage.cloud.images[int(vm.disks[0]["IMAGE_ID"])], vm)
    labels = [snapshot(stage, vm), snapshot(stage, vm)]
    stage.cloud.poweroff(vm, hard=True).checked()
    contents = {}
    for label in labels:
        succeeds(act(stage, vm, "SNAP_REVERT", label))
        contents[label] = content(stage, name)
    assert contents[labels[0]] != contents[labels[1]]
    for _ in crashed(stage, lambda: act(stage, vm, "SNAP_REVERT", labels[0]), 0):
        succeeds(act(stage, vm, "SNAP_REVERT", labels[0]))
        assert content(stage, name) == contents[labels[0]]
        labels.reverse()
    stage.cloud.resume(vm).checked()
    assert stage.resyncs_of(name) == []
    stage.cloud.terminate(vm, hard=True).checked()


def test_a_disk_that_is_half_reverted_starts_nowhere_and_can_be_removed(stage: SimStage) -> None:
    image = stage.import_image("zfs")
    vm = stage.bare(image)
    label = snapshot(stage, vm)
    stage.cloud.poweroff(vm, hard=True).checked()
    stage.farm.crash_at("node1", 1, "after", "agent", pattern="rename")
    assert "node1" in complaint(act(stage, vm, "SNAP_REVERT", label))[:60]
    assert "half reverted" in str(stage.cloud.resume(vm).error)
    assert "half reverted" in complaint(act(stage, vm, "SNAP_DELETE", label))
    assert "half reverted" in complaint(act(stage, vm, "SNAP_CREATE", label + 1))
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(image) == []


@THOROUGH
def test_a_member_that_does_not_answer(stage: SimStage) -> None:
    """No snapshot, no removal; once it is back, everything goes."""
    vm = stage.bare(stage.import_image("thin"))
    label = snapshot(stage, vm)
    stage.farm.power_cut("node2")
    for verb in ("SNAP_CREATE_LIVE", "SNAP_DELETE"):
        assert "node2" in complaint(act(stage, vm, verb, label))[:60]
    goes_on(stage, vm)
    stage.farm.power_on("node2")
    stage.cloud.poweroff(vm, hard=True).checked()
    stage.cloud.terminate(vm, hard=True).checked()


def test_a_member_that_fails_in_the_middle_of_the_barrier(stage: SimStage) -> None:
    """Nothing is kept anywhere, and the guest runs."""
    vm = stage.bare(stage.import_image("zfs"))
    stage.farm.fail_at("node2", "snapshot", stderr="cannot create snapshot 'x': out of space\n")
    assert "node2" in complaint(act(stage, vm, "SNAP_CREATE_LIVE", 0))[:60]
    goes_on(stage, vm)
    assert remains_of_snapshots(stage) == []
    stage.cloud.terminate(vm, hard=True).checked()


@THOROUGH
def test_a_member_without_the_snapshot_is_copied(stage: SimStage) -> None:
    """One whose replica lost its snapshots takes all of the data from the other; both are equal again."""
    vm = stage.bare(stage.import_image("thin"))
    name = disk_of(stage.cloud.images[int(vm.disks[0]["IMAGE_ID"])], vm)
    label = snapshot(stage, vm)
    stage.cloud.poweroff(vm, hard=True).checked()
    stage.farm.run("node2", ["lvremove", "-f", f"vg0/{name}.snap-{label}"])
    succeeds(act(stage, vm, "SNAP_REVERT", label))
    content(stage, name)
    assert len(stage.resyncs_of(name)) == 1
    stage.cloud.terminate(vm, hard=True).checked()


@THOROUGH
def test_bad_input(stage: SimStage) -> None:
    vm = stage.bare(stage.import_image("zfs"))
    assert "is Primary on node1" in complaint(act(stage, vm, "SNAP_REVERT", 0))
    stage.cloud.poweroff(vm, hard=True).checked()
    assert "no snapshot 7" in complaint(act(stage, vm, "SNAP_REVERT", 7))
    succeeds(act(stage, vm, "SNAP_DELETE", 7))
    place = f"node1:{stage.cloud.vm_directory(vm.datastore_id, vm.id)}/disk.0"
    for words, text in ((f"{place} x {vm.id} 1", "snapshot id"), (f"{place} 0 {vm.id}", "4 arguments|3 arguments"),
                        (f"{place.replace('disk.0', 'disk.9')} 0 {vm.id} 1", "no disk 9")):
        assert any(one in complaint(stage.line(f"SNAP_CREATE dnc {words}")) for one in text.split("|"))
    stage.cloud.terminate(vm, hard=True).checked()


@THOROUGH
def test_saving_a_disk_killed_at_every_command(stage: SimStage, backend: str) -> None:
    """The same cpds run again fills the image; the guest runs, and nothing but the image is left."""
    vm = stage.bare(stage.import_image(backend))
    stage.cloud.save_disk_as(vm, 0, stage.new_name("saved")).checked()
    saved = next(reversed(stage.cloud.images.values()))
    line = stage.cloud.lines(vm).save_as(vm.disks[0], saved.source, -1, vm.host)
    for _ in crashed(stage, lambda: stage.line(line), 0, step=2):
        goes_on(stage, vm)
        succeeds(stage.line(line))
        content(stage, saved.source)
    stage.cloud.delete_image(saved).checked()
    assert [line for line in stage.leftovers() if line.endswith((f"/{saved.source}", f"/{saved.source}.res"))] == []
    assert remains_of_snapshots(stage) == []
    stage.cloud.terminate(vm, hard=True).checked()
