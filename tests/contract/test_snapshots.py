"""Snapshots of disks as a tree, on both backends; reverting without a resync; disks saved as images."""

from __future__ import annotations

import base64

import pytest
from marks import THOROUGH, ZFS_FIRST
from simulated import MIB, SimStage

from oned import Image, VirtualMachine
from sim.farm import Done

pytestmark = pytest.mark.sim
SIZE = 2 * MIB


def disk_of(image: Image, vm: VirtualMachine) -> str:
    return f"{image.source}-{vm.id}-0"


def content(stage: SimStage, resource: str) -> str:
    """The digest of a disk's data, equal on both members."""
    found = {stage.farm.digest(host, resource, SIZE) for host in stage.hosts}
    assert len(found) == 1, f"replicas of {resource} differ"
    return found.pop()


def snapshot(stage: SimStage, vm: VirtualMachine) -> int:
    """A snapshot of disk 0 by the user; its number."""
    stage.cloud.snapshot_disk(vm, 0, "s").checked()
    return int(vm.snapshots[0].snapshots[-1]["ID"])


def runs(stage: SimStage, vm: VirtualMachine) -> None:
    """The domain is on its host, and not paused."""
    domains = stage.farm.state["hosts"][vm.host]["xen"]["domains"].values()
    states = [one["state"] for one in domains if one["name"] == f"one-{vm.id}"]
    assert states == ["running"]


def off_and_on(stage: SimStage, vm: VirtualMachine) -> None:
    """The guest writes some more, then the VM is off."""
    stage.cloud.resume(vm).checked()
    stage.cloud.poweroff(vm, hard=True).checked()


def of_image(stage: SimStage, action: str, image: Image, label: int) -> Done:
    """A datastore action on an image's snapshot, as oned gives it."""
    text = (
        f"<DS_DRIVER_ACTION_DATA><IMAGE><ID>{image.id}</ID><TYPE>0</TYPE><SOURCE>{image.source}</SOURCE></IMAGE>"
        f"<DATASTORE><ID>{image.datastore_id}</ID><TEMPLATE/></DATASTORE>"
        f"<TARGET_SNAPSHOT>{label}</TARGET_SNAPSHOT></DS_DRIVER_ACTION_DATA>"
    )
    return stage.run("datastore", action, str(image.id), stdin=base64.b64encode(text.encode()))


@ZFS_FIRST
def test_a_tree_of_snapshots(stage: SimStage, backend: str) -> None:
    """Back to the first, on from there, forth to the second, which is younger; a parent goes before its children."""
    image = stage.import_image(backend)
    vm = stage.bare(image)
    name = disk_of(image, vm)
    first = snapshot(stage, vm)
    runs(stage, vm)
    stage.cloud.poweroff(vm, hard=True).checked()
    contents = {}
    second = snapshot(stage, vm)
    contents[second] = content(stage, name)
    off_and_on(stage, vm)
    assert content(stage, name) != contents[second], "the guest wrote something"
    stage.cloud.revert_disk(vm, 0, first).checked()
    contents[first] = content(stage, name)
    assert contents[first] != contents[second]
    off_and_on(stage, vm)
    third = snapshot(stage, vm)
    contents[third] = content(stage, name)
    off_and_on(stage, vm)
    for label in (second, third, first, second):
        stage.cloud.revert_disk(vm, 0, label).checked()
        assert content(stage, name) == contents[label], label
        assert stage.roles(name) == {"node1": "Secondary", "node2": "Secondary"}
    stage.cloud.delete_disk_snapshot(vm, 0, first).checked()
    stage.cloud.revert_disk(vm, 0, third).checked()
    assert content(stage, name) == contents[third]
    stage.cloud.delete_disk_snapshot(vm, 0, second).checked()
    stage.cloud.delete_disk_snapshot(vm, 0, third).checked()
    assert content(stage, name) == contents[third]
    assert [line for line in stage.leftovers() if ".snap-" in line or ".branch-" in line] == []
    stage.cloud.resume(vm).checked()
    assert stage.resyncs_of(name) == []
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(image) == []


@THOROUGH
def test_snapshots_are_in_nobody_s_way(stage: SimStage, backend: str) -> None:
    """Live migration, cold migration, undeploy with snapshots; removal of the VM with a tree of them."""
    image = stage.import_image(backend)
    vm = stage.bare(image)
    name = disk_of(image, vm)
    labels = [snapshot(stage, vm)]
    stage.cloud.migrate(vm, "node2", live=True).checked()
    labels.append(snapshot(stage, vm))
    runs(stage, vm)
    stage.cloud.poweroff(vm, hard=True).checked()
    stage.cloud.revert_disk(vm, 0, labels[0]).checked()
    stage.cloud.migrate(vm, "node1").checked()
    stage.cloud.resume(vm).checked()
    labels.append(snapshot(stage, vm))
    stage.cloud.undeploy(vm, hard=True).checked()
    stage.cloud.resume(vm)
    stage.cloud.deploy(vm, host="node2").checked()
    assert stage.domain_hosts(vm) == ["node2"]
    assert stage.resyncs_of(name) == []
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(image) == []


@THOROUGH
def test_a_persistent_image_with_snapshots(stage: SimStage, backend: str) -> None:
    """Made while a VM has it; reverted, deleted, flattened at rest; the image is removed with what is left."""
    image = stage.import_image(backend, persistent=True)
    vm = stage.bare(image)
    labels, contents = [], {}
    for _ in range(3):
        stage.cloud.poweroff(vm, hard=True).checked()
        labels.append(snapshot(stage, vm))
        contents[labels[-1]] = content(stage, image.source)
        stage.cloud.resume(vm).checked()
    line = of_image(stage, "snap_revert", image, labels[0])
    assert line.status == 1 and "belongs to VM" in line.stderr
    stage.cloud.terminate(vm, hard=True).checked()
    for label in (labels[0], labels[2]):
        done = of_image(stage, "snap_revert", image, label)
        assert done.status == 0, done.stderr
        assert content(stage, image.source) == contents[label]
        assert stage.roles(image.source) == {}, "at rest"
    assert of_image(stage, "snap_delete", image, labels[0]).status == 0
    assert of_image(stage, "snap_delete", image, labels[0]).status == 0
    for _ in range(2):
        done = of_image(stage, "snap_flatten", image, labels[1])
        assert done.status == 0, done.stderr
    assert content(stage, image.source) == contents[labels[1]]
    assert [line for line in stage.leftovers() if "snap-" in line or ".branch" in line] == []
    assert stage.resyncs_of(image.source) == []
    other = stage.bare(image)
    snapshot(stage, other)
    stage.cloud.terminate(other, hard=True).checked()


@THOROUGH
@pytest.mark.parametrize("order", ["disk first", "image first"])
def test_a_saved_disk_stands_alone(stage: SimStage, backend: str, order: str) -> None:
    """Running, from a snapshot, and undeployed; removed in any order; VMs run from it."""
    image = stage.import_image(backend)
    vm = stage.bare(image)
    name = disk_of(image, vm)
    label = snapshot(stage, vm)
    saved = []

    def save(number: int = -1) -> Image:
        stage.cloud.save_disk_as(vm, 0, stage.new_name("saved"), number).checked()
        saved.append(next(reversed(stage.cloud.images.values())))
        assert stage.roles(saved[-1].source) == {}, "an image is at rest"
        content(stage, saved[-1].source)
        return saved[-1]

    save()
    runs(stage, vm)
    stage.cloud.poweroff(vm, hard=True).checked()
    assert content(stage, save().source) == content(stage, name)
    stage.cloud.resume(vm).checked()
    old = save(label)
    stage.cloud.undeploy(vm, hard=True).checked()
    assert content(stage, save().source) == content(stage, name)
    digest = content(stage, old.source)
    if order == "disk first":
        stage.cloud.terminate(vm, hard=True).checked()
        assert content(stage, old.source) == digest
        other = stage.bare(old)
        stage.cloud.delete_image(saved.pop(0)).checked()
        stage.cloud.terminate(other, hard=True).checked()
    for one in saved:
        stage.cloud.delete_image(one).checked()
    if order == "image first":
        assert [line for line in stage.leftovers() if "save-" in line] == []
        stage.cloud.resume(vm)
        stage.cloud.deploy(vm, host="node1").checked()
        stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(image) == []


@THOROUGH
def test_one_replica(stage: SimStage, backend: str) -> None:
    """No DRBD, no barrier: one volume's snapshot is one instant."""
    stage.configure(REPLICAS="1")
    try:
        image = stage.import_image(backend)
        members = [host for host in stage.hosts if image.source in " ".join(stage.leftovers()) and any(
            line.startswith(f"{host}: ") and image.source in line for line in stage.leftovers())]
        vm = stage.bare(image, host=members[0])
        name = disk_of(image, vm)
        label = snapshot(stage, vm)
        runs(stage, vm)
        stage.cloud.poweroff(vm, hard=True).checked()
        before = stage.farm.digest(members[0], name, SIZE)
        other = snapshot(stage, vm)
        stage.cloud.revert_disk(vm, 0, label).checked()
        assert stage.farm.digest(members[0], name, SIZE) != before
        stage.cloud.revert_disk(vm, 0, other).checked()
        assert stage.farm.digest(members[0], name, SIZE) == before
        stage.cloud.save_disk_as(vm, 0, stage.new_name("saved"), label).checked()
        stage.cloud.resume(vm).checked()
        stage.cloud.terminate(vm, hard=True).checked()
        stage.tidy()
    finally:
        stage.configure()
