"""A disk grows below its running guest on two real hosts, and once more while the guest is off."""

from __future__ import annotations

import re

import pytest
from looks import MIB, began_resync, equal_replicas, no_two_primaries

from stage import GUEST

pytestmark = pytest.mark.lablong


@pytest.fixture(scope="module")
def talking_vm(stage, image):
    """A VM whose kernel tells on its console what it learns of its disks."""
    command = "console=hvc0 ignore_loglevel mitigations=off"
    vm = stage.instantiate(image, "node1", OS={
        "KERNEL": f"{GUEST}/guest-vmlinuz", "INITRD": f"{GUEST}/guest-initrd", "KERNEL_CMD": command})
    stage.wait_for_tick(vm, 1)
    yield vm
    stage.cloud.terminate(vm, hard=True).checked()
    assert [line for line in stage.leftovers() if f"-{vm.id}-" in line] == []


def device_bytes(stage, host, disk):
    """Size of the DRBD device on a host, from sysfs: a Secondary cannot be opened."""
    minor = stage.lab.root(host, ["drbdadm", "sh-minor", disk]).stdout.strip()
    return int(stage.lab.root(host, ["cat", f"/sys/class/block/drbd{minor}/size"]).stdout) * 512


def test_growth_below_a_running_guest(stage, backend, image, talking_vm):
    vm, disk = talking_vm, f"{image.source}-{talking_vm.id}-0"
    old = device_bytes(stage, "node1", disk)
    before = stage.last_tick(vm)
    stage.cloud.resize_disk(vm, 0, 200).checked()
    stage.wait_for_tick(vm, before)
    for host in ("node1", "node2"):
        assert 200 * MIB <= device_bytes(stage, host, disk) < 206 * MIB
    assert began_resync(stage, disk) == []
    seen = stage.proc_drbd("node1", disk)
    assert (seen["cs"], seen["ro"], seen["oos"]) == ("Connected", "Primary/Secondary", "0")
    console = stage.lab.console_tail(f"one-{vm.id}", 400)
    told = re.findall(r"xvda: detected capacity change from (\d+) to (\d+)", console)
    assert [(int(one) * 512, int(other) * 512 >= 200 * MIB) for one, other in told] == [(old, True)], console[-500:]
    stage.cloud.migrate(vm, "node2", live=True).checked()
    before = stage.wait_for_tick(vm, stage.last_tick(vm))
    no_two_primaries(stage, disk)


def test_growth_while_off_and_all_of_it_is_equal(stage, backend, image, talking_vm):
    vm, disk = talking_vm, f"{image.source}-{talking_vm.id}-0"
    stage.cloud.poweroff(vm, hard=True).checked()
    equal_replicas(stage, backend, disk, device_bytes(stage, "node1", disk))
    stage.cloud.resize_disk(vm, 0, 300).checked()
    assert began_resync(stage, disk) == []
    size = device_bytes(stage, "node2", disk)
    assert size == device_bytes(stage, "node1", disk) >= 300 * MIB
    equal_replicas(stage, backend, disk, size)
    volume = stage.volume(backend, disk)
    tail = stage.lab.root("node1", ["sh", "-c", 'tail -c +"$2" "$1" | head -c "$3" | tr -d "\\0" | wc -c', "sh", volume,
                                    str(64 * MIB + 1), str(size - 64 * MIB)], timeout=300).stdout
    assert int(tail) == 0, "nothing but zeros behind what the image held: no metadata is left as data"
    for host in ("node1", "node2"):
        stage.lab.root(host, ["drbdadm", "down", disk])
        stage.lab.root(host, ["drbdadm", "up", disk])
    stage.wait_until_synced("node1", disk)
    stage.cloud.resume(vm).checked()
    stage.wait_for_tick(vm, 1)
