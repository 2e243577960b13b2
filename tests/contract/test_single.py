"""REPLICAS=1: no DRBD anywhere. A VM lives its life on one host, and what cannot be done with one replica is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lines import HeldVm, complaint, succeeds
from marks import THIN_FIRST, ZFS_FIRST
from simulated import MIB, POOLS, SimStage

pytestmark = pytest.mark.sim


@pytest.fixture
def single(stage: SimStage) -> Iterator[SimStage]:
    """The farm with one replica for everything that does not say otherwise."""
    stage.configure(REPLICAS="1")
    yield stage
    stage.configure()


def test_life_without_drbd(single: SimStage, backend: str) -> None:
    """Import, clone, deploy, suspend, power off, undeploy, terminate; no resource, no minor, nothing elsewhere."""
    stage, cloud, place = single, single.cloud, "node2"
    # One replica has one place: a VM of two such images needs both on the same host.
    bridges = stage.datastores[backend].template["BRIDGE_LIST"]
    stage.datastores[backend].template["BRIDGE_LIST"] = place
    image = stage.import_image(backend)
    kept = stage.import_image(backend, stage.raw_file(seed=2), persistent=True)
    stage.datastores[backend].template["BRIDGE_LIST"] = bridges
    assert stage.holders(image.source) == stage.holders(kept.source) == {place}
    swap = {"TYPE": "swap", "SIZE": "4", "DNC_POOL": POOLS[backend]}
    vm = stage.instantiate(image, kept, swap, host=place)
    names = [f"{image.source}-{vm.id}-0", kept.source, f"one-sys-{vm.id}-2"]
    for name in names:
        assert stage.holders(name) == {place}
        assert stage.roles(name) == {}
    assert not list(Path(stage.farm.path(place, "/etc/drbd.d")).glob("one-*"))
    assert stage.farm.volume_data(place, names[0], MIB) == stage.raw_file().read_bytes()[:MIB]
    devices = [disk["path"] for disk in stage.farm.domains(place)[f"one-{vm.id}"]["disks"]][:3]
    assert not any("drbd" in path for path in devices)
    for down, up in ((cloud.suspend, cloud.resume), (cloud.poweroff, cloud.resume)):
        down(vm).checked()
        up(vm).checked()
    cloud.undeploy(vm).checked()
    cloud.resume(vm)
    cloud.deploy(vm, host=place).checked()
    cloud.reboot(vm).checked()
    assert stage.domain_hosts(vm) == [place]
    cloud.terminate(vm).checked()
    assert stage.remains(image, kept) == []


@ZFS_FIRST
def test_what_needs_a_second_replica_is_refused(single: SimStage, backend: str) -> None:
    stage, cloud = single, single.cloud
    image = stage.import_image(backend)
    here, = stage.holders(image.source)
    there = next(host for host in stage.hosts if host != here)
    vm = stage.bare(image, host=here)
    operation = cloud.migrate(vm, there, live=True)
    assert not operation.ok and "one replica" in operation.error, operation.error
    assert stage.domain_hosts(vm) == [here] and vm.status == "RUNNING"
    cloud.poweroff(vm, hard=True).checked()
    operation = cloud.migrate(vm, there)
    assert not operation.ok and here in operation.error
    cloud.recover_success(vm).checked()
    cloud.migrate(vm, here).checked()
    cloud.resume(vm).checked()
    assert stage.domain_hosts(vm) == [here]
    cloud.terminate(vm, hard=True).checked()


def test_datastore_image_and_vm_say_otherwise(stage: SimStage) -> None:
    """The image goes before the datastore, the VM before both; a clone has no more replicas than its image."""
    store = stage.datastores["thin"]
    store.template["DNC_REPLICAS"] = "1"
    try:
        alone = stage.import_image("thin")
        pair = stage.import_image("thin", template={"DNC_REPLICAS": "2"})
        assert len(stage.holders(alone.source)) == 1 and len(stage.holders(pair.source)) == 2
        # Its disk inherits the datastore's 1, so the VM has one replica of an image with two.
        vm = stage.bare(pair)
        name = f"{pair.source}-{vm.id}-0"
        assert stage.holders(name) == {"node1"}
        # What was the image's metadata is no data of the guest.
        assert not any(stage.farm.volume_data("node1", name, 3 * MIB)[2 * MIB:])
        stage.cloud.terminate(vm, hard=True).checked()
        vm = stage.instantiate(pair, CONTEXT=None, NIC=None, DNC_REPLICAS="2")
        assert stage.holders(f"{pair.source}-{vm.id}-0") == {"node1", "node2"}
        stage.cloud.terminate(vm, hard=True).checked()
        held = HeldVm(stage, alone, host=min(stage.holders(alone.source)))
        held.vm.user_template["DNC_REPLICAS"] = "2"
        line = complaint(held.make())
        assert alone.source in line[:60] and "1 replica" in line[:60], line
        held.forget()
    finally:
        del store.template["DNC_REPLICAS"]


@THIN_FIRST
def test_wrong_numbers_name_their_attribute(stage: SimStage, backend: str) -> None:
    """Refused where a disk would be made; a VM with a wrong attribute can still be removed."""
    store = stage.datastores[backend]
    for word in ("0", "7", "two", "-1"):
        store.template["DNC_REPLICAS"] = word
        image = stage.cloud.create_image(stage.new_name("image"), str(stage.raw_file()), store)
        del store.template["DNC_REPLICAS"]
        assert "DNC_REPLICAS" in (image.error or stage.cloud.operations[-1].error)
        image.template.pop("ERROR", None)
    image = stage.import_image(backend)
    held = HeldVm(stage, image)
    succeeds(held.make())
    held.vm.user_template["DNC_REPLICAS"] = "seven"
    line = complaint(held.make())
    assert f"DNC_REPLICAS of VM {held.vm.id}" in line[:60], line
    succeeds(held.delete())
    succeeds(held.delete_directory())
    held.forget()
    assert stage.remains(image) == []


def test_a_single_image_in_use_is_neither_cloned_nor_removed(single: SimStage) -> None:
    """Without DRBD nothing but the domain tells that somebody writes."""
    stage = single
    kept = stage.import_image("zfs", persistent=True)
    place, = stage.holders(kept.source)
    vm = stage.bare(kept, host=place)
    held_by = kept.vm_ids[:]
    kept.vm_ids.clear()
    operation = stage.cloud.delete_image(kept)
    assert not operation.ok and f"VM {vm.id}" in operation.error
    kept.vm_ids.extend(held_by)
    kept.template.pop("ERROR", None)
    stage.cloud.terminate(vm).checked()
