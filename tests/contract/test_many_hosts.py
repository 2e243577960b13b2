"""DRBD 9 on more hosts than a disk has replicas: a third vote, guests on hosts without a replica, three replicas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lines import HeldVm, complaint, succeeds
from marks import THOROUGH, ZFS_FIRST
from simulated import MIB, POOLS, SimStage

pytestmark = pytest.mark.sim


@pytest.fixture(scope="session")
def drbd() -> str:
    """8.4 has neither."""
    return "9"


@pytest.fixture
def hosts() -> tuple[str, ...]:
    """Images are on the first two where a test does not say otherwise."""
    return ("node1", "node2", "node3", "node4")


def clients(stage: SimStage, resource: str) -> list[str]:
    """Hosts that use it without a replica."""
    found = {host: stage.farm.kernel(host, resource) for host in stage.hosts}
    return [host for host, one in found.items() if one and one["client"]]


def primaries(stage: SimStage, resource: str) -> list[str]:
    return [host for host, role in stage.roles(resource).items() if role == "Primary"]


def header(stage: SimStage, host: str, resource: str) -> dict[str, Any]:
    """The first line of a resource file."""
    text = Path(stage.farm.path(host, f"/etc/drbd.d/{resource}.res")).read_text()
    return json.loads(text.splitlines()[0].removeprefix("# dnc "))


@ZFS_FIRST
def test_two_replicas_get_a_third_vote(stage: SimStage, backend: str) -> None:
    """A client that only votes; the survivor of a power cut goes on at once, and who comes back is resynced."""
    image = stage.import_image(backend)
    vm = stage.bare(image)
    name = f"{image.source}-{vm.id}-0"
    (vote,) = clients(stage, name)
    assert vote in ("node3", "node4")
    about = header(stage, "node1", name)
    assert about["day0"] and about["proof"].startswith("gi:")
    assert {tuple(header(stage, host, name)["members"][2]) for host in ("node1", "node2", vote)} == {
        (vote, f"10.99.0.{vote[-1]}", None, 2)}
    assert stage.resyncs_of(name) == []
    stage.farm.power_cut("node1")
    stage.cloud.report(vm, "UNKNOWN")
    stage.cloud.migrate(vm, "node2").checked()
    assert primaries(stage, name) == ["node2"]
    stage.farm.power_on("node1")
    assert stage.farm.run("node1", ["drbdadm", "up", name]).status == 0
    stage.cloud.migrate(vm, "node1", live=True).checked()
    assert stage.replicas_equal(name, MIB)
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(image) == []


@THOROUGH
def test_a_guest_on_a_host_without_a_replica(stage: SimStage, backend: str) -> None:
    """clone, ln and mkimage there; it moves live between hosts of either kind, and nothing is copied."""
    image, kept = stage.import_image(backend), stage.import_image(backend, persistent=True)
    volatile = {"TYPE": "fs", "FS": "ext4", "SIZE": "4", "DNC_POOL": POOLS[backend]}
    vm = stage.bare(image, kept, volatile, host="node3")
    names = [f"{image.source}-{vm.id}-0", kept.source, f"one-sys-{vm.id}-2"]
    assert [clients(stage, name) for name in names[:2]] == [["node3"], ["node3"]]
    for host in ("node4", "node2", "node3"):
        stage.cloud.migrate(vm, host, live=True).checked()
        assert stage.domain_hosts(vm) == [host]
        for name in names:
            assert primaries(stage, name) == [host], name
            assert len(clients(stage, name)) == 1, "one vote is enough"
    assert stage.two_primaries_allowed() == []
    stage.cloud.poweroff(vm, hard=True).checked()
    stage.cloud.migrate(vm, "node4").checked()
    stage.cloud.resume(vm).checked()
    assert stage.domain_hosts(vm) == ["node4"]
    assert [stage.resyncs_of(name) for name in names] == [[], [], []]
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(image, kept) == []
    for host in ("node3", "node4"):
        assert not Path(stage.farm.path(host, f"/etc/drbd.d/{kept.source}.res")).exists()
    assert len(header(stage, "node1", kept.source)["members"]) == 2
    assert stage.replicas_equal(kept.source, MIB)


def three(stage: SimStage, backend: str, *, persistent: bool = False) -> Any:
    """An image with three replicas."""
    stage.configure(REPLICAS="3")
    name = f"three-{backend}"
    if name not in stage.datastores:
        attributes = {"DNC_POOL": POOLS[backend], "SAFE_DIRS": str(stage.images)}
        stage.datastores[name] = stage.cloud.create_datastore(name, type="IMAGE", template=attributes)
    return stage.import_image(name, persistent=persistent)


@THOROUGH
def test_three_replicas(stage: SimStage, backend: str) -> None:
    """A VM moves live between any two of its hosts, also while the third is away; that one is resynced later."""
    image = three(stage, backend)
    try:
        vm = stage.bare(image)
        name = f"{image.source}-{vm.id}-0"
        assert set(stage.roles(name)) == {"node1", "node2", "node3"} and clients(stage, name) == []
        assert stage.resyncs_of(name) == []
        stage.cloud.migrate(vm, "node3", live=True).checked()
        stage.farm.power_cut("node2")
        stage.cloud.migrate(vm, "node1", live=True).checked()
        assert stage.two_primaries_allowed() == []
        stage.cloud.poweroff(vm, hard=True).checked()
        stage.cloud.resume(vm).checked()
        stage.cloud.poweroff(vm, hard=True).checked()
        stage.cloud.migrate(vm, "node3").checked()
        stage.cloud.resume(vm).checked()
        assert primaries(stage, name) == ["node3"]
        held = HeldVm(stage, image)
        assert "node2" in complaint(held.make())[:60], "no proof without all three"
        held.forget()
        stage.farm.power_on("node2")
        assert stage.farm.run("node2", ["drbdadm", "up", name]).status == 0
        stage.cloud.migrate(vm, "node2", live=True).checked()
        assert {one["target"] for one in stage.resyncs_of(name)} == {"node2"}
        assert stage.replicas_equal(name, MIB)
        stage.cloud.terminate(vm, hard=True).checked()
        assert stage.remains(image) == []
    finally:
        stage.configure()


@THOROUGH
def test_two_of_three_gone_stops_the_guest_and_not_its_data(stage: SimStage) -> None:
    image = three(stage, "zfs", persistent=True)
    try:
        vm = stage.bare(image)
        stage.farm.disconnect("node1")
        kernel = stage.farm.kernel("node1", image.source)
        assert kernel is not None and kernel["quorate"] is False
        stage.farm.reconnect("node1")
        stage.cloud.terminate(vm, hard=True).checked()
        assert stage.replicas_equal(image.source, MIB)
    finally:
        stage.configure()


@THOROUGH
@pytest.mark.parametrize("broken", ["drbdadm adjust", "drbdadm up"])
def test_a_client_that_cannot_be_made(stage: SimStage, broken: str) -> None:
    """Nothing stays of it, and the next attempt makes it."""
    image = stage.import_image("zfs")
    held = HeldVm(stage, image, host="node3")
    stage.farm.fail_at("node1" if "adjust" in broken else "node3", broken)
    complaint(held.make())
    assert stage.remains(image) == []
    succeeds(held.make())
    assert clients(stage, f"{image.source}-{held.vm.id}-0") == ["node3"]
    succeeds(held.delete())
    succeeds(held.delete_directory())
    assert stage.remains(image) == []
    held.forget()


@THOROUGH
def test_a_dead_client_is_left_behind(stage: SimStage) -> None:
    """It keeps nobody from anything, and its old file confuses nobody when it is back."""
    image = stage.import_image("zfs")
    vm = stage.bare(image, host="node3")
    name = f"{image.source}-{vm.id}-0"
    stage.farm.power_cut("node3")
    stage.cloud.report(vm, "UNKNOWN")
    stage.cloud.migrate(vm, "node1").checked()
    stage.farm.power_on("node3")
    stage.cloud.migrate(vm, "node2", live=True).checked()
    assert primaries(stage, name) == ["node2"]
    stage.cloud.terminate(vm, hard=True).checked()
    stage.farm.run("node3", ["rm", "-f", f"/etc/drbd.d/{name}.res"])


def test_a_copy_gives_way_to_a_client(stage: SimStage) -> None:
    """A clone is made beside a copy of the image; later the image itself is a VM's disk on that host."""
    image = stage.import_image("zfs")
    stage.configure(MISSING_REPLICA="copy")
    try:
        vm = stage.bare(image, host="node3")
    finally:
        stage.configure()
    name = f"{image.source}-{vm.id}-0"
    assert set(header(stage, "node3", name)["members"][0]) > {"node3"} and "node3" not in clients(stage, name)
    assert stage.resyncs_of(name) == [] and stage.replicas_equal(name, MIB)
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.farm.volume_data("node3", image.source, MIB)
    image.persistent = True
    vm = stage.bare(image, host="node3")
    assert clients(stage, image.source) == ["node3"]
    with pytest.raises(FileNotFoundError):
        stage.farm.volume_data("node3", image.source, MIB)
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(image) == []


@THOROUGH
def test_clone_with_a_client_killed_at_every_command(stage: SimStage) -> None:
    image = stage.import_image("zfs")
    for n in range(1, 40, 3):
        held = HeldVm(stage, image, host="node3")
        host = ("node1", "node3", "node2")[n % 3]
        stage.farm.crash_at(host, (n + 2) // 3, ("before", "after")[n % 2], "agent")
        held.make()
        stage.farm.clear_faults()
        succeeds(held.make())
        assert clients(stage, f"{image.source}-{held.vm.id}-0") == ["node3"]
        succeeds(held.delete())
        succeeds(held.delete_directory())
        assert stage.remains(image) == []
        held.forget()
