"""DRBD 8.4: the resource file, /proc/drbd, get-gi."""

from __future__ import annotations

import re

import pytest

from dnc.errors import BadInput
from dnc.tools import drbd
from dnc.tools.drbd84 import Drbd84, activity
from dnc.tools.resource import Member
from dnc.tools.status import DiskState, Role
from tools import captured
from tools.test_drbd import SPEC

DIALECT = Drbd84()


def status(text, minor=12, host="node1"):
    return DIALECT.parse_status(text, {SPEC.name: SPEC._replace(minor=minor)}, host).get(SPEC.name)


def test_golden_file():
    assert DIALECT.render(SPEC) == """\
resource one-7-42-0 {
  options { on-no-data-accessible io-error; }
  net {
    protocol C;
    cram-hmac-alg sha256;
    shared-secret "0123456789abcdef0123456789abcdef01234567";
    after-sb-0pri disconnect;
    after-sb-1pri disconnect;
    after-sb-2pri disconnect;
    rr-conflict disconnect;
    verify-alg md5;
  }
  disk { rs-discard-granularity 65536; discard-zeroes-if-aligned yes; }
  on node1 {
    address 10.99.0.1:7003;
    volume 0 { device minor 1003; disk /dev/zvol/tank/dnc/one-7-42-0; meta-disk internal; }
  }
  on node2 {
    address 10.99.0.2:7003;
    volume 0 { device minor 1003; disk /dev/zvol/tank/dnc/one-7-42-0; meta-disk internal; }
  }
}
"""


def test_nothing_that_84_refuses_is_rendered():
    refused = re.findall(r"but got '([a-z-]+)", captured.text("84-options", "captures-drbd9"))
    assert "quorum" in refused
    for word in refused:
        assert word.rstrip(".") not in DIALECT.render(SPEC)


def test_three_members_are_refused():
    third = SPEC.members[0]._replace(host="node3", node_id=2)
    with pytest.raises(BadInput, match="two members"):
        DIALECT.render(SPEC._replace(members=(*SPEC.members, third)))


def test_clients_are_refused():
    members = (*SPEC.members, Member("node3", "10.99.0.3", None, 2))
    with pytest.raises(BadInput, match="two members"):
        DIALECT.render(SPEC._replace(members=members))


def test_nothing_of_9_is_ever_said():
    assert DIALECT.new_day0() is None
    assert DIALECT.stamp(SPEC._replace(day0="00DDAA0000112230"), "node1") == ()
    assert DIALECT.forget_peer("one-7", SPEC.members[0]) == ()


def test_the_header_line_has_nothing_of_9():
    """Files of farms that run already stay as they are, byte by byte."""
    assert drbd.file_text(SPEC, DIALECT).partition("\n")[0] == (
        '# dnc {"data_bytes": 67108864, "kind": "clone", "members": [["node1", "10.99.0.1", '
        '"/dev/zvol/tank/dnc/one-7-42-0", 0], ["node2", "10.99.0.2", "/dev/zvol/tank/dnc/one-7-42-0", 1]], '
        '"minor": 1003, "origin": "one-7", "pool": "zfs:tank/dnc", "port": 7003, "proof": null, "slots": 1, '
        '"state": "making", "vm": 42}'
    )


def test_ipv6_members():
    members = tuple(member._replace(address=f"fd00::{member.node_id}") for member in SPEC.members)
    assert "address ipv6 [fd00::1]:7003;" in DIALECT.render(SPEC._replace(members=members))


def test_connected():
    found = status(captured.stdout("proc-drbd"))
    assert found.ready and found.role is Role.PRIMARY and found.disk is DiskState.UP_TO_DATE
    peer = found.peers[0]
    assert (peer.host, peer.role, peer.connection, peer.out_of_sync) == ("node2", Role.SECONDARY, "Connected", 0)


def test_the_peer_is_the_other_one():
    assert status(captured.stdout("proc-drbd"), host="node2").peers[0].host == "node1"


def test_fresh_is_not_ready():
    found = status(captured.stdout("proc-drbd-fresh-inconsistent"), minor=1)
    assert not found.ready and found.disk is DiskState.INCONSISTENT and found.peers[0].out_of_sync == 131032


def test_resync():
    found = status(captured.stdout("drbd-invalidate-resync"), minor=20)
    peer = found.peers[0]
    assert peer.connected and peer.replication == "SyncTarget" and peer.percent == 31.3
    assert not found.ready and peer.role is Role.PRIMARY


def test_peer_away():
    found = status(captured.stdout("drbd-nopeer-primary"))
    assert not found.ready and not found.standalone and found.peers[0].connection == "WFConnection"


def test_split_brain():
    found = status(captured.stdout("drbd-split-brain"), minor=20)
    assert found.standalone and not found.ready and found.peers[0].disk is DiskState.UNKNOWN


def test_down_and_unconfigured_are_absent():
    assert status(captured.stdout("proc-drbd"), minor=99) is None
    assert status(" 7: cs:Unconfigured\n", minor=7) is None
    assert status("", minor=7) is None


def test_suspended():
    assert status(" 7: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C s-----\n    oos:0\n", minor=7).suspended


def test_generation_while_primary():
    found = DIALECT.parse_generation(captured.stdout("drbdadm-show-gi").splitlines()[-1] + "\n")
    assert found.current == "A1EA719E70502848", "the lowest bit only says Primary"
    assert found.primary and found.connected and found.consistent and not found.clean


def test_generation_at_rest():
    text = "2DABAB9FAB1A1036:0000000000000000:7E2A0B7B4F6C9C20:0000000000000004:1:1:0:0:0:0:0\n"
    assert DIALECT.parse_generation(text).clean


@pytest.mark.parametrize("text", ["", "rubbish", "2DABAB9FAB1A1036:0:0:0:1:1:0:0:0:0:0"])
def test_no_generation(text):
    with pytest.raises(BadInput):
        DIALECT.parse_generation(text)


def test_argv():
    assert DIALECT.read_generation(SPEC, "node2") == (
        ("drbdmeta", "1003", "v08", "/dev/zvol/tank/dnc/one-7-42-0", "internal", "get-gi"),
    )
    assert DIALECT.two_primaries(SPEC, "node2", True)[-2:] == ("--allow-two-primaries=yes", "one-7-42-0")
    assert DIALECT.create_metadata(SPEC) == ("drbdadm", "create-md", "--force", "one-7-42-0")


def test_activity_of_one_minor():
    """What is under way, and what was written: other minors, and progress lines, do not count (proc-drbd)."""
    text = (
        "version: 8.4.11 (api:1/proto:86-101)\n"
        " 9: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n"
        "    ns:8 nr:0 dw:77 dr:0 al:1 bm:0 lo:5 pe:5 ua:5 ap:5 ep:1 wo:d oos:0\n"
        "19: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n"
        "    ns:8 nr:0 dw:3192 dr:131032 al:1 bm:0 lo:1 pe:3 ua:0 ap:10 ep:1 wo:d oos:0\n"
        "20: cs:Unconfigured\n"
    )
    assert activity(text, 19) == (14, 3192)
    assert activity(text, 9) == (20, 77)
    assert activity(text, 7) == (0, 0)
