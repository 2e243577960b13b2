"""What oned is told of VMs, look by look: changes once, passing things never, everything now and then."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc.host.vm_places import Place
from dnc.opennebula.vm_state import NEVER, Condition, Look, Memory, memory_from_json, report
from oned.template_text import parse_template

C = Condition
SETTLE, SYNC = 15.0, 180.0


class Host:
    """Looks one after the other, with the memory passed on as a file would."""

    def __init__(self) -> None:
        self.memory = Memory(0.0, NEVER, {})
        self.now = 1000.0
        self.places: dict[int, Place] = {}
        self.asked: list[set[int]] = []

    def look(self, conditions, directories=None, after=5.0):
        """(STATE by VM, whether it was a full report)."""
        self.now += after
        directories = set(conditions) if directories is None else set(directories)

        def places(vms):
            self.asked.append(set(vms))
            return {vm: self.places.get(vm, Place.AT_REST) for vm in vms}

        result = report(self.memory, Look(self.now, conditions, directories, SETTLE, SYNC), places)
        self.memory = memory_from_json(json.loads(json.dumps(result.memory.to_json())))
        parsed = parse_template(result.text)
        states = {int(value["ID"]): value["STATE"] for name, value in parsed if name == "VM"}
        assert all(value["DEPLOY_ID"] == f"one-{value['ID']}" for name, value in parsed if name == "VM")
        full = ("SYNC_STATE", "yes") in parsed
        assert full == (("MISSING_STATE", "UNKNOWN") in parsed)
        return states, full


@pytest.fixture
def host():
    return Host()


def test_the_first_look_tells_everything_then_only_changes(host):
    assert host.look({1: C.RUNNING, 2: C.RUNNING}) == ({1: "RUNNING", 2: "RUNNING"}, True)
    assert host.look({1: C.RUNNING, 2: C.RUNNING}) == ({}, False)
    assert host.look({1: C.RUNNING, 2: C.RUNNING, 3: C.RUNNING}) == ({3: "RUNNING"}, False)


def test_everything_is_told_again_when_it_is_time(host):
    host.look({1: C.RUNNING})
    for _ in range(35):
        assert host.look({1: C.RUNNING}) == ({}, False)
    assert host.look({1: C.RUNNING}) == ({1: "RUNNING"}, True)
    assert host.look({1: C.RUNNING}) == ({}, False)


@pytest.mark.parametrize(("condition", "state"), [
    (C.PAUSED, "SUSPENDED"), (C.CRASHED, "FAILURE"), (C.ENDED, "POWEROFF"), (C.GONE, "POWEROFF")])
def test_a_condition_has_to_last(host, condition, state):
    host.look({1: C.RUNNING})
    seen = {} if condition is C.GONE else {1: condition}
    for _ in range(3):
        assert host.look(seen, {1}) == ({}, False)
    assert host.look(seen, {1}) == ({1: state}, False)
    assert host.look(seen, {1}) == ({}, False)


def test_a_snapshot_that_pauses_for_moments_is_nobodys_business(host):
    host.look({1: C.RUNNING})
    host.look({1: C.PAUSED}, after=5)
    host.look({1: C.PAUSED}, after=9)
    assert host.look({1: C.RUNNING}) == ({}, False)
    # and the next pause counts from its own beginning
    assert host.look({1: C.PAUSED}, after=2) == ({}, False)


def test_two_probes_at_once_do_not_shorten_the_wait(host):
    host.look({1: C.RUNNING})
    for _ in range(20):
        assert host.look({}, {1}, after=0.1) == ({}, False)


def test_passing_stays_untold_however_long(host):
    host.look({1: C.RUNNING})
    for _ in range(30):
        assert host.look({1: C.PASSING}) == ({}, False)


def test_a_full_report_keeps_passing_vms_from_being_missing(host):
    host.look({1: C.RUNNING, 2: C.RUNNING, 3: C.RUNNING})
    states, full = host.look({1: C.PASSING, 2: C.PAUSED}, {1, 2, 3}, after=SYNC)
    assert full
    assert states == {1: "UNKNOWN", 2: "UNKNOWN", 3: "UNKNOWN"}


def test_a_vm_that_may_have_moved_is_left_out_at_once(host):
    host.look({1: C.RUNNING, 2: C.RUNNING})
    host.places[1] = Place.MAYBE_ELSEWHERE
    for _ in range(3):
        assert host.look({2: C.RUNNING}, {1, 2}) == ({}, False)
    assert host.look({2: C.RUNNING}, {1, 2}) == ({2: "RUNNING"}, True)
    # only once: the next full report comes at its time
    assert host.look({2: C.RUNNING}, {1, 2}) == ({}, False)
    assert host.look({2: C.RUNNING}, {1, 2}, after=SYNC) == ({2: "RUNNING"}, True)


def test_it_is_off_after_all_when_the_peer_says_so(host):
    host.look({1: C.RUNNING})
    host.places[1] = Place.MAYBE_ELSEWHERE
    for _ in range(5):
        host.look({}, {1})
    host.places[1] = Place.AT_REST
    assert host.look({}, {1}, after=SYNC) == ({1: "POWEROFF"}, True)


def test_a_busy_vm_waits_for_the_action(host):
    host.look({1: C.RUNNING})
    host.places[1] = Place.BUSY
    for _ in range(10):
        assert host.look({}, {1}) == ({}, False)
    host.places[1] = Place.AT_REST
    assert host.look({}, {1}) == ({1: "POWEROFF"}, False)


def test_terminated_vms_are_forgotten_and_no_zombies(host):
    host.look({1: C.RUNNING})
    for _ in range(6):
        assert host.look({}, set()) == ({}, False)
    assert host.memory.vms == {}
    assert host.look({}, set(), after=SYNC) == ({}, True)


def test_after_a_reboot_of_the_host_what_lies_here_is_off(host):
    assert host.look({}, {1, 2}) == ({1: "UNKNOWN", 2: "UNKNOWN"}, True)
    host.places[2] = Place.MAYBE_ELSEWHERE
    for _ in range(2):
        assert host.look({}, {1, 2}) == ({}, False)
    assert host.look({}, {1, 2}) == ({1: "POWEROFF"}, True)


def test_a_vm_that_is_off_is_asked_about_once_a_full_report(host):
    host.look({}, {1})
    host.look({}, {1}, after=SETTLE)
    asked = len(host.asked)
    for _ in range(20):
        host.look({}, {1})
    assert len(host.asked) == asked
    assert host.look({}, {1}, after=SYNC) == ({1: "POWEROFF"}, True)


def test_when_one_has_moved_the_others_that_are_off_are_not_missing(host):
    host.look({1: C.RUNNING}, {1, 2})
    for _ in range(4):
        host.look({1: C.RUNNING}, {1, 2})
    host.places[1] = Place.MAYBE_ELSEWHERE
    for _ in range(3):
        host.look({}, {1, 2})
    assert host.look({}, {1, 2}) == ({2: "POWEROFF"}, True)


def test_a_restarted_vm_is_told_again(host):
    host.look({1: C.RUNNING})
    for _ in range(4):
        host.look({}, {1})
    assert host.look({1: C.RUNNING}) == ({1: "RUNNING"}, False)


@pytest.mark.parametrize("record", [
    {}, {"vms": 3}, {"synced": "x", "vms": {}}, {"synced": 1, "vms": {"a": ["running", 1, ""]}},
    {"synced": 1, "vms": {"1": ["flying", 1, ""]}}, {"synced": 1, "vms": {"1": [1, 2]}}, {"synced": None, "vms": {}}])
def test_a_memory_that_is_none_is_no_memory(record):
    assert memory_from_json(record) == Memory(0.0, NEVER, {})


def test_a_clock_that_went_back_tells_everything(host):
    host.look({1: C.RUNNING})
    host.now = 3.0
    assert host.look({1: C.RUNNING}) == ({1: "RUNNING"}, True)


@given(st.lists(st.tuples(
    st.dictionaries(st.integers(0, 4), st.sampled_from([c for c in C if c is not C.GONE])), st.sets(st.integers(0, 4)),
    st.sampled_from([0.1, 5.0, 16.0, 200.0]), st.dictionaries(st.integers(0, 4), st.sampled_from(list(Place))))))
def test_whatever_happens(looks):
    host = Host()
    for conditions, directories, after, places in looks:
        host.places = places
        states, full = host.look(conditions, {*directories, *conditions}, after=after)
        for vm, state in states.items():
            if state == "RUNNING":
                assert conditions[vm] is C.RUNNING
            if state == "POWEROFF":
                assert vm not in conditions or conditions[vm] is C.ENDED
                assert vm in conditions or places.get(vm, Place.AT_REST) is Place.AT_REST
        if full:
            # nobody who has a domain here can become UNKNOWN by being left out
            assert set(conditions) <= set(states)
