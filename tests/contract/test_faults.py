"""Hosts and oned that fail: one line says what and where, nothing is half-made or lost, and it works once healed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lines import HeldVm, complaint, succeeds
from marks import THIN_FIRST, THOROUGH, ZFS_FIRST, first
from simulated import MIB, SimStage

pytestmark = pytest.mark.sim
AGENT = "/var/tmp/one/lib/dnc-agent"

Change = Callable[[SimStage], object]


def pool_of(backend: str) -> str:
    return "tank" if backend == "zfs" else "vg0/pool"


def auth(stage: SimStage) -> Path:
    """The file with the session of drivers."""
    return stage.cloud.location / "var/.one/one_auth"


def must(stage: SimStage, host: str, *argv: str) -> None:
    """A command on a host that has to work."""
    done = stage.farm.run(host, argv)
    assert done.status == 0, done.stderr


# What is broken, how it heals, and words that the first 60 characters of the message must hold.
HOST_FAULTS: dict[str, tuple[Change, Change, tuple[str, ...]]] = {
    "chosen host unreachable": (
        lambda s: s.farm.ssh_refuses("node1", "No route to host"), lambda s: s.farm.ssh_refuses("node1"), ("node1",)),
    "other member unreachable": (
        lambda s: s.farm.ssh_refuses("node2", "Connection refused"), lambda s: s.farm.ssh_refuses("node2"), ("node2",)),
    "host key changed": (
        lambda s: s.farm.ssh_refuses("node2", "key"), lambda s: s.farm.ssh_refuses("node2"), ("node2", "key")),
    "login refused": (
        lambda s: s.farm.ssh_refuses("node2", "denied"), lambda s: s.farm.ssh_refuses("node2"), ("node2",)),
    "never synced": (
        lambda s: must(s, "node2", "mv", AGENT, AGENT + ".away"),
        lambda s: must(s, "node2", "mv", AGENT + ".away", AGENT), ("node2",)),
    "drbdadm missing": (
        lambda s: s.farm.remove_tool("node2", "drbdadm"), lambda s: s.farm.restore_tool("node2", "drbdadm"),
        ("node2", "drbdadm")),
    "sudo refused": (
        lambda s: s.farm.deny_sudo("node2"), lambda s: s.farm.deny_sudo("node2", False), ("node2", "sudo")),
    "DRBD not loaded": (
        lambda s: s.farm.unload_drbd("node2"), lambda s: s.farm.load_drbd("node2"), ("node2", "DRBD")),
    "replication network cut": (
        lambda s: (s.farm.disconnect("node1", "node2"), s.configure(CONNECT_TIMEOUT="1")),
        lambda s: (s.farm.reconnect("node1", "node2"), s.configure()), ("one-",)),
}
ONED_FAULTS: dict[str, tuple[Change, Change]] = {
    "not answering": (lambda s: s.cloud.rpc.stop(), lambda s: s.cloud.rpc.start()),
    "nonsense": (
        lambda s: setattr(s.cloud.rpc, "garbage", b"<html>"), lambda s: setattr(s.cloud.rpc, "garbage", None)),
    "refusing": (
        lambda s: setattr(s.cloud.rpc, "error", "no such user"), lambda s: setattr(s.cloud.rpc, "error", None)),
    "no password": (
        lambda s: auth(s).rename(auth(s).with_suffix(".away")),
        lambda s: auth(s).with_suffix(".away").rename(auth(s))),
    "an empty password": (
        lambda s: auth(s).write_text("\n"), lambda s: auth(s).write_text("oneadmin:opennebula\n")),
}


@pytest.mark.parametrize("what", list(HOST_FAULTS))
def test_clone_on_broken_hosts(stage: SimStage, what: str) -> None:
    breaks, heals, words = HOST_FAULTS[what]
    image = stage.import_image("zfs" if len(what) % 2 else "thin")
    held = HeldVm(stage, image)
    breaks(stage)
    try:
        line = complaint(held.make())
        assert all(word.lower() in line[:60].lower() for word in words), line
    finally:
        heals(stage)
    assert [left for left in stage.remains(image) if "/vms/" not in left] == []
    succeeds(held.make())
    assert stage.replicas_equal(f"{image.source}-{held.vm.id}-0", 2 * MIB)
    succeeds(held.delete())
    succeeds(held.delete_directory())
    held.forget()


@pytest.mark.parametrize("what", first(
    "not answering", "nonsense", later=("refusing", "no password", "an empty password")))
def test_oned_does_not_answer(stage: SimStage, what: str) -> None:
    breaks, heals = ONED_FAULTS[what]
    image = stage.import_image("zfs")
    held = HeldVm(stage, image)
    breaks(stage)
    try:
        for act in (held.make, held.delete):
            line = complaint(act())
            assert "oned" in line[:60] or "one_auth" in line[:60], line
    finally:
        heals(stage)
    assert stage.remains(image) == []
    succeeds(held.make())
    succeeds(held.delete())
    succeeds(held.delete_directory())
    held.forget()


@THIN_FIRST
def test_pool_missing_tool_and_pool_full(stage: SimStage, backend: str) -> None:
    image = stage.import_image(backend)
    held = HeldVm(stage, {"IMAGE": image.name}, {"TYPE": "fs", "FS": "ext4", "SIZE": "8"})
    tool = "zfs" if backend == "zfs" else "lvcreate"
    stage.farm.remove_tool("node2", tool)
    line = complaint(held.make())
    assert "node2" in line[:60] and tool in line[:60]
    stage.farm.restore_tool("node2", tool)
    succeeds(held.make())
    stage.cloud.vms[held.vm.id].template["DISK"][1]["DNC_POOL"] = {  # type: ignore[index]
        "zfs": "zfs:tank/dnc", "thin": "lvm:vg0/pool"}[backend]
    stage.farm.fill_pool("node2", pool_of(backend), free=0)
    line = complaint(held.make(1))
    assert "node2" in line[:60] or pool_of(backend) in line[:60], line
    stage.farm.empty_pool("node2", pool_of(backend))
    succeeds(held.make(1))
    succeeds(held.delete(1))
    succeeds(held.delete())
    succeeds(held.delete_directory())
    held.forget()


def test_unknown_vm_and_unknown_disk(stage: SimStage) -> None:
    path = "/var/lib/one//datastores/100/4711/disk.0"
    line = complaint(stage.line(f"CLONE dnc frontend:one-1 node1:{path} 4711 101"))
    assert "4711" in line
    image = stage.import_image("zfs")
    held = HeldVm(stage, image)
    line = complaint(stage.line(f"CLONE dnc frontend:{image.source} {held.place(7)} {held.vm.id} 101"))
    assert "7" in line[:60]
    line = complaint(stage.line(f"CLONE dnc frontend:one-4711 {held.place(0)} {held.vm.id} 101"))
    assert "one-4711" in line[:60]
    place = held.place(0, "nowhere")
    line = complaint(stage.line(f"CLONE dnc frontend:{image.source} {place} {held.vm.id} 101"))
    assert "nowhere" in line[:60]
    assert stage.remains(image) == []
    held.forget()


def test_what_an_interrupted_run_left_is_taken_over(stage: SimStage) -> None:
    """A volume of that name without any resource, on one host only."""
    image = stage.import_image("zfs")
    held = HeldVm(stage, image)
    name = f"{image.source}-{held.vm.id}-0"
    must(stage, "node2", "zfs", "create", "-s", "-V", "4m", "-o", "volmode=dev", f"tank/dnc/{name}")
    succeeds(held.make())
    assert stage.replicas_equal(name, 2 * MIB)
    succeeds(held.delete())
    succeeds(held.delete_directory())
    held.forget()


def test_a_finished_image_of_that_name_is_not_overwritten(stage: SimStage) -> None:
    image = stage.import_image("zfs")
    again = stage.cloud.create_image(stage.new_name("image"), str(stage.raw_file(seed=5)), stage.datastores["zfs"])
    stage.cloud.operations[-1].checked()
    again.vm_ids.append(-1)
    stage.cloud.operate("cp over it", lambda operation: stage.cloud._make(
        operation, stage.datastores["zfs"], again, "cp"))
    assert again.source in again.error
    again.template.pop("ERROR")
    again.vm_ids.clear()
    assert stage.farm.volume_data("node1", again.source, 2 * MIB) == stage.raw_file(seed=5).read_bytes()
    assert stage.replicas_equal(image.source, 2 * MIB)


@pytest.mark.parametrize("what", first("xl create", later=("xl", "sudo")))
def test_start_on_a_broken_host(stage: SimStage, what: str) -> None:
    image = stage.import_image("thin")
    vm = stage.bare(image)
    name = f"{image.source}-{vm.id}-0"
    stage.cloud.poweroff(vm, hard=True).checked()
    if what == "xl":
        stage.farm.remove_tool("node1", "xl")
    elif what == "sudo":
        stage.farm.deny_sudo("node1")
    else:
        stage.farm.fail_at("node1", "xl create", stderr="xl: internal error: no memory\n")
    operation = stage.cloud.resume(vm)
    assert not operation.ok and vm.status == "POWEROFF"
    assert {"xl": "xl", "sudo": "sudo", "xl create": "xl"}[what] in operation.error[:75]
    stage.farm.restore_tool("node1", "xl")
    stage.farm.deny_sudo("node1", False)
    assert stage.domain_hosts(vm) == []
    assert "Primary" not in stage.roles(name).values()
    stage.cloud.resume(vm).checked()
    stage.cloud.terminate(vm, hard=True).checked()


@THOROUGH
def test_host_dies_and_its_vm_goes_on_elsewhere(stage: SimStage, backend: str) -> None:
    """The host loses power; OpenNebula moves the VM in UNKNOWN; the host comes back and is brought up to date."""
    image = stage.import_image(backend)
    vm = stage.bare(image)
    name = f"{image.source}-{vm.id}-0"
    stage.farm.power_cut("node1")
    assert stage.domain_hosts(vm) == []
    stage.cloud.report(vm, "UNKNOWN")
    stage.cloud.migrate(vm, "node2").checked()
    assert stage.domain_hosts(vm) == ["node2"]
    stage.farm.power_on("node1")
    must(stage, "node1", "drbdadm", "up", name)
    stage.cloud.migrate(vm, "node1", live=True).checked()
    assert stage.replicas_equal(name, MIB)
    stage.cloud.terminate(vm, hard=True).checked()


@ZFS_FIRST
def test_delete_with_a_dead_member_is_finished_later(stage: SimStage, backend: str) -> None:
    image = stage.import_image(backend)
    held = HeldVm(stage, image)
    succeeds(held.make())
    stage.farm.power_cut("node2")
    succeeds(held.delete())
    succeeds(held.delete_directory())
    note = Path(stage.farm.path("node1", f"/var/lib/dnc/unfinished/{image.source}-{held.vm.id}-0.json"))
    assert "node2" in note.read_text()
    stage.farm.power_on("node2")
    succeeds(held.delete())
    assert stage.remains(image) == []
    held.forget()
