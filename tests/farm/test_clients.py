"""DRBD 9's clients: who is told first, what is refused, what an old file of one is worth."""

from __future__ import annotations

import pytest
from caller import TestCaller
from fake_hosts import FakeFarm, spec, status

from dnc.errors import Busy, Conflict, NotFound, Unsafe
from dnc.farm import clients, disks
from dnc.farm.removal import Removal
from dnc.farm.sessions import Sessions
from dnc.farm.survey import locate
from dnc.grammar import clone_name, image_name
from dnc.tools.resource import Member, ResourceSpec, parse_spec

NAME = clone_name(image_name(7), 42, 0)
FOUR = 'HOSTS="node1 node2 node3 node4"\n'


def member(host: str, node_id: int) -> Member:
    return Member(host, f"10.0.0.{host[-1]}", None, node_id)


@pytest.fixture
def hosts():
    found = FakeFarm("node1", "node2", "node3", "node4")
    for name in ("node1", "node2", "node3", "node4"):
        found[name].drbd = "9"
    return found


@pytest.fixture
def farm(hosts):
    with Sessions(TestCaller(FOUR), hosts.connect) as sessions:
        yield sessions


def disk(hosts, *members: Member, on=("node1", "node2")) -> ResourceSpec:
    """A VM's disk on node1 and node2, with these clients; told so by the hosts in `on` and by the clients."""
    kept = spec(NAME.text, kind="clone", vm=42, origin="one-7", slots=7)
    kept = kept._replace(members=(*kept.members, *members))
    for host in (*on, *(one.host for one in members)):
        hosts[host].have(kept, status(NAME.text))
        if host in (one.host for one in members):
            hosts[host].resources[NAME.text]["volume"] = None
    return kept


def order(hosts, *ops: str) -> list[tuple[str, str]]:
    """(host, op) of each host, its own order kept."""
    return [(name, op) for name in ("node1", "node2", "node3", "node4") for op in hosts[name].ops(*ops)]


def sent(hosts, host: str, op: str) -> ResourceSpec:
    return parse_spec(hosts[host].args(op)[-1]["spec"])


def test_a_host_without_a_replica_becomes_a_client(farm, hosts):
    kept = disk(hosts)
    farm.open(["node1", "node2", "node3"])
    made = clients.attach(farm, kept, "node3")
    assert made.members == (*kept.members, member("node3", 2))
    assert sent(hosts, "node1", "change_members") == sent(hosts, "node3", "write_resource") == made
    assert hosts["node3"].ops("lock", "remove_resource", "reserve_minor", "write_resource", "bring_up") == [
        "lock", "remove_resource", "reserve_minor", "write_resource", "bring_up"]
    assert not {"create_volume", "create_metadata"} & set(hosts["node3"].ops())
    assert hosts["node4"].asked == []


def test_the_replicas_are_told_before_the_client_comes_up(farm, hosts):
    """The other way round DRBD refuses (d-add)."""
    kept = disk(hosts)
    farm.open(["node1", "node2", "node3"])
    heard = []
    for host, op in (("node1", "change_members"), ("node2", "change_members"), ("node3", "bring_up")):
        hosts[host].answers[op] = lambda args, told=(host, op): heard.append(told) or {}
    clients.attach(farm, kept, "node3")
    assert heard == [("node1", "change_members"), ("node2", "change_members"), ("node3", "bring_up")]


def test_two_replicas_get_a_vote_from_somebody_else(farm, hosts):
    kept = disk(hosts)
    farm.open(["node1", "node2"])
    made = clients.attach(farm, kept, "node1")
    assert [one.host for one in made.clients] == [("node3", "node4")[kept.minor % 2]]


def test_no_vote_no_failure(farm, hosts):
    """Hosts that are away, or have the minor taken: the disk goes without, and nothing is left there."""
    kept = disk(hosts)
    hosts.fail("node3")
    hosts["node4"].minors = {1000}
    farm.open(["node1", "node2"])
    assert clients.attach(farm, kept, "node1") == kept
    assert hosts["node4"].ops("write_resource", "bring_up") == []
    assert sent(hosts, "node1", "change_members") == kept
    assert hosts["node4"].ops("remove_resource")[-1:] == ["remove_resource"]


def test_a_taken_minor_is_told_with_the_hosts_that_would_do(farm, hosts):
    kept = disk(hosts)
    hosts["node3"].minors = {1000}
    farm.open(["node1", "node2", "node3"])
    with pytest.raises(Conflict, match="cannot be used on node3: its minor 1000 is taken") as refusal:
        clients.attach(farm, kept, "node3")
    assert "node1 node2" in refusal.value.hint
    assert hosts["node1"].ops("change_members") == []


def test_8_4_knows_no_clients(farm, hosts):
    for name in ("node1", "node2", "node3", "node4"):
        hosts[name].drbd = "8.4"
    kept = disk(hosts)
    farm.open(["node1", "node2", "node3"])
    assert not clients.possible(farm, kept, "node3") and not clients.known(farm)
    assert clients.attach(farm, kept, "node1") == kept
    with pytest.raises(Unsafe, match="has no replica on node3") as refusal:
        disks.require_located(farm, NAME, "node3")
    assert "only on node1 node2" in refusal.value.what


def test_another_version_on_the_client_is_no_client(farm, hosts):
    hosts["node3"].drbd = "8.4"
    kept = disk(hosts)
    farm.open(["node1", "node2", "node3"])
    assert not clients.possible(farm, kept, "node3")


def test_one_replica_has_no_clients(farm, hosts):
    alone = spec(NAME.text, hosts=("node1",), minor=None, port=None, secret="", slots=0)
    farm.open(["node1", "node3"])
    assert not clients.possible(farm, alone, "node3")


def test_a_vm_that_moves_on_leaves_no_client_but_the_vote(farm, hosts):
    disk(hosts, member("node3", 2))
    located = locate(farm, NAME, "node3")
    assert located.holders == ("node1", "node2") and located.clients == ("node3",)
    both = clients.admit(farm, located, "node4")
    assert [one.host for one in both.spec.clients] == ["node3", "node4"]
    assert both.spec.member("node4").node_id == 3, "no member's number is used twice"
    left = clients.release(farm, both, "node4")
    assert [one.host for one in left.clients] == ["node4"]
    assert "remove_resource" in hosts["node3"].ops()
    # On a host with a replica: one stays to vote.
    assert clients.release(farm, located, "node1") == located.spec


def test_who_leaves_is_down_before_the_others_hear_of_it(farm, hosts):
    disk(hosts, member("node3", 2), member("node4", 3))
    located = locate(farm, NAME, "node1")
    hosts["node4"].answers["remove_resource"] = Busy("one-7-42-0: its device is held open")
    with pytest.raises(Busy):
        clients.release(farm, located, "node3")
    assert hosts["node1"].ops("change_members") == []


def test_a_client_without_its_file_stops_nobody(farm, hosts):
    """It was taken away, and a killed action could not tell: another one votes, or none."""
    disk(hosts, member("node3", 2), member("node4", 3))
    del hosts["node3"].resources[NAME.text]
    hosts["node3"].answers["change_members"] = NotFound("no resource file")
    located = locate(farm, NAME, "node1")
    assert [one.host for one in clients.release(farm, located, "node1").clients] == ["node4"]


def test_while_a_replica_is_away_clients_stay(farm, hosts):
    disk(hosts, member("node3", 2), member("node4", 3))
    hosts.fail("node2")
    located = locate(farm, NAME, "node1")
    assert located.missing == ("node2",)
    assert clients.release(farm, located, None) == located.spec


def test_an_image_at_rest_has_no_clients(farm, hosts):
    disk(hosts, member("node3", 2))
    located = clients.dismiss(farm, locate(farm, NAME, "node1"))
    assert located.hosts == located.holders == ("node1", "node2") and located.spec.clients == ()
    assert clients.dismiss(farm, located) == located


def test_a_client_that_does_not_answer_is_not_missed(farm, hosts):
    disk(hosts, member("node3", 2))
    hosts.fail("node3")
    located = locate(farm, NAME, "node1")
    assert (located.hosts, located.missing, located.complete) == (("node1", "node2"), (), True)
    clients.dismiss(farm, located)
    assert sent(hosts, "node1", "change_members").clients == ()


def test_an_old_file_of_a_client_is_worth_nothing(farm, hosts):
    """It was away when it was taken from the members: who has a replica knows better, whoever is asked first."""
    disk(hosts, member("node3", 2))
    current = disk(hosts)
    located = locate(farm, NAME, "node3")
    assert located.spec == current and located.hosts == ("node1", "node2")


def test_a_client_need_not_have_the_pool(farm, hosts):
    disk(hosts, member("node3", 2))
    hosts["node3"].answers["remove_volume"] = NotFound("no such pool")
    Removal(farm, NAME, [], None).run("node3")
    assert order(hosts, "remove_volume", "remove_resource") == [
        ("node1", "remove_volume"), ("node1", "remove_resource"), ("node2", "remove_volume"),
        ("node2", "remove_resource"), ("node3", "remove_resource"),
    ]
