"""The information driver on two real Xen hosts: figures against xl's own, states through a guest's life; -m lablong."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from oned import VirtualMachine
from oned.template_text import parse_template
from stage import Stage

pytestmark = pytest.mark.lablong
# A condition has to last three periods of vm/status, 15 s, before it is told.
SETTLE_S = 16


@pytest.fixture(scope="module")
def guest(stage: Stage) -> Iterator[VirtualMachine]:
    """A guest on node1."""
    image = stage.import_guest("zfs", "watched")
    vm = stage.instantiate(image, "node1")
    stage.wait_for_tick(vm, 1)
    yield vm
    stage.cloud.terminate(vm, hard=True).checked()
    stage.cloud.delete_image(image).checked()


def states(stage: Stage, host: str) -> tuple[dict[int, str], bool]:
    """What vm/status says: (STATE by VM, whether it was a full report)."""
    result = stage.cloud.monitor_host(host, "vm/status")
    assert result.ok, result.errors
    parsed = parse_template(result.texts["vm/status"])
    return {int(v["ID"]): v["STATE"] for k, v in parsed if k == "VM"}, ("SYNC_STATE", "yes") in parsed  # type: ignore[index]


def lasting(stage: Stage, host: str) -> dict[int, str]:
    """What is told once it has lasted; before that, nothing."""
    assert states(stage, host)[0] == {}
    time.sleep(SETTLE_S)
    return states(stage, host)[0]


def test_a_host_shows_what_its_hypervisor_says(stage: Stage, guest: VirtualMachine) -> None:
    for host in stage.lab.hosts[:2]:
        result = stage.cloud.monitor_host(host)
        assert result.ok, result.errors
        facts, use = stage.cloud.host(host).template, stage.cloud.host(host).monitoring
        info = dict(re.findall(r"^(\w+)\s*: (.*)$", stage.lab.root(host, ["xl", "info"]).stdout, re.MULTILINE))
        assert facts["TOTALMEMORY"] == str(int(info["total_memory"]) * 1024)
        assert facts["TOTALCPU"] == str(int(info["nr_cpus"]) * 100)
        assert (facts["XEN_VERSION"], facts["DNC_ERROR"]) == (info["xen_version"], "")
        assert int(str(use["USEDMEMORY"])) + int(str(use["FREEMEMORY"])) == int(str(facts["TOTALMEMORY"]))
        assert abs(int(str(use["FREEMEMORY"])) - int(info["free_memory"]) * 1024) < 16 * 1024
        assert int(str(use["NETRX"])) > 0 and int(str(use["NETTX"])) > 0
    time.sleep(2)
    stage.cloud.monitor_host("node1", "host/monitor")
    assert 0 <= int(str(stage.cloud.host("node1").monitoring["USEDCPU"])) <= 100


def test_a_guests_counters_grow(stage: Stage, guest: VirtualMachine) -> None:
    stage.lab.root("node2", ["ip", "addr", "add", "10.0.0.202/24", "dev", "br0"])
    try:
        stage.cloud.monitor_host("node1", "vm/monitor")
        before = dict(guest.monitoring)
        tick = stage.last_tick(guest)
        stage.lab.root("node2", ["ping", "-c", "3", "-W", "5", str(guest.nics[0]["IP"])])
        stage.wait_for_tick(guest, tick + 3)
        stage.cloud.monitor_host("node1", "vm/monitor")
    finally:
        stage.lab.root("node2", ["ip", "addr", "del", "10.0.0.202/24", "dev", "br0"])
    after = dict(guest.monitoring)
    for key in ("NETRX", "NETTX", "DISKWRBYTES", "DISKWRIOPS"):
        assert int(str(after[key])) > int(str(before[key])), key
    assert float(str(after["CPU"])) > 0
    listed = stage.lab.root("node1", ["xl", "list", guest.deploy_id]).stdout.splitlines()[1].split()
    assert after["MEMORY"] == str(int(listed[2]) * 1024)
    assert [one["ID"] for one in after["DISK_SIZE"]] == ["0"]  # type: ignore[union-attr,index]


def test_states_through_a_guests_life(stage: Stage, guest: VirtualMachine) -> None:
    states(stage, "node1")
    stage.lab.root("node1", ["xl", "pause", guest.deploy_id])
    assert lasting(stage, "node1") == {guest.id: "SUSPENDED"}
    assert guest.status == "SUSPENDED"
    stage.lab.root("node1", ["xl", "unpause", guest.deploy_id])
    assert states(stage, "node1")[0] == {guest.id: "RUNNING"}
    assert guest.status == "RUNNING"
    stage.lab.root("node1", ["xl", "destroy", guest.deploy_id])
    assert lasting(stage, "node1") == {guest.id: "POWEROFF"}
    assert guest.status == "POWEROFF"
    stage.cloud.resume(guest).checked()
    assert states(stage, "node1")[0] == {guest.id: "RUNNING"}


def test_a_guest_that_moved_is_never_off(stage: Stage, guest: VirtualMachine) -> None:
    states(stage, "node1")
    stage.cloud.migrate(guest, "node2", live=True).checked()
    assert states(stage, "node2")[0] == {guest.id: "RUNNING"}
    for _ in range(2):
        assert guest.id not in states(stage, "node1")[0]
        time.sleep(SETTLE_S)
    assert guest.status == "RUNNING" and guest.host == "node2"
