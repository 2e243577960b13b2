"""The table of VM states: what is asked of oned in each, and that nothing asked for ever stops or starts a guest."""

from __future__ import annotations

import pytest

from dnc.hooks.routes import Route, advice, choose
from dnc.opennebula import vm_states
from dnc.opennebula.api import VmRecord

STATES = [(number, 0) for number in vm_states._STATES if number != vm_states.ACTIVE]
STATES += [(vm_states.ACTIVE, number) for number in vm_states._LCM_STATES]
NAMES = [vm_states.status_name(*state) for state in STATES]


def record(status: str) -> VmRecord:
    state, lcm_state = STATES[NAMES.index(status)]
    return VmRecord(42, state, lcm_state, "node1", 0, "")


def test_every_state_has_a_name_and_a_route() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for status in NAMES:
        assert choose(record(status), True) in (Route.NOTHING, Route.WAIT, Route.PERSON), status
        assert choose(record(status), False) in Route
    assert vm_states.status_name(12, 0) == "state 12"


def test_only_what_keeps_a_guest_running_is_asked_for() -> None:
    """Cold migration saves a RUNNING guest; live migration is refused, or falls back to cold, in any other state."""
    asked = {status: choose(record(status), False) for status in NAMES}
    assert [status for status, route in asked.items() if route is Route.LIVE] == ["RUNNING"]
    cold = [status for status, route in asked.items() if route is Route.COLD]
    assert sorted(cold) == ["POWEROFF", "SUSPENDED", "UNKNOWN"]
    assert asked["DONE"] is Route.NOTHING


@pytest.mark.parametrize("status", ["STOPPED", "UNDEPLOYED", "PENDING", "HOLD", "BOOT_FAILURE",
                                    "PROLOG_MIGRATE_UNKNOWN_FAILURE"])
def test_states_that_need_a_person(status: str) -> None:
    for at_destination in (True, False):
        assert choose(record(status), at_destination) is Route.PERSON
    assert ("--retry" in advice(record(status))) == status.endswith("_FAILURE")


def test_a_boot_at_the_destination_is_no_move_and_a_migration_there_is_waited_for() -> None:
    """recover --failure may send its record back while the domain goes on (observation 4)."""
    for status in ("BOOT", "BOOT_POWEROFF", "BOOT_UNKNOWN", "RUNNING", "UNKNOWN", "POWEROFF", "HOTPLUG", "PROLOG"):
        assert choose(record(status), True) is Route.NOTHING, status
    for status in ("MIGRATE", "BOOT_MIGRATE", "PROLOG_MIGRATE_UNKNOWN"):
        assert choose(record(status), True) is Route.WAIT, status
    for status in ("MIGRATE", "BOOT", "HOTPLUG", "SHUTDOWN_POWEROFF", "DISK_RESIZE", "BACKUP"):
        assert choose(record(status), False) is Route.WAIT, status
