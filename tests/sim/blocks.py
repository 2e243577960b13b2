"""Contents of volumes: sparse files, copied, compared and counted by their data only."""

from __future__ import annotations

import os

BLOCK = 4096
CHUNK = 1 << 20


def create(path: str, size: int) -> None:
    """A new volume of zeros; what a tool that was killed half-way left under this name is overwritten."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o666)
    try:
        os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


def extents(descriptor: int, end: int) -> list[tuple[int, int]]:
    """Where the file holds data before `end`: (start, stop) in bytes."""
    found, position = [], 0
    while position < end:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:
            break
        if start >= end:
            break
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        found.append((start, min(position, end)))
    return found


def copy(source: str, target: str, size: int = -1) -> None:
    """Make target a sparse copy of source's first `size` bytes (all, if -1)."""
    with open(source, "rb") as origin:
        length = os.fstat(origin.fileno()).st_size if size < 0 else size
        descriptor = os.open(target, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o666)
        try:
            os.ftruncate(descriptor, length)
            for start, stop in extents(origin.fileno(), length):
                _copy_range(origin.fileno(), descriptor, start, stop)
        finally:
            os.close(descriptor)


def _copy_range(source: int, target: int, start: int, stop: int) -> None:
    while start < stop:
        data = os.pread(source, min(CHUNK, stop - start), start)
        if not data:
            return
        os.pwrite(target, data, start)
        start += len(data)


def differences(one: str, other: str, size: int) -> list[list[int]]:
    """Blocks of 4 KiB that differ within the first `size` bytes, as [first, count] runs."""
    runs: list[list[int]] = []
    with open(one, "rb") as left, open(other, "rb") as right:
        for start, stop in _union(extents(left.fileno(), size), extents(right.fileno(), size)):
            for position in range(start, stop, CHUNK):
                length = min(CHUNK, stop - position)
                a = os.pread(left.fileno(), length, position)
                b = os.pread(right.fileno(), length, position)
                if a != b:
                    _add_blocks(runs, a, b, position)
    return runs


def _union(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[list[int]] = []
    for start, stop in sorted(one + other):
        start, stop = start - start % BLOCK, stop + -stop % BLOCK
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([start, stop])
    return [(start, stop) for start, stop in merged]


def _add_blocks(runs: list[list[int]], one: bytes, other: bytes, position: int) -> None:
    for offset in range(0, max(len(one), len(other)), BLOCK):
        if one[offset : offset + BLOCK].ljust(BLOCK, b"\0") != other[offset : offset + BLOCK].ljust(BLOCK, b"\0"):
            add_run(runs, (position + offset) // BLOCK, 1)


def add_run(runs: list[list[int]], first: int, count: int) -> None:
    """Append in rising order; joins what touches."""
    if runs and runs[-1][0] + runs[-1][1] >= first:
        runs[-1][1] = max(runs[-1][1], first + count - runs[-1][0])
    else:
        runs.append([first, count])


def merge(one: list[list[int]], other: list[list[int]]) -> list[list[int]]:
    """Union of two lists of runs."""
    merged: list[list[int]] = []
    for first, count in sorted(one + other):
        add_run(merged, first, count)
    return merged


def total(runs: list[list[int]]) -> int:
    """Number of blocks in the runs."""
    return sum(count for _first, count in runs)


def copy_runs(source: str, target: str, runs: list[list[int]], size: int) -> None:
    """Copy blocks of 4 KiB from source to target, up to `size` bytes; holes that both have stay holes."""
    if not runs:
        return
    with open(source, "rb") as origin:
        descriptor = os.open(target, os.O_RDWR)
        try:
            for first, count in runs:
                _copy_run(origin.fileno(), descriptor, first * BLOCK, min((first + count) * BLOCK, size))
        finally:
            os.close(descriptor)


def _copy_run(source: int, target: int, start: int, stop: int) -> None:
    wanted = _union(list(_within(source, start, stop)), list(_within(target, start, stop)))
    for begin, end in wanted:
        position = max(begin, start)
        while position < min(end, stop):
            length = min(CHUNK, min(end, stop) - position)
            os.pwrite(target, os.pread(source, length, position).ljust(length, b"\0"), position)
            position += length


def _within(descriptor: int, start: int, stop: int) -> list[tuple[int, int]]:
    found, position = [], start
    while position < stop:
        try:
            begin = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:
            break
        if begin >= stop:
            break
        position = os.lseek(descriptor, begin, os.SEEK_HOLE)
        found.append((begin, min(position, stop)))
    return found


def allocated(path: str) -> int:
    """Bytes that the file really holds."""
    try:
        return os.stat(path).st_blocks * 512
    except FileNotFoundError:
        return 0


def digest(path: str, size: int) -> str:
    """sha256 of the first `size` bytes."""
    import hashlib

    total_hash = hashlib.sha256()
    with open(path, "rb") as file:
        left = size
        while left > 0:
            data = file.read(min(CHUNK, left))
            if not data:
                break
            total_hash.update(data)
            left -= len(data)
    total_hash.update(b"\0" * 0)
    return total_hash.hexdigest()
