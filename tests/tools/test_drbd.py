"""What 8.4 and 9 share: sizes of metadata, the resource file, error texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc.errors import BadInput, Busy, NotFound, ToolFailed, Unsafe
from dnc.tools import drbd
from dnc.tools.drbd9 import Drbd9
from dnc.tools.drbd84 import Drbd84
from dnc.tools.resource import new_secret, parse_file, parse_spec, usage
from dnc.tools.single import Single
from dnc.tools.status import Generation, Role
from tools import captured

KIB, MIB = 1024, 1024 * 1024
RECORD = {
    "name": "one-7-42-0", "minor": 1003, "port": 7003, "secret": "0123456789abcdef0123456789abcdef01234567",
    "members": [
        {"host": "node1", "address": "10.99.0.1", "device": "/dev/zvol/tank/dnc/one-7-42-0", "node_id": 0},
        {"host": "node2", "address": "10.99.0.2", "device": "/dev/zvol/tank/dnc/one-7-42-0", "node_id": 1},
    ],
    "state": "making", "kind": "clone", "vm": 42, "origin": "one-7", "proof": None, "pool": "zfs:tank/dnc",
    "data_bytes": 64 * MIB, "slots": 1,
}
SPEC = parse_spec(RECORD)
ALONE = parse_spec({**RECORD, "members": RECORD["members"][:1], "secret": "", "slots": 0})


@pytest.mark.parametrize(("mib", "slots", "kib"), [
    (128, 1, 131032), (128, 7, 131008), (128, 31, 130912), (64, 3, 65492), (192, 1, 196564),
])
def test_data_ends_where_real_drbd_said(mib, slots, kib):
    assert drbd.data_end(mib * MIB, slots) == kib * KIB


@given(st.integers(1, 64 << 40), st.integers(0, 31))
def test_a_volume_holds_its_data_and_hardly_more(data, slots):
    size = drbd.volume_size(data, slots)
    assert size % MIB == 0
    assert drbd.data_end(size, slots) >= data
    if slots:
        assert drbd.data_end(size - MIB, slots) < -(-data // MIB) * MIB, "not a MiB too much"
    else:
        assert size - data < MIB


@pytest.mark.parametrize("dialect", [Drbd84(), Drbd9()])
def test_file_round_trip(dialect):
    assert parse_file(SPEC.name, drbd.file_text(SPEC, dialect)) == SPEC


def test_file_round_trip_without_drbd():
    text = drbd.file_text(ALONE, Single())
    assert parse_file(ALONE.name, text) == ALONE
    assert usage(text) == ((), ())


def test_session_round_trip():
    assert parse_spec(SPEC.to_json()) == SPEC


def test_foreign_files_count_for_minors_and_ports_only():
    text = (
        "resource r0 {\n  device /dev/drbd1 minor 1; meta-disk internal;\n"
        "  on a { disk /dev/sda; address ipv4 10.0.0.1:7788; }\n"
        "  on b { disk /dev/sda; address [fe80::1]:7789; }\n"
        "  volume 1 { device minor 5; }\n}\n"
    )
    assert parse_file("r0", text) is None
    minors, ports = usage(text)
    assert set(minors) == {1, 5} and set(ports) == {7788, 7789}


def test_damaged_file_of_ours_is_told():
    text = drbd.file_text(SPEC, Drbd84())
    with pytest.raises(BadInput, match="one-7-42-0 is damaged"):
        parse_file(SPEC.name, text.replace('"minor": 1003', '"minor": "x"'))
    with pytest.raises(BadInput, match="is damaged"):
        parse_file(SPEC.name, text[:80])


@pytest.mark.parametrize(("field", "value"), [
    ("name", "one-7; rm"), ("minor", -1), ("minor", True), ("port", 70000), ("secret", "short"),
    ("secret", 'x"; }' * 9),
    ("state", "done"), ("kind", "x"), ("pool", "zfs:../x"), ("data_bytes", 0), ("proof", "a b"), ("members", []),
    ("origin", "$(id)"), ("vm", "42"), ("slots", 99),
])
def test_specs_from_outside_are_checked(field, value):
    with pytest.raises(BadInput):
        parse_spec({**RECORD, field: value})


@pytest.mark.parametrize(("field", "value"), [
    ("host", "a b"), ("host", "-x"), ("address", "10.0.0.1; }"), ("device", "/dev/x y"), ("device", "/dev/x;"),
    ("device", "../x"), ("device", "/dev/{x}"), ("node_id", 32),
])
def test_members_from_outside_are_checked(field, value):
    member = {**RECORD["members"][0], field: value}
    with pytest.raises(BadInput):
        parse_spec({**RECORD, "members": [member, RECORD["members"][1]]})


def test_secrets_differ_and_fit():
    first, second = new_secret(), new_secret()
    assert first != second
    assert parse_spec({**RECORD, "secret": first}).secret == first


@pytest.mark.parametrize(("capture", "kind", "words"), [
    ("drbd-secondary-held-open", Busy, "held open"), ("drbd-down-held-open", Busy, "held open"),
    ("drbd-primary-inconsistent-error", Unsafe, "no UpToDate data"),
    ("drbd-primary-elsewhere", Unsafe, "Primary on a peer"),
    ("drbdadm-nores", NotFound, "not defined"),
])
def test_drbdadm_says(capture, kind, words):
    error = drbd.explain(captured.failed(capture, "drbdadm"), "one-7")
    assert type(error) is kind and words in error.what and error.what.startswith("one-7")


@pytest.mark.parametrize(("words", "kind"), [
    ("No valid meta data found", Unsafe), ("(-25) No quorum", Unsafe),
    ("drbd102 opened by dd (pid 2367) at 2026-11-20 12:05:29.093", Busy),
])
def test_drbdadm_of_9_says(words, kind):
    error = ToolFailed("drbdadm failed")
    error.stderr = words
    assert type(drbd.explain(error, "one-7")) is kind


def test_clashing_files_are_named():
    error = drbd.explain(captured.failed("drbdadm-conf-dup-minor", "drbdadm"), "one-7")
    assert "dup1.res" in error.what


def generation(**changes):
    clean = Generation("A1EA719E70502848", "0" * 16, True, True, False, False, False, False, False)
    return clean._replace(**changes)


def test_clean_generation():
    assert generation().clean
    assert generation(connected=True).clean


@pytest.mark.parametrize("change", [
    {"current": "0000000000000004"}, {"bitmap": "A1EA719E70502848"}, {"consistent": False}, {"uptodate": False},
    {"primary": True}, {"full_sync": True}, {"peer_outdated": True}, {"crashed_primary": True},
])
def test_any_doubt_makes_a_generation_unclean(change):
    assert not generation(**change).clean


def test_one_replica_is_equal_to_itself():
    single = Single()
    assert single.parse_generation("").clean
    status = single.parse_status("", {ALONE.name: ALONE}, "node1")[ALONE.name]
    assert status.ready and status.role is Role.PRIMARY
    with pytest.raises(BadInput, match="cannot migrate"):
        single.two_primaries(ALONE, "node2", True)
