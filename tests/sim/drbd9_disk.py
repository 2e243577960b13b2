"""DRBD 9 meets a volume: attach, bitmap slots, and where drbdmeta looks for metadata after a volume grew."""

from __future__ import annotations

import json
import os

from sim import blocks, drbd9_meta, drbd_kernel, drbd_meta
from sim.drbd9_kernel import Resource, connected, persist
from sim.drbd_kernel import EXTENT_BLOCKS, write_size
from sim.world import Refused, World

TYPE_CHECKING = False  # typing costs each start of a tool some milliseconds
if TYPE_CHECKING:
    from typing import Any


def take_slot(resource: Resource, node_id: str, command: str) -> None:
    """A bitmap for a peer: the one it had, or a free one with all that was written since day 0. Raises Refused."""
    peer = resource["peers"][node_id]
    kept = resource["forgotten"].pop(node_id, None)
    if kept is None:
        taken = sum(1 for one in resource["peers"].values() if one.get("slot")) + len(resource["forgotten"])
        if taken >= resource["slots"]:
            raise Refused(1, (
                f"{resource['name']}: Failure: (162) Invalid configuration request\nadditional info from kernel:\n"
                f"No bitmap slot available in meta-data\n"
                f"Command 'drbdsetup {command}' terminated with exit code 10"))  # fmt: skip
        kept = resource["free"]
    peer.update(slot=True, uuid=kept["uuid"], oos=[list(run) for run in kept["oos"]])


def attach(world: World, resource: Resource, backing: str) -> str:
    """Attach the volume -> text for stderr. Raises Refused as drbdadm passes it on (1)."""
    path = os.path.realpath(backing)
    metadata = drbd9_meta.read(path)
    minor = resource["minor"]
    command = f"Command 'drbdsetup attach {minor} {backing} {backing} internal --rs-discard-granularity=65536' "
    if metadata is None:
        raise Refused(1, "No valid meta data found")
    if metadata["node_id"] not in (-1, resource["node_id"]):
        raise Refused(1, (
            f"{minor}: Failure: (119) No valid meta-data signature found.\n\n"
            "\t==> Use 'drbdadm create-md res' to initialize meta-data area. <==\n\nadditional info from kernel:\n"
            f"ambiguous node id: meta-data: {metadata['node_id']}, config: {resource['node_id']}\n\n"
            f"{command}terminated with exit code 10"))  # fmt: skip
    wanted = [node for node, peer in resource["peers"].items() if peer["bitmap"] and node not in metadata["peers"]]
    if len(wanted) > drbd9_meta.free_slots(metadata):
        raise Refused(1, (
            f"{minor}: Failure: (162) Invalid configuration request\nadditional info from kernel:\n"
            f"Not enough free bitmap slots (available={drbd9_meta.free_slots(metadata)}, needed={len(wanted)})\n\n"
            f"{command}terminated with exit code 10"))  # fmt: skip
    for _other, there in connected(world, world.host, resource):
        if not there["peers"][str(resource["node_id"])]["bitmap"]:
            raise Refused(1, (
                f"{minor}: State change failed: (-10) State change was refused by peer node\nadditional info from "
                "kernel:\nProbably this node is marked as intentional diskless on a peer\n"
                f"{command}terminated with exit code 11"))  # fmt: skip
    return _take_over(world, resource, backing, metadata)


def _take_over(world: World, resource: Resource, backing: str, metadata: dict) -> str:
    flags, path = metadata["flags"], os.path.realpath(backing)
    own_kib = drbd_meta.data_kib(path, metadata["slots"])
    resource.update(
        backing=backing, client=False, current=metadata["current"], history=metadata["history"],
        slots=metadata["slots"], free=metadata["free"], device_uuid=metadata["device_uuid"], al=[],
        md_end=os.stat(path).st_size, crashed=flags["crashed"], kib=min(metadata["la_kib"] or own_kib, own_kib),
    )
    resource["forgotten"] = dict(metadata["peers"])
    text = ""
    if flags["primary"] and metadata["al"]:
        text = _mark_log(resource, metadata["al"])
    for node, peer in resource["peers"].items():
        if peer["bitmap"]:
            take_slot(resource, node, "")
    good = "UpToDate" if flags["uptodate"] else "Outdated"
    resource["disk"] = good if flags["consistent"] else "Inconsistent"
    write_size(world, resource)
    persist(world, resource)
    return text


def _mark_log(resource: Resource, extents: list[int]) -> str:
    limit = -(-resource["kib"] // 4)
    marked = [[extent * EXTENT_BLOCKS, EXTENT_BLOCKS] for extent in sorted(extents)]
    marked = [[first, min(count, limit - first)] for first, count in marked if first < limit]
    for one in (*resource["forgotten"].values(), resource["free"]):
        one["oos"] = blocks.merge(one["oos"], marked)
    total = blocks.total(marked) * 4 * resource["slots"]
    return f"Marked additional {drbd_kernel._size(total)} as out-of-sync based on AL.\n"


def apply_log(world: World, minor: int, backing: str) -> str:
    """What drbdadm up runs before it attaches: finds metadata that growth left behind, by the lkbd file of the minor.

    Raises Refused (255). Returns text for stderr.
    """
    path, note = os.path.realpath(backing), f"/var/lib/drbd/drbd-minor-{minor}.lkbd"
    metadata, text = drbd9_meta.read(path), ""
    if metadata is None:
        known = drbd9_meta.known_size(note)
        size = os.stat(path).st_size
        old = _metadata_at(path, known[0]) if known and known[1] == backing and known[0] < size else None
        if old is None:
            raise Refused(255, "No valid meta data found")
        metadata = old
        drbd_meta.write(path, metadata, world.host)
        text = "Moving the internal meta data to its proper location\nInternal drbd meta data successfully moved.\n"
    drbd9_meta.note_size(note, backing, metadata["device_uuid"])
    return text


def _metadata_at(path: str, size: int) -> dict | None:
    """Metadata of a volume when it had `size` bytes; its magic is wiped there, the rest of the area stays."""
    with open(path, "r+b") as file:
        block = os.pread(file.fileno(), drbd_meta.SUPER, size - drbd_meta.SUPER)
        if not block.startswith(drbd_meta.MAGIC):
            return None
        start, length = (int(word) for word in block[len(drbd_meta.MAGIC) :].rstrip(b"\0").split())
        found: dict[str, Any] = json.loads(os.pread(file.fileno(), length, start))
        os.pwrite(file.fileno(), b"\0" * drbd_meta.SUPER, size - drbd_meta.SUPER)
    return found


