"""What oned is asked in each state, through pyone; where the domain must be for that; what waits or is refused."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from frontend import Frontend

from dnc.errors import (
    BadConfig,
    BadInput,
    DncError,
    NoPrivilege,
    NotFound,
    ToolFailed,
    ToolMissing,
    Unreachable,
    Unsafe,
)
from dnc.hooks import moved
from dnc.hooks.user import NAME, RULES
from oned.states import LcmState, VmState
from oned.users import User


@pytest.fixture(autouse=True)
def user(frontend: Frontend) -> None:
    """As --setup-user leaves it (test_hook_user.py), without asking."""
    users = frontend.cloud.rpc.users
    users.groups[100] = NAME
    users.users[1] = User(1, NAME, "word", [100], {"VM_USE_OPERATIONS": "migrate"})
    users.rules += [(1 << 32 | 1, rule.resource, rule.rights) for rule in RULES]
    (frontend.home / "dnc_hook_auth").write_text(f"{NAME}:word\n")
    (frontend.home / "dnc_hook_auth").chmod(0o600)


def tell(frontend: Frontend, destination: str = "node2", source: str = "node1") -> str:
    return moved.run(frontend.call(frontend.domain, source, destination))


def waiting(frontend: Frontend) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted((frontend.home / "dnc_moves").glob("*.move"))]


def refused(frontend: Frontend, kind: type[DncError], text: str, destination: str = "node2") -> None:
    """An error; nothing told, nothing left waiting."""
    with pytest.raises(kind, match=text):
        tell(frontend, destination)
    assert "one.vm.migrate" not in frontend.methods() and waiting(frontend) == []


def set_state(frontend: Frontend, status: str) -> None:
    if status in LcmState.__members__:
        frontend.vm.enter(LcmState[status])
    else:
        frontend.vm.rest(VmState[status])


@pytest.mark.parametrize(("status", "live", "after"), [
    ("RUNNING", True, "RUNNING"), ("UNKNOWN", False, "RUNNING"), ("POWEROFF", False, "POWEROFF"),
    ("SUSPENDED", False, "SUSPENDED"),
])
def test_each_state_has_its_route(frontend: Frontend, status: str, live: bool, after: str) -> None:
    set_state(frontend, status)
    said = tell(frontend)
    assert said == f"{frontend.domain}: OpenNebula has it on node2 now, {after}"
    assert frontend.vm.host == "node2" and frontend.vm.status == after and waiting(frontend) == []
    assert [one for one in frontend.asked if one[0] == "one.vm.migrate"] == [
        ("one.vm.migrate", (frontend.vm.id, 1, live, False, -1, 0))
    ]
    drivers = [f"{call.mad}.{call.action}" for call in frontend.cloud.calls]
    assert not {"vmm.save", "vmm.restore", "vmm.shutdown", "vmm.cancel"} & set(drivers)
    assert "nothing to do" in tell(frontend)


def test_hosts_may_be_called_with_their_domain(frontend: Frontend) -> None:
    assert "has it on node2 now" in tell(frontend, "node2.example.org", "-")


def test_two_hosts_of_one_label_are_not_mixed_up(frontend: Frontend) -> None:
    for name in ("a.rack1", "a.rack2"):
        frontend.cloud.create_host(name)
    refused(frontend, NotFound, "oned knows no host a.rack3", "a.rack3")
    refused(frontend, NotFound, "oned knows no host a;", "a")


@pytest.mark.parametrize(("at", "state", "text"), [
    ({"node1": "running"}, "", "runs on node1, not on node2"),
    ({"node1": "running", "node2": "running"}, "", "runs on node2 and on node1"),
    ({}, "", "does not run on node2"),
    ({"node2": "crashed"}, "", "does not run on node2"),
    ({"node2": "dying"}, "", "does not run on node2"),
])
def test_the_domain_must_run_there_and_nowhere_else(
    frontend: Frontend, at: dict[str, str], state: str, text: str
) -> None:
    for status in ("RUNNING", "UNKNOWN", "POWEROFF"):
        set_state(frontend, status)
        for host in ("node1", "node2"):
            frontend.hosts[host].domains.clear()
        for host, domain in at.items():
            frontend.hosts[host].domains[frontend.domain] = domain
        refused(frontend, Unsafe, text)


@pytest.mark.parametrize("answer", [
    {"state": "paused"}, {"state": None, "incoming": True}, {"state": None, "away": True},
])
def test_half_a_migration_is_waited_for(frontend: Frontend, answer: dict[str, object]) -> None:
    frontend.hosts["node2"].answers["find_domain"] = answer
    assert "waits" in tell(frontend)
    assert "one.vm.migrate" not in frontend.methods() and len(waiting(frontend)) == 1


def test_an_old_host_that_is_dead_hinders_nothing_and_a_dead_destination_is_waited_for(frontend: Frontend) -> None:
    frontend.hosts["node2"].down = Unreachable("no route to host", host="node2")
    assert "node2 cannot be looked at" in tell(frontend)
    assert "one.vm.migrate" not in frontend.methods()
    frontend.hosts["node2"].down = None
    frontend.hosts["node1"].down = Unreachable("no route to host", host="node1")
    assert "has it on node2 now" in tell(frontend)


@pytest.mark.parametrize("status", ["STOPPED", "UNDEPLOYED", "PENDING", "BOOT_FAILURE", "PROLOG_MIGRATE_FAILURE"])
def test_states_without_a_route_are_a_persons(frontend: Frontend, status: str) -> None:
    set_state(frontend, status)
    refused(frontend, Unsafe, f"VM {frontend.vm.id} is {status}")


@pytest.mark.parametrize("status", ["HOTPLUG", "SHUTDOWN_POWEROFF", "PROLOG_MIGRATE", "DISK_RESIZE", "BOOT"])
def test_transient_states_wait(frontend: Frontend, status: str) -> None:
    set_state(frontend, status)
    assert f"OpenNebula works on VM {frontend.vm.id}: {status}" in tell(frontend)
    assert "one.vm.migrate" not in frontend.methods()
    assert [one["attempts"] for one in waiting(frontend)] == [1]
    assert moved.run(frontend.call("--retry")) == ""  # not due
    assert frontend.domain in moved.run(frontend.call("--list"))
    assert "forgotten" in moved.run(frontend.call("--drop", frontend.domain))
    with pytest.raises(BadInput, match="nothing waits"):
        moved.run(frontend.call("--drop", frontend.domain))


def test_a_boot_here_is_no_move(frontend: Frontend, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the watching service reports for every VM that OpenNebula starts: one question, and nothing else."""
    monkeypatch.setattr("os.uname", lambda: type("Uname", (), {"nodename": "node1"})())
    set_state(frontend, "BOOT")
    assert "nothing to do" in moved.run(frontend.call("--here", frontend.domain, "Domain-0", "one-777"))
    assert set(frontend.methods()) == {"one.vm.info"} and waiting(frontend) == []


def test_a_refusal_on_the_way_waits_with_oneds_words(frontend: Frontend) -> None:
    frontend.drivers.failing["migrate"] = "cannot be done today"
    said = tell(frontend)
    assert "waits" in said and "cannot be done today" in said
    assert frontend.vm.host == "node1" and len(waiting(frontend)) == 1


def test_a_failure_on_the_cold_way_is_a_persons(frontend: Frontend) -> None:
    set_state(frontend, "UNKNOWN")
    frontend.drivers.failing["deploy"] = "its disk is missing"
    with pytest.raises(Unsafe, match="BOOT_FAILURE.*onevm recover"):
        tell(frontend)
    assert waiting(frontend) == []


def test_oned_away_slow_mad_or_broken(frontend: Frontend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dnc.opennebula.api.TIMEOUT", 0.3)
    rpc = frontend.cloud.rpc
    rpc.delay_s = 1.0
    assert ": no answer within 0 s; is the opennebula service" in tell(frontend)
    rpc.delay_s, rpc.garbage = 0.0, b"<html>no</html>"
    assert "oned does not answer" in tell(frontend)
    rpc.garbage = None
    rpc.stop()
    try:
        assert f"oned does not answer at {rpc.url}: Connection refused; is" in tell(frontend)
        due(frontend)
        assert moved.run(frontend.call("--retry")) == ""
    finally:
        rpc.start()
    assert len(waiting(frontend)) == 1
    monkeypatch.setattr("dnc.opennebula.api.TIMEOUT", 30.0)
    due(frontend)
    assert "has it on node2 now" in moved.run(frontend.call("--retry"))


def due(frontend: Frontend, since: float | None = None) -> None:
    for path in (frontend.home / "dnc_moves").glob("*.move"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "due": 0.0, "since": since or record["since"]}))


def test_what_waited_for_too_long_is_told_and_dropped(frontend: Frontend) -> None:
    set_state(frontend, "HOTPLUG")
    tell(frontend)
    due(frontend, since=time.time() - 90000)
    assert moved.run(frontend.call("--retry")) == ""
    assert "is not tried again" in frontend.stream.getvalue()
    assert "oned could not be told for 9000" in frontend.stream.getvalue() and waiting(frontend) == []


def test_what_is_wrong_with_this_machine_keeps_the_move(frontend: Frontend, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = frontend.home / "dnc_hook_auth"
    good = auth.read_text()
    for text, said in (("dnc-hook:wrong\n", "oned refuses the credentials"), ("nonsense\n", "not one line")):
        auth.write_text(text)
        with pytest.raises(BadConfig, match=said):
            tell(frontend)
    auth.unlink()
    with pytest.raises(BadConfig, match="no oned credentials"):
        tell(frontend)
    auth.write_text(good)
    auth.chmod(0o600)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pyone", None)
        with pytest.raises(ToolMissing, match="pyone cannot be used here"):
            tell(frontend)
    frontend.cloud.rpc.users.rules.clear()
    with pytest.raises(NoPrivilege, match="Not authorized"):
        tell(frontend)
    assert len(waiting(frontend)) == 1
    moved.run(frontend.call("--setup-user"))
    due(frontend)
    assert "has it on node2 now" in moved.run(frontend.call("--retry"))


def test_a_dry_run_asks_and_tells_nothing(frontend: Frontend) -> None:
    said = moved.run(frontend.call(frontend.domain, "node1", "node2", dry_run=True))
    assert said == f"{frontend.domain}: RUNNING on node1, would become node2's"
    set_state(frontend, "HOTPLUG")
    tell(frontend)
    set_state(frontend, "RUNNING")
    due(frontend)
    assert "would become node2's" in moved.run(frontend.call("--retry", dry_run=True))
    assert len(waiting(frontend)) == 1
    assert "one.vm.migrate" not in frontend.methods()


def test_a_tool_that_fails_where_we_look(frontend: Frontend) -> None:
    """At the destination the move waits for somebody to mend it; elsewhere it is told, and hinders nothing."""
    frontend.hosts["node2"].answers["find_domain"] = ToolFailed("xl failed: no xenstore", host="node2")
    with pytest.raises(ToolFailed):
        tell(frontend)
    assert len(waiting(frontend)) == 1 and "one.vm.migrate" not in frontend.methods()
    due(frontend)
    assert moved.run(frontend.call("--retry")) == "" and len(waiting(frontend)) == 1
    frontend.hosts["node2"].answers.clear()
    frontend.hosts["node1"].answers["find_domain"] = ToolFailed("xl failed: no xenstore", host="node1")
    due(frontend)
    assert "has it on node2 now" in moved.run(frontend.call("--retry"))


def test_a_frontend_of_another_name_space(frontend: Frontend, tmp_path: Path) -> None:
    """HOOK_AUTH and HOOK_QUEUE go before the home directory."""
    auth = tmp_path / "auth"
    auth.write_text((frontend.home / "dnc_hook_auth").read_text())
    auth.chmod(0o600)
    text = f'HOOK_AUTH="{auth}"\nHOOK_QUEUE="{tmp_path}/moves"\n'
    set_state(frontend, "HOTPLUG")
    moved.run(frontend.call(frontend.domain, "node1", "node2", text=text))
    assert [path.name for path in (tmp_path / "moves").glob("*.move")] == [f"{frontend.vm.id}.move"]
