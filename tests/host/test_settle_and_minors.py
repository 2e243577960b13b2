"""Two primaries and their end; minors under races, foreign files and killed actions; addresses; notes."""

from __future__ import annotations

import os
import time

import pytest

from dnc.errors import BadConfig, BadInput, Busy, Conflict, GivenUp, Unsafe
from dnc.host.addresses import replication_address
from dnc.host.files import Files
from dnc.host.journal import Journal
from dnc.host.settle import settle
from host.fake_host import IMAGE, POOL, FakeHost, do, make_image, spec


@pytest.fixture
def host(tmp_path):
    return FakeHost(tmp_path)


@pytest.fixture
def up(host):
    """The image up and Primary here."""
    work = host.work()
    make_image(work)
    do(work, "bring_up", resource=IMAGE)
    do(work, "promote", resource=IMAGE)
    host.leave(work)
    return host


def allow(work):
    do(work, "allow_two_primaries", resource=IMAGE, vm=42, source="node1", destination="node2")


def test_the_intent_is_written_before_drbd_hears_of_it(up):
    work = up.work()
    up.tools.kill_at = 1
    with pytest.raises(BaseException, match="^$"):
        allow(work)
    up.kill(work)
    assert up.work().host.journal.intent(IMAGE)["destination"] == "node2"
    assert not up.tools.up[IMAGE]["two"]


def test_two_primaries_are_taken_back(up):
    work = up.work()
    allow(work)
    assert up.tools.up[IMAGE]["two"]
    assert up.leave(work, commit=False) == 0
    assert not up.tools.up[IMAGE]["two"] and up.leftovers()["intents"] == []


@pytest.mark.parametrize("peer", ["away", "standalone"])
def test_two_primaries_need_two_equal_replicas(up, peer):
    up.tools.peer = peer
    up.tools.show()
    with pytest.raises(Unsafe, match="not in sync"):
        allow(up.work())
    assert not up.tools.up[IMAGE]["two"]


def test_a_migration_of_others_is_refused(up):
    with pytest.raises(BadInput, match="not this host's"):
        do(up.work(), "allow_two_primaries", resource=IMAGE, vm=1, source="node2", destination="node3")


def test_the_destination_may_be_promoted_by_intent(up):
    do(up.work(), "demote", resource=IMAGE)
    up.tools.peer = "Primary"
    up.tools.show()
    work = up.work()
    with pytest.raises(Unsafe, match="Primary on node2"):
        do(work, "promote", resource=IMAGE)
    do(work, "allow_two_primaries", resource=IMAGE, vm=42, source="node2", destination="node1")
    assert do(work, "promote", resource=IMAGE)["status"]["role"] == "Primary"


def settled(host, here):
    work = host.work()
    answer = do(work, "settle", vm=42, resources=[IMAGE], domain="one-42", role_here=here)["resources"][IMAGE]
    host.leave(work)
    return answer


def test_settle_where_the_domain_runs(up):
    allow(up.work())
    assert settled(up, True) == {"settled": True, "role": "Primary", "peer_role": "Secondary", "why": ""}
    assert not up.tools.up[IMAGE]["two"] and up.leftovers()["intents"] == []


def test_settle_where_it_does_not_run(up):
    allow(up.work())
    assert settled(up, False)["role"] == "Secondary"
    assert not up.tools.up[IMAGE]["two"] and up.leftovers()["intents"] == []


def test_settle_twice_is_settled(up):
    settled(up, True)
    up.tools.calls.clear()
    assert settled(up, True)["settled"]
    assert up.tools.calls == [], "nothing to do costs nothing"


def test_settle_waits_for_the_peer_and_tells(up):
    allow(up.work())
    up.tools.peer = "Primary"
    up.tools.show()
    answer = settled(up, True)
    assert not answer["settled"] and "stayed Primary on the peer within 30 s" in answer["why"]
    assert up.leftovers()["intents"] == ["one-7.json"], "the next one who looks can settle it"


def test_settle_tells_who_holds_the_device(up):
    allow(up.work())
    up.tools.held.add(IMAGE)
    answer = settled(up, False)
    assert not answer["settled"] and "held open" in answer["why"] and answer["role"] == "Primary"


def test_settle_tells_of_a_dead_disk(up):
    do(up.work(), "demote", resource=IMAGE)
    answer = settled(up, True)
    assert not answer["settled"] and "not Primary" in answer["why"]


def test_one_unsettled_disk_stops_no_other(up):
    work = up.work()
    make_image(work, "one-8", 1005)
    do(work, "bring_up", resource="one-8")
    do(work, "promote", resource="one-8")
    up.tools.held.add(IMAGE)
    answers = settle(work.host, [IMAGE, "one-8", "one-9"], False)
    assert [answers[name].settled for name in (IMAGE, "one-8", "one-9")] == [False, True, True]


def reserve(work, name, minor):
    work.own(name)
    return do(work, "reserve_minor", resource=name, minor=minor)["reserved"]


def test_one_of_two_gets_a_minor(host):
    first, second = host.work(), host.work()
    assert reserve(first, "one-1", 1000)
    assert not reserve(second, "one-2", 1000)
    assert reserve(second, "one-2", 1001)
    assert reserve(first, "one-1", 1000), "again is fine"
    assert do(host.work(), "survey", resources=[])["minors"] == [1000, 1001]


def test_a_killed_action_leaves_no_minor_taken(host):
    work = host.work()
    reserve(work, "one-1", 1000)
    host.kill(work)
    assert do(host.work(), "survey", resources=[])["minors"] == []
    assert reserve(host.work(), "one-2", 1000)
    assert (host.root / "state" / "minors" / "1000").read_text() == "one-2\n"


def test_a_minor_with_a_file_is_nobody_elses(host):
    work = host.work()
    make_image(work)
    host.kill(work)
    assert not reserve(host.work(), "one-2", 1000)


def test_ports_minors_and_kernel_of_others_count(host):
    (host.root / "drbd.d" / "theirs.res").write_text(
        "resource theirs { device /dev/drbd1003 minor 1003; on a { address 10.0.0.1:7004; } }"
    )
    (host.root / "sys" / "drbd1005").mkdir()
    work = host.work()
    assert [reserve(work, "one-1", minor) for minor in (1003, 1004, 1005, 1006)] == [False, False, False, True]
    assert do(work, "survey", resources=[])["minors"] == [1003, 1005, 1006]


def test_a_file_that_would_stop_drbdadm_is_not_written(host):
    work = host.work()
    make_image(work)
    for changes in ({"minor": 1000, "port": 7500}, {"minor": 1001, "port": 7000}):
        record = {**spec("one-8", 1001, "/dev/zvol/tank/dnc/one-8", 1), **changes}
        with pytest.raises(Conflict, match=f"belongs to {IMAGE}"):
            do(work, "write_resource", spec=record)
    assert host.leftovers()["files"] == ["one-7.res"]


def test_a_foreign_file_of_our_name_is_left_alone(host):
    (host.root / "drbd.d" / "one-7.res").write_text("resource one-7 { }\n")
    with pytest.raises(Conflict, match="not written by dnc"):
        make_image(host.work())


def test_files_are_whole_and_private(host):
    work = host.work()
    make_image(work)
    path = host.root / "drbd.d" / "one-7.res"
    assert oct(path.stat().st_mode)[-3:] == "640"
    secret = path.read_text().split('shared-secret "')[1].split('"')[0]
    assert not any(secret in line for line in host.logged)
    assert [name for name in os.listdir(path.parent) if not name.endswith(".res")] == []


def test_a_damaged_file_stops_no_survey(host):
    work = host.work()
    make_image(work)
    make_image(work, "one-8", 1001)
    path = host.root / "drbd.d" / "one-8.res"
    path.write_text("# dnc {broken\n")
    assert set(do(work, "survey", resources=None)["resources"]) == {IMAGE}
    assert any("one-8 is damaged" in line for line in host.logged)


def test_complete_resources_keep_their_members(host):
    work = host.work()
    make_image(work)
    record = do(work, "survey", resources=[IMAGE])["resources"][IMAGE]["spec"]
    with pytest.raises(Unsafe, match="other members or minor"):
        do(work, "write_resource", spec={**record, "minor": 1009, "port": 7009})
    do(work, "write_resource", spec={**record, "vm": 42})
    assert work.host.resource_files.get(IMAGE).vm == 42


def test_locks_name_their_holder(host):
    first = host.work()
    do(first, "lock", resources=["one-1", "one-2"])
    with pytest.raises(Busy, match=r"one-2 is locked by a test \(pid \d+\)"):
        do(host.work(), "lock", resources=["one-2"], timeout_s=7)
    assert 7 <= host.clock < 8


def test_old_marks_go(tmp_path):
    host = FakeHost(tmp_path)
    journal = Journal(str(tmp_path / "state"), Files(host.log, False))
    journal.give_up("one-1", 100.0)
    with pytest.raises(GivenUp):
        journal.refuse_given_up("one-1", 99.0)
    journal.refuse_given_up("one-1", 100.0)
    os.utime(tmp_path / "state" / "given-up" / "one-1.json", (1, 1))
    journal.give_up("one-2", time.time())
    assert journal.given_up("one-1") is None and journal.given_up("one-2") is not None


def test_an_older_mark_does_not_weaken_a_newer(tmp_path):
    host = FakeHost(tmp_path)
    journal = Journal(str(tmp_path / "state"), Files(host.log, False))
    journal.give_up("one-1", 200.0)
    journal.give_up("one-1", 100.0)
    assert journal.given_up("one-1")["frontend"] == 200.0


def test_unfinished_hosts_add_up(host):
    work = host.work()
    do(work, "note_unfinished", resource="one-1", hosts=["node3"])
    do(work, "note_unfinished", resource="one-1", hosts=["node2"])
    assert do(work, "survey", resources=["one-1"])["resources"]["one-1"]["unfinished"]["hosts"] == ["node2", "node3"]
    do(work, "clear_unfinished", resource="one-1")
    assert do(work, "survey", resources=["one-1"])["resources"]["one-1"]["unfinished"] is None


TRIE = """\
Main:
           |-- 10.0.2.0
              /24 link UNICAST
           |-- 10.99.0.2
              /32 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
"""


def test_the_address_for_replication(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "fib_trie").write_text(TRIE)
    (tmp_path / "net" / "if_inet6").write_text("fd000000000000000000000000000002 02 40 00 80 eth0\n")
    assert replication_address("10.99.0.0/24", "node2", str(tmp_path)) == "10.99.0.2"
    assert replication_address("fd00::/64", "node2", str(tmp_path)) == "fd00::2"
    with pytest.raises(BadConfig, match="no address of this host lies in 10.0.2.0/24"):
        replication_address("10.0.2.0/24", "node2", str(tmp_path))


def test_a_name_that_leads_nowhere_is_no_address():
    with pytest.raises(BadConfig, match="REPLICATION_NETWORK"):
        replication_address("", "localhost")


def test_survey_tells_links_and_pools(host, tmp_path):
    directory = tmp_path / "datastores" / "100" / "42"
    directory.mkdir(parents=True)
    (directory / "disk.0").symlink_to("/dev/drbd/by-res/one-7-42-0/0")
    answer = do(host.work(), "survey", resources=[], pools=[POOL], vm_directory=str(directory))
    assert answer["links"] == {"disk.0": "/dev/drbd/by-res/one-7-42-0/0"}
    assert answer["pools"][POOL]["total"] > answer["pools"][POOL]["free"] > 0
