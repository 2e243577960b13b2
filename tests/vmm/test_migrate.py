"""Live migration: the truth table, and the action on two hosts in memory."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path
from typing import Optional

import pytest

from dnc.errors import DncError, NotFound, ToolFailed, Unreachable, Unsafe
from dnc.host.domains import Domains
from dnc.host.handover import Sight, Step, decide, see
from dnc.host.remote import migration_receiver
from dnc.tools.xl import Domain, DomainState
from vmm.documents import disk, message, vm_text
from vmm.machine import Guest, Machine

NAME = "one-901"
DISKS = ("one-sys-901-0", "one-sys-901-1")
MESSAGE = message(vm_text(disk(0, "sda"), disk(1, "sdb")))
ARGV = (NAME, "node2", "node1", "901", "node1")


def domain(name: str) -> Domain:
    return Domain(name, 1, 64, 1, DomainState.BLOCKED, 1.0)


PLAIN, SHELL, AWAY = domain(NAME), domain(NAME + "--incoming"), domain(NAME + "--migratedaway")


def sights() -> list[Sight]:
    return [Sight(*parts) for parts in itertools.product((None, PLAIN), (None, SHELL), (None, AWAY))]


@pytest.mark.parametrize("here, there, step", [
    (Sight(PLAIN, None, None), Sight(None, None, None), Step.STAYED),
    (Sight(None, None, None), Sight(PLAIN, None, None), Step.ARRIVED),
    (Sight(None, None, AWAY), Sight(PLAIN, None, None), Step.END_SOURCE),
    (Sight(PLAIN, None, None), Sight(None, SHELL, None), Step.END_SHELL),
    (Sight(None, None, AWAY), Sight(None, SHELL, None), Step.END_SHELL),
    (Sight(None, None, AWAY), Sight(None, None, None), Step.TAKE_BACK),
    (Sight(PLAIN, None, None), Sight(PLAIN, None, None), Step.BOTH),
    (Sight(None, None, None), Sight(None, None, None), Step.NOWHERE),
    (Sight(PLAIN, None, None), None, Step.STAYED),
    (Sight(None, None, AWAY), None, Step.UNKNOWN),
    (Sight(None, None, None), None, Step.UNKNOWN),
])
def test_truth_table(here: Sight, there: Optional[Sight], step: Step):
    assert decide(here, there) is step


@pytest.mark.parametrize("here", sights())
@pytest.mark.parametrize("there", [*sights(), None])
def test_no_case_ends_a_domain_that_may_be_the_only_one(here: Sight, there: Optional[Sight]):
    step = decide(here, there)
    if step is Step.END_SOURCE:
        assert there is not None and there.plain and not here.plain
    if step is Step.TAKE_BACK:
        assert there is not None and not there.plain and not there.incoming and here.away
    if here.plain and there is not None and there.plain:
        assert step is Step.BOTH


def test_sight_takes_exact_names_only():
    others = (domain("one-9010"), domain("one-90"), domain("one-901--incoming2"))
    assert see(others, NAME) == Sight(None, None, None)
    assert see((PLAIN, SHELL, AWAY), NAME) == Sight(PLAIN, SHELL, AWAY)


def test_receiver_is_one_shell_line_of_quoted_words(monkeypatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", "/tmp/ssh x;y/agent.1")
    monkeypatch.setattr("dnc.host.remote.os.geteuid", lambda: 9869)
    monkeypatch.setattr("dnc.host.remote.pwd.getpwuid", lambda _uid: type("P", (), {"pw_name": "oneadmin"}))
    monkeypatch.setattr("dnc.host.remote.find_tool", lambda name: f"/usr/bin/{name}")
    words = shlex.split(migration_receiver("node2", 15))
    assert words[:4] == ["/usr/bin/runuser", "-u", "oneadmin", "--"]
    assert words[4:6] == ["/usr/bin/env", "SSH_AUTH_SOCK=/tmp/ssh x;y/agent.1"]
    assert words[6] == "/usr/bin/ssh" and "BatchMode=yes" in words
    assert words[-6:] == ["--", "node2", "sudo", "-n", "/usr/sbin/xl", "migrate-receive"]


@pytest.fixture
def pair(tmp_path: Path, monkeypatch):
    """Two hosts; the domain runs on the first, its disks are Primary on both."""
    there = Machine(tmp_path / "node2", monkeypatch)
    here = Machine(tmp_path / "node1", monkeypatch, remote=there)
    monkeypatch.setattr("dnc.vmm.migrate.RemoteRunner", lambda *_arguments, **_more: there)
    monkeypatch.setattr("dnc.vmm.migrate.Domains", lambda runner, log: Domains(runner, log, here.clock))
    for name in DISKS:
        each = here.add_disk(name)
        each.role = each.peer_role = "Primary"
    here.kernel()
    here.guests[NAME] = Guest(NAME, 1)
    here.go = lambda *argv: here.act(monkeypatch, "migrate", *(argv or ARGV), stdin=MESSAGE)
    return here, there


def test_it_moves_and_the_disks_here_are_demoted(pair):
    here, there = pair
    here.go()
    assert NAME in there.guests and here.guests == {}
    assert [here.disks[name].role for name in DISKS] == ["Secondary", "Secondary"]
    (command,) = [command for command in here.commands if command.startswith("xl migrate")]
    assert "sudo -n /usr/sbin/xl migrate-receive" in command


def test_it_is_there_already(pair):
    here, there = pair
    there.guests[NAME] = here.guests.pop(NAME)
    here.go()
    assert not [command for command in here.commands if command.startswith("xl migrate")]


@pytest.mark.parametrize("role", ["Secondary", "Primary"])
@pytest.mark.parametrize("state", ["UpToDate", "Inconsistent"])
def test_disks_that_are_not_fit_there_stop_it(pair, role, state):
    here, there = pair
    here.disks[DISKS[1]].peer_role, here.disks[DISKS[1]].peer_disk = role, state
    here.kernel()
    if (role, state) == ("Primary", "UpToDate"):
        here.go()
        return
    with pytest.raises(Unsafe, match=f"{DISKS[1]} is {role} {state}"):
        here.go()
    assert NAME in here.guests and there.guests == {}
    assert not [command for command in here.commands if command.startswith("xl migrate")]


def test_a_receiver_that_fails_leaves_no_shell(pair):
    here, there = pair
    here.faults.add("receiver fails")
    with pytest.raises(ToolFailed, match="one-901 cannot be migrated"):
        here.go()
    assert NAME in here.guests and there.guests == {}
    assert [here.disks[name].role for name in DISKS] == ["Primary", "Primary"]


def test_a_paused_source_is_ended_when_the_guest_runs_there(pair):
    here, there = pair
    here.faults.add("source stays paused")
    here.go()
    assert list(there.guests) == [NAME] and here.guests == {}


def test_the_paused_source_continues_when_nothing_is_there(pair):
    here, there = pair
    here.guests = {NAME + "--migratedaway": Guest(NAME + "--migratedaway", 1, "paused")}
    with pytest.raises(Unsafe, match="earlier migration was broken off"):
        here.go()
    assert here.guests[NAME].state == "blocked" and list(here.guests) == [NAME]


def test_two_running_domains_are_never_made_one(pair):
    here, there = pair
    there.guests[NAME] = Guest(NAME, 4)
    here.faults.add("receiver fails")
    with pytest.raises(Unsafe, match="one-901 to node2: it runs at both") as error:
        here.go()
    assert "decide which copy is right" in error.value.line()
    assert NAME in here.guests and NAME in there.guests


def test_a_leftover_shell_stops_one_migration_and_is_cleared(pair):
    here, there = pair
    there.guests[NAME + "--incoming"] = Guest(NAME + "--incoming", 4, "paused")
    here.faults.add("receiver fails")
    with pytest.raises(ToolFailed, match="one-901 cannot be migrated"):
        here.go()
    assert there.guests == {} and NAME in here.guests
    here.faults.clear()
    here.go()
    assert list(there.guests) == [NAME]


def test_it_runs_nowhere(pair):
    here, _there = pair
    here.guests.clear()
    with pytest.raises(NotFound, match="nor on node2"):
        here.go()


def test_an_unreachable_destination_is_told_when_the_domain_is_not_plainly_here(pair):
    here, there = pair
    here.guests = {NAME + "--migratedaway": Guest(NAME + "--migratedaway", 1, "paused")}

    def unreachable(_words):
        raise Unreachable("ssh to node2 failed: no route")

    there._xl = unreachable
    with pytest.raises(Unsafe, match="node2 cannot be looked at"):
        here.go()
    assert list(here.guests) == [NAME + "--migratedaway"]


def test_a_destination_that_vanishes_after_success_is_taken_at_xls_word(pair):
    here, there = pair
    plain = there._xl

    def vanishes(words):
        if NAME in there.guests:
            raise Unreachable("ssh to node2 failed: no route")
        return plain(words)

    there._xl = vanishes
    here.go()
    assert here.guests == {} and "taken for arrived" in here.messages.getvalue()


def test_a_destination_that_vanishes_in_the_handover_needs_a_person(pair):
    here, there = pair
    here.faults.add("source stays paused")
    plain = there._xl

    def vanishes(words):
        if NAME in there.guests:
            raise Unreachable("ssh to node2 failed: no route")
        return plain(words)

    there._xl = vanishes
    with pytest.raises(Unsafe, match="cannot be seen"):
        here.go()
    assert list(here.guests) == [NAME + "--migratedaway"]


def test_between_datastores_is_refused(pair):
    here, _there = pair
    with pytest.raises(DncError, match="between datastores"):
        here.go(NAME, "node1", "node1", "901", "node1")
    assert here.commands == []
