"""Images that are files on the frontend: imported once per content, cloned from then on, reclaimed when unused."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from lines import HeldVm, complaint, succeeds
from marks import THOROUGH, ZFS_FIRST, first
from simulated import MIB, POOLS, SimStage

from oned import Image

pytestmark = pytest.mark.sim
SIZE = 2 * MIB


def register(stage: SimStage, path: Path, backend: str, **more: object) -> Image:
    """An image as DS_MAD=fs leaves it: its SOURCE is the file, its datastore says TM_MAD=dnc."""
    name = stage.new_name("files")
    store = stage.cloud.create_datastore(name, type="IMAGE", template={"DS_MAD": "fs", "DNC_POOL": POOLS[backend]})
    image = stage.cloud.create_image(stage.new_name("file"), source=str(path), datastore=store, size_mb=2, **more)
    USED.append(image.id)
    return image


USED: list[int] = []


@pytest.fixture(autouse=True)
def files_are_not_ours(stage: SimStage) -> Iterator[None]:
    """OpenNebula's own driver removes the files: nobody asks dnc, neither does the end of a test."""
    yield
    for number in USED:
        stage.cloud.images.pop(number, None)
    USED.clear()


@pytest.fixture
def raw(stage: SimStage) -> Path:
    """A raw file below the frontend's datastores."""
    place = Path(stage.cloud.environment["ONE_LOCATION"]) / "var" / "datastores" / "1"
    place.mkdir(parents=True, exist_ok=True)
    path = place / stage.new_name("content")
    path.write_bytes(stage.raw_file().read_bytes())
    path.chmod(0o644)
    return path


def imports(stage: SimStage) -> dict[str, dict[str, object]]:
    """What node1 notes of its imports."""
    place = Path(stage.farm.path("node1", "/var/lib/dnc/imports"))
    return {one.stem: json.loads(one.read_text()) for one in place.glob("*.json")} if place.is_dir() else {}


def content(stage: SimStage, name: str, path: Path) -> None:
    for host in stage.hosts:
        assert stage.farm.volume_data(host, name, SIZE) == path.read_bytes(), host


@pytest.mark.parametrize("form", first("raw", later=("qcow2",)))
def test_imported_once_and_cloned_from_then_on(stage: SimStage, backend: str, raw: Path, form: str) -> None:
    path = raw
    if form == "qcow2":
        path = raw.with_suffix(".qcow2")
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(path)], check=True)
        path.chmod(0o644)
    image = register(stage, path, backend)
    name = f"one-{image.id}"
    held = [HeldVm(stage, image, host=host) for host in ("node2", "node1")]
    for vm in held:
        succeeds(vm.make())
        content(stage, f"{name}-{vm.vm.id}-0", raw)
    assert list(imports(stage)) == [name] and imports(stage)[name]["path"] == str(path)
    written = [one["argv"] for one in stage.farm.commands if one["argv"][:2] == ["drbdadm", "primary"]]
    assert len([one for one in written if one[-1] == name]) == 1, "the second clone imports nothing"
    for vm in held:
        succeeds(vm.delete())
        succeeds(vm.delete_directory())
        vm.forget()
    assert list(imports(stage)) == [name], "kept for the next VM as long as the file is there"
    os.unlink(path)
    other = HeldVm(stage, register(stage, raw, backend) if form == "qcow2" else image)
    if form == "raw":
        assert "not there" in complaint(other.make())
        succeeds(other.delete())
    else:
        succeeds(other.make())
        succeeds(other.delete())
        os.unlink(raw)
        succeeds(other.delete())
    assert stage.leftovers() == []
    other.forget()


@ZFS_FIRST
def test_a_changed_file_is_imported_anew_beside_living_clones(stage: SimStage, backend: str, raw: Path) -> None:
    image = register(stage, raw, backend)
    name = f"one-{image.id}"
    old, new = HeldVm(stage, image), HeldVm(stage, image)
    succeeds(old.make())
    before = raw.read_bytes()
    raw.write_bytes(before[: MIB] + b"changed" + before[MIB + 7 :])
    succeeds(new.make())
    content(stage, f"{name}-{new.vm.id}-0", raw)
    assert stage.farm.volume_data("node2", f"{name}-{old.vm.id}-0", SIZE) == before
    for vm in (old, new):
        succeeds(vm.delete())
        succeeds(vm.delete_directory())
    os.unlink(raw)
    succeeds(new.delete())
    assert stage.leftovers() == []
    for vm in (old, new):
        vm.forget()


def test_first_uses_at_once_wait_for_one_import(stage: SimStage, raw: Path) -> None:
    image = register(stage, raw, "thin")
    held = [HeldVm(stage, image) for _ in range(3)]
    results = []
    threads = [threading.Thread(target=lambda vm=vm: results.append(vm.make())) for vm in held]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for done in results:
        succeeds(done)
    primaries = [one for one in stage.farm.commands if one["argv"] == ["drbdadm", "primary", f"one-{image.id}"]]
    assert len(primaries) == 1
    os.unlink(raw)
    for vm in held:
        succeeds(vm.delete())
        succeeds(vm.delete_directory())
        vm.forget()
    assert stage.leftovers() == []


def test_refusals(stage: SimStage, raw: Path) -> None:
    outside = stage.directory / "outside"
    outside.write_bytes(b"x" * MIB)
    persistent = HeldVm(stage, register(stage, raw, "zfs", persistent=True))
    assert "persistent image that is a file" in complaint(persistent.make())
    elsewhere = HeldVm(stage, register(stage, outside, "zfs"))
    assert "not below a directory for images" in complaint(elsewhere.make())
    raw.write_bytes(b"QFI\xfb" + b"\0" * 600)
    broken = HeldVm(stage, register(stage, raw, "zfs"))
    complaint(broken.make())
    raw.unlink()
    for vm in (persistent, elsewhere, broken):
        succeeds(vm.delete())
        vm.forget()
    assert stage.leftovers() == []


@THOROUGH
def test_a_killed_import_leaves_nothing_that_a_repeat_does_not_clear(stage: SimStage, raw: Path) -> None:
    image = register(stage, raw, "zfs")
    held = HeldVm(stage, image)
    for n in range(1, 40, 3):
        stage.farm.crash_at(stage.hosts[n % 2], n, ("before", "after")[n % 2], ("agent", "action")[n // 2 % 2])
        done = held.make()
        met = not stage.farm.state["hosts"][stage.hosts[n % 2]]["inject"]
        stage.farm.clear_faults()
        if met and done.status != 0:
            succeeds(held.make())
        content(stage, f"one-{image.id}-{held.vm.id}-0", raw)
        succeeds(held.delete())
        raw.touch()  # the next one imports anew
        if not met:
            break
    raw.unlink()
    succeeds(held.delete())
    assert stage.leftovers() == []
    held.forget()


def test_volatile_disks_as_cxm_users_write_them(stage: SimStage) -> None:
    disk = {"TYPE": "fs", "FSTYPE": "ext3", "SIZE": "8", "DNC_POOL": POOLS["thin"]}
    vm = stage.bare(disk)
    assert stage.farm.volume_data("node2", f"one-sys-{vm.id}-0", 2048)[1080:1082] == b"\x53\xef"
    stage.cloud.terminate(vm, hard=True).checked()
