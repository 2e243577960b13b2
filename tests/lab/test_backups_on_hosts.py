"""Backups of a writing guest on the two real hosts, and back; `make lab-long`."""

from __future__ import annotations

import hashlib
import subprocess

import pytest
from looks import began_resync, equal_replicas

from dnclab.counter import read_counter

pytestmark = pytest.mark.lablong


@pytest.fixture(scope="session")
def store(stage):
    """A backup datastore on the frontend."""
    return stage.cloud.create_backup_datastore("backups", stage.lab.directory / "backups")


def unpacked(store, image, increment=0):
    """A stored disk 0 as a raw file; the qcow2 chain is sound."""
    name = image.increments[increment][1] if image.increments else image.source
    path = f"{store.base_path}/{image.vm_ids[0]}/{name}/disk.0.{increment}"
    subprocess.run(["qemu-img", "check", "-q", path], check=True)
    subprocess.run(["qemu-img", "convert", "-O", "raw", path, f"{path}.raw"], check=True)
    return f"{path}.raw"


def last_tick_in(path):
    """The last tick of the guest in a raw file; none before it is missing or torn."""
    with open(path, "rb") as stream:
        counter = read_counter(stream)
    assert (counter.holes, counter.torn) == ((), ()), "a write is missing or torn in the backup"
    return counter.last


def digest_of(path, size):
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        digest.update(stream.read(size))
    return digest.hexdigest()


def test_a_backup_of_a_writing_guest_and_back(stage, backend, image, vm, store):
    """The guest writes without pause; what was stored comes back on both hosts, nothing is resynced or left behind."""
    cloud, disk = stage.cloud, f"{image.source}-{vm.id}-0"
    size = stage.lab.guest_image.stat().st_size
    resyncs = began_resync(stage, disk)
    before = stage.wait_for_tick(vm, stage.last_tick(vm))
    operation = cloud.backup(vm, store).checked()
    print(f"full backup on {backend}: {operation.seconds:.1f} s")
    after = stage.wait_for_tick(vm, stage.last_tick(vm))
    raw = unpacked(store, operation.image)
    saved = last_tick_in(raw)
    assert before <= saved <= after
    cloud.poweroff(vm, hard=True).checked()
    restored = cloud.restore(vm, operation.image).checked()
    print(f"restore on {backend}: {restored.seconds:.1f} s")
    assert equal_replicas(stage, backend, disk, size) == digest_of(raw, size)
    for host in ("node1", "node2"):
        assert stage.counter(backend, disk, host).last == saved
    cloud.resume(vm).checked()
    stage.wait_for_tick(vm, saved)
    assert began_resync(stage, disk) == resyncs
    assert [line for line in stage.leftovers() if "backup" in line or ".next" in line or ".old" in line] == []
    cloud.delete_backup(operation.image).checked()


def test_increments_of_a_writing_guest(stage, backend, image, vm, store):
    """The second backup is small; both can be restored."""
    cloud, disk = stage.cloud, f"{image.source}-{vm.id}-0"
    size = stage.lab.guest_image.stat().st_size
    cloud.configure_backup(vm, MODE="INCREMENT")
    cloud.backup(vm, store).checked()
    between = stage.wait_for_tick(vm, stage.last_tick(vm) + 5)
    operation = cloud.backup(vm, store).checked()
    print(f"increment on {backend}: {operation.seconds:.1f} s")
    chain = operation.image
    cloud.poweroff(vm, hard=True).checked()
    cloud.restore(vm, chain, increment=1).checked()
    assert stage.counter(backend, disk, "node2").last >= between
    cloud.restore(vm, chain, increment=0).checked()
    raw = unpacked(store, chain)
    assert equal_replicas(stage, backend, disk, size) == digest_of(raw, size)
    assert last_tick_in(raw) < between
    cloud.resume(vm).checked()
    cloud.configure_backup(vm)
    cloud.delete_backup(cloud.backup(vm, store).checked().image).checked()
    assert [line for line in stage.leftovers() if "backup" in line] == []
    cloud.delete_backup(chain).checked()


def test_a_backup_becomes_an_image(stage, backend, image, vm, store):
    """A VM boots from it."""
    cloud = stage.cloud
    saved = cloud.backup(vm, store).checked().image
    [made] = cloud.restore_image(saved, stage.datastores[backend])
    other = stage.instantiate(made, "node2")
    stage.wait_for_tick(other, 1)
    cloud.terminate(other, hard=True).checked()
    cloud.delete_image(made).checked()
    cloud.delete_backup(saved).checked()
