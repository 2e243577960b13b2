"""The main job on real Xen, DRBD, ZFS and LVM; the guest's own data are the witness."""

from __future__ import annotations

import hashlib

import pytest

pytestmark = pytest.mark.lab

MIB = 1 << 20


def equal_replicas(stage, backend, resource, size):
    digests = stage.digests(backend, resource, size)
    assert sorted(digests) == ["node1", "node2"]
    assert len(set(digests.values())) == 1, f"replicas of {resource} differ"
    return digests["node1"]


def no_two_primaries(stage, resource):
    """Neither side may be allowed to become a second primary any more."""
    for host in ("node1", "node2"):
        shown = stage.lab.root(host, ["drbdsetup", "show", resource]).stdout
        assert "allow-two-primaries\tyes" not in shown.replace(" ", "\t"), f"{host}: {shown}"


def began_resync(stage, resource):
    lines = []
    for host in ("node1", "node2"):
        log = stage.lab.root(host, ["dmesg"]).stdout
        lines += [line for line in log.splitlines() if resource in line and "Began resync" in line]
    return lines


def test_imported_image_is_the_file_on_both_hosts_and_at_rest(stage, backend, image):
    content = stage.lab.guest_image.read_bytes()
    assert equal_replicas(stage, backend, image.source, len(content)) == hashlib.sha256(content).hexdigest()
    for host in ("node1", "node2"):
        assert stage.proc_drbd(host, image.source) == {}, "an image at rest is down"


def test_clone_is_instant_and_proven(stage, backend, image, vm):
    disk = f"{image.source}-{vm.id}-0"
    seen = stage.proc_drbd("node1", disk)
    assert (seen["cs"], seen["ds"], seen["oos"]) == ("Connected", "UpToDate/UpToDate", "0")
    assert began_resync(stage, disk) == []
    files = [stage.lab.root(host, ["cat", f"/etc/drbd.d/{disk}.res"]).stdout for host in ("node1", "node2")]
    assert files[0] == files[1]
    assert '"proof": "gi:' in files[0].splitlines()[0] and '"state": "ready"' in files[0].splitlines()[0]


def test_live_migration_there_and_back_and_there(stage, backend, image, vm):
    disk = f"{image.source}-{vm.id}-0"
    tick = stage.last_tick(vm)
    for target in ("node2", "node1", "node2", "node1"):
        stage.cloud.migrate(vm, target, live=True).checked()
        assert stage.domain_hosts(vm) == [target] and vm.host == target
        after = stage.wait_for_tick(vm, tick)
        assert after > tick, "the counter went back"
        tick = after
        no_two_primaries(stage, disk)
        roles = {host: stage.proc_drbd(host, disk)["ro"].split("/")[0] for host in ("node1", "node2")}
        assert roles == {"node1": "Secondary", "node2": "Secondary", target: "Primary"}
        intents = stage.lab.root(target, ["ls", "/var/lib/dnc/intents"]).stdout.split()
        assert intents == []


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
    """node2 loses its power while the guest writes, comes back, is resynced, and takes the guest over."""
    disk = f"{image.source}-{vm.id}-0"
    assert vm.host == "node1"
    stage.lab.power_off("node2")
    tick = stage.wait_for_tick(vm, stage.last_tick(vm) + 40, seconds=240)
    stage.lab.power_on("node2")
    stage.wait_until_synced("node1", disk)
    tick = stage.wait_for_tick(vm, tick)
    stage.cloud.migrate(vm, "node2", live=True).checked()
    tick = stage.wait_for_tick(vm, tick)
    stage.cloud.poweroff(vm, hard=True).checked()
    equal_replicas(stage, backend, disk, 64 * MIB)
    for host in ("node1", "node2"):
        counter = stage.counter(backend, disk, host)
        assert counter.last >= tick
        assert (counter.holes, counter.torn, counter.backwards) == ((), (), 0), f"{host}: lost or torn writes"


def test_terminated_without_a_trace(stage, vm):
    stage.cloud.terminate(vm).checked()
    assert [line for line in stage.leftovers() if f"-{vm.id}-" in line or "domain" in line] == []


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
    assert 160 * MIB <= size < 162 * MIB
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
