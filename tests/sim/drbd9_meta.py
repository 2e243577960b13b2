"""DRBD 9's metadata (v09): one generation, and a bitmap for each peer; what the free slots keep is their day 0.

{version, slots, node_id, current, history, flags, peers: {node id: {uuid, oos, flags}}, free: {uuid, oos}, la_kib, al,
device_uuid}; drbd_meta puts it where real metadata is.
"""

from __future__ import annotations

import os

from sim import drbd_meta

TYPE_CHECKING = False  # typing costs each start of a tool some milliseconds
if TYPE_CHECKING:
    from typing import Any

OWN_FLAGS = ("consistent", "uptodate", "primary", "crashed", "al_applied", "al_disabled", "lost_quorum")
PEER_FLAGS = ("connected", "outdated", "fencing", "full_sync", "seen")


def read(path: str) -> dict[str, Any] | None:
    """Metadata of that version, None if there is none where it should be. Raises OSError."""
    found = drbd_meta.read(path)
    return found if found and found.get("version") == 9 else None


def fresh(slots: int) -> dict[str, Any]:
    """As create-md writes it: just created, no node, all slots free."""
    return {
        "version": 9, "slots": slots, "node_id": -1, "current": drbd_meta.JUST_CREATED, "history": [0, 0],
        "flags": dict.fromkeys(OWN_FLAGS, False), "peers": {}, "free": {"uuid": 0, "oos": []}, "la_kib": 0, "al": [],
        "device_uuid": os.urandom(8).hex().upper(),
    }  # fmt: skip


def fresh_peer(uuid: int = 0, oos: list | None = None) -> dict[str, Any]:
    return {"uuid": uuid, "oos": [list(run) for run in oos or []], "flags": dict.fromkeys(PEER_FLAGS, False)}


def line(metadata: dict[str, Any], node_id: int) -> str:
    """As get-gi --node-id prints it: four UUIDs and twelve flags."""
    peer = metadata["peers"].get(str(node_id)) or fresh_peer(metadata["free"]["uuid"])
    uuids = (metadata["current"], peer["uuid"], *metadata["history"][:2])
    flags = [metadata["flags"][flag] for flag in OWN_FLAGS] + [peer["flags"][flag] for flag in PEER_FLAGS]
    return ":".join([*(f"{uuid:016X}" for uuid in uuids), *("1" if flag else "0" for flag in flags)])


def free_slots(metadata: dict[str, Any]) -> int:
    return metadata["slots"] - len(metadata["peers"])


# What drbdmeta last knew of a minor's device: where to look for metadata after its volume grew.


def known_size(path: str) -> tuple[int, str] | None:
    """(bytes, device) of an lkbd file."""
    if not os.path.exists(path):
        return None
    with open(path) as file:
        words = file.readline().split()
    return (int(words[0]), words[1]) if len(words) == 2 and words[0].isdigit() else None


def note_size(path: str, backing: str, device_uuid: str) -> None:
    size = os.stat(os.path.realpath(backing)).st_size
    with open(path, "w") as file:
        file.write(f"{size}\t{backing}\nuuid:\t{device_uuid}\n")
