"""Images on two real hosts: a file imported once, and an image deleted while a VM lives on its clone."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from looks import began_resync, equal_replicas

pytestmark = pytest.mark.lablong


def test_an_image_that_is_a_file(stage, backend):
    cloud = stage.cloud
    place = Path(cloud.environment["ONE_LOCATION"]) / "var" / "datastores" / f"files-{backend}"
    place.mkdir(parents=True, exist_ok=True)
    path = place / "guest"
    shutil.copyfile(stage.lab.guest_image, path)
    path.chmod(0o644)
    store = cloud.create_datastore(f"files-{backend}", type="IMAGE", template={
        "DS_MAD": "fs", "DNC_POOL": stage.datastores[backend].template["DNC_POOL"]})
    size = -(-path.stat().st_size // (1 << 20))
    image = cloud.create_image(f"file-{backend}", source=str(path), datastore=store, size_mb=size,
                               template={"DEV_PREFIX": "xvd"})
    first, second = (stage.instantiate(image, host) for host in ("node1", "node2"))
    wanted = hashlib.sha256(path.read_bytes()).hexdigest()
    assert equal_replicas(stage, backend, f"one-{image.id}", path.stat().st_size) == wanted
    for vm in (first, second):
        assert began_resync(stage, f"one-{image.id}-{vm.id}-0") == []
        stage.wait_for_tick(vm, 1)
    path.unlink()
    for vm in (first, second):
        cloud.terminate(vm, hard=True).checked()
    assert [line for line in stage.leftovers() if f"one-{image.id}" in line] == [], "reclaimed with its file and clones"
    cloud.images.pop(image.id)


def test_an_image_deleted_below_a_living_clone(stage, backend):
    cloud = stage.cloud
    image = stage.import_guest(backend, f"doomed-{backend}")
    vm = stage.instantiate(image, "node1")
    tick = stage.wait_for_tick(vm, 1)
    image.vm_ids.clear()
    cloud.delete_image(image).checked()
    for host in ("node1", "node2"):
        shown = stage.lab.root(host, ["sh", "-c", "ls /etc/drbd.d /dev/vg0; zfs list -H -o name -r tank/dnc"]).stdout
        assert f"{image.source}.res" not in shown.split() and f"tank/dnc/{image.source}" not in shown.split()
    stage.wait_for_tick(vm, tick)
    cloud.terminate(vm, hard=True).checked()
    assert [line for line in stage.leftovers() if image.source in line] == []
