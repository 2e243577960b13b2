"""Where replicas go, and what a datastore can honestly report."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc.errors import BadConfig, DncError, NoSpace
from dnc.farm.placement import capacity, choose_hosts, farm_hosts, paired, usable
from dnc.farm.survey import HostSurvey, Space
from dnc.grammar import parse_pool

POOL = parse_pool("zfs:tank/dnc")
GIB = 1 << 30


def surveyed(**free_gib: int) -> dict[str, HostSurvey]:
    return {
        host: HostSurvey({}, {str(POOL): Space(100 * GIB, (100 - free) * GIB, free * GIB)}, frozenset(), {})
        for host, free in free_gib.items()
    }


def test_the_hosts_with_the_most_room_are_chosen():
    assert choose_hosts(surveyed(a=10, b=50, c=40), POOL, 2, GIB, 95) == ("b", "c")


def test_the_vms_host_is_chosen_in_any_case():
    assert choose_hosts(surveyed(a=10, b=50, c=40), POOL, 2, GIB, 95, first="a") == ("a", "b")


def test_equal_hosts_are_taken_in_the_order_of_their_names():
    assert choose_hosts(surveyed(c=10, a=10, b=10), POOL, 2, GIB, 95) == ("a", "b")


def test_a_full_pool_is_refused_with_what_is_left():
    with pytest.raises(NoSpace, match=r"pool zfs:tank/dnc has no room for 20480 MiB on 2 hosts.*a 5120 MiB"):
        choose_hosts(surveyed(a=10, b=50), POOL, 2, 20 * GIB, 95)


def test_a_full_host_that_oned_chose_is_refused():
    with pytest.raises(NoSpace):
        choose_hosts(surveyed(a=10, b=50, c=50), POOL, 2, 20 * GIB, 95, first="a")


def test_too_few_hosts_is_its_own_error():
    with pytest.raises(DncError, match="1 of the hosts answer, 2 replicas need 2"):
        choose_hosts(surveyed(a=10), POOL, 2, GIB, 95)


def test_bridge_list_narrows_and_nothing_configured_is_told():
    assert farm_hosts(("a", "b"), ("b", "c", "b")) == ("b", "c")
    assert farm_hosts(("a", "b")) == ("a", "b")
    with pytest.raises(BadConfig, match="no hosts are configured"):
        farm_hosts(())


def test_the_fill_limit_counts_from_the_whole_pool():
    assert usable(Space(100, 90, 10), 95) == 5
    assert usable(Space(100, 97, 3), 95) == 0
    assert usable(Space(100, 10, 20), 95) == 20


def best_pairing(amounts: list[int]) -> int:
    """Brute force: how many unit blocks fit, each on two distinct hosts."""
    best = 0
    pairs = list(itertools.combinations(range(len(amounts)), 2))

    def place(left: tuple[int, ...], start: int, count: int) -> None:
        nonlocal best
        best = max(best, count)
        for number in range(start, len(pairs)):
            one, other = pairs[number]
            if left[one] and left[other]:
                after = list(left)
                after[one] -= 1
                after[other] -= 1
                place(tuple(after), number, count + 1)

    place(tuple(amounts), 0, 0)
    return best


@given(st.lists(st.integers(0, 4), min_size=2, max_size=4))
def test_paired_is_what_can_really_be_placed(amounts):
    assert paired(amounts, 2) == best_pairing(amounts)


def test_one_replica_adds_up():
    assert paired([3, 4], 1) == 7
    assert paired([3], 2) == 0


def test_capacity_is_consistent():
    mib = 1 << 20
    found = capacity([Space(1000 * mib, 100 * mib, 900 * mib), Space(2000 * mib, 0, 2000 * mib)], 2, 95)
    assert found.free == 850
    assert found.total == 950
    assert found.used + found.free == found.total
    assert found.text() == "USED_MB=100\nFREE_MB=850\nTOTAL_MB=950"
