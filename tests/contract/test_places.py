"""Where replicas go on a farm of three hosts, what datastores report, and what a full pool refuses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from lines import HeldVm, complaint, succeeds
from simulated import MIB, POOLS, SimStage

from dnc.tools.drbd import volume_size

pytestmark = pytest.mark.sim
HOSTS = ("node1", "node2", "node3")


@pytest.fixture
def stage(three: SimStage) -> Iterator[SimStage]:
    """Three hosts, all of them monitored and silent about their pools."""
    yield three
    for host in three.cloud.hosts.values():
        host.state = 2
        host.template.pop("DNC_SPACE", None)


def last_call(stage: SimStage, action: str) -> Any:
    return next(call for call in reversed(stage.cloud.calls) if call.action == action)


def publish(stage: SimStage, host: str, free_mb: int, age_s: int = 0) -> None:
    """What a probe would print for the ZFS pool of a host."""
    stage.cloud.host(host).template["DNC_SPACE"] = {
        "POOL": POOLS["zfs"], "TOTAL_MB": "4000", "USED_MB": str(4000 - free_mb), "FREE_MB": str(free_mb),
        "FILL": "1.0", "VOLUMES": "0", "AT": str(int(time.time()) - age_s)}


def questions(stage: SimStage, since: int) -> list[str]:
    return [method for method, _ in stage.cloud.rpc.questions[since:]]


def test_a_disabled_host_gets_no_replica_and_the_log_says_why(stage: SimStage) -> None:
    stage.cloud.host("node1").state = 4
    asked = len(stage.cloud.rpc.questions)
    image = stage.import_image("zfs")
    assert stage.holders(image.source) == {"node2", "node3"}
    assert questions(stage, asked) == ["one.hostpool.info"]
    said = last_call(stage, "cp").stderr
    assert f"{image.source}: node1: disabled in OpenNebula" in said
    assert f"{image.source}: node2: chosen: " in said


def test_an_unreachable_host_is_passed_over(stage: SimStage) -> None:
    stage.farm.ssh_refuses("node2", "No route to host")
    image = stage.import_image("thin")
    stage.farm.ssh_refuses("node2")
    assert stage.holders(image.source) == {"node1", "node3"}


def test_published_figures_save_sessions_and_wrong_ones_do_no_harm(stage: SimStage) -> None:
    for host, free in zip(HOSTS, (3000, 1000, 2900)):
        publish(stage, host, free)
    # Who is not chosen is not asked: it could not answer.
    stage.farm.ssh_refuses("node2", "No route to host")
    image = stage.import_image("zfs")
    assert stage.holders(image.source) == {"node1", "node3"}
    assert "node2: No route" not in last_call(stage, "cp").stderr
    stage.farm.ssh_refuses("node2")
    publish(stage, "node1", 3000, age_s=7200)
    stage.cloud.host("node2").template["DNC_SPACE"]["FREE_MB"] = "$(reboot)"  # type: ignore[index]
    again = stage.import_image("zfs")
    assert len(stage.holders(again.source)) == 2
    assert "node2: " in last_call(stage, "cp").stderr and "figures are not used" in last_call(stage, "cp").stderr


def test_pairs_and_failure_domains(stage: SimStage) -> None:
    try:
        stage.configure(HOST_PAIRS="node1=node3")
        vm = stage.bare({"TYPE": "fs", "FS": "ext4", "SIZE": "4", "DNC_POOL": POOLS["thin"]}, host="node3")
        assert stage.holders(f"one-sys-{vm.id}-0") == {"node1", "node3"}
        stage.cloud.terminate(vm, hard=True).checked()
        stage.configure(FAILURE_DOMAINS="rack1=node1,node2 rack2=node3")
        image = stage.import_image("thin")
        assert "node3" in stage.holders(image.source)
        stage.cloud.host("node3").state = 4
        refused = stage.cloud.create_image(stage.new_name("image"), str(stage.raw_file()), stage.datastores["thin"])
        assert "FAILURE_DOMAINS" in refused.error
    finally:
        stage.configure()


def test_what_is_reported_is_what_can_be_placed(stage: SimStage) -> None:
    """Two replicas on distinct hosts: a large third host does not make two small ones larger."""
    store, cloud = stage.datastores["zfs"], stage.cloud
    cloud.monitor_datastore(store).checked()
    whole = store.free_mb
    for host, free in (("node1", 100), ("node2", 50)):
        stage.farm.fill_pool(host, "tank", free=free * MIB)
    cloud.monitor_datastore(store).checked()
    assert store.free_mb <= 150 < whole
    said = last_call(stage, "monitor").stderr
    assert said.count("zfs:tank/dnc: ") >= 3 and "MiB usable below 95 %" in said
    store.template["DNC_REPLICAS"] = "1"
    cloud.monitor_datastore(store).checked()
    assert store.free_mb > 150
    del store.template["DNC_REPLICAS"]
    for host in ("node1", "node2"):
        stage.farm.empty_pool(host, "tank")


def test_overcommit_is_told(stage: SimStage) -> None:
    huge = {"TYPE": "fs", "FORMAT": "raw", "SIZE": "40000", "DNC_POOL": POOLS["thin"]}
    vms = [stage.bare(huge) for _ in range(2)]
    stage.cloud.monitor_datastore(stage.datastores["thin"]).checked()
    said = last_call(stage, "monitor").stderr
    for vm in vms:
        stage.cloud.terminate(vm, hard=True).checked()
    extents = -(-volume_size(40000 * MIB, {"8.4": 1, "9": 7}[stage.drbd]) // (4 * MIB))
    promised = 2 * 4 * extents
    assert f"its volumes are promised {promised} MiB, over-committed 1.2 times" in said, said


def test_full_metadata_refuse_new_volumes_and_leave_running_ones(stage: SimStage) -> None:
    image = stage.import_image("thin", template={"DNC_REPLICAS": "2"})
    first, second = sorted(stage.holders(image.source))
    vm = stage.bare(image, host=first)
    for host in HOSTS:
        stage.farm.fill_metadata(host, "96.50")
    stage.cloud.monitor_datastore(stage.datastores["thin"]).checked()
    assert stage.datastores["thin"].free_mb == 0
    assert "beyond POOL_FILL_LIMIT=95 on node1 node2 node3" in last_call(stage, "monitor").stderr
    held = HeldVm(stage, image, host=first)
    line = complaint(held.make())
    assert "lvm:vg0/pool is 96 % full, the limit is 95 %" in line, line
    refused = stage.cloud.create_image(stage.new_name("image"), str(stage.raw_file()), stage.datastores["thin"])
    assert "lvm:vg0/pool" in refused.error.split("datastore: ")[1][:60], refused.error
    stage.cloud.migrate(vm, second, live=True).checked()
    for host in HOSTS:
        stage.farm.fill_metadata(host)
    stage.cloud.monitor_datastore(stage.datastores["thin"]).checked()
    succeeds(held.make())
    succeeds(held.delete())
    held.forget()
    stage.cloud.terminate(vm, hard=True).checked()
