"""Snapshots and saved disks on the two real hosts; `make lab-long`."""

from __future__ import annotations

import re

import pytest
from looks import began_resync, equal_replicas

pytestmark = pytest.mark.lablong


def content(stage, backend, resource):
    """The digest of a disk's data, equal on both members."""
    return equal_replicas(stage, backend, resource, stage.lab.guest_image.stat().st_size)


def snapshot(stage, vm):
    operation = stage.cloud.snapshot_disk(vm, 0, "s").checked()
    frozen = re.findall(r"frozen for (\d+) ms", "".join(call.stderr for call in operation.calls))
    if frozen:
        print(f"frozen: {frozen[-1]} ms")
    return int(vm.snapshots[0].snapshots[-1]["ID"])


def test_snapshots_of_a_writing_guest(stage, backend, image, vm):
    """Taken while the guest writes without pause; equal on both hosts; a tree; nothing is resynced, lost or torn."""
    cloud = stage.cloud
    disk = f"{image.source}-{vm.id}-0"
    resyncs = began_resync(stage, disk)
    before = stage.wait_for_tick(vm, stage.last_tick(vm))
    first = snapshot(stage, vm)
    between = stage.wait_for_tick(vm, stage.last_tick(vm) + 5)
    second = snapshot(stage, vm)
    stage.wait_for_tick(vm, between + 5)
    cloud.poweroff(vm, hard=True).checked()
    cloud.revert_disk(vm, 0, first).checked()
    then = content(stage, backend, disk)
    for host in ("node1", "node2"):
        counter = stage.counter(backend, disk, host)
        assert before <= counter.last <= between
        assert (counter.holes, counter.torn) == ((), ()), f"{host}: a write is missing or torn in the snapshot"
    cloud.revert_disk(vm, 0, second).checked()
    assert content(stage, backend, disk) != then
    assert stage.counter(backend, disk, "node2").last >= between
    cloud.delete_disk_snapshot(vm, 0, first).checked()
    cloud.resume(vm).checked()
    stage.wait_for_tick(vm, between)
    assert stage.domain_hosts(vm) == [vm.host]
    cloud.delete_disk_snapshot(vm, 0, second).checked()
    assert [line for line in stage.leftovers() if ".snap-" in line or ".branch-" in line or ".old" in line] == []
    assert began_resync(stage, disk) == resyncs


def test_a_disk_saved_while_the_guest_writes(stage, backend, image, vm):
    """The image is equal on both hosts, a VM boots from it, and it outlives the VM that it came from."""
    cloud = stage.cloud
    stage.wait_for_tick(vm, stage.last_tick(vm))
    cloud.save_disk_as(vm, 0, f"saved-{backend}").checked()
    saved = next(reversed(cloud.images.values()))
    digest = content(stage, backend, saved.source)
    cloud.terminate(vm, hard=True).checked()
    other = stage.instantiate(saved, "node2")
    stage.wait_for_tick(other, 1)
    cloud.terminate(other, hard=True).checked()
    assert content(stage, backend, saved.source) == digest
    assert began_resync(stage, saved.source) == []
    cloud.delete_image(saved).checked()
    assert [line for line in stage.leftovers() if saved.source in line or f"-{vm.id}-" in line] == []
