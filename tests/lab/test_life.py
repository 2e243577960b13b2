"""More of a VM's life on the two real hosts; `make lab-long`."""

from __future__ import annotations

import pytest
from looks import MIB, began_resync, equal_replicas, no_two_primaries

pytestmark = pytest.mark.lablong


def test_sleep_and_wake(stage, image, vm):
    """Every way; the counter goes on where it was."""
    cloud = stage.cloud
    for go_down, wake in (
        (lambda: cloud.suspend(vm), lambda: cloud.resume(vm)),
        (lambda: cloud.poweroff(vm), lambda: cloud.resume(vm)),
        (lambda: cloud.stop_vm(vm), lambda: cloud.deploy(vm, "node2")),
        (lambda: cloud.undeploy(vm), lambda: cloud.deploy(vm, "node1")),
    ):
        before = stage.last_tick(vm)
        down = go_down().checked()
        assert stage.domain_hosts(vm) == [], down.label
        wake().checked()
        assert stage.domain_hosts(vm) == [vm.host]
        assert stage.wait_for_tick(vm, before) > before, down.label


def test_cold_migration_and_reboots(stage, image, vm):
    cloud = stage.cloud
    before = stage.last_tick(vm)
    cloud.migrate(vm, "node2").checked()
    assert stage.domain_hosts(vm) == ["node2"]
    before = stage.wait_for_tick(vm, before)
    for hard in (False, True):
        cloud.reboot(vm, hard=hard).checked()
        before = stage.wait_for_tick(vm, before)
        assert stage.domain_hosts(vm) == ["node2"]
    cloud.migrate(vm, "node1").checked()
    stage.wait_for_tick(vm, before)


def test_power_cut_of_the_other_host(stage, backend, image, vm):
    """node2 loses its power while the guest writes, comes back and is resynced; no write was lost or torn."""
    disk = f"{image.source}-{vm.id}-0"
    assert vm.host == "node1"
    stage.lab.power_off("node2")
    tick = stage.wait_for_tick(vm, stage.last_tick(vm) + 40, seconds=240)
    stage.lab.power_on("node2")
    stage.wait_until_synced("node1", disk)
    tick = stage.wait_for_tick(vm, tick)
    stage.cloud.poweroff(vm, hard=True).checked()
    equal_replicas(stage, backend, disk, stage.lab.guest_image.stat().st_size)
    for host in ("node1", "node2"):
        counter = stage.counter(backend, disk, host)
        assert counter.last >= tick
        assert (counter.holes, counter.torn) == ((), ()), f"{host}: lost or torn writes"


def test_many_disks(stage, backend, image):
    """A larger clone, a persistent, a volatile and a swap disk, through a live migration; the persistent one stays."""
    cloud = stage.cloud
    data = cloud.create_image(f"data-{backend}", "", stage.datastores[backend], persistent=True, size_mb=24,
                              type="DATABLOCK", template={"FS": "ext4"})
    cloud.operations[-1].checked()
    volatile = {"TYPE": "fs", "FS": "ext4", "SIZE": "20", "FORMAT": "raw"}
    swap = {"TYPE": "swap", "SIZE": "16"}
    disks = [{"IMAGE": image.name, "SIZE": "160"}, {"IMAGE": data.name}, volatile, swap]
    vm = stage.instantiate(image, "node1", DISK=disks)
    larger = f"{image.source}-{vm.id}-0"
    size = int(stage.lab.root("node1", ["blockdev", "--getsize64", f"/dev/drbd/by-res/{larger}/0"]).stdout)
    assert 160 * MIB <= size < 165 * MIB, "what was asked for, DRBD's metadata less and whole extents more"
    assert began_resync(stage, larger) == []
    tick = stage.wait_for_tick(vm, 1)
    cloud.migrate(vm, "node2", live=True).checked()
    stage.wait_for_tick(vm, tick)
    for resource in (f"{image.source}-{vm.id}-0", data.source, f"one-sys-{vm.id}-2", f"one-sys-{vm.id}-3"):
        no_two_primaries(stage, resource)
        assert stage.proc_drbd("node2", resource)["ro"] == "Primary/Secondary"
    cloud.poweroff(vm, hard=True).checked()
    # Over the whole size: the area that was the image's metadata is data now.
    equal_replicas(stage, backend, larger, size)
    cloud.terminate(vm).checked()
    assert [line for line in stage.leftovers() if f"-{vm.id}-" in line] == []
    equal_replicas(stage, backend, data.source, 24 * MIB)
    volume = stage.volume(backend, data.source)
    magic = stage.lab.root("node1", ["od", "-An", "-tx2", "-j", "1080", "-N", "2", volume]).stdout
    assert magic.split() == ["ef53"], "mkfs made the file system that was asked for"
    cloud.delete_image(data).checked()
    assert [line for line in stage.leftovers() if data.source in line] == []
