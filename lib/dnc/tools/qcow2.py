"""Writing qcow2 files without a second pass: what goes where, pure; the caller writes it (QEMU docs/interop/qcow2).

Clusters of data come in ascending order and lie in the file in that order, each L2 table behind the clusters that it
describes; tables whose size is only known at the end have their room reserved at the beginning. The header comes
last: a file that was not finished is no qcow2 image.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import Iterator, List, Tuple, Union

CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
_ENTRIES = CLUSTER // 8  # of an L2 table
_REFERENCES = CLUSTER // 2  # of a block of 16-bit reference counts
_COPIED = 1 << 63
_ZERO = 1
_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")

Data = Union[bytes, memoryview]
Write = Tuple[int, Data]


def _clusters(size: int) -> int:
    return -(-size // CLUSTER)


class Layout:
    """The places of one file's parts. size: bytes of the disk, a multiple of 512."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._tables = array("Q", bytes(8 * max(1, -(-_clusters(size) // _ENTRIES))))
        self._table_clusters = _clusters(8 * len(self._tables))
        # Room for the reference counts of the largest file that this can become.
        most = 2 + self._table_clusters + _clusters(size) + len(self._tables)
        blocks = most // _REFERENCES + 2
        self._reference_clusters = _clusters(8 * blocks)
        self._next = 1 + self._table_clusters + self._reference_clusters
        self._current = -1
        self._entries = array("Q")

    def put(self, offset: int, data: Data) -> Iterator[Write]:
        """Data from `offset` on, a multiple of CLUSTER behind all before it; only the disk's end may be no cluster."""
        while data:
            number = offset // CLUSTER
            yield from self._turn_to(number // _ENTRIES)
            first = number % _ENTRIES
            count = min(_clusters(len(data)), _ENTRIES - first)
            start = self._next
            for index in range(count):
                self._entries[first + index] = (start + index) * CLUSTER | _COPIED
            self._next += count
            yield start * CLUSTER, data[: count * CLUSTER]
            offset, data = offset + count * CLUSTER, data[count * CLUSTER :]

    def zero(self, offset: int, length: int) -> Iterator[Write]:
        """Zeros where an earlier image of the chain has something else; as `put`."""
        for number in range(offset // CLUSTER, _clusters(offset + length)):
            yield from self._turn_to(number // _ENTRIES)
            self._entries[number % _ENTRIES] = _ZERO

    def _turn_to(self, table: int) -> Iterator[Write]:
        if table != self._current:
            yield from self._end_table()
            self._current, self._entries = table, array("Q", bytes(CLUSTER))

    def _end_table(self) -> Iterator[Write]:
        if self._current >= 0:
            self._tables[self._current] = self._next * CLUSTER | _COPIED
            yield self._next * CLUSTER, _big_endian(self._entries)
            self._next += 1
        self._current = -1

    def finish(self) -> Iterator[Write]:
        """The tables, then the header. Nothing may follow."""
        yield from self._end_table()
        first, blocks = self._next, 1
        while blocks * _REFERENCES < first + blocks:
            blocks += 1
        end = first + blocks
        for index in range(blocks):
            used = min(_REFERENCES, end - index * _REFERENCES)
            yield (first + index) * CLUSTER, (b"\0\1" * used).ljust(CLUSTER, b"\0")
        references: List[int] = [(first + index) * CLUSTER for index in range(blocks)]
        yield (1 + self._table_clusters) * CLUSTER, _big_endian(array("Q", references)).ljust(
            self._reference_clusters * CLUSTER, b"\0")
        yield CLUSTER, _big_endian(self._tables).ljust(self._table_clusters * CLUSTER, b"\0")
        yield 0, self._header()

    def _header(self) -> bytes:
        head = _HEADER.pack(
            b"QFI\xfb", 3, 0, 0, CLUSTER_BITS, self.size, 0, len(self._tables), CLUSTER,
            (1 + self._table_clusters) * CLUSTER, self._reference_clusters, 0, 0, 0, 0, 0, 4, _HEADER.size,
        )
        return head.ljust(CLUSTER, b"\0")  # the end of its extensions is a zero, too


def _big_endian(values: array[int]) -> bytes:
    if sys.byteorder == "little":
        values = array("Q", values)
        values.byteswap()
    return values.tobytes()
