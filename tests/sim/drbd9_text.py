"""How DRBD 9 shows its state: status, its JSON, show; the first line of /proc/drbd."""

from __future__ import annotations

import json

from sim import blocks
from sim import drbd9_kernel as kernel
from sim.world import World

TYPE_CHECKING = False  # typing costs each start of a tool some milliseconds
if TYPE_CHECKING:
    from typing import Any

HEAD = "version: 9.3.3 (api:2/proto:118-124)\nGIT-hash: 0 build by root@node1\nTransports (api:21):\n"


def peer_view(world: World, host: str, resource: kernel.Resource, peer: kernel.Peer) -> tuple[str, str]:
    """(role, disk) of a peer as this end knows it."""
    for _other, there, one, _back in kernel.ends(world, host, resource):
        if one is peer and peer["conn"] == "Connected":
            return there["role"], there["disk"]
    return "Unknown", "DUnknown"


def out_of_sync_kib(resource: kernel.Resource, peer: kernel.Peer) -> int:
    total = min(blocks.total(peer["oos"]) * 4, resource["kib"]) if peer["bitmap"] else 0
    return total * peer["sync"]["left"] // peer["sync"]["of"] if peer["sync"] else total


def _why(resource: kernel.Resource) -> str:
    words = ["user"] if resource["user_suspended"] else []
    bare = resource["disk"] == "Diskless" and not resource["client"]
    return ",".join(words + (["quorum"] if not resource["quorate"] and not bare else []))


def _quorate(resource: kernel.Resource) -> bool:
    return bool(resource["quorate"])


def status(world: World, resource: kernel.Resource) -> str:
    """`drbdadm status` of one resource."""
    why = _why(resource)
    head = f"{resource['name']} role:{resource['role']}" + (f" suspended:{why}" if why else "")
    head += " force-io-failures:yes" if resource["io_failures"] else ""
    disk = f"  disk:{resource['disk']}"
    if resource["disk"] == "Diskless":
        disk += f" client:{'yes' if resource['client'] else 'no'}"
    disk += "" if _quorate(resource) else " quorum:no"
    disk += " blocked:upper" if why and resource["disk"] in ("UpToDate",) and resource["role"] == "Secondary" else ""
    lines = [head, disk]
    for peer in ordered(resource):
        role, their_disk = peer_view(world, world.host, resource, peer)
        if peer["conn"] != "Connected":
            lines.append(f"  {peer['name']} connection:{peer['conn']}")
            continue
        lines.append(f"  {peer['name']} role:{role}")
        client = " peer-client:yes" if their_disk == "Diskless" and not peer["bitmap"] else ""
        if peer["repl"] == "Established":
            lines.append(f"    peer-disk:{their_disk}{client}")
        else:
            done = 100 - out_of_sync_kib(resource, peer) * 100 / max(1, peer["sync"]["kib"])
            lines.append(f"    replication:{peer['repl']} peer-disk:{their_disk} done:{done:.2f}")
            if peer["repl"].startswith("Paused"):
                lines.append("        resync-suspended:dependency")
    return "\n".join(lines) + "\n\n"


def ordered(resource: kernel.Resource) -> list[kernel.Peer]:
    return [peer for _node, peer in sorted(resource["peers"].items(), key=lambda item: int(item[0]))]


def to_json(world: World, found: list[kernel.Resource]) -> str:
    """`drbdsetup status --json`: keys and order as real ones have them, up to what tests never read."""
    records = [_record(world, resource) for resource in found]
    text = json.dumps(records, indent=2)
    return text + "\n"


def _record(world: World, resource: kernel.Resource) -> dict[str, Any]:
    why = _why(resource).split(",")
    return {
        "name": resource["name"], "node-id": resource["node_id"], "role": resource["role"],
        "suspended": why != [""], "suspended-user": "user" in why, "suspended-no-data": False,
        "suspended-fencing": False, "suspended-quorum": "quorum" in why, "force-io-failures": resource["io_failures"],
        "write-ordering": "flush" if resource["disk"] in kernel.ATTACHED else "none",
        "devices": [{
            "volume": 0, "minor": resource["minor"], "disk-state": resource["disk"], "client": resource["client"],
            "quorum": _quorate(resource), "size": resource["kib"], "read": resource["stat"]["read"],
            "written": resource["stat"]["written"], "al-writes": resource["stat"]["al"],
            "bm-writes": resource["stat"]["bm"], "upper-pending": 0, "lower-pending": 0,
        }],
        "connections": [_connection(world, resource, node) for node in sorted(resource["peers"], key=int)],
    }  # fmt: skip


def _connection(world: World, resource: kernel.Resource, node: str) -> dict[str, Any]:
    peer = resource["peers"][node]
    role, disk = peer_view(world, world.host, resource, peer)
    behind = out_of_sync_kib(resource, peer)
    share = round(100 - behind * 100 / max(1, resource["kib"]), 2)
    return {
        "peer-node-id": int(node), "name": peer["name"], "connection-state": peer["conn"], "congested": False,
        "peer-role": role, "ap-in-flight": 0, "rs-in-flight": 0,
        "peer_devices": [{
            "volume": 0, "replication-state": peer["repl"], "peer-disk-state": disk, "peer-client": not peer["bitmap"],
            "resync-suspended": "dependency" if peer["repl"].startswith("Paused") else "no",
            "received": peer["received"], "sent": peer["sent"], "out-of-sync": behind, "pending": 0, "unacked": 0,
            "has-sync-details": bool(peer["sync"]), "has-online-verify-details": False, "percent-in-sync": share,
        }],
    }  # fmt: skip


def show(resource: kernel.Resource) -> str:
    """`drbdsetup show`, secrets included as the real one does."""
    text = f"resource {resource['name']} {{\n    options {{\n"
    text += "".join(f"        {key}\t{value};\n" for key, value in sorted(resource["options"].items()))
    text += f"    }}\n    _this_host {{\n        node-id\t\t\t{resource['node_id']};\n        volume 0 {{\n"
    text += f"            device\t\t\tminor {resource['minor']};\n"
    text += f"            disk\t\t\t\"{resource['backing'] or 'none'}\";\n        }}\n    }}\n"
    for node in sorted(resource["peers"], key=int):
        peer = resource["peers"][node]
        net = "".join(
            f"            {key}\t{value};\n" for key, value in sorted(peer["net"].items())
            if (key, value) != ("allow-two-primaries", "no")
        )
        text += f"    connection {{\n        _peer_node_id {node};\n        net {{\n{net}"
        text += f"            _name\t{peer['name']};\n        }}\n    }}\n"
    return text + "}\n"
