"""A VM ends from every state that OpenNebula knows, and a persistent image outlives it with all its data."""

from __future__ import annotations

import pytest
from marks import THOROUGH, first
from simulated import MIB, SimStage

from oned import VirtualMachine

pytestmark = pytest.mark.sim


def reach(stage: SimStage, vm: VirtualMachine, state: str) -> None:
    """Bring a running VM into a state."""
    cloud = stage.cloud
    if state == "POWEROFF":
        cloud.poweroff(vm, hard=True).checked()
    elif state == "SUSPENDED":
        cloud.suspend(vm).checked()
    elif state == "STOPPED":
        cloud.stop_vm(vm).checked()
    elif state == "UNDEPLOYED":
        cloud.undeploy(vm, hard=True).checked()
    elif state == "EPILOG_FAILURE":
        cloud.inject("tm.delete", stderr="lost")
        cloud.terminate(vm, hard=True)
    elif state == "PROLOG_MIGRATE_FAILURE":
        cloud.inject("tm.mv", stderr="lost")
        cloud.migrate(vm, "node2")
    elif state == "EPILOG_UNDEPLOY_FAILURE":
        cloud.inject("tm.mv", stderr="lost")
        cloud.undeploy(vm, hard=True)
    elif state == "BOOT_MIGRATE_FAILURE":
        cloud.inject("vmm.restore", stderr="lost")
        cloud.migrate(vm, "node2")
    assert vm.status == state


@pytest.mark.parametrize("state", first("RUNNING", "STOPPED", later=(
    "PROLOG_MIGRATE_FAILURE", "POWEROFF", "SUSPENDED", "UNDEPLOYED", "EPILOG_FAILURE",
    "EPILOG_UNDEPLOY_FAILURE", "BOOT_MIGRATE_FAILURE",
)))
def test_terminate_from(stage: SimStage, state: str) -> None:
    backend = ("zfs", "thin")[len(state) % 2]
    image = stage.import_image(backend)
    kept = stage.import_image(backend, stage.raw_file(seed=2), persistent=True)
    vm = stage.bare(image, kept)
    reach(stage, vm, state)
    operation = stage.cloud.terminate(vm, hard=True)
    assert operation.ok, operation.error
    assert vm.status == "DONE" and stage.domain_hosts(vm) == []
    assert stage.remains(image, kept) == []
    assert stage.replicas_equal(kept.source, 2 * MIB)
    assert stage.farm.volume_data("node2", kept.source, 2 * MIB) == stage.raw_file(seed=2).read_bytes()


@pytest.mark.parametrize("failing", first("tm.mkimage", later=("tm.ln", "vmm.deploy")))
def test_terminate_what_never_ran(stage: SimStage, failing: str) -> None:
    image = stage.import_image("zfs")
    kept = stage.import_image("zfs", persistent=True)
    stage.cloud.inject(failing, stderr="lost")
    volatile = {"TYPE": "fs", "FS": "ext4", "SIZE": "4"}
    vm = stage.cloud.instantiate(stage.template(image, kept, volatile, CONTEXT=None, NIC=None), host="node1")
    assert vm.status in ("PROLOG_FAILURE", "BOOT_FAILURE")
    assert stage.cloud.terminate(vm).ok
    assert stage.remains(image, kept) == []


@THOROUGH
def test_migrations_at_rest(stage: SimStage) -> None:
    """POWEROFF and SUSPENDED move to the other host; a checkpoint travels along."""
    image = stage.import_image("thin")
    vm = stage.bare(image)
    stage.cloud.suspend(vm).checked()
    stage.cloud.migrate(vm, "node2").checked()
    assert vm.status == "SUSPENDED"
    stage.cloud.resume(vm).checked()
    assert stage.domain_hosts(vm) == ["node2"]
    stage.cloud.poweroff(vm, hard=True).checked()
    stage.cloud.migrate(vm, "node1").checked()
    stage.cloud.resume(vm).checked()
    assert stage.domain_hosts(vm) == ["node1"]
    stage.cloud.migrate(vm, "node2", poff=True, hard=True).checked()
    assert stage.domain_hosts(vm) == ["node2"]
    stage.cloud.terminate(vm, hard=True).checked()
