"""drbdadm resize of DRBD 9: once, on a host with a disk; Primary or not. What it can't it does not say (g-resize)."""

from __future__ import annotations

import os

from sim import blocks, drbd9_meta, drbd_meta
from sim import drbd9_kernel as kernel
from sim.drbd_grow import _wipe_old_super_block
from sim.drbd_kernel import device, volume, write_size
from sim.world import Refused, World


def resize(world: World, found: kernel.Resource, options: dict) -> tuple[int, str, str]:
    """Take over grown volumes; the new space is resynced unless --assume-clean. Raises Refused without a disk."""
    if found["disk"] not in kernel.ATTACHED:
        raise Refused(10, f"{found['minor']}: Failure: (138) Device does not have a disk-config\n"
                          f"Command 'drbdsetup resize {found['minor']}' terminated with exit code 10")  # fmt: skip
    ends = [(world.host, found), *kernel.connected(world, world.host, found)]
    legs = [(host, one) for host, one in ends if one["disk"] in kernel.ATTACHED]
    # check-resize notes the size of this host's volume, whether it came into use or not.
    note = f"/var/lib/drbd/drbd-minor-{found['minor']}.lkbd"
    drbd9_meta.note_size(note, found["backing"], found["device_uuid"])
    size = min(drbd_meta.data_kib(volume(world, one, host), one["slots"]) for host, one in legs)
    if size <= found["kib"]:
        return 0, "", ""
    old, source = found["kib"], volume(world, found)
    grown = [[old // 4, -(-size // 4) - old // 4]]
    for host, one in ends:
        one["kib"] = size
        write_size(world, one, host)
        if one["disk"] in kernel.ATTACHED:
            _wipe_old_super_block(volume(world, one, host), old)
            one["md_end"] = os.stat(volume(world, one, host)).st_size
            if "assume-clean" not in options and one is not found:
                blocks.copy_runs(source, volume(world, one, host), grown, size * 1024)
            kernel.persist(world, one, host)
        if one["role"] == "Primary":
            os.truncate(device(world, one, host), size * 1024)
            blocks.copy_runs(source, device(world, one, host), grown, size * 1024)
            one["stamp"] = None
    return 0, "", ""
