"""mv in all its situations: between hosts, to the frontend and back, between system datastores, from a dead host."""

from __future__ import annotations

from pathlib import Path

import pytest
from marks import THOROUGH, first
from simulated import SimStage

from oned import VirtualMachine

pytestmark = pytest.mark.sim


@pytest.fixture
def other_store(stage: SimStage) -> str:
    """The name of a second system datastore."""
    name = stage.new_name("system")
    stage.cloud.create_datastore(name, type="SYSTEM")
    return name


def files(stage: SimStage, host: str, vm: VirtualMachine, datastore: int | None = None) -> list[str]:
    """What is in a VM's directory on a host; nothing when there is none."""
    place = Path(stage.farm.path(host, stage.cloud.vm_directory(datastore or vm.datastore_id, vm.id)))
    return sorted(entry.name for entry in place.iterdir()) if place.is_dir() else []


def assert_runs_at(stage: SimStage, vm: VirtualMachine, host: str) -> None:
    assert vm.status == "RUNNING" and stage.domain_hosts(vm) == [host]
    other = next(one for one in stage.hosts if one != host)
    for disk in vm.disks:
        name = str(disk["SOURCE"]) if disk.get("PERSISTENT") == "YES" else f"{disk['SOURCE']}-{vm.id}-{disk['DISK_ID']}"
        assert stage.roles(name) == {host: "Primary", other: "Secondary"}
    assert files(stage, other, vm) == []
    assert "disk.0" in files(stage, host, vm)


@pytest.mark.parametrize("state", first("SUSPENDED", "RUNNING", later=("POWEROFF", "POFF")))
def test_across_system_datastores(stage: SimStage, other_store: str, state: str) -> None:
    """Of the same host, then of another one: the checkpoint and the small files are where they are looked for."""
    cloud = stage.cloud
    vm = stage.instantiate(stage.import_image("zfs"), stage.import_image("thin", persistent=True))
    first_store = vm.datastore_id
    for host, store in (("node1", other_store), ("node2", "system")):
        if state == "SUSPENDED":
            cloud.suspend(vm).checked()
        elif state == "POWEROFF":
            cloud.poweroff(vm, hard=True).checked()
        was = vm.datastore_id
        cloud.migrate(vm, host, datastore=store, poff=state == "POFF", hard=state == "POFF").checked()
        if state == "SUSPENDED":
            assert "checkpoint" in files(stage, host, vm)
        if vm.status != "RUNNING":
            cloud.resume(vm).checked()
        assert was != vm.datastore_id
        assert_runs_at(stage, vm, host)
        for one in stage.hosts:
            assert files(stage, one, vm, was) == []
    assert vm.datastore_id == first_store
    cloud.terminate(vm, hard=True).checked()


@THOROUGH
@pytest.mark.parametrize("how", ["stop_vm", "undeploy"])
def test_to_the_frontend_and_back_into_another_datastore(stage: SimStage, other_store: str, how: str) -> None:
    cloud = stage.cloud
    vm = stage.instantiate(stage.import_image("thin"))
    getattr(cloud, how)(vm).checked()
    for host in stage.hosts:
        assert files(stage, host, vm) == []
        assert stage.farm.kernel(host, f"{vm.disks[0]['SOURCE']}-{vm.id}-0")["role"] == "Secondary"
    cloud.deploy(vm, host="node2", datastore=other_store).checked()
    assert_runs_at(stage, vm, "node2")
    cloud.terminate(vm, hard=True).checked()


def test_a_dead_source_is_left_behind_but_not_with_the_guests_memory(stage: SimStage) -> None:
    """UNKNOWN goes on with the disks; SUSPENDED is refused, since nobody else has what `save` wrote."""
    cloud = stage.cloud
    running = stage.instantiate(stage.import_image("zfs"), stage.import_image("zfs", persistent=True))
    asleep = stage.bare(stage.import_image("zfs"))
    cloud.suspend(asleep).checked()
    stage.farm.power_cut("node1")
    cloud.report(running, "UNKNOWN")
    cloud.migrate(running, "node2").checked()
    assert running.status == "RUNNING" and stage.domain_hosts(running) == ["node2"]
    refused = cloud.migrate(asleep, "node2")
    assert not refused.ok and "the saved memory" in refused.error.split("TRANSFER")[-1][:200]
    stage.farm.power_on("node1")
    cloud.recover_retry(asleep).checked()
    assert asleep.status == "SUSPENDED" and "checkpoint" in files(stage, "node2", asleep)
    cloud.resume(asleep).checked()
    assert stage.domain_hosts(asleep) == ["node2"]
    for vm in (running, asleep):
        cloud.terminate(vm, hard=True).checked()
    stage.farm.run("node1", ["rm", "-rf", cloud.vm_directory(running.datastore_id, running.id)])


@THOROUGH
def test_a_move_run_twice(stage: SimStage, other_store: str) -> None:
    """Retry replays whole transfer files: a move that was done already loses nothing."""
    cloud = stage.cloud
    vm = stage.instantiate(stage.import_image("thin"))
    cloud.suspend(vm).checked()
    before = set(files(stage, "node1", vm)) - {"disk.0"}
    here = cloud.vm_directory(vm.datastore_id, vm.id)
    store = next(one for one in cloud.datastores.values() if one.name == other_store)
    there = cloud.vm_directory(store.id, vm.id)
    for host in ("node2", "node1"):
        for source, target in ((f"node1:{here}", f"{host}:{there}"), (f"{host}:{there}", f"node1:{here}")):
            done = stage.line(f"MV dnc {source} {target} {vm.id} {store.id}")
            assert done.status == 0, done.stderr
            done = stage.line(f"MV dnc {source} {target} {vm.id} {store.id}")
            assert done.status == 0, done.stderr
            where = Path(stage.farm.path(target.split(":")[0], target.split(":")[1]))
            assert before <= {entry.name for entry in where.iterdir()}
    cloud.terminate(vm, hard=True).checked()
    assert stage.violations() == []
