"""Where replicas go and why, and what a datastore can honestly report."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc import config
from dnc.errors import BadConfig, DncError, NoSpace
from dnc.farm.placement import Rules, Wanted, capacity, choose, farm_hosts, paired, rules_of
from dnc.farm.space import Space
from dnc.grammar import parse_pool

POOL = parse_pool("zfs:tank/dnc")
GIB = 1 << 30
MIB = 1 << 20
FREE = Rules({}, {})


def spaces(**free_gib: int) -> dict[str, Space]:
    return {host: Space(100 * GIB, (100 - free) * GIB, free * GIB, 100.0 - free) for host, free in free_gib.items()}


def wanted(bytes_: int = GIB, replicas: int = 2, first: str | None = None, name: str = "one-7") -> Wanted:
    return Wanted(name, POOL, bytes_, replicas, 95, first)


def chosen(free: dict[str, Space], rules: Rules = FREE, *, stale: bool = False, **more) -> tuple[str, ...]:
    return choose(wanted(**more), free, {}, rules, stale=stale).hosts


def rules(pairs: str = "", domains: str = "", hosts: str = "a b c d e f") -> Rules:
    return rules_of(config.parse(f'HOSTS="{hosts}"\nHOST_PAIRS="{pairs}"\nFAILURE_DOMAINS="{domains}"\n'))


def test_the_hosts_with_the_most_room_are_chosen():
    assert chosen(spaces(a=10, b=50, c=40)) == ("b", "c")


def test_the_vms_host_is_chosen_in_any_case():
    assert chosen(spaces(a=10, b=50, c=40), first="a") == ("a", "b")


def test_equal_hosts_are_taken_by_their_volumes_then_their_names():
    assert chosen(spaces(c=10, a=10, b=10)) == ("a", "b")
    busy = spaces(a=50, b=50, c=49)
    busy["a"] = busy["a"]._replace(volumes=3)
    assert chosen(busy) == ("b", "c")


def test_old_figures_spread_what_is_made_at_the_same_time():
    free = spaces(**{f"h{number}": 50 for number in range(20)})
    picks = [chosen(free, stale=True, name=f"one-{number}") for number in range(100)]
    assert picks == [chosen(free, stale=True, name=f"one-{number}") for number in range(100)]
    hits = [sum(host in pick for pick in picks) for host in free]
    assert min(hits) > 0 and max(hits) < 25


def test_a_full_pool_is_refused_with_what_is_left():
    with pytest.raises(NoSpace, match=r"pool zfs:tank/dnc has no room for 20480 MiB on 2 hosts.*a 5120 MiB"):
        chosen(spaces(a=10, b=50), bytes_=20 * GIB)


def test_a_full_host_that_oned_chose_is_refused():
    with pytest.raises(NoSpace):
        chosen(spaces(a=10, b=50, c=50), bytes_=20 * GIB, first="a")


def test_full_metadata_count_as_a_full_pool():
    free = spaces(a=80, b=50, c=50)
    free["a"] = free["a"]._replace(fill=96.0)
    assert chosen(free) == ("b", "c")


def test_too_few_hosts_is_its_own_error_with_those_passed_over():
    with pytest.raises(DncError, match="1 of the hosts answer, 2 replicas need 2; b disabled in OpenNebula"):
        choose(wanted(), spaces(a=10), {"b": "disabled in OpenNebula"}, FREE)


def test_pairs_go_together_and_with_nobody_else():
    pairs = rules("a=b c=d")
    assert chosen(spaces(a=90, b=20, c=50, d=50), pairs) == ("c", "d")
    assert chosen(spaces(a=90, b=20, c=50, d=50), pairs, first="b") == ("b", "a")
    assert chosen(spaces(a=90, c=50, e=20, f=20), pairs) == ("e", "f")
    with pytest.raises(NoSpace, match="no 2 hosts for one-7 may go together"):
        chosen(spaces(a=90, c=50), pairs)
    assert chosen(spaces(a=90, c=50), pairs, replicas=1) == ("a",)


def test_replicas_never_share_a_failure_domain():
    racks = rules("", "r1=a,b r2=c")
    assert chosen(spaces(a=90, b=80, c=20), racks) == ("a", "c")
    assert chosen(spaces(a=90, b=80, c=20, d=10), racks, first="d") == ("d", "a")
    assert chosen(spaces(a=90, b=80, c=20, d=30), racks, replicas=3) == ("a", "d", "c")
    with pytest.raises(NoSpace, match="FAILURE_DOMAINS"):
        chosen(spaces(a=90, b=80), racks)


def test_every_host_has_its_reason():
    racks = rules("", "r1=a,b r2=c")
    choice = choose(wanted(), spaces(a=90, b=80, c=20, d=4, e=15), {"f": "disabled in OpenNebula"}, racks)
    reasons = dict(choice.reasons)
    assert list(reasons)[:2] == ["a", "c"]
    assert reasons["a"] == "chosen: 87040 MiB usable below 95 %, 0 volumes, in r1"
    assert reasons["b"].startswith("may not go with the chosen ones")
    assert reasons["d"].startswith("too full: 0 MiB usable")
    assert reasons["e"].startswith("would do")
    assert reasons["f"] == "disabled in OpenNebula"
    many = choose(wanted(), spaces(**{f"h{number}": 50 for number in range(50)}), {}, FREE)
    assert len(many.lines()) == 2 + 8 + 1 and many.lines()[-1] == "and 40 more hosts passed over"


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 100), min_size=2), st.booleans(), st.booleans())
def test_a_choice_keeps_every_rule(free, stale, with_first):
    held = rules("a=b", "r1=a,c r2=b,d")
    first = sorted(free)[0] if with_first else None
    try:
        hosts = chosen(spaces(**free), held, stale=stale, first=first)
    except NoSpace:
        return
    one, other = hosts
    assert first in (None, one) and one != other
    assert held.domain(one) != held.domain(other)
    assert held.partners.get(one, other) == other and held.partners.get(other, one) == one
    assert all(min(free[host], free[host] - 5) * GIB >= GIB for host in hosts)


def test_bridge_list_narrows_and_nothing_configured_is_told():
    assert farm_hosts(("a", "b"), ("b", "c", "b")) == ("b", "c")
    assert farm_hosts(("a", "b")) == ("a", "b")
    with pytest.raises(BadConfig, match="no hosts are configured"):
        farm_hosts(())


def test_the_fill_limit_counts_from_the_whole_pool():
    assert Space(100, 90, 10).usable(95) == 5
    assert Space(100, 97, 3).usable(95) == 0
    assert Space(100, 10, 20).usable(95) == 20
    assert Space(100, 10, 90, fill=95.0).usable(95) == 0


def best_grouping(amounts: list[int], replicas: int) -> int:
    """Brute force: how many unit blocks fit, each on distinct hosts."""
    groups = list(itertools.combinations(range(len(amounts)), replicas))
    best = 0

    def place(left: tuple[int, ...], start: int, count: int) -> None:
        nonlocal best
        best = max(best, count)
        for number in range(start, len(groups)):
            if all(left[host] for host in groups[number]):
                after = tuple(amount - (host in groups[number]) for host, amount in enumerate(left))
                place(after, number, count + 1)

    place(tuple(amounts), 0, 0)
    return best


@given(st.lists(st.integers(0, 4), min_size=2, max_size=4), st.integers(2, 3))
def test_paired_is_what_can_really_be_placed(amounts, replicas):
    assert paired(amounts, replicas) == best_grouping(amounts, replicas)


def test_one_replica_adds_up():
    assert paired([3, 4], 1) == 7
    assert paired([3], 2) == 0


def test_capacity_is_consistent():
    found = capacity(
        {"a": Space(1000 * MIB, 100 * MIB, 900 * MIB), "b": Space(2000 * MIB, 0, 2000 * MIB)}, 2, 95, FREE)
    assert found.free == 850
    assert found.total == 950
    assert found.used + found.free == found.total
    assert found.text() == "USED_MB=100\nFREE_MB=850\nTOTAL_MB=950"


def test_capacity_follows_the_rules():
    pools = {host: Space(1000 * MIB, 0, 1000 * MIB) for host in "abcd"}
    assert capacity(pools, 2, 100, FREE).free == 2000
    assert capacity({**pools, "b": Space(100 * MIB, 0, 100 * MIB)}, 2, 100, rules("a=b c=d")).free == 1100
    assert capacity(pools, 2, 100, rules("", "r1=a,b,c r2=d")).free == 1000
    assert capacity(pools, 3, 100, FREE).free == 1333
    assert capacity(pools, 1, 100, rules("a=b")).free == 4000


@pytest.mark.parametrize(("line", "said"), [
    ('HOST_PAIRS="a"', "HOST_PAIRS"), ('HOST_PAIRS="a=b b=c"', "each host once"),
    ('HOST_PAIRS="a=zz"', "HOST_PAIRS names zz"), ('FAILURE_DOMAINS="r1"', "FAILURE_DOMAINS"),
    ('FAILURE_DOMAINS="r1=a r1=b"', "each domain once"), ('FAILURE_DOMAINS="r1=a r2=a"', "each host"),
    ('FAILURE_DOMAINS="../x=a"', "name=host"), ('FAILURE_DOMAINS="r1=zz"', "FAILURE_DOMAINS names zz"),
    ('HOST_PAIRS="a=b"\nFAILURE_DOMAINS="r1=a,b"', "pair a=b lies in one failure domain"),
])
def test_wrong_pairs_and_domains_are_refused(line, said):
    with pytest.raises(BadConfig, match=said):
        config.parse(f'HOSTS="a b c"\n{line}\n')


def test_pairs_and_domains_cross_the_session():
    import json

    given_ = config.parse('HOSTS="a b c"\nHOST_PAIRS="a=b"\nFAILURE_DOMAINS="r1=a r2=b,c"\n')
    assert config.from_json(json.loads(json.dumps(given_.to_json()))) == given_
