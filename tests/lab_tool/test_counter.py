"""The reader of the guest's counter: what it must see, and what it must not miss."""

from __future__ import annotations

import io
import struct

import pytest

from dnclab.counter import (
    LARGEST_RING,
    SECTOR,
    UNPARTITIONED_OFFSET,
    Record,
    examine,
    make_sector,
    parse_sector,
    read_counter,
)

SLOTS = 16


def ring(last: int, slots: int = SLOTS) -> bytearray:
    """A ring as the guest leaves it after `last` ticks."""
    data = bytearray(slots * SECTOR)
    for tick in range(max(1, last - slots + 1), last + 1):
        at = tick % slots * SECTOR
        data[at : at + SECTOR] = make_sector(Record(tick, tick * 500, "cafe0001"))
    return data


def partitioned(content: bytes) -> bytes:
    """A disk whose second partition holds `content`."""
    entry = struct.pack("<B3sB3sII", 0, b"", 0x83, b"", 2048, len(content) // SECTOR)
    boot = bytes(446 + 16) + entry + bytes(32) + b"\x55\xaa"
    return boot + bytes(2047 * SECTOR) + content


@pytest.mark.parametrize("last", [1, 5, SLOTS - 1, SLOTS, SLOTS + 1, 5 * SLOTS + 3])
def test_whole_ring(last: int) -> None:
    found = examine(bytes(ring(last)))
    assert (found.first, found.last) == (max(1, last - SLOTS + 1), last)
    assert found.holes == () and found.torn == () and found.boots == 1 and found.backwards == 0


def test_empty_ring_has_no_ticks() -> None:
    assert examine(bytes(SLOTS * SECTOR)).last == 0


def test_lost_write_is_a_hole() -> None:
    data = ring(9)
    data[4 * SECTOR : 5 * SECTOR] = bytes(SECTOR)
    assert examine(bytes(data)).holes == (4,)


def test_stale_record_of_an_earlier_round_is_a_hole() -> None:
    data = ring(SLOTS + 5)
    data[3 * SECTOR : 4 * SECTOR] = make_sector(Record(3, 1500, "cafe0001"))
    assert examine(bytes(data)).holes == (SLOTS + 3,)


@pytest.mark.parametrize("at", [0, 5, 30, 100, SECTOR - 1])
def test_torn_write_is_seen(at: int) -> None:
    data = ring(9)
    data[4 * SECTOR + at] ^= 0x20
    found = examine(bytes(data))
    assert found.torn == (4,) and found.holes == (4,)


def test_record_in_the_wrong_slot_is_torn() -> None:
    data = ring(3)
    data[9 * SECTOR : 10 * SECTOR] = make_sector(Record(2, 1000, "cafe0001"))
    assert examine(bytes(data)).torn == (9,)


def test_clock_that_went_back_within_one_start() -> None:
    data = ring(6)
    data[6 * SECTOR : 7 * SECTOR] = make_sector(Record(6, 10, "cafe0001"))
    assert examine(bytes(data)).backwards == 1
    data[6 * SECTOR : 7 * SECTOR] = make_sector(Record(6, 10, "cafe0002"))
    assert (examine(bytes(data)).backwards, examine(bytes(data)).boots) == (0, 2)


def test_partitioned_image_and_dump_and_plain_disk_read_alike() -> None:
    content = bytes(ring(20))
    expected = examine(content)
    assert read_counter(io.BytesIO(partitioned(content))) == expected
    assert read_counter(io.BytesIO(content)) == expected
    plain = bytes(UNPARTITIONED_OFFSET) + content
    assert read_counter(io.BytesIO(plain)) == expected


def test_plain_disk_ring_is_limited_as_in_the_guest() -> None:
    disk = bytes(UNPARTITIONED_OFFSET) + bytes(LARGEST_RING + 4096)
    assert read_counter(io.BytesIO(disk)).slots == LARGEST_RING // SECTOR


def test_sector_round_trip() -> None:
    sector = make_sector(Record(123456789, 42, "00ff00ff"))
    assert len(sector) == SECTOR and parse_sector(sector) == Record(123456789, 42, "00ff00ff")


@pytest.mark.parametrize(
    "sector", [b"x" * SECTOR, b"tick 1 2 3\n" + bytes(501), b"tick a b c d\n" + bytes(499), b"\n" * SECTOR]
)
def test_garbage_is_refused(sector: bytes) -> None:
    with pytest.raises(ValueError):
        parse_sector(sector)
