"""VMM actions through the stand-in for oned: each twice, and against domains absent, paused or half migrated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from marks import THOROUGH
from once_more import again
from simulated import SimStage

from oned import VirtualMachine

pytestmark = pytest.mark.sim

HALF = "--migratedaway"
SHELL = "--incoming"


@pytest.fixture(params=["vmm_dnc", pytest.param("qemu", marks=THOROUGH)])
def vm_mad(stage: SimStage, request: pytest.FixtureRequest) -> Iterator[str]:
    """Nothing depends on the VM_MAD's name (observation 17)."""
    before = [record.vm_mad for record in stage.cloud.hosts.values()]
    for record in stage.cloud.hosts.values():
        record.vm_mad = request.param
    yield str(request.param)
    for record, name in zip(stage.cloud.hosts.values(), before):
        record.vm_mad = name


@pytest.fixture
def vm(stage: SimStage, vm_mad: str) -> Iterator[VirtualMachine]:
    """A running VM with room to grow."""
    image = stage.import_image("zfs")
    vm = stage.instantiate(image, MEMORY=64, MEMORY_MAX="128", VCPU=1, VCPU_MAX="2")
    yield vm
    stage.farm.clear_faults()
    if vm.status != "DONE":
        stage.cloud.terminate(vm, hard=True).checked()


def domain(stage: SimStage, vm: VirtualMachine, host: str = "node1", suffix: str = "") -> dict[str, Any]:
    """What the simulated Xen has of it."""
    found: dict[str, Any] = stage.farm.domains(host)[f"one-{vm.id}{suffix}"]
    return found


def test_each_change_twice(stage: SimStage, vm: VirtualMachine) -> None:
    cloud = stage.cloud
    cloud.resize_vm(vm, cpu=2, vcpu=2, memory_mb=96).checked()
    assert again(cloud, "resize").rc == 0
    one = domain(stage, vm)
    assert (one["memory"], one["vcpus"], one["weight"]) == (96, 2, 512)
    cloud.attach_nic(vm, {"NETWORK": "guests"}).checked()
    for action in ("attach_nic", "prereconfigure", "reconfigure"):
        assert again(cloud, action).rc == 0, action
    assert len(domain(stage, vm)["nics"]) == 2
    cloud.detach_nic(vm, int(str(vm.nics[-1]["NIC_ID"]))).checked()
    assert again(cloud, "detach_nic").rc == 0
    cloud.attach_disk(vm, {"TYPE": "fs", "FS": "ext4", "SIZE": "4", "FORMAT": "raw"}).checked()
    assert again(cloud, "attach_disk").rc == 0
    disk = f"one-sys-{vm.id}-{vm.disks[-1]['DISK_ID']}"
    assert stage.roles(disk) == {"node1": "Primary", "node2": "Secondary"}
    cloud.detach_disk(vm, int(str(vm.disks[-1]["DISK_ID"]))).checked()
    assert again(cloud, "detach_disk").rc == 0
    assert stage.holders(disk) == set()
    one = domain(stage, vm)
    assert (len(one["nics"]), len(one["disks"])) == (1, 2)


def test_each_end_and_return_twice(stage: SimStage, vm: VirtualMachine) -> None:
    cloud = stage.cloud
    for go, went, back, came in (
        (cloud.suspend, "save", cloud.resume, "restore"), (cloud.poweroff, "shutdown", cloud.resume, "deploy"),
    ):
        go(vm).checked()
        assert again(cloud, went).rc == 0, went
        assert stage.domain_hosts(vm) == []
        back(vm).checked()
        assert again(cloud, came).rc == 0, came
        assert stage.domain_hosts(vm) == ["node1"]
    for hard, action in ((False, "reboot"), (True, "reset")):
        cloud.reboot(vm, hard=hard).checked()
        assert again(cloud, action).rc == 0, action
    cloud.migrate(vm, "node2", live=True).checked()
    assert again(cloud, "migrate").rc == 0
    assert stage.domain_hosts(vm) == ["node2"]
    for action, said in (("snapshot_create", "no snapshots of whole VMs"), ("exec", "no guest agent")):
        done = again(cloud, "migrate", action=action, argv=(f"one-{vm.id}", "0", "1", "node2"))
        assert done.rc == 1 and said in done.stderr
    assert not cloud.snapshot_vm(vm, "before").ok and vm.status == "RUNNING"
    cloud.poweroff(vm, hard=True).checked()
    assert again(cloud, "cancel").rc == 0


def test_capacity_and_memory_travel(stage: SimStage, vm: VirtualMachine) -> None:
    """What was resized is there after each way to go on."""
    cloud = stage.cloud
    cloud.resize_vm(vm, cpu=3, vcpu=2, memory_mb=80).checked()
    for step in (cloud.suspend, cloud.resume, lambda one: cloud.migrate(one, "node2", live=True),
                 lambda one: cloud.reboot(one, hard=True), cloud.stop_vm, lambda one: cloud.deploy(one, "node1")):
        step(vm).checked()
        for host in stage.domain_hosts(vm):
            one = domain(stage, vm, host)
            assert (one["memory"], one["vcpus"], one["weight"], one["maxmem"]) == (80, 2, 768, 128)
    refused = cloud.resize_vm(vm, memory_mb=256)
    assert not refused.ok and "MEMORY 256 is beyond the 128" in refused.error and domain(stage, vm)["memory"] == 80


def test_a_resize_that_breaks_is_taken_back(stage: SimStage, vm: VirtualMachine) -> None:
    stage.farm.fail_at("node1", "xl mem-set")
    assert not stage.cloud.resize_vm(vm, cpu=2, vcpu=2, memory_mb=96).ok
    one = domain(stage, vm)
    assert (one["memory"], one["vcpus"], one["weight"]) == (64, 1, 256)


@pytest.mark.parametrize("tool", ["xl sched-credit2", "xl vcpu-set", pytest.param("xl mem-set", marks=THOROUGH)])
def test_a_killed_resize_is_finished_by_the_next(stage: SimStage, vm: VirtualMachine, tool: str) -> None:
    stage.farm.crash_at("node1", 1, "after", "agent", tool)
    assert not stage.cloud.resize_vm(vm, cpu=2, vcpu=2, memory_mb=96).ok
    stage.farm.clear_faults()
    stage.cloud.resize_vm(vm, cpu=2, vcpu=2, memory_mb=96).checked()
    one = domain(stage, vm)
    assert (one["memory"], one["vcpus"], one["weight"]) == (96, 2, 512)


def test_a_disk_that_the_guest_holds_stays(stage: SimStage, vm: VirtualMachine) -> None:
    stage.cloud.attach_disk(vm, {"TYPE": "swap", "SIZE": "4"}).checked()
    number = int(str(vm.disks[-1]["DISK_ID"]))
    vdev = domain(stage, vm)["disks"][-1]["vdev"]
    stage.farm.holds(vm.deploy_id, vdev)
    stage.configure(SHUTDOWN_TIMEOUT="2")
    refused = stage.cloud.detach_disk(vm, number)
    assert not refused.ok and f"does not release {vdev}" in refused.error
    assert stage.roles(f"one-sys-{vm.id}-{number}") == {"node1": "Primary", "node2": "Secondary"}
    stage.farm.holds(vm.deploy_id)
    stage.configure()
    stage.cloud.detach_disk(vm, number).checked()


def test_a_failed_interface_does_not_end_the_guest_at_its_next_reboot(stage: SimStage, vm: VirtualMachine) -> None:
    """What xl keeps of it would (lab/captures/xl-reboot)."""
    broken = stage.cloud.create_network(stage.new_name("broken"), bridge="nosuchbr")
    for _again in range(2):
        assert not stage.cloud.attach_nic(vm, {"NETWORK": broken.name}).ok
    stage.farm.delay("node1", "xl network-attach", 0.0)
    assert len(domain(stage, vm)["nics"]) == 1
    stage.cloud.reboot(vm).checked()
    for _tick in range(3):
        stage.farm.run("node1", ["xl", "list"])
    assert stage.domain_hosts(vm) == ["node1"]


def test_what_needs_the_guest_is_refused_while_it_is_paused(stage: SimStage, vm: VirtualMachine) -> None:
    cloud = stage.cloud
    for _twice in range(2):
        stage.farm.run("node1", ["xl", "pause", vm.deploy_id])
    for operation in (cloud.resize_vm(vm, cpu=2), cloud.suspend(vm), cloud.attach_nic(vm, {"NETWORK": "guests"}),
                      cloud.attach_disk(vm, {"TYPE": "swap", "SIZE": "4"})):
        assert not operation.ok and "is paused" in operation.error, operation.label
    assert vm.status == "RUNNING" and (len(vm.disks), len(vm.nics)) == (1, 1)
    cloud.poweroff(vm).checked()
    assert stage.domain_hosts(vm) == []


def test_against_a_domain_that_is_gone(stage: SimStage, vm: VirtualMachine) -> None:
    """What asks for an end has it; what asks for a change is told."""
    cloud = stage.cloud
    cloud.resize_vm(vm, cpu=2).checked()
    cloud.reboot(vm).checked()
    stage.farm.run("node1", ["xl", "destroy", vm.deploy_id])
    for action in ("resize", "reboot"):
        gone = again(cloud, action)
        assert gone.rc == 1 and "does not run here" in gone.stderr, action
    cloud.poweroff(vm).checked()
    for action in ("shutdown", "cancel", "reset"):
        done = again(cloud, "shutdown", action=action)
        assert done.rc == (1 if action == "reset" else 0), done.stderr
    cloud.resume(vm).checked()


def test_against_half_a_domain(stage: SimStage, vm: VirtualMachine) -> None:
    """Renamed as a migration that broke off leaves it: nothing is done to it, but what settles or ends it."""
    cloud = stage.cloud
    cloud.reboot(vm).checked()
    stage.farm.run("node1", ["xl", "list"])
    stage.farm.run("node1", ["xl", "rename", vm.deploy_id, vm.deploy_id + HALF])
    for operation in (cloud.resize_vm(vm, cpu=2), cloud.suspend(vm), cloud.poweroff(vm)):
        assert not operation.ok and "half migrated" in operation.error, operation.label
    directory = cloud.vm_directory(vm.datastore_id, vm.id)
    half = again(cloud, "reboot", action="deploy", stdin=vm.xml(),
                 argv=(f"{directory}/deployment.0", "node1", str(vm.id), "node1"))
    assert half.rc == 1 and "half migrated" in half.stderr
    # The frontend sees both hosts: this half is all there is.
    done = stage.migration(vm, "failmigrate", "node1", "node2")
    assert done.status == 0, done.stderr
    assert list(stage.farm.domains("node1")) == [vm.deploy_id]
    assert stage.roles(f"{vm.disks[0]['SOURCE']}-{vm.id}-0") == {"node1": "Primary", "node2": "Secondary"}


def test_a_shell_at_the_destination_goes(stage: SimStage, vm: VirtualMachine) -> None:
    """It would make `xl migrate` fail; premigrate, and failmigrate, look at both hosts."""
    text = f'name = "{vm.deploy_id}{SHELL}"\nmemory = 8\n'
    for clears in ("premigrate", "failmigrate"):
        with open(stage.farm.path("node2", "/tmp/shell.cfg"), "w") as file:
            file.write(text)
        stage.farm.run("node2", ["xl", "create", "-p", "/tmp/shell.cfg"])
        assert len(stage.farm.domains("node2")) == 1
        done = stage.migration(vm, clears, "node1", "node2")
        assert done.status == 0 and stage.farm.domains("node2") == {}, done.stderr
    stage.cloud.migrate(vm, "node2", live=True).checked()


def test_a_cpu_that_lacks_what_the_guest_may_use(stage: SimStage, vm: VirtualMachine) -> None:
    cloud = stage.cloud
    stage.farm.has_cpu("node1", "078bf3fd:92982203:2c100800:00000021:00000001:00000128:00000000:00000000")
    refused = cloud.migrate(vm, "node2", live=True)
    assert not refused.ok and "node2's CPU lacks pclmulqdq ssse3" in refused.error, refused.error
    assert stage.domain_hosts(vm) == ["node1"] and stage.two_primaries_allowed() == []
    cloud.migrate(vm, "node2").checked()
    cloud.migrate(vm, "node1", live=True).checked()
    assert stage.domain_hosts(vm) == ["node1"], "to the better CPU it may go"
    stage.farm.has_cpu("node1")


def test_memory_whose_disk_has_moved_on(stage: SimStage, vm: VirtualMachine) -> None:
    """Somebody wrote to it while the VM was suspended: here, or on the other host."""
    cloud, disk = stage.cloud, f"{vm.disks[0]['SOURCE']}-{vm.id}-0"
    for host in ("node1", "node2"):
        cloud.suspend(vm).checked()
        stage.farm.run(host, ["drbdadm", "primary", disk])
        with open(stage.farm.path(host, f"/dev/drbd/by-res/{disk}/0"), "r+b") as device:
            device.seek(1 << 19)
            device.write(host.encode() * 512)
        stage.farm.run(host, ["drbdadm", "secondary", disk])
        refused = cloud.resume(vm)
        assert not refused.ok and "was written to since" in refused.error, host
        assert vm.status == "SUSPENDED" and stage.domain_hosts(vm) == []
        vm.user_template["DNC_RESTORE"] = "boot"
        cloud.resume(vm).checked()
        del vm.user_template["DNC_RESTORE"]
        assert stage.domain_hosts(vm) == ["node1"]


@pytest.mark.parametrize("point", ["after"])
def test_memory_that_was_used_once(stage: SimStage, vm: VirtualMachine, point: str) -> None:
    """Killed after `xl restore`: the guest runs, and its memory of then is no good any more."""
    cloud = stage.cloud
    cloud.suspend(vm).checked()
    stage.farm.crash_at("node1", 1, point, "agent", "xl restore")
    assert not cloud.resume(vm).ok
    stage.farm.clear_faults()
    assert stage.domain_hosts(vm) == ["node1"]
    for _tick in range(5):
        stage.farm.run("node1", ["xl", "list"])
    stage.farm.run("node1", ["xl", "destroy", vm.deploy_id])
    refused = cloud.resume(vm)
    assert not refused.ok and "was written to since" in refused.error


def test_a_restore_that_failed_is_tried_again(stage: SimStage, vm: VirtualMachine) -> None:
    cloud = stage.cloud
    for host in ("node1", "node2"):
        cloud.suspend(vm).checked()
        if vm.host != host:
            cloud.migrate(vm, host).checked()
        stage.farm.fail_at(host, "xl restore")
        assert not cloud.resume(vm).ok
        cloud.resume(vm).checked()
        assert stage.domain_hosts(vm) == [host]
