"""DRBD's internal metadata, kept in the volume's own last bytes: clones, copies and growth treat it as on a disk.

The super block is in the last 4 KiB; the rest (bitmap, activity log) is told in JSON where the metadata area begins.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False  # typing costs each start of a tool some milliseconds
if TYPE_CHECKING:
    from typing import Any

MAGIC = b"SIMDRBD8"
JUST_CREATED = 4
SUPER = 4096
FLAGS = ("consistent", "uptodate", "primary", "connected", "full_sync", "peer_outdated", "crashed_primary")


def area_kib(volume_kib: int, slots: int = 1) -> int:
    """Size of super block, activity log and bitmap (one bit for 4 KiB), in KiB: 128 MiB -> 40, 192 MiB -> 44."""
    bitmap_bytes = -(-volume_kib // 4) / 8
    bitmap = -(-int(bitmap_bytes * slots + 0.999) // 4096) * 4
    return 4 + 32 + bitmap


def data_kib(path: str, slots: int = 1, size: int = 0) -> int:
    """Size of the data area of a volume (of `size` bytes, if given) with internal metadata, in KiB."""
    volume = (size or os.stat(path).st_size) // 1024 // 4 * 4
    return volume - area_kib(volume, slots)


def fresh(path: str) -> dict[str, Any]:
    """Metadata as create-md writes it: just created, nothing known."""
    return {
        "uuids": [JUST_CREATED, 0, 0, 0],
        "flags": dict.fromkeys(FLAGS, False),
        "la_kib": 0,
        "al": [],
        "oos": [],
        "device_uuid": os.urandom(8).hex().upper(),
        "clean": True,
    }


def read(path: str) -> dict[str, Any] | None:
    """Metadata of a volume, None if there is none where it should be. Raises OSError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size // 4096 * 4096
        if size < 2 * SUPER:
            return None
        file.seek(size - SUPER)
        block = file.read(SUPER)
        if not block.startswith(MAGIC):
            return None
        start, length = (int(word) for word in block[len(MAGIC) :].rstrip(b"\0").split())
        file.seek(start)
        try:
            found: dict[str, Any] = json.loads(file.read(length))
        except ValueError:
            return None
    return found


def write(path: str, metadata: dict[str, Any], owner: str, end: int = 0) -> None:
    """Write metadata at the end of the volume, or where its end was. owner: the host; members' areas differ as real
    ones do."""
    text = json.dumps({**metadata, "owner": owner}).encode()
    start = data_kib(path, metadata.get("slots", 1), end) * 1024
    with open(path, "r+b") as file:
        size = (end or os.fstat(file.fileno()).st_size) // 4096 * 4096
        room = size - SUPER - start
        if len(text) > room:
            text = json.dumps(_coarsely({**metadata, "owner": owner})).encode()
        file.seek(start)
        file.write(text.ljust(min(room, len(text) + 512), b" "))
        file.seek(size - SUPER)
        file.write((MAGIC + b"%d %d " % (start, len(text))).ljust(SUPER, b"\0"))


def _coarsely(found: Any) -> Any:
    """The same metadata with coarser bitmaps, wherever they are in it."""
    if not isinstance(found, dict):
        return found
    return {key: _coarse(value) if key == "oos" else _coarsely(value) for key, value in found.items()}


def _coarse(runs: list[list[int]]) -> list[list[int]]:
    """A bitmap in fewer words: runs in whole MiB."""
    coarse: list[list[int]] = []
    for first, count in runs:
        begin, end = first // 256 * 256, -(-(first + count) // 256) * 256
        if coarse and coarse[-1][0] + coarse[-1][1] >= begin:
            coarse[-1][1] = max(coarse[-1][1], end - coarse[-1][0])
        else:
            coarse.append([begin, end - begin])
    return coarse


def line(metadata: dict[str, Any]) -> str:
    """As get-gi prints it: four UUIDs and seven flags."""
    uuids = ":".join(f"{uuid:016X}" for uuid in metadata["uuids"])
    return uuids + ":" + ":".join("1" if metadata["flags"][flag] else "0" for flag in FLAGS)


def new_uuid() -> int:
    """A random generation identifier; the lowest bit is a flag."""
    return int.from_bytes(os.urandom(8), "big") & ~1 | (1 << 63)
