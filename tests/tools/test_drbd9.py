"""DRBD 9: the resource file, JSON status, get-gi; against captures of 9.3."""

from __future__ import annotations

import json
import re

import pytest

from dnc.errors import BadInput, Busy, ToolFailed, Unsafe
from dnc.tools import dialects, drbd
from dnc.tools.drbd9 import Drbd9
from dnc.tools.resource import Member, parse_file, parse_spec
from dnc.tools.status import MISSING, DiskState, Role
from tools import captured
from tools.test_drbd import SPEC

DIALECT = Drbd9()
H1 = {"h1": SPEC._replace(name="h1")}


def reports():
    """Every JSON report in the capture of states, in order."""
    return re.findall(r"^\[\n\{\n  \"name\": \"h1\".*?^\]$", captured.text("h-states", "captures-drbd9"), re.M | re.S)


def test_golden_file():
    text = DIALECT.render(SPEC._replace(slots=7))
    assert text.replace("error; on-suspended", "error;\n    on-suspended") == """\
resource one-7-42-0 {
  options { auto-promote no; quorum off; on-no-data-accessible io-error;
    on-suspended-primary-outdated force-secondary; }
  net {
    protocol C;
    cram-hmac-alg sha256;
    shared-secret "0123456789abcdef0123456789abcdef01234567";
    after-sb-0pri disconnect;
    after-sb-1pri disconnect;
    after-sb-2pri disconnect;
    rr-conflict retry-connect;
    verify-alg md5;
  }
  disk { rs-discard-granularity 65536; discard-zeroes-if-aligned yes; }
  volume 0 { device minor 1003; meta-disk internal; }
  on node1 {
    node-id 0;
    address 10.99.0.1:7003;
    volume 0 { disk /dev/zvol/tank/dnc/one-7-42-0; }
  }
  on node2 {
    node-id 1;
    address 10.99.0.2:7003;
    volume 0 { disk /dev/zvol/tank/dnc/one-7-42-0; }
  }
  connection-mesh { hosts node1 node2; }
}
"""


def test_three_members_have_quorum():
    third = SPEC.members[0]._replace(host="node3", node_id=2)
    text = DIALECT.render(SPEC._replace(members=(*SPEC.members, third)))
    assert "quorum majority; on-no-quorum suspend-io;" in text and "hosts node1 node2 node3;" in text


def test_primary_with_peers():
    found = DIALECT.parse_status(reports()[0], H1, "node2")["h1"]
    assert found.role is Role.PRIMARY and found.disk is DiskState.UP_TO_DATE and found.minor == 112
    assert [(peer.host, peer.role, peer.replication) for peer in found.peers] == [
        ("node1", Role.SECONDARY, "Established"), ("node3", Role.SECONDARY, "Established"),
    ]
    assert found.peers[0].equal and not found.standalone


def test_standalone_without_quorum():
    found = DIALECT.parse_status(reports()[2], H1, "node1")["h1"]
    assert found.suspended and found.standalone and not found.ready
    assert {peer.disk for peer in found.peers} == {DiskState.UNKNOWN}


def test_every_recorded_state_is_understood():
    assert len(reports()) == 3
    for report in reports():
        assert DIALECT.parse_status(report, H1, "node1")["h1"].name == "h1"


def test_others_and_nothing():
    assert DIALECT.parse_status(reports()[0], {}, "node1") == {}
    assert DIALECT.parse_status("", H1, "node1") == {}


def generations():
    return re.findall(r"^[0-9A-F]{16}:.*$", captured.text("i-suspend", "captures-drbd9"), re.M)


def test_generation_of_a_primary():
    found = DIALECT.parse_generation(generations()[0] + "\n")
    assert found.primary and found.connected and not found.clean


def test_generation_of_its_peer():
    found = DIALECT.parse_generation(generations()[2] + "\n")
    assert found.current == "73D64652A67B08BE" and found.consistent and found.uptodate and not found.primary


def test_no_generation():
    with pytest.raises(BadInput):
        DIALECT.parse_generation("A1EA719E70502849:0000000000000000:0000000000000000:0000000000000000:1:1:1:1:0:0:0\n")


def test_generation_is_that_of_the_worst_peer():
    """A bitmap towards one peer only: with that one the data are not equal."""
    quiet = "73D64652A67B08BE:0000000000000000:C667069198E8D706:C00D047516548356:1:1:0:0:0:0:0:1:0:0:0:1\n"
    ahead = "73D64652A67B08BE:C667069198E8D706:C00D047516548356:0000000000000000:1:1:0:0:0:0:0:0:0:0:0:1\n"
    assert DIALECT.parse_generation(quiet + quiet).clean
    for text in (quiet + ahead, ahead + quiet):
        assert not DIALECT.parse_generation(text).clean
        assert DIALECT.parse_generation(text).current == "73D64652A67B08BE"


def test_generations_of_an_image_at_rest():
    """c-clone: Secondary everywhere, then down: the clones connected without a resync."""
    lines = re.findall(r"^[0-9A-F]{16}:.*$", captured.text("b-createmd", "captures-drbd9"), re.M)
    at_rest = [line for line in lines if line.startswith("1DDC9E095A76CB6A")]
    assert len(at_rest) == 4
    assert all(DIALECT.parse_generation(line + "\n").clean for line in at_rest)


def test_argv():
    assert [argv[-2:] for argv in DIALECT.read_generation(SPEC, "node1")] == [("--node-id", "1")]
    assert DIALECT.two_primaries(SPEC, "node2", False)[-2:] == ("--allow-two-primaries=no", "one-7-42-0:node2")
    assert DIALECT.create_metadata(SPEC._replace(slots=7)) == (
        "drbdadm", "create-md", "--force", "--max-peers", "7", "one-7-42-0"
    )


def test_bitmaps_are_asked_for_by_peer_and_clients_have_none():
    asked = DIALECT.read_generation(WITH_CLIENT, "node2")
    assert asked == (("drbdmeta", "1003", "v09", "/dev/zvol/tank/dnc/one-7-42-0", "internal", "get-gi",
                      "--node-id", "0"),)
    third = SPEC.members[0]._replace(host="node3", node_id=2)
    three = SPEC._replace(members=(*SPEC.members, third))
    assert [argv[-1] for argv in DIALECT.read_generation(three, "node2")] == ["0", "2"]


# ---- exactly what was tried on real hosts ---------------------------------------------------------------------------

CLIENT = Member("node3", "10.99.0.3", None, 2)
WITH_CLIENT = SPEC._replace(members=(*SPEC.members, CLIENT), slots=7)


def said(name):
    """The command lines of a capture, without what numbers a resource."""
    text = captured.text(name, "captures-drbd9")
    return "\n".join(line for line in text.splitlines() if line.startswith("#@ ") and "$ " in line)


def statements(text):
    """Every `word value...;` of resource files, names and numbers made alike."""
    text = re.sub(r"/dev/[\w/.-]+", "DEVICE", re.sub(r"10\.99\.0\.\d:\d+", "ADDRESS", text))
    text = re.sub(r'shared-secret "?[\w-]+"?', "shared-secret SECRET", re.sub(r"(minor|node-id) \d+", r"\1 N", text))
    return {re.sub(r"\s+", " ", found).strip() for found in re.findall(r"[\w-]+(?:\s+[^\s;{}]+)+;", text)}


def test_every_statement_was_accepted_by_real_drbd():
    """a-res is a whole file, a-options9 tries options one by one, j-powercut has the last form of a file."""
    known = set()
    for name in ("a-res", "a-options9", "j-powercut"):
        text = captured.text(name, "captures-drbd9")
        if name == "a-options9":
            tried = [line for line in text.splitlines() if line.startswith("[") and "rc=0" in line]
            text = "; ".join(tried).replace("|", "; ")
        known |= statements(text)
    ours = statements(DIALECT.render(WITH_CLIENT))
    assert "disk none;" in ours and "quorum majority;" in ours and "hosts node1 node2 node3;" in ours
    assert ours - known == set()
    assert statements(DIALECT.render(SPEC)) - known == {"quorum off;", "hosts node1 node2;"} - known


def test_a_client_is_told_inside_its_volume():
    """a-options9: outside of it the file is refused, with every drbdadm command."""
    text = DIALECT.render(WITH_CLIENT)
    assert "  on node3 {\n    node-id 2;\n    address 10.99.0.3:7003;\n    volume 0 { disk none; }\n  }\n" in text
    assert parse_file(SPEC.name, drbd.file_text(WITH_CLIENT, DIALECT)) == WITH_CLIENT


def test_stamp_is_what_was_run():
    spec = SPEC._replace(name="d0", minor=115, day0="00DDAA0000112230", members=tuple(
        member._replace(device="/dev/vg0/d0") for member in SPEC.members), slots=7)
    assert f"{' '.join(DIALECT.create_metadata(spec))} >/dev/null" in said("d-day0")
    assert " ".join(DIALECT.stamp(spec, "node1")) in said("d-day0")
    assert DIALECT.stamp(SPEC, "node1") == (), "no proof, no stamp"


def test_commands_are_those_that_were_run():
    c1 = SPEC._replace(name="c1")
    assert " ".join(DIALECT.two_primaries(c1, "node2", True)) in said("e-dualprimary")
    assert " ".join(DIALECT.two_primaries(c1, "node1", False)) in said("e-dualprimary")
    assert " ".join(DIALECT.forget_peer("c1", SPEC.members[1])) in said("d-retire")
    assert DIALECT.forget_peer("c1", CLIENT) == ()


def test_day0_is_even_and_new():
    first, second = DIALECT.new_day0(), DIALECT.new_day0()
    assert first != second and re.fullmatch(r"[0-9A-F]{15}[02468ACE]", first)
    spec = parse_spec({**SPEC.to_json(), "day0": first})
    assert spec.day0 == first
    assert parse_file(spec.name, drbd.file_text(spec, DIALECT)) == spec
    with pytest.raises(BadInput):
        parse_spec({**SPEC.to_json(), "day0": "1DDC9E095A76CB6B"})


def json_reports(name):
    return re.findall(r"^\[\n\{\n  \"name\".*?^\]$", captured.text(name, "captures-drbd9"), re.M | re.S)


def test_a_client_is_as_good_as_its_peers():
    found = DIALECT.parse_status(reports()[1], {"h1": WITH_CLIENT._replace(name="h1")}, "node3")["h1"]
    assert found.client and found.disk is DiskState.DISKLESS
    assert found.usable and found.ready and not found.dropped
    assert found.in_step_with("node2") and not found.in_step_with("node3")


def test_a_client_among_the_peers_does_not_count():
    found = DIALECT.parse_status(reports()[0], {"h1": WITH_CLIENT._replace(name="h1")}, "node2")["h1"]
    assert [peer.client for peer in found.peers] == [False, True]
    assert found.ready and found.in_step_with("node1") and found.in_step_with("node3")


def test_resync_from_two_peers():
    """d-add: one sends, the other waits for that."""
    (report,) = json_reports("d-add")
    found = DIALECT.parse_status(report, {"c1": SPEC._replace(name="c1")}, "node3")["c1"]
    assert not found.ready and not found.usable
    assert [(peer.replication, peer.out_of_sync, peer.percent) for peer in found.peers] == [
        ("SyncTarget", 86148, 34.24), ("PausedSyncT", 90048, 31.27),
    ]


def test_lost_connections_are_not_taken_for_none():
    """h-errors2: a refused `down` has removed all peers, and the local disk looks as good as ever."""
    report = json.loads(reports()[0])
    report[0]["connections"] = []
    found = DIALECT.parse_status(json.dumps(report), {"h1": WITH_CLIENT._replace(name="h1")}, "node2")["h1"]
    assert found.usable and not found.ready and found.dropped
    assert {peer.connection for peer in found.peers} == {MISSING}


def test_three_replicas_two_are_enough_to_be_in_step():
    report = json.loads(reports()[0])
    report[0]["connections"][1]["connection-state"] = "Connecting"
    report[0]["connections"][1]["peer_devices"][0].update({"peer-disk-state": "DUnknown", "peer-client": False})
    found = DIALECT.parse_status(json.dumps(report), H1, "node2")["h1"]
    assert not found.ready and found.in_step_with("node1") and not found.in_step_with("node3")


@pytest.mark.parametrize(("capture", "start", "kind"), [
    ("h-states", "h1: State change failed: (-25)", Unsafe), ("h-errors2", "h1: State change failed: (-2)", Unsafe),
    ("d-undisk", "c1: State change failed: (-12)", Busy), ("h-errors2", "No valid meta data found", Unsafe),
])
def test_drbdadm_says(capture, start, kind):
    text = captured.text(capture, "captures-drbd9")
    error = ToolFailed("drbdadm failed")
    error.stderr = text[text.index(start):][:300]
    assert isinstance(drbd.explain(error, "one-7"), kind)


def test_versions_have_their_dialect():
    assert dialects.of_proc("version: 8.4.11 (api:1/proto:86-101)\nsrcversion: 637677C\n").name == "8.4"
    assert dialects.of_proc("version: 9.3.3 (api:2/proto:118-124)\nTransports (api:21):\n").name == "9"
    assert dialects.of_proc("") is None
    assert dialects.of_version("9").clients and not dialects.of_version("8.4").clients
