"""Finding hosts: who is asked how often, and what happens when they say otherwise than they published."""

from __future__ import annotations

import time

import pytest
from caller import TestCaller
from fake_hosts import FakeFarm

from dnc.errors import BadInput, DncError, NoSpace, Unreachable
from dnc.farm.capacity import measure
from dnc.farm.finding import BY_SESSION, HostRecord, find_hosts
from dnc.farm.placement import Wanted
from dnc.farm.published import Figure, parse
from dnc.farm.sessions import Sessions
from dnc.farm.space import Space
from dnc.grammar import parse_pool

GIB = 1 << 30
POOL = parse_pool("zfs:tank/dnc")


class Register:
    """oned's list of hosts, counted."""

    def __init__(self, **records: HostRecord) -> None:
        self.records = records
        self.asked = 0
        self.error: DncError | None = None

    def __call__(self):
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.records


def record(name: str, free_gib: int = 50, unusable: str = "", age: int = 0) -> HostRecord:
    space = Space(100 * GIB, (100 - free_gib) * GIB, free_gib * GIB, 100.0 - free_gib, 4)
    return HostRecord(name, unusable, {str(POOL): Figure(POOL, space, int(time.time()) - age)})


def names(count: int) -> list[str]:
    return [f"h{number}" for number in range(count)]


def find(hosts: FakeFarm, register: Register, among, first=None, replicas=2, size=GIB):
    caller = TestCaller(f'HOSTS="{" ".join(among)}"\n')
    with Sessions(caller, hosts.connect) as farm:
        found = find_hosts(farm, Wanted("one-7", POOL, size, replicas, 95, first), among, register)
    return found.choice.hosts, caller.logged


def published(among) -> Register:
    return Register(**{name: record(name) for name in among})


@pytest.mark.parametrize("count", [3, 1000])
def test_a_thousand_hosts_cost_as_many_sessions_as_few(count):
    hosts, register = FakeFarm(*names(count)), published(names(count))
    chosen, logged = find(hosts, register, names(count))
    assert (hosts.sessions, register.asked) == (2, 1)
    assert f"one-7: {chosen[0]}: chosen" in logged


def test_a_farm_no_larger_than_a_resource_asks_nobody():
    hosts, register = FakeFarm("a", "b"), Register()
    assert find(hosts, register, ["a", "b"])[0] == ("a", "b")
    assert register.asked == 0


def test_without_figures_a_bounded_number_is_asked():
    hosts, register = FakeFarm(*names(100)), Register()
    assert len(find(hosts, register, names(100))[0]) == 2
    assert hosts.sessions == BY_SESSION
    old = Register(**{name: record(name, age=7200) for name in names(100)})
    hosts = FakeFarm(*names(100))
    find(hosts, old, names(100))
    assert hosts.sessions == BY_SESSION


def test_disabled_hosts_are_passed_over_but_for_the_vms_own():
    register = published("abc")
    register.records["a"] = record("a", 90, unusable="disabled in OpenNebula")
    hosts = FakeFarm("a", "b", "c")
    chosen, logged = find(hosts, register, ["a", "b", "c"])
    assert set(chosen) == {"b", "c"} and "a: disabled in OpenNebula" in logged
    assert find(FakeFarm("a", "b", "c"), register, ["a", "b", "c"], first="a")[0][0] == "a"


def test_unreachable_hosts_are_passed_over():
    hosts, register = FakeFarm("a", "b", "c"), published("abc")
    register.records["a"] = record("a", 90)
    hosts.fail("a")
    chosen, logged = find(hosts, register, ["a", "b", "c"])
    assert set(chosen) == {"b", "c"} and "a: does not answer" in logged
    hosts.fail("b")
    with pytest.raises(Unreachable):
        find(hosts, register, ["a", "b", "c"])


def test_a_host_that_has_filled_up_since_is_replaced():
    hosts, register = FakeFarm("a", "b", "c"), published("abc")
    register.records["a"] = record("a", 90)
    hosts["a"].free = 0
    assert set(find(hosts, register, ["a", "b", "c"])[0]) == {"b", "c"}
    hosts["c"].free = 0
    with pytest.raises(NoSpace):
        find(hosts, register, ["a", "b", "c"])


def test_oned_that_does_not_answer_stops_no_import():
    hosts, register = FakeFarm("a", "b", "c"), Register()
    register.error = Unreachable("oned does not answer")
    chosen, logged = find(hosts, register, ["a", "b", "c"])
    assert chosen == ("a", "b") and "oned does not answer" in logged


def test_one_replica_on_the_vms_host_asks_nobody_else():
    hosts, register = FakeFarm(*names(20)), published(names(20))
    assert find(hosts, register, names(20), first="h7", replicas=1)[0] == ("h7",)
    assert (hosts.sessions, register.asked) == (1, 0)


def test_what_is_published_reads_back():
    figure = record("a").figures[str(POOL)]
    line = figure.render()
    assert line.startswith('DNC_SPACE=[POOL="zfs:tank/dnc",TOTAL_MB="102400"')
    values = dict(part.split("=", 1) for part in line.partition("[")[2].rstrip("]").replace('"', "").split(","))
    assert parse(values) == figure


@pytest.mark.parametrize(("key", "value"), [
    ("POOL", "tank"), ("TOTAL_MB", "-1"), ("FREE_MB", "999999"), ("USED_MB", "1e3"), ("FILL", "101"), ("FILL", "x"),
    ("VOLUMES", ""), ("AT", "now"), ("AT", None),
])
def test_wrong_figures_are_refused(key, value):
    values = {"POOL": "zfs:tank/dnc", "TOTAL_MB": "100", "USED_MB": "10", "FREE_MB": "90", "FILL": "10.0",
              "VOLUMES": "1", "AT": "1795190728"}
    parse(values)
    changed = {name: text for name, text in {**values, key: value}.items() if text is not None}
    with pytest.raises(BadInput, match="DNC_SPACE|pool"):
        parse(changed)


class Store:
    bridge_list = ()
    pool = None


def capacity_of(monkeypatch, hosts: FakeFarm, register: Register, among) -> tuple[int, str]:
    caller = TestCaller(f'HOSTS="{" ".join(among)}"\n')
    monkeypatch.setattr("dnc.farm.capacity.Sessions", lambda caller: Sessions(caller, hosts.connect))
    return measure(caller, Store(), 2, register).free, caller.logged


def test_a_large_farm_is_measured_by_what_it_publishes(monkeypatch):
    hosts, register = FakeFarm(*names(100)), published(names(100))
    free, logged = capacity_of(monkeypatch, hosts, register, names(100))
    assert (hosts.sessions, register.asked) == (0, 1)
    assert free == 100 * 45 * 1024 // 2
    register.records["h0"] = record("h0", unusable="disabled in OpenNebula")
    for name in names(20)[1:]:
        del register.records[name]
    free, logged = capacity_of(monkeypatch, hosts, register, names(100))
    assert hosts.sessions == BY_SESSION and "11 hosts publish nothing" in logged


def test_overcommit_and_full_pools_are_told(monkeypatch):
    hosts, register = FakeFarm("a", "b"), Register()
    hosts["a"].space = {"promised": 250 * GIB}
    hosts["b"].space = {"fill": 96.0}
    free, logged = capacity_of(monkeypatch, hosts, register, ["a", "b"])
    assert free == 0 and register.asked == 0
    assert "promised 256000 MiB, over-committed 2.5 times" in logged
    assert "zfs:tank/dnc is beyond POOL_FILL_LIMIT=95 on b: no new volumes there" in logged
