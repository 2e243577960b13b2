"""Disks on one host: made, cloned, given up, removed; and killed at every step on the way."""

from __future__ import annotations

import time

import pytest

from dnc.errors import BadInput, Busy, Conflict, GivenUp, NoSpace, NotFound, TimedOut, ToolFailed, Unsafe
from dnc.tools import drbd
from host.fake_host import (
    CLONE,
    IMAGE,
    MIB,
    NOTHING,
    POOL,
    FakeHost,
    Killed,
    do,
    make_clone,
    make_image,
    remove,
    spec,
)


@pytest.fixture
def host(tmp_path):
    return FakeHost(tmp_path)


@pytest.fixture
def image(host):
    work = host.work()
    make_image(work)
    assert host.leave(work) == 0
    return host


def test_image_at_rest(image):
    found = do(image.work(), "survey", resources=[IMAGE])["resources"][IMAGE]
    assert found["spec"]["state"] == "ready" and found["spec"]["proof"] == "fresh-zero"
    assert found["status"] is None and found["volume"]["bytes"] == 5 * MIB


def test_life(image):
    work = image.work()
    make_clone(work)
    assert image.leave(work) == 0
    link = image.root / "datastores" / "100" / "42" / "disk.0"
    assert str(link.readlink()).endswith("/dev/drbd/by-res/one-7-42-0/0")
    checksums = {do(image.work(), "digest", resource=name)["sha256"] for name in (IMAGE, CLONE)}
    assert len(checksums) == 1
    for name in (CLONE, IMAGE):
        work = image.work()
        remove(work, name)
        assert image.leave(work) == 0
    assert image.leftovers() == NOTHING
    assert not link.is_symlink()


def test_processes_of_a_clone(image):
    image.tools.calls.clear()
    make_clone(image.work())
    assert [" ".join(call.split()[:2]) for call in image.tools.calls] == [
        "drbdmeta 1000", "zfs list", "zfs snapshot", "zfs clone", "drbdadm up",
    ]


def test_a_clone_asks_no_pool_that_was_monitored(image):
    do(image.work(), "survey", resources=[], pools=[POOL])
    image.tools.calls.clear()
    make_clone(image.work())
    assert not any(call.startswith("zfs list") for call in image.tools.calls)


@pytest.mark.parametrize("what", [make_image, make_clone])
def test_not_committed_is_taken_back(tmp_path, what):
    host = FakeHost(tmp_path)
    if what is make_clone:
        first = host.work()
        make_image(first)
        host.leave(first)
    before = host.leftovers()
    work = host.work()
    what(work)
    assert host.leave(work, commit=False) == 0
    assert host.leftovers() == before
    assert not (tmp_path / "datastores" / "100" / "42" / "disk.0").is_symlink()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(1, 12))
def test_killed_at_any_command_and_run_again(tmp_path, step, after):
    host = FakeHost(tmp_path)
    work = host.work()
    host.tools.kill_at, host.tools.kill_after = step, after
    try:
        make_image(work)
        make_clone(work)
        host.leave(work)
    except Killed:
        host.kill(work)
    host.tools.kill_at = -1
    work = host.work()
    if do(work, "survey", resources=[IMAGE])["resources"][IMAGE]["spec"] is None or not ready(work, IMAGE):
        make_image(work)
    if not ready(work, CLONE):
        make_clone(work)
    assert host.leave(work) == 0
    assert ready(work, IMAGE) and ready(work, CLONE)
    for name in (CLONE, IMAGE):
        work = host.work()
        remove(work, name)
        host.leave(work)
    assert host.leftovers() == NOTHING


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(1, 6))
def test_killed_while_removing_and_run_again(image, step, after):
    work = image.work()
    make_clone(work)
    image.leave(work)
    work = image.work()
    image.tools.kill_at, image.tools.kill_after = step, after
    try:
        remove(work, CLONE)
        remove(work, IMAGE)
        image.leave(work)
    except Killed:
        image.kill(work)
    image.tools.kill_at = -1
    for name in (CLONE, IMAGE):
        work = image.work()
        remove(work, name)
        assert image.leave(work) == 0
    assert image.leftovers() == NOTHING


def ready(work, name):
    found = do(work, "survey", resources=[name])["resources"][name]["spec"]
    return found is not None and found["state"] == "ready"


def test_grown_clone_has_no_old_metadata(image):
    work = image.work()
    make = {"pool": POOL, "origin": IMAGE, "name": CLONE, "tags": {"kind": "clone"}}
    made = do(work, "clone_volume", bytes=drbd.volume_size(8 * MIB, 1), **make)
    assert made["grown"] and made["origin_bytes"] == 5 * MIB and made["bytes"] == 9 * MIB
    end = drbd.data_end(5 * MIB, 1)
    with open(made["device"], "r+b") as stream:
        stream.seek(end - 8)
        stream.write(b"guest's " + b"\xff" * (5 * MIB - end))
    do(work, "write_resource", spec=spec(CLONE, 1001, made["device"], 8 * MIB))
    do(work, "create_metadata", resource=CLONE)
    do(work, "zero_old_metadata", resource=CLONE, start=end, to=5 * MIB)
    with open(made["device"], "rb") as stream:
        stream.seek(end - 8)
        assert stream.read() == b"guest's " + bytes(9 * MIB - end)


@pytest.mark.parametrize(("start", "to"), [(0, 5 * MIB), (MIB, 5 * MIB), (drbd.data_end(10 * MIB, 1), 10 * MIB)])
def test_nothing_but_old_metadata_is_zeroed(image, start, to):
    work = image.work()
    made = do(work, "clone_volume", pool=POOL, origin=IMAGE, name=CLONE, bytes=9 * MIB, tags={"kind": "clone"})
    do(work, "write_resource", spec=spec(CLONE, 1001, made["device"], 8 * MIB))
    with pytest.raises(BadInput, match="not the old metadata"):
        do(work, "zero_old_metadata", resource=CLONE, start=start, to=to)


def test_new_metadata_is_spared_where_nothing_grew(image):
    work = image.work()
    made = do(work, "clone_volume", pool=POOL, origin=IMAGE, name=CLONE, tags={"kind": "clone"})
    end = drbd.data_end(5 * MIB, 1)
    with open(made["device"], "r+b") as stream:
        stream.seek(end)
        stream.write(b"new metadata")
    do(work, "write_resource", spec=spec(CLONE, 1001, made["device"], 4 * MIB))
    do(work, "zero_old_metadata", resource=CLONE, start=end, to=5 * MIB)
    with open(made["device"], "rb") as stream:
        stream.seek(end)
        assert stream.read(12) == b"new metadata"


def test_an_image_with_clones_is_out_of_the_way_at_once_and_gone_with_the_last(image):
    work = image.work()
    make_clone(work)
    image.leave(work)
    work = image.work()
    with pytest.raises(Busy, match=f"one-7 is the origin of {CLONE}"):
        do(work, "remove_resource", resource=IMAGE)
    image.leave(work, commit=False)
    assert ready(image.work(), IMAGE)
    work = image.work()
    assert do(work, "remove_volume", pool=POOL, name=IMAGE) == {"removed": True}
    assert do(work, "remove_volume", pool=POOL, name=IMAGE) == {"removed": False}
    do(work, "remove_resource", resource=IMAGE)
    image.leave(work)
    assert sorted(name.rpartition("/")[2][:11] for name in image.tools.zvols) == ["gone-one-7-", CLONE[:11]]
    work = image.work()
    remove(work, CLONE)
    image.leave(work)
    assert image.tools.zvols == {} and image.tools.snapshots == set()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(1, 8))
def test_a_removal_beside_clones_killed_at_any_command(image, step, after):
    """An image cloned from it takes over, a VM's disk lives on; what waited for that disk goes with it."""
    work = image.work()
    make_clone(work)
    made = do(work, "clone_volume", pool=POOL, origin=IMAGE, name="one-8", tags={"kind": "image"})
    do(work, "write_resource", spec=spec("one-8", 1002, made["device"], 4 * MIB))
    do(work, "mark_ready", resource="one-8")
    image.leave(work)
    work = image.work()
    image.tools.kill_at, image.tools.kill_after = step, after
    try:
        do(work, "remove_volume", pool=POOL, name=IMAGE)
        image.leave(work)
    except Killed:
        image.kill(work)
    image.tools.kill_at = -1
    for name in (IMAGE, CLONE, "one-8"):
        assert ready(image.work(), "one-8")
        work = image.work()
        do(work, "take_down", resource=name)
        do(work, "remove_volume", pool=POOL, name=name)
        do(work, "remove_resource", resource=name)
        image.leave(work)
    assert image.tools.zvols == {} and image.tools.snapshots == set()


def test_images_cloned_from_an_image_outlive_it(image):
    for number, name in enumerate(("one-8", "one-9")):
        work = image.work()
        made = do(work, "clone_volume", pool=POOL, origin=IMAGE, name=name, tags={"kind": "image"})
        do(work, "write_resource", spec=spec(name, 1001 + number, made["device"], 4 * MIB))
        do(work, "mark_ready", resource=name)
        image.leave(work)
    for name in (IMAGE, "one-8"):
        work = image.work()
        remove(work, name)
        assert image.leave(work) == 0
    assert ready(image.work(), "one-9") and list(image.tools.zvols) == ["tank/dnc/one-9"]
    work = image.work()
    remove(work, "one-9")
    image.leave(work)
    assert image.leftovers() == NOTHING


def test_a_removal_that_fails_half_way_keeps_the_disk(image):
    image.tools.refusals["zfs destroy"] = "internal error"
    work = image.work()
    with pytest.raises(ToolFailed):
        remove(work, IMAGE)
    assert image.leave(work, commit=False) == 0
    assert ready(image.work(), IMAGE)


def test_a_device_that_is_too_small_is_refused(image):
    work = image.work()
    do(work, "bring_up", resource=IMAGE)
    (image.root / "sys" / "drbd1000").mkdir()
    (image.root / "sys" / "drbd1000" / "size").write_text(f"{4 * MIB // 512}\n")
    do(work, "await_ready", resource=IMAGE)
    (image.root / "sys" / "drbd1000" / "size").write_text(f"{4 * MIB // 512 - 8}\n")
    with pytest.raises(Unsafe, match="one-7 has 4190208 bytes, not 4194304"):
        do(work, "await_ready", resource=IMAGE)


def test_a_snapshot_without_clone_is_made_anew(image):
    image.tools.snapshots.add(f"tank/dnc/{IMAGE}@{CLONE}")
    work = image.work()
    make_clone(work)
    assert image.tools.calls.count(f"zfs destroy tank/dnc/{IMAGE}@{CLONE}") == 1


def test_a_foreign_volume_is_left_alone(host):
    host.tools.zfs("create", "-V", str(MIB), "tank/dnc/one-7")
    with pytest.raises(Conflict, match="not made by dnc"):
        make_image(host.work())
    assert "tank/dnc/one-7" in host.tools.zvols


def test_a_complete_disk_is_never_made_again(image):
    work = image.work()
    with pytest.raises(Conflict, match="exists already"):
        do(work, "create_volume", pool=POOL, name=IMAGE, bytes=MIB, tags={"kind": "image"})
    with pytest.raises(Unsafe, match="holds data"):
        do(work, "create_metadata", resource=IMAGE)
    with pytest.raises(Unsafe, match="not formatted again"):
        do(work, "format", resource=IMAGE, filesystem="swap")
    assert image.leave(work, commit=False) == 0
    assert ready(image.work(), IMAGE)


def test_a_volume_in_use_is_not_removed(image):
    work = image.work()
    do(work, "bring_up", resource=IMAGE)
    with pytest.raises(Busy, match="is up"):
        do(work, "remove_volume", pool=POOL, name=IMAGE)


def test_full_pool(image):
    image.tools.fill = 96.0
    with pytest.raises(NoSpace, match="96 % full, the limit is 95 %"):
        make_clone(image.work())
    assert not any("@" in snapshot for snapshot in image.tools.snapshots)


def test_failed_command_is_taken_back(image):
    before = image.leftovers()
    image.tools.refusals["zfs clone"] = "internal error: out of memory"
    work = image.work()
    with pytest.raises(ToolFailed, match="out of memory"):
        make_clone(work)
    image.leave(work, commit=False)
    assert image.leftovers() == before


def test_failed_up_is_not_left_half_way(image):
    work = image.work()
    image.tools.metadata.clear()
    with pytest.raises(Unsafe, match="no DRBD metadata"):
        do(work, "bring_up", resource=IMAGE)
    assert image.tools.up == {}


def test_a_file_that_vanishes_under_drbdadm(image):
    words = "drbd.conf:3: Failed to open include file 'drbd.d/one-8.res'."
    image.tools.refusals["drbdadm up"] = words
    work = image.work()
    with pytest.raises(Busy, match="change all the time"):
        do(work, "bring_up", resource=IMAGE)
    assert image.tools.calls.count("drbdadm up one-7") > 10
    image.tools.refusals.clear()
    do(work, "bring_up", resource=IMAGE)


def test_held_open(image):
    work = image.work()
    do(work, "bring_up", resource=IMAGE)
    do(work, "promote", resource=IMAGE)
    image.tools.held.add(IMAGE)
    for op in ("demote", "take_down"):
        with pytest.raises(Busy, match="held open"):
            do(work, op, resource=IMAGE, timeout_s=3)
    assert 5 < image.clock < 10
    image.tools.held.clear()
    do(work, "take_down", resource=IMAGE)
    assert image.tools.up == {}


def test_given_up_while_it_runs(image):
    clone = image.work()
    make_clone(clone)
    delete = image.work(started=time.time() + 1)
    do(delete, "give_up", resource=CLONE, frontend_time=time.time() + 1)
    with pytest.raises(Busy, match="locked by a test"):
        do(delete, "lock", resources=[CLONE], ignore_given_up=True, timeout_s=0)
    with pytest.raises(GivenUp):
        do(clone, "commit")
    assert image.leave(clone, commit=False) == 0
    do(delete, "lock", resources=[CLONE], ignore_given_up=True)
    remove(delete, CLONE)
    image.leave(delete)
    assert CLONE not in str(image.leftovers())
    with pytest.raises(GivenUp):
        make_clone(image.work(started=time.time() - 60))
    again = image.work(started=time.time() + 60)
    make_clone(again)
    assert image.leave(again) == 0


def test_shared_lock_keeps_an_image_at_rest(image):
    clone = image.work()
    do(clone, "lock", resources=[CLONE], shared=[IMAGE])
    other = image.work()
    do(other, "lock", resources=["one-7-43-0"], shared=[IMAGE])
    with pytest.raises(Busy, match="one-7 is locked"):
        do(image.work(), "bring_up", resource=IMAGE)
    with pytest.raises(Unsafe, match="locked shared"):
        do(clone, "bring_up", resource=IMAGE)
    image.leave(clone)
    image.leave(other)
    do(image.work(), "bring_up", resource=IMAGE)


def test_peer_away_is_named(image):
    work = image.work()
    image.tools.peer = "away"
    do(work, "bring_up", resource=IMAGE)
    with pytest.raises(TimedOut, match="one-7 not in sync within 60 s: Secondary UpToDate, node2 WFConnection"):
        do(work, "await_ready", resource=IMAGE)
    assert image.clock >= 60


def test_split_brain_is_not_waited_for(image):
    work = image.work()
    image.tools.peer = "standalone"
    do(work, "bring_up", resource=IMAGE)
    with pytest.raises(Unsafe, match="split brain"):
        do(work, "await_ready", resource=IMAGE)
    assert image.clock < 1


def test_promotion_is_refused_while_the_peer_is_primary(image):
    work = image.work()
    image.tools.peer = "Primary"
    do(work, "bring_up", resource=IMAGE)
    with pytest.raises(Unsafe, match="Primary on node2"):
        do(work, "promote", resource=IMAGE)


def test_unknown_things(host):
    work = host.work()
    for op in ("bring_up", "promote", "generation", "digest"):
        with pytest.raises(NotFound):
            do(work, op, resource="one-99")
    for op in ("take_down", "demote", "remove_resource"):
        do(work, op, resource="one-99")
    assert do(work, "remove_volume", pool=POOL, name="one-99") == {"removed": False}


def test_dry_run_changes_nothing(image):
    before = image.leftovers()
    work = image.work(dry_run=True)
    do(work, "lock", resources=[CLONE], shared=[IMAGE])
    do(work, "reserve_minor", resource=CLONE, minor=1001)
    made = do(work, "clone_volume", pool=POOL, origin=IMAGE, name=CLONE, tags={"kind": "clone"})
    do(work, "write_resource", spec=spec(CLONE, 1001, made["device"], MIB))
    image.leave(work)
    image.tools.dry_run = False
    assert image.leftovers() == before
    assert any("would run: zfs clone" in line for line in image.logged)
