"""Replicas that come and go: whose word counts when hosts tell different things, and which one is to go."""

from __future__ import annotations

import pytest
from caller import TestCaller
from fake_hosts import FakeFarm, spec, status

from dnc.errors import BadConfig, Busy, Conflict, NoSpace, Unreachable, Unsafe
from dnc.farm import replicas
from dnc.farm.sessions import Sessions
from dnc.farm.survey import locate
from dnc.grammar import clone_name, image_name
from dnc.tools.drbd import ResourceSpec, file_text, parse_file
from dnc.tools.drbd84 import Drbd84
from dnc.tools.single import Single

NAME, OTHER = clone_name(image_name(7), 42, 0), clone_name(image_name(8), 42, 1)
FOUR = 'HOSTS="node1 node2 node3 node4"\n'


def disk(*hosts: str, **more) -> ResourceSpec:
    """A VM's disk on these hosts; on one without DRBD."""
    alone = {"minor": None, "port": None, "secret": "", "slots": 0} if len(hosts) == 1 else {}
    return spec(NAME.text, hosts=hosts, kind="clone", vm=42, **{**alone, **more})


@pytest.fixture
def hosts():
    return FakeFarm("node1", "node2", "node3", "node4")


@pytest.fixture
def farm(hosts):
    with Sessions(TestCaller(FOUR), hosts.connect) as farm:
        yield farm


OLD, NEW = ("node1", "node2"), ("node1", "node3")
JOINS, LEAVES = {"state": "joining", "image_hosts": ["node1"]}, {"state": "leaving", "image_hosts": ["node1"]}


COMES, GOES = disk(*NEW, **JOINS, epoch=1), disk(*OLD, **LEAVES)


@pytest.mark.parametrize(("files", "first", "expected"), [
    # The one that stays has not said it yet: the old ones count, whatever the others have prepared.
    ({"node1": disk(*OLD), "node2": disk(*OLD), "node3": COMES}, "node3", OLD),
    ({"node1": disk(*OLD), "node2": GOES, "node3": COMES}, "node2", OLD),
    # It has: the new ones count, from whichever end one looks.
    ({"node1": disk(*NEW, epoch=1), "node2": GOES, "node3": COMES}, "node3", NEW),
    ({"node1": disk(*NEW, epoch=1), "node2": GOES, "node3": COMES}, "node2", NEW),
    # It has taken that back.
    ({"node1": disk(*OLD, epoch=2), "node2": GOES, "node3": COMES}, "node3", OLD),
    # A host that slept through it.
    ({"node1": disk(*NEW, epoch=1), "node2": disk(*OLD), "node3": disk(*NEW, epoch=1)}, "node2", NEW),
    # Whoever decided has left by now, too: somebody else knows.
    ({"node2": GOES, "node3": disk("node3", "node4", epoch=2),
      "node4": disk("node3", "node4", epoch=2)}, "node2", ("node3", "node4")),
    # One replica: the one that leaves says where to.
    ({"node1": disk("node1"), "node3": disk("node3", **JOINS, epoch=1)}, "node3", ("node1",)),
    ({"node1": disk("node1", state="leaving", image_hosts=["node3"], epoch=1),
      "node3": disk("node3", **JOINS, epoch=1)}, "node1", ("node3",)),
    # Left over after the disk was removed.
    ({"node3": COMES}, "node3", None),
])
def test_whose_word_counts(farm, hosts, files, first, expected):
    for host, one in files.items():
        hosts[host].have(one)
    found = locate(farm, NAME, first)
    assert (found and found.spec.hosts()) == expected
    if found:
        assert found.spec.state == "ready" and found.hosts == expected


@pytest.mark.parametrize("files", [
    {"node2": GOES, "node3": COMES},
    {"node3": disk("node3", **JOINS, epoch=1)},
])
def test_without_the_one_that_knows_nobody_is_believed(farm, hosts, files):
    for host, one in files.items():
        hosts[host].have(one)
    hosts.fail("node1")
    with pytest.raises(Unsafe, match="cut short, and node1 does not answer"):
        locate(farm, NAME, "node3")


def test_files_keep_it_and_say_nothing_where_nothing_moved():
    for one, dialect in ((disk(*NEW, **JOINS, epoch=3, leaving="node3"), Drbd84()), (disk("node1", epoch=2), Single())):
        assert parse_file(NAME.text, file_text(one, dialect)) == one
    assert not {"epoch", "leaving", "image_hosts"} & set(file_text(disk(*OLD), Drbd84()).split('"'))


def located(farm, hosts, host="node1"):
    found = locate(farm, NAME, host)
    farm.open(["node3"])
    return found


def on(hosts, one: ResourceSpec):
    for host in one.hosts():
        hosts[host].have(one, status(NAME.text))


@pytest.mark.parametrize(("lines", "free", "sibling", "goes", "reason"), [
    ("", (9, 9), None, "node2", "9216 MiB usable there, the least of node1 node2"),
    ("", (5, 9), None, "node1", "5120 MiB usable there"),
    ("", (9, 5), ("node2", "node3"), "node1", "the VM's other disks are on node3 and node2"),
    ('FAILURE_DOMAINS="a=node1,node3 b=node2"\n', (9, 5), None, "node1", "both are in failure domain a"),
    ('FAILURE_DOMAINS="a=node1 b=node2,node3"\n', (5, 9), ("node2", "node3"), "node2", "failure domain b"),
])
def test_which_one_goes(hosts, lines, free, sibling, goes, reason):
    on(hosts, disk(*OLD))
    for host, size in zip(OLD, free):
        hosts[host].free = (size << 30) + (5 << 30)  # the fill limit keeps 5 of 100
    for host in sibling or ():
        hosts[host].have(spec(OTHER.text, hosts=sibling, kind="clone", vm=42))
    with Sessions(TestCaller(FOUR + lines), hosts.connect) as farm:
        chosen = replicas.to_retire(farm, located(farm, hosts), "node3", [OTHER])
    assert chosen.host == goes and reason in chosen.reason


@pytest.mark.parametrize("lines", ['HOST_PAIRS="node1=node2"\n', 'HOST_PAIRS="node3=node4"\n'])
def test_rules_that_allow_none(hosts, lines):
    on(hosts, disk(*OLD))
    refused = pytest.raises(Unsafe, match="beside node1 or node2")
    with Sessions(TestCaller(FOUR + lines), hosts.connect) as farm, refused:
        replicas.to_retire(farm, located(farm, hosts), "node3")


def snapshots(_args):
    return {"snapshots": {"0": {"proof": "idle:1", "bytes": 1}, "save-9": {"proof": "idle:2", "bytes": 1}}}


def test_what_must_not_move(farm, hosts):
    """In use, with snapshots, a member away, not complete: refused before anything is touched."""
    on(hosts, disk(*OLD))
    hosts["node1"].answers["snapshots"] = hosts["node2"].answers["snapshots"] = {"snapshots": {}}
    found = located(farm, hosts)
    replicas.require_movable(farm, found, "node3")
    hosts["node2"].domains["one-42"] = "paused"
    with pytest.raises(Busy, match="in use on node2"):
        replicas.require_movable(farm, found, "node3")
    hosts["node2"].domains.clear()
    hosts["node2"].answers["snapshots"] = snapshots
    with pytest.raises(Unsafe, match="has snapshots, which stay where they are: 0 save-9"):
        replicas.require_movable(farm, found, "node3")
    hosts["node2"].have(disk(*OLD, state="making"))
    with pytest.raises(Unsafe, match="not complete on node2"):
        replicas.require_movable(farm, located(farm, hosts), "node3")
    for host in OLD:
        assert set(hosts[host].ops()) <= {"survey", "find_domain", "snapshots"}


def test_a_member_away_is_named_first(hosts):
    on(hosts, disk(*OLD))
    hosts.fail("node2")
    with Sessions(TestCaller(FOUR), hosts.connect) as farm, pytest.raises(Unreachable) as refusal:
        replicas.move(farm, located(farm, hosts), "node3")
    assert "gets no replica on node3 without this host" in refusal.value.what and "node1" in refusal.value.hint


def test_no_room_and_an_old_replica_in_the_way(farm, hosts):
    on(hosts, disk(*OLD, epoch=1))
    for host in OLD:
        hosts[host].answers["snapshots"] = {"snapshots": {}}
    hosts["node3"].free = 5 << 30
    with pytest.raises(NoSpace, match="has no room for a copy"):
        replicas.move(farm, located(farm, hosts), "node3")
    hosts["node3"].free = 50 << 30
    hosts["node3"].have(disk("node3", "node4"))
    with pytest.raises(Conflict, match="node3 has an old replica"):
        replicas.move(farm, located(farm, hosts), "node3")
    assert "create_volume" not in hosts["node3"].ops()


def test_8_4_takes_no_third_one_and_two_stay(farm, hosts):
    on(hosts, disk(*OLD))
    found = located(farm, hosts)
    with pytest.raises(BadConfig, match="DRBD 9"):
        replicas.add(farm, found, "node3")
    with pytest.raises(Unsafe, match="fewer than two"):
        replicas.retire(farm, found, "node2")
