"""The LVM backend, against a runner that answers from a script of (command, output or error text)."""

from __future__ import annotations

import json

import pytest

from dnc.command import Result, Runner, failure
from dnc.errors import Busy, Conflict, NoSpace, NotFound, TimedOut, Unsafe
from dnc.grammar import parse_pool
from dnc.host.pools import Surroundings
from dnc.host.thin_pool import ThinPool
from dnc.host.waiting import Patience
from dnc.log import Log


class Script(Runner):
    """Answers by the first word of a command; a text that starts with `!` is a refusal with status 5."""

    def __init__(self, answers):
        super().__init__(Log("test", sink=lambda level, text: None))
        self.answers = answers
        self.calls = []

    def run(self, argv, *, privileged=False, changes=True, stdin=None, ok=(0,), timeout=120.0):
        assert privileged
        self.calls.append(" ".join(argv))
        answer = self.answers.get(argv[0], "")
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer()
        if answer.startswith("!"):
            raise failure(Result(tuple(argv), 5, "", "  " + answer[1:]), argv[0])
        return Result(tuple(argv), 0, answer, "")


def pool_report(data=1.0, metadata=2.0, attributes="twi-aotz--"):
    row = {"lv_name": "pool", "lv_size": str(1 << 30), "data_percent": str(data), "metadata_percent": str(metadata),
           "lv_attr": attributes, "zero": "zero"}
    return json.dumps({"report": [{"lv": [row]}]})


@pytest.fixture
def build(tmp_path):
    (tmp_path / "vg0").mkdir()
    clock = [0.0]

    def sleep(seconds):
        clock[0] += seconds

    def make(**answers):
        answers.setdefault("lvs", pool_report())
        script = Script(answers)
        patience = Patience(now=lambda: clock[0], sleep=sleep)
        pool = ThinPool(parse_pool("lvm:vg0/pool"), Surroundings(script, patience, str(tmp_path), "/none", 95))
        return pool, script

    return make


def device(tmp_path, name, size):
    def appear():
        with open(tmp_path / "vg0" / name, "wb") as stream:
            stream.truncate(size)
        return ""

    return appear


def test_lvm_rounds_up_and_the_size_is_read_back(build, tmp_path):
    pool, script = build(lvcreate=device(tmp_path, "one-7", 8 << 20))
    volume = pool.create_volume("one-7", 5 << 20, {"kind": "image"})
    assert volume.bytes == 8 << 20 and volume.device == f"{tmp_path}/vg0/one-7"
    assert script.calls[1].endswith("--addtag dnc.kind=image -V 5242880b -n one-7 --thinpool vg0/pool")


@pytest.mark.parametrize(("report", "kind", "words"), [
    (pool_report(data=96), NoSpace, "96 % full"), (pool_report(metadata=97), NoSpace, "97 % full"),
    (pool_report(attributes="twi-aot---"), Unsafe, "does not zero new chunks"),
    (pool_report(attributes="Vwi-aotz--"), NotFound, "no thin pool"),
    ('!Failed to find logical volume "vg0/pool"', NotFound, "lvm:vg0/pool does not exist"),
    ('!Volume group "vg0" not found', NotFound, "volume group is not there"),
])
def test_nothing_is_made_in_an_unfit_pool(build, report, kind, words):
    pool, script = build(lvs=report)
    with pytest.raises(kind, match=words):
        pool.create_volume("one-7", 1 << 20, {})
    assert len(script.calls) == 1


def test_clone_and_growth(build, tmp_path):
    device(tmp_path, "one-7", 8 << 20)()
    name = "one-7-42-0"
    pool, script = build(lvcreate=device(tmp_path, name, 8 << 20), lvextend=device(tmp_path, name, 12 << 20))
    assert pool.clone_volume("one-7", "one-7-42-0", {"vm": "42"}).bytes == 8 << 20
    assert pool.ensure_volume_size("one-7-42-0", 8 << 20).bytes == 8 << 20
    assert pool.ensure_volume_size("one-7-42-0", 9 << 20).bytes == 12 << 20
    assert [call.split()[0] for call in script.calls] == ["lvs", "lvcreate", "lvextend"]


def test_no_origin(build):
    pool, _ = build(lvs=[pool_report(), '!Failed to find logical volume "vg0/one-7"'])
    with pytest.raises(NotFound, match="one-7 does not exist"):
        pool.clone_volume("one-7", "one-7-42-0", {})


def test_an_origin_that_is_not_active_is_activated(build, tmp_path):
    row = {"lv_name": "one-7", "lv_size": "8", "pool_lv": "pool", "origin": "", "lv_tags": "", "lv_attr": "Vwi---tz--"}
    listing = json.dumps({"report": [{"lv": [row]}]})
    pool, script = build(lvs=[pool_report(), listing], lvchange=device(tmp_path, "one-7", 8 << 20))
    assert pool.clone_volume("one-7", "one-7-42-0", {}).bytes == 8 << 20
    assert "lvchange -q -ay -K vg0/one-7" in script.calls


def test_conflict(build, tmp_path):
    pool, _ = build(lvcreate='!Logical Volume "one-7" already exists in volume group "vg0"')
    with pytest.raises(Conflict, match="one-7 already exists"):
        pool.create_volume("one-7", 1, {})


def test_removal_waits_until_drbd_has_let_go(build):
    done = '  Logical volume "one-7.snap-0" successfully removed.\n  Logical volume "one-7" successfully removed.\n'
    pool, script = build(lvremove=["!Logical volume vg0/one-7 is used by another device."] * 3 + [done])
    assert pool.remove_volume("one-7") is True
    assert len(script.calls) == 4


def test_removal_gives_up_at_last(build):
    pool, script = build(lvremove="!Logical volume vg0/one-7 is used by another device.")
    with pytest.raises(Busy, match="one-7 is held open"):
        pool.remove_volume("one-7")
    assert 50 < len(script.calls) < 100


def test_removal_of_nothing(build):
    pool, script = build(lvremove="")
    assert pool.remove_volume("one-7") is False
    assert script.calls == ['lvremove -q -f -y -S lv_name="one-7" || lv_name=~"^one-7[.]" vg0'], "and not one-70"


def listing(*names, proof=None):
    """lvs of thin volumes; `proof`: of the snapshots among them."""
    def row(name):
        tags = f"dnc.proof={proof}" if proof and ".snap-" in name else ""
        return {"lv_name": name, "lv_size": str(8 << 20), "pool_lv": "pool", "origin": "", "lv_tags": tags,
                "lv_attr": "Vwi---tz--"}
    return json.dumps({"report": [{"lv": [row(name) for name in names]}]})


def test_snapshots_are_volumes_beside_theirs(build):
    pool, script = build(lvs=listing("one-7", "one-7.snap-0", "one-7.snap-12", "one-70.snap-1", proof="barrier:ab"))
    found = pool.snapshots.list("one-7")
    assert sorted(found) == ["0", "12"] and found["0"] == (8 << 20, None, "barrier:ab")
    pool.snapshots.create("one-7", "13")
    assert script.calls[-1] == "lvcreate -q -y -ky -s -n one-7.snap-13 vg0/one-7", "one command, and no device"
    assert pool.snapshots.clone("one-7", "12", "one-9", {"kind": "image"}) == 8 << 20
    assert script.calls[-1] == "lvcreate -q -y -kn --addtag dnc.kind=image -s -n one-9 vg0/one-7.snap-12"
    with pytest.raises(NotFound, match="one-7 has no snapshot 1 here"):
        pool.snapshots.clone("one-7", "1", "one-9", {})


@pytest.mark.parametrize(("there", "settled"), [
    (["one-7", "one-7.old", "one-7.next"], ["lvremove -q -f -y vg0/one-7.old", "lvremove -q -f -y vg0/one-7.next"]),
    (["one-7.old", "one-7.next"], ["lvrename -q vg0 one-7.old one-7", "lvremove -q -f -y vg0/one-7.next"]),
    (["one-7", "one-7.snap-0"], []),
])
def test_an_interrupted_revert_is_settled(build, there, settled):
    pool, script = build(lvs=listing(*there))
    pool.snapshots.settle("one-7")
    assert script.calls[1:] == settled


def test_a_device_that_never_comes_is_named(build, tmp_path):
    pool, script = build()
    with pytest.raises(TimedOut, match="vg0/one-7 did not appear within 30 s"):
        pool.ensure_device("one-7")
    assert script.calls == ["lvchange -q -ay -K vg0/one-7"], "udev is given one more event"
