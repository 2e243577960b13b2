"""REPLICAS=1 on a real host: a guest on a plain clone, without DRBD; what it cannot do is told; `make lab-long`."""

from __future__ import annotations

import hashlib

import pytest

pytestmark = pytest.mark.lablong


def test_a_guest_without_drbd(stage, backend):
    cloud, store = stage.cloud, stage.datastores[backend]
    store.template["DNC_REPLICAS"] = "1"
    try:
        image = stage.import_guest(backend, f"single-{backend}")
    finally:
        del store.template["DNC_REPLICAS"]
    content = stage.lab.guest_image.read_bytes()
    here, = stage.digests(backend, image.source, len(content))
    assert stage.digests(backend, image.source, len(content))[here] == hashlib.sha256(content).hexdigest()
    there = next(host for host in stage.lab.hosts[:2] if host != here)
    vm = stage.instantiate(image, here)
    disk = f"{image.source}-{vm.id}-0"
    tick = stage.wait_for_tick(vm, 1)
    assert list(stage.digests(backend, disk, 4096)) == [here]
    assert stage.proc_drbd(here, disk) == {}
    files = stage.lab.root(here, ["ls", "/etc/drbd.d"]).stdout.split()
    assert not {f"{image.source}.res", f"{disk}.res"} & set(files)
    refused = cloud.migrate(vm, there, live=True)
    assert not refused.ok and "one replica" in refused.error
    tick = stage.wait_for_tick(vm, tick)
    cloud.poweroff(vm, hard=True).checked()
    counter = stage.counter(backend, disk, here)
    assert counter.last >= tick and (counter.holes, counter.torn) == ((), ())
    refused = cloud.migrate(vm, there)
    assert not refused.ok and here in refused.error
    cloud.recover_success(vm).checked()
    cloud.migrate(vm, here).checked()
    cloud.resume(vm).checked()
    stage.wait_for_tick(vm, tick)
    cloud.terminate(vm, hard=True).checked()
    cloud.delete_image(image).checked()
    assert [line for line in stage.leftovers() if image.source in line] == []
