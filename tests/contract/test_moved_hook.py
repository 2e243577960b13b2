"""A domain moved behind OpenNebula's back: the hook makes oned know, and never touches the guest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lines import complaint
from marks import THOROUGH, first
from moved import Hook, ended, move_by_hand, now, xl_changes
from simulated import SimStage

from oned import VirtualMachine
from oned.states import LcmState, VmState

pytestmark = pytest.mark.sim


@pytest.fixture
def hook(stage: SimStage) -> Iterator[Hook]:
    """The hook with its user set up."""
    found = Hook(stage)
    done = found("--setup-user")
    assert done.status == 0, done.stderr
    yield found
    found.forget()


@pytest.fixture
def vm(stage: SimStage) -> Iterator[VirtualMachine]:
    """A VM with two disks, running on node1."""
    found = stage.instantiate(stage.import_image("zfs"), stage.import_image("zfs", persistent=True), NIC=None)
    yield found
    if found.state is not VmState.DONE:
        stage.cloud.terminate(found, hard=True).checked()


def assert_settled(stage: SimStage, vm: VirtualMachine, host: str = "node2") -> None:
    """One domain, Primary there only, nobody may be Primary twice."""
    assert stage.domain_hosts(vm) == [host] and vm.host == host
    other = next(one for one in stage.hosts if one != host)
    for disk in (f"{vm.disks[0]['SOURCE']}-{vm.id}-0", str(vm.disks[1]["SOURCE"])):
        assert stage.roles(disk) == {host: "Primary", other: "Secondary"}
    assert stage.two_primaries_allowed() == []


STATES: dict[str, Callable[[SimStage, VirtualMachine], object]] = {
    "RUNNING": lambda stage, vm: None,
    "UNKNOWN": lambda stage, vm: stage.cloud.report(vm, "UNKNOWN"),
    "POWEROFF": lambda stage, vm: stage.cloud.report(vm, "POWEROFF"),
    "SUSPENDED": lambda stage, vm: vm.rest(VmState.SUSPENDED),
}


@pytest.mark.parametrize("state", first("RUNNING", later=("UNKNOWN", "POWEROFF", "SUSPENDED")))
def test_oned_learns_by_the_route_of_the_state(
    stage: SimStage, hook: Hook, vm: VirtualMachine, state: str
) -> None:
    move_by_hand(stage, vm)
    STATES[state](stage, vm)
    assert vm.status == state and vm.host == "node1"
    number, begun = stage.farm.domains("node2")[f"one-{vm.id}"]["id"], now()
    done = hook.moved(vm)
    assert done.status == 0, done.stderr
    assert "OpenNebula has it on node2 now" in done.stdout
    assert vm.host == "node2" and vm.status == ("RUNNING" if state in ("RUNNING", "UNKNOWN") else state)
    assert xl_changes(stage, begun) == []
    assert stage.farm.domains("node2")[f"one-{vm.id}"]["id"] == number
    assert hook.waiting == []
    if state in ("POWEROFF", "SUSPENDED"):
        stage.cloud.report(vm, "RUNNING")
        assert vm.status == "RUNNING"
    assert_settled(stage, vm)
    asked = len(stage.cloud.rpc.questions)
    again = hook.moved(vm)
    assert again.status == 0 and "nothing to do" in again.stdout
    assert [method for method, _ in stage.cloud.rpc.questions[asked:]] == ["one.vm.info"]


def test_a_move_waits_while_the_frontend_is_away_and_the_newest_wins(
    stage: SimStage, hook: Hook, vm: VirtualMachine
) -> None:
    move_by_hand(stage, vm)
    stage.cloud.rpc.stop()
    try:
        wrong = hook(f"one-{vm.id}", "node2", "node1")
        done = hook.moved(vm)
    finally:
        stage.cloud.rpc.start()
    assert wrong.status == 0 and done.status == 0, done.stderr
    assert "waits" in done.stdout and "oned does not answer" in done.stdout
    assert [(one["destination"], one["attempts"]) for one in hook.waiting] == [("node2", 1)]
    assert f"one-{vm.id} node1 node2" in hook("--list").stdout
    assert hook("--retry").stdout == "" and vm.host == "node1"  # not due yet
    hook.make_due()
    done = hook("--retry")
    assert done.status == 0 and "OpenNebula has it on node2 now" in done.stdout, done.stderr
    assert hook.waiting == []
    assert_settled(stage, vm)


@THOROUGH
def test_an_action_of_opennebulas_own_is_waited_for(stage: SimStage, hook: Hook, vm: VirtualMachine) -> None:
    """Told in the middle of something: written down, and done when that is over."""
    vm.enter(LcmState.HOTPLUG)
    done = hook.moved(vm)
    assert done.status == 0 and "waits" in done.stdout and "HOTPLUG" in done.stdout
    vm.enter(LcmState.RUNNING)
    move_by_hand(stage, vm)
    hook.make_due()
    assert "OpenNebula has it on node2 now" in hook("--retry").stdout
    assert_settled(stage, vm)


@THOROUGH
def test_what_is_not_so_is_not_told(stage: SimStage, hook: Hook, vm: VirtualMachine) -> None:
    """The domain did not move, or is half way, or nowhere: oned is told nothing, and the guest left alone."""
    def refused(text: str) -> None:
        asked, begun = len(stage.cloud.rpc.questions), now()
        said = complaint(hook.moved(vm))
        assert text in said, said
        assert "one.vm.migrate" not in [method for method, _ in stage.cloud.rpc.questions[asked:]]
        assert xl_changes(stage, begun) == [] and hook.waiting == []

    refused(f"one-{vm.id} runs on node1, not on node2")
    assert "oned knows no host node9" in complaint(hook(f"one-{vm.id}", "node1", "node9"))
    record = stage.cloud.host("node2")
    record.state = 8
    try:
        refused("host node2 is OFFLINE")
    finally:
        record.state = 2
    stage.cloud.poweroff(vm, hard=True).checked()
    refused("does not run on node2")
    vm.rest(VmState.STOPPED)
    refused(f"VM {vm.id} is STOPPED")
    vm.rest(VmState.POWEROFF)
    stage.cloud.resume(vm).checked()


@THOROUGH
def test_what_is_none_of_its_business(stage: SimStage, hook: Hook, vm: VirtualMachine) -> None:
    for name, text in (("Domain-0", "no domain of OpenNebula"), ("one-99999", "oned knows no VM 99999")):
        done = hook(name, "node1", "node2")
        assert done.status == 0 and text in done.stdout, done.stderr
    stage.cloud.terminate(vm, hard=True).checked()
    assert "is DONE" in hook.moved(vm).stdout
    assert hook.waiting == []
    for words in ((), ("one-1",), ("one-1", "node1"), ("--drop", "one-1"), ("--nonsense",), ("one-1", "no de", "x")):
        complaint(hook(*words))


@THOROUGH
def test_a_migration_that_a_user_gave_up_and_that_completes(
    stage: SimStage, hook: Hook, vm: VirtualMachine
) -> None:
    """Observation 4: oned shows RUNNING on the old host, the domain goes on to the new one."""
    stage.farm.delay("node1", "xl migrate", 3.0)
    operation = stage.cloud.migrate(vm, "node2", live=True, background=True)
    stage.await_delayed("node1", "xl migrate")
    stage.cloud.recover_failure(vm)
    assert vm.status == "RUNNING" and vm.host == "node1"
    operation.wait()
    assert stage.domain_hosts(vm) == ["node2"]
    done = hook.moved(vm)
    assert done.status == 0, done.stderr
    assert vm.status == "RUNNING"
    assert_settled(stage, vm)


@THOROUGH
def test_two_at_once_and_one_killed(stage: SimStage, hook: Hook, vm: VirtualMachine) -> None:
    move_by_hand(stage, vm)
    killed = hook.start(f"one-{vm.id}", "node1", "node2")
    while not hook.waiting:
        assert killed.poll() is None
    killed.kill()
    killed.communicate()
    assert len(hook.waiting) == 1
    runs = [hook.start(f"one-{vm.id}", "node1", "node2") for _ in range(2)]
    results = [ended(run) for run in runs]
    assert [done.status for done in results] == [0, 0], [done.stderr for done in results]
    if vm.host != "node2" or hook.waiting:
        vm.await_status("RUNNING")
        hook.make_due()
        assert hook("--retry").status == 0
    assert vm.status == "RUNNING" and hook.waiting == []
    assert_settled(stage, vm)


@THOROUGH
def test_oned_refuses_on_the_way(stage: SimStage, hook: Hook, vm: VirtualMachine) -> None:
    """Its own migrate fails: the record is the old one again; the move waits, and says why."""
    move_by_hand(stage, vm)
    stage.cloud.inject("vmm.migrate", stderr="no way")
    done = hook.moved(vm)
    assert done.status == 0 and "no way" in done.stdout, done.stderr
    assert vm.status == "RUNNING" and vm.host == "node1" and len(hook.waiting) == 1
    hook.make_due()
    assert "OpenNebula has it on node2 now" in hook("--retry").stdout
    assert_settled(stage, vm)


@THOROUGH
def test_credentials_that_others_can_read_are_not_used(
    stage: SimStage, hook: Hook, vm: VirtualMachine, tmp_path: Path
) -> None:
    """The move is kept: it needs no second call once the file is right. Called by the name cxm knows it by."""
    move_by_hand(stage, vm)
    os.chmod(hook.auth, 0o644)
    named = tmp_path / "one-migrate"
    named.symlink_to(hook.path)
    said = complaint(hook(f"one-{vm.id}", "node1", "node2", path=named))
    assert "can be used by others" in said
    os.chmod(hook.auth, 0o600)
    hook.auth.write_text("dnc-hook:wrong\n")
    hook.make_due()
    assert "oned refuses the credentials" in complaint(hook("--retry"))
    assert "written" in hook("--setup-user").stdout
    hook.make_due()
    assert "OpenNebula has it on node2 now" in hook("--retry").stdout
    assert_settled(stage, vm)
