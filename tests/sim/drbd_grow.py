"""drbdadm resize: grows only where both ends have room and one is Primary; else it silently does nothing."""

from __future__ import annotations

import os

from sim import blocks, drbd_meta
from sim import drbd_kernel as kernel
from sim.world import Refused, World

TYPE_CHECKING = False  # typing costs each start of a tool some milliseconds
if TYPE_CHECKING:
    from typing import Any


def resize(world: World, found: dict[str, Any], options: dict) -> tuple[int, str, str]:
    """Take over grown volumes. Raises Refused without a Primary."""
    peer = kernel.connected_peer(world, world.host, found)
    minor, clean = found["minor"], "assume-clean" in options
    if found["role"] != "Primary" and not (peer and peer[1]["role"] == "Primary"):
        raise Refused(10, f"{minor}: Failure: (131) Need one Primary node to resize.\n"
                      f"Command 'drbdsetup-84 resize {minor}{' --assume-clean' if clean else ''}' terminated with "
                      f"exit code 10")  # fmt: skip
    if peer is None:
        return 0, "", ""
    ends = [(world.host, found), peer]
    size = min(drbd_meta.data_kib(kernel.volume(world, end, host)) for host, end in ends)
    if size <= found["kib"]:
        return 0, "", ""
    old = found["kib"]
    grown = [[old // 4, -(-size // 4) - old // 4]]
    for host, end in ends:
        path = kernel.volume(world, end, host)
        _wipe_old_super_block(path, old)
        end["kib"] = size
        kernel.write_size(world, end, host)
        if end["role"] == "Primary":
            os.truncate(kernel.device(world, end, host), size * 1024)
            blocks.copy_runs(path, kernel.device(world, end, host), grown, size * 1024)
            end["stamp"] = None
        kernel.persist(world, end, host)
    source, target = (ends[0], ends[1]) if found["role"] == "Primary" else (ends[1], ends[0])
    if not clean:
        blocks.copy_runs(
            kernel.volume(world, source[1], source[0]), kernel.volume(world, target[1], target[0]), grown, size * 1024
        )
    return 0, "", ""


def _wipe_old_super_block(path: str, old_kib: int) -> None:
    """Moving the metadata takes its magic away from the old place; the rest stays as the guest will find it."""
    with open(path, "r+b") as file:
        data = os.pread(file.fileno(), 1 << 20, old_kib * 1024)
        position = data.find(drbd_meta.MAGIC)
        if position >= 0:
            os.pwrite(file.fileno(), b"\0" * drbd_meta.SUPER, old_kib * 1024 + position)
