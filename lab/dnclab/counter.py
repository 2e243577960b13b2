"""Reading the guest's counter from a disk image: which ticks reached the disk, which are torn or missing."""

from __future__ import annotations

import io
import json
import struct
import zlib
from dataclasses import asdict, dataclass
from typing import BinaryIO

SECTOR = 512
UNPARTITIONED_OFFSET = 1 << 20
LARGEST_RING = 8 << 20
SHOWN = 20


@dataclass(frozen=True)
class Record:
    """One sector of the ring: its tick, the guest's clock (milliseconds since its start) and the start's number."""

    tick: int
    milliseconds: int
    boot: str


@dataclass(frozen=True)
class Counter:
    """The counter of an image. `first`..`last` are the ticks that the ring must hold (0: none was ever written).

    `holes` are ticks in between that are not there, `torn` the slots whose content is damaged, `boots` the number of
    guest starts that wrote what is there now; `backwards` counts neighbours of one start whose clock went back.
    """

    first: int
    last: int
    slots: int
    holes: tuple[int, ...]
    torn: tuple[int, ...]
    boots: int
    backwards: int


def parse_sector(sector: bytes) -> Record | None:
    """The record in a sector, None when it is empty; ValueError when it is torn (see lab/guest/counter.c)."""
    if not any(sector):
        return None
    line, newline, filling = sector.partition(b"\n")
    words = line.split(b" ")
    if not newline or len(words) != 5 or words[0] != b"tick":
        raise ValueError("no record")
    text = line[: line.rindex(b" ")]
    if zlib.crc32(filling, zlib.crc32(text)) != int(words[4], 16):
        raise ValueError("checksum")
    tick = int(words[1])
    if filling.strip(bytes([tick % 251])):
        raise ValueError("filling")
    return Record(tick, int(words[2]), words[3].decode("ascii"))


def make_sector(record: Record) -> bytes:
    """The sector that the guest writes for a record."""
    text = f"tick {record.tick} {record.milliseconds} {record.boot}".encode()
    filling = bytes([record.tick % 251]) * (SECTOR - len(text) - 10)
    return text + b" %08x\n" % zlib.crc32(filling, zlib.crc32(text)) + filling


def ring_place(start: bytes, size: int | None) -> tuple[int, int | None]:
    """(offset, length) in bytes of the ring on a disk whose first sector is `start`; length None: to the end.

    A dump that starts with a record is the ring itself.
    """
    if start[:5] == b"tick ":
        return 0, size
    if start[510:512] == b"\x55\xaa":
        first, count = struct.unpack_from("<II", start, 446 + 16 + 8)
        if count:
            return first * SECTOR, count * SECTOR
    left = None if size is None else max(0, min(LARGEST_RING, size - UNPARTITIONED_OFFSET))
    return UNPARTITIONED_OFFSET, left


def read_counter(stream: BinaryIO) -> Counter:
    """Read the counter from a disk image, or from a dump of the ring's partition."""
    return examine(read_ring(stream))


def longest_pause(stream: BinaryIO, since: int) -> int:
    """The longest time between two neighbouring ticks after tick `since`, in milliseconds of the guest's own clock."""
    ring = read_ring(stream)
    found: dict[int, Record] = {}
    for slot in range(len(ring) // SECTOR):
        try:
            record = parse_sector(ring[slot * SECTOR : (slot + 1) * SECTOR])
        except ValueError:
            continue
        if record is not None and record.tick >= since:
            found[record.tick] = record
    pauses = [
        after.milliseconds - record.milliseconds for tick, record in found.items()
        if (after := found.get(tick + 1)) and after.boot == record.boot
    ]
    return max(pauses, default=0)


def read_ring(stream: BinaryIO) -> bytes:
    """The ring's bytes from a disk image, or from a dump of its partition."""
    start = stream.read(SECTOR)
    size = stream.seek(0, io.SEEK_END) if stream.seekable() else None
    offset, length = ring_place(start, size)
    if stream.seekable():
        stream.seek(offset)
        ring = stream.read(-1 if length is None else length)
    elif offset == 0:
        ring = start + stream.read()
    else:
        stream.read(offset - SECTOR)
        ring = stream.read(LARGEST_RING if length is None else length)
    return ring


def examine(ring: bytes) -> Counter:
    """Judge the content of a ring."""
    slots = len(ring) // SECTOR
    found: dict[int, Record] = {}
    torn = []
    for slot in range(slots):
        try:
            record = parse_sector(ring[slot * SECTOR : (slot + 1) * SECTOR])
        except ValueError:
            torn.append(slot)
            continue
        if record is None:
            continue
        if record.tick % slots != slot:
            torn.append(slot)
        else:
            found[record.tick] = record
    if not found:
        return Counter(0, 0, slots, (), tuple(torn), 0, 0)
    last = max(found)
    first = max(1, last - slots + 1)
    holes = tuple(tick for tick in range(first, last + 1) if tick not in found)
    backwards = sum(
        1
        for tick, record in found.items()
        if (after := found.get(tick + 1)) and after.boot == record.boot and after.milliseconds < record.milliseconds
    )
    return Counter(first, last, slots, holes, tuple(torn), len({record.boot for record in found.values()}), backwards)


def show_counter(counter: Counter, as_json: bool) -> str:
    """A counter for a person, or as JSON."""
    if as_json:
        return json.dumps(asdict(counter))
    text = f"ticks {counter.first}..{counter.last}, {counter.boots} starts of the guest"
    for name, numbers in (("missing ticks", counter.holes), ("torn slots", counter.torn)):
        if numbers:
            text += f"; {len(numbers)} {name}: {' '.join(map(str, numbers[:SHOWN]))}"
    return text if counter.holes or counter.torn else text + ", none missing, none torn"
