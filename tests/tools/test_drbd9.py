"""DRBD 9: the resource file, JSON status, get-gi; against captures of 9.3."""

from __future__ import annotations

import re

import pytest

from dnc.errors import BadInput
from dnc.tools.drbd import DiskState, Role
from dnc.tools.drbd9 import Drbd9
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


def test_argv():
    assert DIALECT.read_generation(SPEC, "node1")[-2:] == ("--node-id", "1"), "bitmaps are kept by peer"
    assert DIALECT.two_primaries(SPEC, "node2", False)[-2:] == ("--allow-two-primaries=no", "one-7-42-0:node2")
    assert DIALECT.create_metadata(SPEC._replace(slots=7)) == (
        "drbdadm", "create-md", "--force", "--max-peers", "7", "one-7-42-0"
    )
