"""A live migration that breaks at any step: the guest runs on one host, and nobody may be Primary twice afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from marks import THOROUGH, first
from simulated import SimStage

from oned import VirtualMachine

pytestmark = pytest.mark.sim

# What breaks, and on which host the guest is then.
Break = Callable[[SimStage], object]
BREAKS: dict[str, tuple[Break, str]] = {
    "premigrate cannot promote": (lambda stage: stage.farm.fail_at("node2", "drbdadm primary"), "node1"),
    "premigrate cannot allow two": (lambda stage: stage.farm.fail_at("node2", "allow-two-primaries=yes"), "node1"),
    "destination unreachable": (lambda stage: stage.farm.ssh_refuses("node2", "No route to host"), "node1"),
    "network pre fails": (lambda stage: stage.cloud.inject("vnm.pre", stderr="no bridge"), "node1"),
    "xl refuses": (lambda stage: stage.farm.fail_at("node1", "xl migrate"), "node1"),
    "receiver refuses": (lambda stage: stage.farm.fail_at("node2", "migrate-receive"), "node1"),
    "receiver killed": (lambda stage: stage.farm.crash_at("node2", 1, "before", "agent", "migrate-receive"), "node1"),
    "killed after the guest arrived": (
        lambda stage: stage.farm.crash_at("node1", 1, "after", "agent", "xl migrate"), "node2"),
    "migrate fails by itself": (lambda stage: stage.cloud.inject("vmm.migrate", stderr="lost"), "node1"),
    "postmigrate fails": (lambda stage: stage.cloud.inject("tm.postmigrate", stderr="lost"), "node2"),
    "the source cannot demote": (lambda stage: stage.farm.fail_at("node1", "drbdadm secondary"), "node2"),
}

USUAL = ("network pre fails", "killed after the guest arrived")


@pytest.fixture
def vm(stage: SimStage, backend: str) -> VirtualMachine:
    """A running VM with a clone and a persistent disk."""
    return stage.instantiate(stage.import_image(backend), stage.import_image(backend, persistent=True), CONTEXT=None)


@pytest.mark.parametrize("backend", ["thin"])
@pytest.mark.parametrize("what", first(*USUAL, later=tuple(what for what in BREAKS if what not in USUAL)))
def test_broken_migration(stage: SimStage, vm: VirtualMachine, what: str) -> None:
    breaks, place = BREAKS[what]
    breaks(stage)
    operation = stage.cloud.migrate(vm, "node2", live=True)
    stage.farm.clear_faults()
    stage.farm.ssh_refuses("node2")
    assert vm.status == "RUNNING"
    assert stage.domain_hosts(vm) == [place], operation.error
    # OpenNebula may still believe the old host; whatever it asks next settles what is left.
    if vm.host != "node2":
        stage.cloud.migrate(vm, "node2", live=True).checked()
    assert stage.domain_hosts(vm) == ["node2"]
    stage.cloud.migrate(vm, "node1", live=True).checked()
    assert stage.domain_hosts(vm) == ["node1"]
    assert stage.two_primaries_allowed() == [], stage.cloud.calls[-1].stderr
    for disk in (f"{vm.disks[0]['SOURCE']}-{vm.id}-0", str(vm.disks[1]["SOURCE"])):
        assert stage.roles(disk) == {"node1": "Primary", "node2": "Secondary"}
    stage.cloud.terminate(vm, hard=True).checked()


@pytest.mark.parametrize("backend", ["zfs"])
def test_terminate_after_a_migration_that_nobody_settled(stage: SimStage, vm: VirtualMachine) -> None:
    """A failing network driver calls no failmigrate (observation 4): the end of the VM tidies the destination too."""
    stage.cloud.inject("vnm.pre", stderr="no bridge")
    assert not stage.cloud.migrate(vm, "node2", live=True).ok
    assert len(stage.two_primaries_allowed()) == 4
    stage.cloud.terminate(vm, hard=True).checked()
    assert [left for left in stage.leftovers() if "/datastores/" in left or "/intents/" in left] == []


@THOROUGH
def test_a_disk_out_of_sync_is_not_migrated(stage: SimStage) -> None:
    image = stage.import_image("zfs")
    vm = stage.bare(image)
    stage.farm.disconnect("node1", "node2")
    operation = stage.cloud.migrate(vm, "node2", live=True)
    assert not operation.ok and vm.host == "node1"
    assert f"{image.source}-{vm.id}-0" in operation.error
    assert stage.domain_hosts(vm) == ["node1"]
    assert stage.two_primaries_allowed() == []
    stage.farm.reconnect("node1", "node2")
    stage.cloud.migrate(vm, "node2", live=True).checked()
    stage.cloud.terminate(vm, hard=True).checked()


@pytest.mark.parametrize("backend", ["zfs"])
def test_a_guest_leaves_a_host_whose_disk_failed(stage: SimStage, backend: str) -> None:
    """DRBD has detached it and the guest lives on the other replica: there it can go, and not back until it is mended.
    """
    vm = stage.bare(stage.import_image(backend))
    name = f"{vm.disks[0]['SOURCE']}-{vm.id}-0"
    assert stage.farm.run("node1", ["drbdadm", "detach", name]).status == 0
    stage.cloud.migrate(vm, "node2", live=True).checked()
    assert stage.domain_hosts(vm) == ["node2"]
    assert stage.roles(name) == {"node1": "Secondary", "node2": "Primary"}
    assert stage.two_primaries_allowed() == []
    back = stage.cloud.migrate(vm, "node1", live=True)
    assert not back.ok and f"{name} is Diskless on node1" in back.error
    assert stage.farm.run("node1", ["drbdadm", "adjust", name]).status == 0
    stage.await_sync(name)
    stage.cloud.migrate(vm, "node1", live=True).checked()
    stage.cloud.terminate(vm, hard=True).checked()
