"""A VM between system datastores and hosts on two real hosts, asleep and off; the counter goes on where it was."""

from __future__ import annotations

import pytest
from looks import MIB, equal_replicas, no_two_primaries

pytestmark = pytest.mark.lablong


@pytest.fixture(scope="module")
def other_store(stage):
    """A second system datastore."""
    return stage.cloud.create_datastore("system-2", type="SYSTEM")


def files(stage, host, vm, datastore_id):
    """What is in a VM's directory on a host."""
    place = stage.cloud.vm_directory(datastore_id, vm.id)
    return stage.lab.root(host, ["sh", "-c", 'test ! -d "$1" || ls "$1"', "sh", place]).stdout.split()


def test_asleep_to_another_datastore_of_the_same_host_then_home_on_the_other_host(stage, image, vm, other_store):
    cloud, was = stage.cloud, vm.datastore_id
    tick = stage.last_tick(vm)
    cloud.suspend(vm).checked()
    cloud.migrate(vm, "node1", datastore=other_store.name).checked()
    assert "checkpoint" in files(stage, "node1", vm, other_store.id) and files(stage, "node1", vm, was) == []
    cloud.migrate(vm, "node2", datastore="system").checked()
    assert "checkpoint" in files(stage, "node2", vm, was) and files(stage, "node1", vm, other_store.id) == []
    cloud.resume(vm).checked()
    assert stage.domain_hosts(vm) == ["node2"]
    assert stage.wait_for_tick(vm, tick) > tick


def test_off_and_running_between_datastores(stage, image, vm, other_store):
    cloud = stage.cloud
    cloud.poweroff(vm, hard=True).checked()
    cloud.migrate(vm, "node1", datastore=other_store.name).checked()
    cloud.resume(vm).checked()
    assert stage.domain_hosts(vm) == ["node1"]
    tick = stage.wait_for_tick(vm, 1)
    cloud.migrate(vm, "node2", datastore="system").checked()
    assert stage.domain_hosts(vm) == ["node2"] and files(stage, "node1", vm, other_store.id) == []
    stage.wait_for_tick(vm, tick)


def test_a_guest_leaves_the_host_whose_disk_failed(stage, backend, image, vm):
    """As on-io-error does: DRBD detaches the disk, the guest lives on the other one and can go there."""
    lab, cloud = stage.lab, stage.cloud
    name = f"{image.source}-{vm.id}-0"
    here, there = stage.domain_hosts(vm)[0], next(host for host in lab.hosts if host not in stage.domain_hosts(vm))
    tick = stage.last_tick(vm)
    lab.root(here, ["drbdadm", "detach", name])
    cloud.migrate(vm, there, live=True).checked()
    assert stage.domain_hosts(vm) == [there]
    no_two_primaries(stage, name)
    assert stage.wait_for_tick(vm, tick) > tick
    back = cloud.migrate(vm, here, live=True)
    assert not back.ok and f"{name} is Diskless on {here}" in back.error
    lab.root(here, ["drbdadm", "adjust", name])
    stage.wait_until_synced(here, name)
    cloud.migrate(vm, here, live=True).checked()
    cloud.poweroff(vm, hard=True).checked()
    equal_replicas(stage, backend, name, 16 * MIB)
    cloud.resume(vm).checked()
    stage.wait_for_tick(vm, 1)
