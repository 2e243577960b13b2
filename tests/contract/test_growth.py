"""Disks that grow, the VM running or off: right on every member, without a resync, wherever the action is killed."""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path

import pytest
from lines import complaint, succeeds
from marks import THOROUGH, ZFS_FIRST, first
from simulated import MIB, POOLS, SimStage

from oned import VirtualMachine

pytestmark = pytest.mark.sim
SIZE = 2 * MIB
RESIZE = {"8.4": "--assume-clean resize", "9": "resize --assume-clean"}


def disk_of(vm: VirtualMachine, number: int = 0) -> str:
    disk = vm.disks[number]
    if "SOURCE" not in disk:
        return f"one-sys-{vm.id}-{number}"
    return str(disk["SOURCE"]) if disk.get("PERSISTENT") == "YES" else f"{disk['SOURCE']}-{vm.id}-{number}"


def assert_grown(stage: SimStage, name: str, size: int, old: int = SIZE) -> None:
    """Both members have the size, hold the same over all of it, and nothing but zeros where there was nothing."""
    assert stage.resyncs_of(name) == []
    assert stage.replicas_equal(name, size)
    for host in stage.hosts:
        kernel = stage.farm.kernel(host, name)
        assert kernel is not None and kernel["kib"] * 1024 >= size, host
        assert (kernel["conn"], kernel["disk"], kernel["oos"]) == ("Connected", "UpToDate", []), host
        assert stage.farm.volume_data(host, name, size)[old:] == bytes(size - old), host
        head = Path(stage.farm.path(host, f"/etc/drbd.d/{name}.res")).read_text().splitlines()[0]
        assert json.loads(head.removeprefix("# dnc "))["data_bytes"] == size, host


def volume_bytes(stage: SimStage, host: str, name: str) -> int:
    return os.path.getsize(stage.farm.volume_path(host, name))


def place_of(stage: SimStage, name: str) -> str:
    """The one host that has a volume of that name."""
    for host in stage.hosts:
        try:
            stage.farm.volume_path(host, name)
        except FileNotFoundError:
            continue
        return host
    raise AssertionError(f"{name} is nowhere")


def paused(stage: SimStage) -> list[str]:
    return [name for host in stage.hosts for name, one in stage.farm.domains(host).items() if one["state"] == "paused"]


@pytest.mark.parametrize(("backend", "state"), first(
    ("zfs", "RUNNING"), ("thin", "POWEROFF"),
    later=(("zfs", "POWEROFF"), ("thin", "RUNNING"), ("zfs", "UNDEPLOYED"), ("thin", "UNDEPLOYED")),
))
def test_resize(stage: SimStage, backend: str, state: str) -> None:
    """A clone, a persistent image and a volatile disk, twice each; after it everything works as before."""
    cloud = stage.cloud
    volatile = {"TYPE": "fs", "FS": "ext4", "SIZE": "4", "DNC_POOL": POOLS[backend]}
    vm = stage.bare(stage.import_image(backend), stage.import_image(backend, persistent=True), volatile)
    if state == "POWEROFF":
        cloud.poweroff(vm, hard=True).checked()
    elif state == "UNDEPLOYED":
        cloud.undeploy(vm, hard=True).checked()
    for size in (8, 21):
        for number, old in ((0, SIZE), (1, SIZE), (2, 4 * MIB)):
            cloud.resize_disk(vm, number, size).checked()
            if state == "RUNNING":
                assert stage.roles(disk_of(vm, number)) == {"node1": "Primary", "node2": "Secondary"}
            else:
                assert stage.roles(disk_of(vm, number)) == {"node1": "Secondary", "node2": "Secondary"}
                assert_grown(stage, disk_of(vm, number), size * MIB, old)
    assert paused(stage) == []
    if state == "UNDEPLOYED":
        cloud.deploy(vm, host="node2").checked()
    elif state == "POWEROFF":
        cloud.resume(vm).checked()
    cloud.migrate(vm, "node2" if vm.host == "node1" else "node1", live=True).checked()
    cloud.poweroff(vm, hard=True).checked()
    for number, old in ((0, SIZE), (1, SIZE), (2, 4 * MIB)):
        # The guest counts at 1 MiB, below what is compared with zeros.
        assert_grown(stage, disk_of(vm, number), 21 * MIB, old)
    cloud.terminate(vm, hard=True).checked()


@ZFS_FIRST
def test_a_grown_persistent_image_is_cloned_and_used_again(stage: SimStage, backend: str) -> None:
    cloud = stage.cloud
    image = stage.import_image(backend, persistent=True)
    vm = stage.bare(image)
    cloud.resize_disk(vm, 0, 12).checked()
    cloud.terminate(vm, hard=True).checked()
    assert stage.replicas_equal(image.source, 12 * MIB)
    image.size = 12
    cloud.set_persistent(image, False)
    other = stage.bare(image, host="node2")
    assert stage.resyncs_of(disk_of(other)) == []
    cloud.resize_disk(other, 0, 16).checked()
    cloud.terminate(other, hard=True).checked()


@ZFS_FIRST
def test_one_replica_grows_too(stage: SimStage, backend: str) -> None:
    stage.configure(REPLICAS="1")
    try:
        image = stage.import_image(backend)
        vm = stage.bare(image, host=place_of(stage, image.source))
        stage.cloud.resize_disk(vm, 0, 8).checked()
        stage.cloud.poweroff(vm, hard=True).checked()
        stage.cloud.resize_disk(vm, 0, 9).checked()
        assert stage.farm.volume_data(vm.host, disk_of(vm), 9 * MIB)[SIZE:] == bytes(7 * MIB)
        stage.cloud.terminate(vm, hard=True).checked()
        stage.cloud.delete_image(image).checked()
    finally:
        stage.configure()


def test_refusals_leave_everything_as_it_was(stage: SimStage) -> None:
    """Smaller, a member that is away, a member out of sync, a full pool, nonsense: one line, and nothing has grown."""
    image = stage.import_image("thin")
    vm = stage.bare(image)
    name = disk_of(vm)
    place = f"node1:{stage.cloud.vm_directory(vm.datastore_id, vm.id)}/disk.0"

    def resize(size: str, where: str = place) -> str:
        return complaint(stage.line(f"RESIZE dnc {where} {size} {vm.id} {vm.disks[0]['DATASTORE_ID']}"))

    before = {host: volume_bytes(stage, host, name) for host in stage.hosts}
    assert "does not shrink" in resize("1")
    for wrong in ("0", "-5", "1e3", "99999999999"):
        assert "size" in resize(wrong)
    assert "no disk 7" in resize("8", place.replace("disk.0", "disk.7"))
    stage.farm.ssh_refuses("node2", "No route to host")
    line = resize("8")
    assert line.startswith("node2:") and name in line[:60]
    stage.farm.ssh_refuses("node2")
    stage.farm.disconnect("node1", "node2")
    assert name in resize("8")[:60]
    stage.farm.reconnect("node1", "node2")
    stage.farm.fill_pool("node2", "vg0/pool", free=0)
    assert "full" in resize("8")
    stage.farm.empty_pool("node2", "vg0/pool")
    assert volume_bytes(stage, "node2", name) == before["node2"]
    assert paused(stage) == []
    stage.cloud.resize_disk(vm, 0, 8).checked()
    succeeds(stage.line(f"RESIZE dnc {place} 8 {vm.id} 1"))
    stage.cloud.terminate(vm, hard=True).checked()


@ZFS_FIRST
@pytest.mark.parametrize("state", first("RUNNING", later=("POWEROFF",)))
def test_resize_killed_at_every_command(stage: SimStage, backend: str, state: str) -> None:
    """What the guest has written since is never lost, it never stays paused, and the same resize again ends it."""
    image = stage.import_image(backend)
    vm = stage.bare(image)
    if state == "POWEROFF":
        stage.cloud.poweroff(vm, hard=True).checked()
    name = disk_of(vm)
    place = f"node1:{stage.cloud.vm_directory(vm.datastore_id, vm.id)}/disk.0"
    size, met = 4, 0
    for host in stage.hosts:
        for n in itertools.count(1):
            stage.farm.crash_at(host, n, ("before", "after")[n % 2], ("agent", "action")[n // 2 % 2])
            done = stage.line(f"RESIZE dnc {place} {size} {vm.id} 1")
            left = stage.farm.state["hosts"][host]["inject"]
            stage.farm.clear_faults()
            if left:
                succeeds(done)
                break
            met += 1
            succeeds(stage.line(f"RESIZE dnc {place} {size} {vm.id} 1"))
            assert paused(stage) == []
            assert stage.resyncs_of(name) == []
            assert stage.replicas_equal(name, size * MIB), f"command {n} of {host}"
            size += 5  # LVM grows by whole extents of 4 MiB
    assert met > 4
    if state == "POWEROFF":
        stage.cloud.resume(vm).checked()
    stage.cloud.migrate(vm, "node2", live=True).checked()
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.violations() == []


@THOROUGH
def test_a_guest_goes_on_by_itself_when_a_resize_is_killed(stage: SimStage) -> None:
    """Its new space is not zeroed unseen by the next run: it may have written there."""
    vm = stage.bare(stage.import_image("zfs"))
    stage.farm.crash_at("node1", 1, "after", "agent", RESIZE[stage.drbd])
    assert not stage.cloud.resize_disk(vm, 0, 8).ok
    end = time.monotonic() + 30
    while paused(stage) and time.monotonic() < end:
        time.sleep(0.1)
    assert paused(stage) == []
    stage.cloud.resize_disk(vm, 0, 8).checked()
    stage.cloud.migrate(vm, "node2", live=True).checked()
    stage.cloud.terminate(vm, hard=True).checked()


def test_a_half_grown_disk_has_no_snapshot_and_no_clone(stage: SimStage) -> None:
    """Old metadata may lie in what would be data of the snapshot, other on each member."""
    image = stage.import_image("thin", persistent=True)
    vm = stage.bare(image)
    stage.cloud.poweroff(vm, hard=True).checked()
    stage.farm.crash_at("node1", 1, "before", "agent", RESIZE[stage.drbd])
    assert not stage.cloud.resize_disk(vm, 0, 8).ok
    stage.farm.clear_faults()
    operation = stage.cloud.snapshot_disk(vm, 0, "half")
    assert not operation.ok and "is half grown on" in operation.error
    stage.cloud.resize_disk(vm, 0, 8).checked()
    stage.cloud.snapshot_disk(vm, 0, "whole").checked()
    stage.cloud.terminate(vm, hard=True).checked()
