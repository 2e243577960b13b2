"""The information driver as monitord's client runs it, on the simulated farm, with the stand-in as oned behind it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from marks import THOROUGH, ZFS_FIRST
from simulated import SimStage

from dnc.log import Log
from dnc.opennebula.hosts import parse_host_pool
from oned.template_text import parse_template

PASSED_S = 20.0  # longer than a condition has to last


BOTH = pytest.mark.parametrize("drbd", ["8.4", pytest.param("9", marks=THOROUGH)], indirect=True)


@pytest.fixture(scope="session", params=["8.4"])
def drbd(request: pytest.FixtureRequest) -> str:
    """Where DRBD's version does not matter, one will do."""
    return str(request.param)


@pytest.fixture(autouse=True)
def fresh(stage: SimStage) -> Iterator[None]:
    """Probes that have never looked, before and after."""
    forget(stage)
    yield
    forget(stage)


def forget(stage: SimStage) -> None:
    for host in stage.hosts:
        for path in Path(stage.farm.path(host, "/var/lib/dnc/monitoring")).glob("*.json"):
            path.unlink()


def later(stage: SimStage, host: str, seconds: float = PASSED_S) -> None:
    """Let time pass for the probe of states: what it remembers becomes older."""
    path = Path(stage.farm.path(host, "/var/lib/dnc/monitoring/vm-status.json"))
    record = json.loads(path.read_text())
    for vm in record["seen"]["vms"].values():
        vm[1] -= seconds
    record["seen"]["synced"] -= seconds
    record["seen"]["at"] -= seconds
    path.write_text(json.dumps(record))


def states(stage: SimStage, host: str) -> tuple[dict[int, str], bool]:
    """What vm/status says: (STATE by VM, whether it was a full report)."""
    result = stage.cloud.monitor_host(host, "vm/status")
    assert result.ok, result.errors
    parsed = parse_template(result.texts["vm/status"])
    return {int(v["ID"]): v["STATE"] for k, v in parsed if k == "VM"}, ("SYNC_STATE", "yes") in parsed  # type: ignore[index]


def change(stage: SimStage, domain: str, **values: object) -> None:
    """Change a domain of node1 behind everybody's back."""
    with stage.farm._world().open() as state:
        for one in state["hosts"]["node1"]["xen"]["domains"].values():
            if one["name"] == domain:
                one.update(values)


# ---- what a host is


@ZFS_FIRST
def test_a_host_shows_what_it_is(stage: SimStage, backend: str) -> None:
    stage.tidy()
    image = stage.import_image(backend)
    vm = stage.instantiate(image)
    result = stage.cloud.monitor_host("node1")
    assert result.ok, result.errors
    host = stage.cloud.host("node1")
    facts = host.template
    assert (facts["HYPERVISOR"], facts["TOTALCPU"], facts["TOTALMEMORY"]) == ("dnc", "400", str(64 * 1024 * 1024))
    assert (facts["HOSTNAME"], facts["VERSION"], facts["XEN_VERSION"]) == ("node1", "7.4.0", "4.20.4-pre")
    assert facts["ARCH"] and facts["MODELNAME"] and facts["DNC_VERSION"] and facts["DS_LOCATION_FREE_MB"]
    assert "hvm" in str(facts["XEN_CAPABILITIES"])
    assert [facts[f"DNC_{key}"] for key in ("DEGRADED", "DOWN", "DUAL_PRIMARY", "ERROR")] == ["0", "0", "0", ""]
    used, free = (int(str(host.monitoring[key])) for key in ("USEDMEMORY", "FREEMEMORY"))
    assert used + free == 64 * 1024 * 1024
    assert used == (1024 + 64) * 1024
    # The frontend reads what the hosts publish.
    records = parse_host_pool(f"<HOST_POOL>{host.xml()}</HOST_POOL>", Log("test"))
    figures = records["node1"].figures
    assert {"zfs:tank/dnc", {"zfs": "zfs:tank/dnc", "thin": "lvm:vg0/pool"}[backend]} <= set(figures)
    stage.cloud.terminate(vm).checked()


@BOTH
def test_a_host_tells_which_resources_need_a_look(stage: SimStage) -> None:
    vm = stage.instantiate(stage.import_image("zfs"))
    name = f"one-{vm.template['DISK'][0]['IMAGE_ID']}-{vm.id}-0"  # type: ignore[index]
    assert stage.farm.run("node2", ["drbdadm", "down", name]).status == 0
    stage.cloud.monitor_host("node1", "host/system")
    stage.cloud.monitor_host("node2", "host/system")
    here, there = (stage.cloud.host(host).template for host in stage.hosts)
    assert (here["DNC_DEGRADED"], here["DNC_DEGRADED_NAMES"], here["DNC_DOWN"]) == ("1", name, "0")
    assert (there["DNC_DOWN"], there["DNC_DOWN_NAMES"]) == ("1", name)
    assert stage.farm.run("node2", ["drbdadm", "up", name]).status == 0
    stage.cloud.terminate(vm).checked()


def test_a_wrong_dncrc_is_told_and_fails_no_host(stage: SimStage) -> None:
    dncrc = Path(stage.farm.path("node1", "/var/tmp/one/dncrc"))
    right = dncrc.read_text()
    for text, said in (('POOL="zfs:nowhere/dnc"\n', "nowhere"), ("garbage\n", "not of the form")):
        dncrc.write_text(text)
        result = stage.cloud.monitor_host("node1")
        assert result.ok, result.errors
        assert said in str(stage.cloud.host("node1").template["DNC_ERROR"])
        assert stage.cloud.host("node1").state == 2
    dncrc.write_text(right)


@THOROUGH
def test_a_host_without_its_hypervisor_is_in_error(stage: SimStage) -> None:
    stage.farm.fail_at("node1", "xl info", stderr="xencall: error: Could not obtain handle")
    result = stage.cloud.monitor_host("node1", "host/system")
    assert "xl failed" in result.errors["host/system"]
    assert stage.cloud.host("node1").state == 3
    stage.cloud.monitor_host("node1", "host/system")
    assert stage.cloud.host("node1").state == 2


def test_hypervisor_is_the_name_that_the_farm_uses(stage: SimStage) -> None:
    stage.configure(HYPERVISOR="qemu")
    result = stage.cloud.monitor_host("node1", "host/system", "host/monitor")
    stage.configure()
    assert [dict(parse_template(text))["HYPERVISOR"] for text in result.texts.values()] == ["qemu"] * 2


# ---- what its VMs are


def test_states_follow_a_vms_life(stage: SimStage) -> None:
    vm = stage.instantiate(stage.import_image("zfs"))
    assert states(stage, "node1") == ({vm.id: "RUNNING"}, True)
    assert states(stage, "node1") == ({}, False)
    assert states(stage, "node2") == ({}, True)
    stage.cloud.migrate(vm, "node2", live=True).checked()
    assert states(stage, "node2") == ({vm.id: "RUNNING"}, False)
    later(stage, "node1")
    assert states(stage, "node1")[0] == {}
    assert vm.status == "RUNNING" and vm.host == "node2"
    stage.cloud.poweroff(vm).checked()
    assert states(stage, "node2") == ({}, False)
    later(stage, "node2")
    assert states(stage, "node2") == ({vm.id: "POWEROFF"}, False)
    assert vm.status == "POWEROFF"
    stage.cloud.resume(vm).checked()
    assert states(stage, "node2")[0] == {vm.id: "RUNNING"}
    stage.cloud.terminate(vm).checked()
    for host in stage.hosts:
        states(stage, host)
        later(stage, host)
        later(stage, host, 200)
        assert states(stage, host) == ({}, True)
        assert stage.cloud.host(host).template["ZOMBIES"] == ""


def test_a_guest_that_powers_itself_off_is_off(stage: SimStage) -> None:
    vm = stage.instantiate(stage.import_image("zfs"))
    states(stage, "node1")
    assert stage.farm.run("node1", ["xl", "destroy", vm.deploy_id]).status == 0
    assert states(stage, "node1") == ({}, False)
    later(stage, "node1")
    assert states(stage, "node1") == ({vm.id: "POWEROFF"}, False)
    assert vm.status == "POWEROFF"
    assert states(stage, "node1") == ({}, False)
    stage.cloud.terminate(vm).checked()


@BOTH
def test_a_vm_that_somebody_moved_becomes_unknown_and_then_running(stage: SimStage) -> None:
    vm = stage.instantiate(stage.import_image("zfs"))
    states(stage, "node1")
    name = f"one-{vm.template['DISK'][0]['IMAGE_ID']}-{vm.id}-0"  # type: ignore[index]
    stage.farm.run("node1", ["xl", "destroy", vm.deploy_id])
    for host, role in (("node1", "secondary"), ("node2", "primary")):
        assert stage.farm.run(host, ["drbdadm", role, name]).status == 0
    assert states(stage, "node1") == ({}, False)
    later(stage, "node1")
    assert states(stage, "node1") == ({}, True)
    assert vm.status == "UNKNOWN"
    for host, role in (("node2", "secondary"), ("node1", "primary")):
        assert stage.farm.run(host, ["drbdadm", role, name]).status == 0
    later(stage, "node1", 200)
    assert states(stage, "node1") == ({vm.id: "POWEROFF"}, True)
    assert vm.status == "POWEROFF"
    stage.cloud.terminate(vm).checked()


@THOROUGH
@BOTH
def test_without_its_peer_nobody_says_a_vm_is_off(stage: SimStage) -> None:
    vm = stage.instantiate(stage.import_image("zfs"))
    states(stage, "node1")
    name = f"one-{vm.template['DISK'][0]['IMAGE_ID']}-{vm.id}-0"  # type: ignore[index]
    stage.farm.run("node1", ["xl", "destroy", vm.deploy_id])
    stage.farm.run("node1", ["drbdadm", "secondary", name])
    stage.farm.run("node2", ["drbdadm", "down", name])
    states(stage, "node1")
    later(stage, "node1")
    assert states(stage, "node1") == ({}, True)
    assert vm.status == "UNKNOWN"
    stage.farm.run("node2", ["drbdadm", "up", name])
    stage.cloud.terminate(vm).checked()


@THOROUGH
def test_the_halves_of_a_migration_are_nobody(stage: SimStage) -> None:
    vm = stage.instantiate(stage.import_image("zfs"))
    states(stage, "node1")
    for suffix in ("--incoming", "--migratedaway"):
        change(stage, vm.deploy_id, name=vm.deploy_id + suffix, state="paused")
        assert states(stage, "node1")[0] == {}
        assert stage.cloud.monitor_host("node1", "vm/monitor").texts["vm/monitor"] == ""
        change(stage, vm.deploy_id + suffix, name=vm.deploy_id, state="running")
    assert vm.status == "RUNNING"
    stage.cloud.terminate(vm).checked()


def test_what_lasts_is_told(stage: SimStage) -> None:
    vm = stage.instantiate(stage.import_image("zfs"))
    states(stage, "node1")
    for state, told, status in (
        ("paused", "SUSPENDED", "SUSPENDED"), ("crashed", "FAILURE", "UNKNOWN"), ("dying", "POWEROFF", "POWEROFF"),
        ("suspended", None, "RUNNING"),
    ):
        change(stage, vm.deploy_id, state=state)
        assert states(stage, "node1") == ({}, False)
        later(stage, "node1")
        assert states(stage, "node1") == ({vm.id: told} if told else {}, False)
        assert vm.status == status
        change(stage, vm.deploy_id, state="running")
        states(stage, "node1")
        assert vm.status == "RUNNING"
    stage.cloud.terminate(vm).checked()


def test_hostile_names_break_nothing(stage: SimStage) -> None:
    vm = stage.instantiate(stage.import_image("zfs"))
    with stage.farm._world().open() as state:
        domains = state["hosts"]["node1"]["xen"]["domains"]
        pattern = next(one for one in domains.values() if one["name"] == vm.deploy_id)
        names = ('one-7"]', "one-8\\", "]]>", "a b\tc", "one-9', STATE=[", "(null)", "é\u2028x")
        for number, name in enumerate(names, 900):
            domains[str(number)] = {**pattern, "name": name, "id": number, "disks": [], "nics": []}
    try:
        result = stage.cloud.monitor_host("node1")
        assert result.ok, result.errors
        assert vm.monitoring["MEMORY"] == "65536"
        assert stage.cloud.host("node1").template["ZOMBIES"] == ""
    finally:
        with stage.farm._world().open() as state:
            for number in range(900, 907):
                del state["hosts"]["node1"]["xen"]["domains"][str(number)]
    stage.cloud.terminate(vm).checked()


@ZFS_FIRST
def test_a_vms_figures(stage: SimStage, backend: str) -> None:
    vm = stage.instantiate(stage.import_image(backend))
    stage.cloud.snapshot_disk(vm, 0, "one").checked()
    stage.cloud.monitor_host("node1", "vm/monitor")
    assert vm.monitoring["CPU"] == "0.0"
    assert (vm.monitoring["MEMORY"], vm.monitoring["NETRX"], vm.monitoring["NETTX"]) == ("65536", "8192", "4096")
    # two disks, the second of them the context's
    assert (vm.monitoring["DISKRDIOPS"], vm.monitoring["DISKRDBYTES"]) == (str(2 * 27), str(2 * 216 * 512))
    assert (vm.monitoring["DISKWRIOPS"], vm.monitoring["DISKWRBYTES"]) == (str(2 * 13), str(2 * 104 * 512))
    size, snapshot = (vm.monitoring[key][0] for key in ("DISK_SIZE", "SNAPSHOT_SIZE"))
    assert size["ID"] == "0" and int(size["SIZE"]) >= 0
    assert (snapshot["ID"], snapshot["DISK_ID"]) == ("0", "0")
    counters = Path(stage.farm.live) / "hosts/node1/sysbus/xen-backend/devices"
    for path in counters.glob("vif-*/net/*/statistics/rx_bytes"):
        path.write_text("123456\n")
    sample = Path(stage.farm.path("node1", "/var/lib/dnc/monitoring/vm-monitor.json"))
    record = json.loads(sample.read_text())
    record["seen"]["at"] -= 10
    sample.write_text(json.dumps(record))
    stage.cloud.monitor_host("node1", "vm/monitor")
    assert vm.monitoring["NETTX"] == "123456"
    assert 0 < float(str(vm.monitoring["CPU"])) < 100
    stage.cloud.terminate(vm).checked()


@THOROUGH
def test_two_probes_at_once_tell_a_change_once(stage: SimStage) -> None:
    vm = stage.instantiate(stage.import_image("zfs"))
    said: list[str] = []

    def probe() -> None:
        said.append(stage.cloud.monitor_host("node1", "vm/status").texts["vm/status"])

    threads = [threading.Thread(target=probe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("RUNNING" in text for text in said) == 1
    stage.cloud.terminate(vm).checked()


def test_a_damaged_memory_means_a_full_report(stage: SimStage) -> None:
    assert states(stage, "node1") == ({}, True)
    assert states(stage, "node1") == ({}, False)
    Path(stage.farm.path("node1", "/var/lib/dnc/monitoring/vm-status.json")).write_text("{")
    assert states(stage, "node1") == ({}, True)


# ---- the driver itself


def test_every_directory_that_any_version_asks_for_is_on_the_hosts(stage: SimStage) -> None:
    kinds = {"host": ("beacon", "monitor", "system"), "vm": ("monitor", "status", "snapshot", "execution")}
    for directory in [f"{about}/{kind}" for about, found in kinds.items() for kind in found]:
        done = stage.farm.ssh("node1", ["find", f"/var/tmp/one/im/dnc-probes.d/{directory}", "-type", "f"])
        assert done.status == 0 and done.stdout.strip(), directory
    for name in ("monitord-client.rb", "monitord-client_control.sh"):
        assert stage.farm.ssh("node1", ["test", "-s", f"/var/tmp/one/im/dnc.d/{name}"]).status == 0
    beacon = stage.cloud.monitor_host("node1", "host/beacon")
    assert beacon.ok and beacon.texts["host/beacon"].strip().isdigit()


@THOROUGH
def test_no_process_is_started_for_each_domain(stage: SimStage) -> None:
    image = stage.import_image("zfs")
    counts = []
    vms = []
    for _ in range(2):
        vms += [stage.bare(image), stage.bare(image)]
        stage.cloud.monitor_host("node1")
        stage.farm.clear_commands()
        stage.cloud.monitor_host("node1")
        counts.append([one["argv"][:2] for one in stage.farm.commands if one["host"] == "node1"])
    assert counts[0] == counts[1]
    for vm in vms:
        stage.cloud.terminate(vm).checked()
