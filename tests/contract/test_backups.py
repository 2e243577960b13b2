"""Backups of VMs into a datastore that behaves as OpenNebula's rsync one, and back: in place, and as new images."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from lines import complaint
from marks import THOROUGH, ZFS_FIRST
from simulated import MIB, POOLS, SimStage

from oned import Datastore, Image, VirtualMachine

pytestmark = pytest.mark.sim
SIZE = 2 * MIB


@pytest.fixture
def store(stage: SimStage) -> Datastore:
    """A backup datastore on the frontend."""
    return stage.cloud.create_backup_datastore(stage.new_name("backups"), stage.directory / "backups")


def resource(image: Image, vm: VirtualMachine, disk: int = 0) -> str:
    return image.source if image.persistent else f"{image.source}-{vm.id}-{disk}"


def content(stage: SimStage, name: str, size: int = SIZE) -> bytes:
    """A disk's data, equal on both members."""
    found = {stage.farm.volume_data(host, name, size) for host in stage.holders(name)}
    assert len(found) == 1, f"replicas of {name} differ"
    return found.pop()


def stored(store: Datastore, image: Image, disk: int = 0, increment: int = 0) -> Path:
    """The file of a disk in the backup datastore."""
    name = image.increments[increment][1] if image.increments else image.source
    return Path(store.base_path) / str(image.vm_ids[0]) / name / f"disk.{disk}.{increment}"


def unpacked(path: Path) -> bytes:
    """What a qcow2 file holds; it is sound."""
    subprocess.run(["qemu-img", "check", "-q", str(path)], check=True)
    raw = path.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(path), str(raw)], check=True)
    data = raw.read_bytes()
    raw.unlink()
    return data


def back_up(stage: SimStage, vm: VirtualMachine, store: Datastore) -> Image:
    """A backup by the user, after which nothing is left on the hosts but the VM."""
    image = stage.cloud.backup(vm, store).checked().image
    assert image is not None
    return image


def left(stage: SimStage) -> list[str]:
    """What of a backup is on the hosts."""
    return [line for line in stage.leftovers() if "backup" in line or ".before" in line]


def write(stage: SimStage, vm: VirtualMachine) -> None:
    """The guest is off, and has written since."""
    if vm.status == "POWEROFF":
        stage.cloud.resume(vm).checked()
    stage.cloud.poweroff(vm, hard=True).checked()


@ZFS_FIRST
def test_backup_of_a_running_vm_and_back(stage: SimStage, backend: str, store: Datastore) -> None:
    image = stage.import_image(backend)
    vm = stage.bare(image)
    name = resource(image, vm)
    saved = back_up(stage, vm, store)
    assert left(stage) == []
    assert vm.status == "RUNNING" and stage.domain_hosts(vm) == ["node1"]
    data = unpacked(stored(store, saved))
    assert len(data) == SIZE and stored(store, saved).stat().st_blocks * 512 < MIB, "data only"
    assert stage.cloud.restore(vm, saved).refused, "the VM runs"
    write(stage, vm)
    assert content(stage, name) != data
    stage.cloud.restore(vm, saved).checked()
    assert content(stage, name) == data
    assert stage.resyncs_of(name) == []
    again = back_up(stage, vm, store)
    assert unpacked(stored(store, again)) == data, "off, the same is saved"
    stage.cloud.resume(vm).checked()
    assert stage.domain_hosts(vm) == ["node1"]
    assert left(stage) == []
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(image) == []
    for one in (saved, again):
        stage.cloud.delete_backup(one).checked()
    assert not list(Path(store.base_path).glob("*/*"))
