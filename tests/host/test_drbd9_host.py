"""What a host does with DRBD 9: the commands in the order in which they were tried, and what states lead to."""

from __future__ import annotations

import json
import re

import pytest

from dnc.command import Result, Runner
from dnc.errors import Busy, ToolFailed, Unsafe
from dnc.host.files import Files
from dnc.host.journal import Journal
from dnc.host.resource_files import ResourceFiles
from dnc.host.resources import Resources
from dnc.host.waiting import Patience
from dnc.log import Log
from dnc.tools.drbd9 import Drbd9
from dnc.tools.resource import ResourceSpec, parse_spec
from tools import captured

NAME = "one-7-42-0"
RECORDED = [json.loads(text) for text in re.findall(
    r"^\[\n\{\n  \"name\".*?^\]$", captured.text("h-states", "captures-drbd9"), re.M | re.S)]
PRIMARY, CLIENT, ISOLATED = range(3)
MEMBERS = [
    {"host": host, "address": f"10.99.0.{number + 1}", "device": device, "node_id": number}
    for number, (host, device) in enumerate((
        ("node1", "/dev/vg0/x"), ("node2", "/dev/vg0/x"), ("node3", None), ("node4", "/dev/vg0/x")))
]


def spec(*hosts: str, **more) -> ResourceSpec:
    return parse_spec({
        "name": NAME, "minor": 112, "port": 7112, "secret": "s" * 40, "state": "ready", "kind": "clone", "vm": 42,
        "members": [one for one in MEMBERS if one["host"] in hosts], "origin": None, "proof": None,
        "pool": "lvm:vg0/pool", "data_bytes": 1 << 20, "slots": 7, **more,
    })


class Tools(Runner):
    """Remembers commands; answers `status` with a recorded report, the rest with nothing."""

    def __init__(self, log: Log) -> None:
        super().__init__(log)
        self.calls: list[str] = []
        self.report: list | None = None
        self.refuse: dict[str, str] = {}

    def run(self, argv, *, privileged=False, changes=True, stdin=None, ok=(0,), timeout=120.0):
        line = " ".join(argv)
        if "status" in argv:
            assert line in ("drbdsetup status --json", f"drbdsetup status {NAME} --json")
            return Result(tuple(argv), 0 if self.report else 10, json.dumps(self.report) if self.report else "", "")
        self.calls.append(line)
        for words, stderr in self.refuse.items():
            if words in line:
                error = ToolFailed("drbdadm failed")
                error.stderr = stderr
                raise error
        answer = "73D64652A67B08BE:0000000000000000:C667069198E8D706:C00D047516548356:1:1:0:0:0:0:0:0:0:0:0:0\n"
        return Result(tuple(argv), 0, answer if "get-gi" in line else "", "")


@pytest.fixture
def tools():
    return Tools(Log("test"))


@pytest.fixture
def on(tmp_path, tools):
    """Resources of a host by its name, with the file of this spec there."""
    def make(host: str, kept: ResourceSpec) -> Resources:
        log = Log("test")
        files = Files(log, False)
        for part in ("drbd.d", "intents"):
            (tmp_path / part).mkdir(exist_ok=True)
        patience = Patience()
        made = Resources(
            host, Drbd9(), ResourceFiles(str(tmp_path / "drbd.d"), str(tmp_path / "single"), files, log), tools,
            patience, Journal(str(tmp_path), files), log, str(tmp_path / "proc"), "/dev", str(tmp_path / "sys"),
        )
        made.write(kept)
        return made

    return make


def state(number: int, **changes):
    """A recorded report under the name of the tests' resource."""
    report = json.loads(json.dumps(RECORDED[number]))
    report[0].update(name=NAME, **changes)
    return report


def third_away():
    """Primary with two other replicas, of which one does not answer."""
    report = state(PRIMARY)
    report[0]["connections"][1].update({"name": "node4", "connection-state": "Connecting"})
    report[0]["connections"][1]["peer_devices"][0].update({
        "replication-state": "Off", "peer-disk-state": "DUnknown", "peer-client": False})
    return report


def test_fresh_metadata_are_stamped(on, tools):
    """d-day0: create-md, then set-gi with the day-0 UUID; without a proof there is none."""
    on("node1", spec("node1", "node2", state="making", day0="00DDAA0000112230")).create_metadata(NAME)
    assert tools.calls == [
        f"drbdadm create-md --force --max-peers 7 {NAME}",
        "drbdmeta --force 112 v09 /dev/vg0/x internal set-gi --node-id 0 00DDAA0000112230:0:0:0:1:1",
    ]
    tools.calls.clear()
    on("node1", spec("node1", "node2", state="making")).create_metadata(NAME)
    assert tools.calls == [f"drbdadm create-md --force --max-peers 7 {NAME}"]


def test_an_image_is_asked_towards_each_replica(on, tools):
    assert on("node1", spec("node1", "node2", "node3", "node4")).generation(NAME).clean
    assert [call.rpartition(" ")[2] for call in tools.calls] == ["1", "3"], "node3 has no bitmap"


def test_who_left_is_forgotten_after_the_others_adjusted(on, tools):
    """d-retire."""
    here = on("node1", spec("node1", "node2", "node4"))
    tools.report = state(PRIMARY)
    here.change_members(spec("node1", "node4"))
    assert tools.calls == [f"drbdadm adjust {NAME}", f"drbdsetup forget-peer {NAME} 1"]
    assert here.files.get(NAME).hosts() == ("node1", "node4")


def test_a_client_that_left_had_no_slot(on, tools):
    here = on("node1", spec("node1", "node2", "node3"))
    tools.report = state(PRIMARY)
    here.change_members(spec("node1", "node2"))
    assert tools.calls == [f"drbdadm adjust {NAME}"]


def test_a_resource_at_rest_only_gets_its_file(on, tools):
    here = on("node1", spec("node1", "node2", "node3"))
    here.change_members(spec("node1", "node2"))
    assert tools.calls == []
    with open(here.files.path(NAME), encoding="utf-8") as stream:
        assert "quorum off;" in stream.read()


@pytest.mark.parametrize(("host", "number", "changes", "adjusted"), [
    ("node2", PRIMARY, {}, False), ("node3", CLIENT, {}, False), ("node1", ISOLATED, {}, True),
    ("node2", PRIMARY, {"connections": []}, True),
])
def test_up_again_heals_what_was_dropped(on, tools, host, number, changes, adjusted):
    """A client is Diskless and well; peers that are StandAlone, or gone since a refused `down`, are brought back."""
    here = on(host, spec("node1", "node2", "node3"))
    tools.report = state(number, **changes)
    here.ensure_up(NAME)
    assert tools.calls == ([f"drbdadm adjust {NAME}"] if adjusted else [])


def test_a_lost_disk_is_no_client(on, tools):
    here = on("node1", spec("node1", "node2", "node3"))
    report = state(CLIENT)
    report[0]["devices"][0]["client"] = False
    tools.report = report
    here.ensure_up(NAME)
    assert tools.calls == [f"drbdadm adjust {NAME}"]
    with pytest.raises(Unsafe, match="has lost its volume here"):
        here.await_ready(NAME, 1, 1)


def test_a_failed_up_is_taken_down(on, tools):
    """h-errors2: half a resource stays behind."""
    here = on("node1", spec("node1", "node2"))
    tools.refuse = {"drbdadm up": "No valid meta data found\n"}
    with pytest.raises(Unsafe, match="no DRBD metadata"):
        here.ensure_up(NAME)
    assert tools.calls == [f"drbdadm up {NAME}", f"drbdadm down {NAME}"]


def test_a_refused_down_is_healed(on, tools):
    here = on("node1", spec("node1", "node2"))
    tools.report = state(PRIMARY)
    tools.refuse = {"drbdadm down": (
        "h1: State change failed: (-2) Need access to UpToDate data\nadditional info from kernel:\n"
        "drbd112 opened by bash (pid 1292) at 2026-11-20 12:05:29.093\n")}
    with pytest.raises(Busy):
        here.ensure_down(NAME, 0.1)
    assert tools.calls[-1] == f"drbdadm adjust {NAME}"


def test_two_primaries_are_a_matter_of_one_connection(on, tools):
    """e-dualprimary; a third member that is away keeps nobody from it."""
    here = on("node2", spec("node1", "node2", "node4"))
    tools.report = third_away()
    here.allow_two_primaries(NAME, "node1")
    with pytest.raises(Unsafe, match="not in sync"):
        here.allow_two_primaries(NAME, "node4")
    option = "drbdadm net-options --protocol=C --allow-two-primaries"
    assert tools.calls == [f"{option}=yes {NAME}:node1"]
    here._journal.note_intent(NAME, 42, "node1", "node2")
    here.forbid_two_primaries(NAME)
    assert tools.calls[1:] == [f"{option}=no {NAME}:node1"]


def test_without_a_quorum_nobody_is_ready(on, tools):
    here = on("node1", spec("node1", "node2", "node3"))
    report = state(ISOLATED)
    for connection in report[0]["connections"]:
        connection["connection-state"] = "Connecting"
    tools.report = report
    with pytest.raises(Exception, match="not in sync within 0 s"):
        here.await_ready(NAME, 0.1, 0.1, without=("node2",))


def test_a_member_that_is_known_to_be_away_is_not_waited_for(on, tools):
    here = on("node2", spec("node1", "node2", "node4"))
    tools.report = third_away()
    assert here.await_ready(NAME, 0.1, 0.1, without=("node4",)) is not None
    with pytest.raises(Exception, match="not in sync within"):
        here.await_ready(NAME, 0.1, 0.1)
