"""A host without a replica of what a VM needs there: client, copy or refusal, and what each asks of the others."""

from __future__ import annotations

import pytest
from caller import TestCaller
from fake_hosts import FakeFarm, spec, status

from dnc.errors import Busy, Unsafe
from dnc.farm import clients, copies, disks
from dnc.farm.migration import Move, prepare
from dnc.farm.sessions import Sessions
from dnc.farm.survey import locate
from dnc.grammar import clone_name, image_name
from dnc.tools.resource import Member, parse_spec

IMAGE, CLONE = image_name(7), clone_name(image_name(7), 42, 0)
ALL = ("node1", "node2", "node3", "node4")
ANY = disks.Wish()
FOUR = f'HOSTS="{" ".join(ALL)}"\n'


@pytest.fixture
def hosts():
    """DRBD 9 everywhere, the image at rest on node1 and node2."""
    found = FakeFarm(*ALL)
    for name in ALL:
        found[name].drbd = "9"
    image_on(found, "node1", "node2")
    return found


def image_on(hosts, *names: str, **more):
    for name in names:
        hosts[name].have(spec("one-7", hosts=names, slots=7, **more))


@pytest.fixture
def act(hosts):
    """Runs one thing with these lines in dncrc."""

    def run(do, lines=""):
        with Sessions(TestCaller(FOUR + lines), hosts.connect) as farm:
            return do(farm)

    return run


@pytest.fixture
def copied(monkeypatch):
    """Hosts that an image was to be copied to; the copying itself is not done."""
    found = []
    monkeypatch.setattr(copies, "ensure_copy", lambda farm, image, host: found.append(host) or True)
    return found


def clone(host: str, wish=ANY):
    return lambda farm: disks.ensure_clone(farm, IMAGE, CLONE, 42, 0, host, wish)


def names(members) -> list[str]:
    return [member.host for member in members]


@pytest.mark.parametrize(("lines", "wish", "drbd", "replicas", "users", "copies_to"), [
    ("", ANY, "9", {"node1", "node2"}, ["node3"], []),
    ("", disks.Wish(1, own=True), "9", {"node3"}, [], ["node3"]),
    ("", ANY, "8.4", None, [], ["node3"]),
    ('MISSING_REPLICA="copy"\n', ANY, "9", None, None, ["node3"]),
    ('HOST_PAIRS="node1=node4"\n', ANY, "9", {"node3", "node2"}, [], ["node3"]),
])
def test_client_or_copy(act, hosts, copied, lines, wish, drbd, replicas, users, copies_to):
    for name in ALL:
        hosts[name].drbd = drbd
    made = act(clone("node3", wish), lines)
    assert copied == copies_to
    assert (replicas is None and "node3" in names(made.replicas)) or set(names(made.replicas)) == replicas
    assert users is None or names(made.clients) == users
    # What is complete is known to all members, clients too.
    for name in made.hosts():
        assert hosts[name].args("mark_ready")


def test_refusal_holds_for_clones_persistent_images_and_moves(act, hosts):
    refuse = 'MISSING_REPLICA="refuse"\n'
    for do in (clone("node3"), lambda farm: disks.ensure_persistent(farm, IMAGE, 42, "node3")):
        with pytest.raises(Unsafe, match="one-7 has no replica on node3, only on node1 node2"):
            act(do, refuse)
    hosts["node1"].domains["one-42"] = "running"
    kept = spec(CLONE.text, kind="clone", vm=42, slots=7)
    kept = kept._replace(members=(*kept.members, Member("node3", "10.0.0.3", None, 2)))
    for name, role in (("node1", "Primary"), ("node2", "Secondary"), ("node3", "Secondary")):
        hosts[name].have(kept, status(CLONE.text, role=role))
    move = Move(42, "one-42", "node1", "node3", "/var/lib/one/datastores/0/42", ((0, CLONE),))
    with pytest.raises(Unsafe, match="no replica on node3") as refusal:
        act(lambda farm: prepare(farm, move), refuse)
    assert refusal.value.hint == "migrate to one of: node2", "the vote is no place for a VM then"
    act(lambda farm: prepare(farm, move))


def test_fewer_replicas_than_the_image_need_the_proof(act, hosts):
    """The newest data might be on the member that is left out."""
    image_on(hosts, "node1", "node2", "node3")
    assert names(act(clone("node3", disks.Wish(2, own=True))).replicas) == ["node3", "node1"]
    hosts["node2"].generation = {"current": "BBBB", "clean": True}
    with pytest.raises(Unsafe, match="not proven equal, so no clone of some"):
        act(clone("node1", disks.Wish(2, own=True)))
    assert act(clone("node1")).day0 is None, "all three: DRBD compares them, with the metadata that they have"


def vote(farm):
    farm.open(["node1", "node2"])
    return names(clients.attach(farm, spec(CLONE.text, kind="clone", vm=42, slots=7), "node1").clients)


def test_a_vote_is_in_no_replicas_failure_domain(act):
    assert act(vote, 'FAILURE_DOMAINS="a=node1,node3 b=node2"\n') == ["node4"]
    assert act(vote, 'FAILURE_DOMAINS="a=node1,node3 b=node2,node4"\n') == []


def test_a_pair_has_neither_vote_nor_clients(act, copied):
    pair = 'HOST_PAIRS="node1=node2"\n'
    assert act(vote, pair) == []

    def possible(farm):
        farm.open(["node1", "node2", "node3"])
        return clients.possible(farm, spec(CLONE.text, slots=7), "node3")

    assert act(possible) and not act(possible, pair)


def copy_on(hosts, name: str) -> None:
    kept = spec("one-7", hosts=(name,), minor=None, port=None, secret="", slots=0, state="copy", proof="gi:AAAA")
    hosts[name].have(kept._replace(image_hosts=("node1", "node2")))


def test_a_copy_gives_way_to_a_client(act, hosts):
    """A persistent image on a host with a copy of what it was: one of both can have the name there."""
    copy_on(hosts, "node3")
    made = act(lambda farm: disks.ensure_persistent(farm, IMAGE, 42, "node3"))
    assert names(made.clients) == ["node3"]
    assert hosts["node3"].ops("lock", "remove_volume", "remove_resource", "write_resource") == [
        "lock", "remove_volume", "remove_resource", "write_resource"]
    hosts["node3"].answers["remove_volume"] = Busy("one-7 is the origin of one-7-41-0")
    with pytest.raises(Busy, match="old copy of one-7 that VMs were cloned from: one-7 is the origin of") as refusal:
        act(lambda farm: disks.ensure_persistent(farm, IMAGE, 42, "node3"))
    assert "node1 node2" in refusal.value.hint


def test_a_vote_takes_no_copys_place(act, hosts):
    copy_on(hosts, "node3")
    made = act(lambda farm: disks.ensure_persistent(farm, IMAGE, 42, "node1"))
    assert names(made.clients) == ["node4"]
    assert not {"remove_volume", "remove_resource", "write_resource"} & set(hosts["node3"].ops())


def test_an_image_that_still_has_a_client_is_not_copied_there(act, hosts):
    """It was put to rest while a member was away: the file on the client is that of a member."""
    image = spec("one-7", slots=7)
    image = image._replace(members=(*image.members, Member("node3", "10.0.0.3", None, 2)))
    for name in ("node1", "node2", "node3"):
        hosts[name].have(image)
    with pytest.raises(Unsafe, match="node3 is its client still"):
        act(clone("node3", disks.Wish(1, own=True)))
    made = act(clone("node3"))
    assert names(made.replicas) == ["node1", "node2"] and names(made.clients) == ["node3"]


def test_a_copys_file_is_no_member(act, hosts):
    copy_on(hosts, "node3")
    located = act(lambda farm: (farm.open(["node3"]), locate(farm, IMAGE, "node3"))[1])
    assert located is not None and located.hosts == ("node1", "node2") and located.clients == ()
    assert parse_spec(hosts["node3"].resources["one-7"]["spec"]).is_copy
