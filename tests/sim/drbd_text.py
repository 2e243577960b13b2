"""How DRBD 8.4 shows its state: /proc/drbd, status, events2."""

from __future__ import annotations

from sim import blocks
from sim.drbd_kernel import CONNECTED, Resource, connected_peer, resources
from sim.world import World

TYPE_CHECKING = False  # typing costs each start of a tool some milliseconds
if TYPE_CHECKING:
    from typing import Any

HEAD = "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: 637677C4EAFCF5D1D5446B0 \n"
CONNECTION = {"WFConnection": "Connecting"}


def peer_view(world: World, host: str, resource: Resource) -> tuple[str, str]:
    """(role, disk) of the peer as this end knows it."""
    peer = connected_peer(world, host, resource)
    return (peer[1]["role"], peer[1]["disk"]) if peer else ("Unknown", "DUnknown")


def out_of_sync_kib(resource: Resource) -> int:
    sync = resource["sync"]
    total = min(blocks.total(resource["oos"]) * 4, resource["kib"])
    return total * sync["left"] // sync["of"] if sync else total


def proc_drbd(world: World, host: str) -> str:
    if world.state["drbd"] == "9":
        from sim import drbd9_text

        return drbd9_text.HEAD
    text, before = HEAD, -1
    for resource in sorted(resources(world, host).values(), key=lambda found: found["minor"]):
        minor = resource["minor"]
        text += "\n" if before != minor - 1 else ""
        before = minor
        if resource["disk"] == "Diskless" and resource["conn"] == "StandAlone":
            text += f"{minor:2d}: cs:Unconfigured\n"
            continue
        role, disk = peer_view(world, host, resource)
        protocol = "C" if resource["conn"] != "StandAlone" else " "
        stat = resource["stat"]
        text += (
            f"{minor:2d}: cs:{resource['conn']} ro:{resource['role']}/{role} ds:{resource['disk']}/{disk} {protocol} "
            f"r-----\n"
            f"    ns:{stat['ns']} nr:{stat['nr']} dw:{stat['dw']} dr:{stat['dr']} al:{stat['al']} bm:0 lo:0 pe:0 ua:0 "
            f"ap:0 ep:1 wo:d "
            f"oos:{out_of_sync_kib(resource)}\n"
        )
        if resource["conn"] in ("SyncSource", "SyncTarget"):
            text += _progress(resource)
    return text


def _progress(resource: Resource) -> str:
    total, left = max(1, resource["sync"]["kib"]), out_of_sync_kib(resource)
    share = 100 - left * 100 / total
    bar = "=" * int(share / 5)
    return (
        f"\t[{bar}>{'.' * (20 - len(bar))}] sync'ed:{share:5.1f}% ({left}/{total})K\n"
        "\tfinish: 0:00:39 speed: 3,072 (3,072) want: 102,400 K/sec\n"
    )


def status(world: World, resource: Resource, verbose: bool = False) -> str:
    """`drbdadm status` of one resource."""
    host = world.host
    role, disk = peer_view(world, host, resource)
    stat = resource["stat"]
    lines = [f"{resource['name']} role:{resource['role']}" + (" suspended:no" if verbose else "")]
    if verbose:
        lines += [
            "    write-ordering:drain", f"  volume:0 minor:{resource['minor']} disk:{resource['disk']}",
            f"      size:{resource['kib']} read:{stat['dr']} written:{stat['dw']} al-writes:{stat['al']} bm-writes:0 "
            f"upper-pending:0",
            "      lower-pending:0 al-suspended:no blocked:no",
        ]  # fmt: skip
    else:
        lines.append(f"  disk:{resource['disk']}")
    if resource["conn"] in CONNECTED:
        replication = "Established" if resource["conn"] == "Connected" else resource["conn"]
        done = ""
        if resource["sync"]:
            done = f" done:{100 - out_of_sync_kib(resource) * 100 / max(1, resource['sync']['kib']):.2f}"
        if verbose:
            lines += [
                f"  peer connection:Connected role:{role} congested:no",
                f"    volume:0 replication:{replication} peer-disk:{disk}{done} resync-suspended:no",
                f"        received:{stat['nr']} sent:{stat['ns']} out-of-sync:{out_of_sync_kib(resource)} pending:0 "
                f"unacked:0",
            ]
        else:
            lines += [f"  peer role:{role}", f"    replication:{replication} peer-disk:{disk}{done}"]
    elif resource["conn"] != "StandAlone":
        lines.append(
            f"  peer connection:{CONNECTION.get(resource['conn'], resource['conn'])}"
            + (" role:Unknown congested:no" if verbose else "")
        )
    return "\n".join(lines) + "\n\n"


def events(world: World) -> str:
    """`drbdsetup events2 --now`."""
    text = ""
    for name, resource in sorted(resources(world).items()):
        role, disk = peer_view(world, world.host, resource)
        text += f"exists resource name:{name} role:{resource['role']} suspended:no\n"
        if resource["conn"] != "StandAlone":
            connection = "Connected" if resource["conn"] in CONNECTED else "Connecting"
            text += f"exists connection name:{name} peer-node-id:0 conn-name:peer connection:{connection} role:{role}\n"
        text += f"exists device name:{name} volume:0 minor:{resource['minor']} disk:{resource['disk']}\n"
        if resource["conn"] != "StandAlone":
            replication = (
                "Established"
                if resource["conn"] == "Connected"
                else resource["conn"]
                if resource["conn"] in CONNECTED
                else "Off"
            )
            text += (
                f"exists peer-device name:{name} peer-node-id:0 conn-name:peer volume:0 replication:{replication} "
                f"peer-disk:{disk} resync-suspended:no\n"
            )
    return text + "exists -\n"


def show(resource: Resource) -> str:
    """`drbdsetup show` of one resource, secret included as the real one does."""
    net = "".join(f"        {key}\t{value};\n" for key, value in sorted(resource["net"].items()))
    remote = f"    _remote_host {{\n        address\t\t\tipv4 {resource['peer']};\n    }}\n" if resource["peer"] else ""
    return (
        f"resource {resource['name']} {{\n    options {{\n    }}\n    net {{\n{net}    }}\n{remote}    _this_host {{\n"
        + (f"        address\t\t\tipv4 {resource['local']};\n" if resource["local"] else "")
        + f"        volume 0 {{\n            device\t\t\tminor {resource['minor']};\n"
        + f"            disk\t\t\t\"{resource['backing']}\";\n"
        "            meta-disk\t\t\tinternal;\n        }\n    }\n}\n"
    )


def cstate(resource: Resource) -> str:
    return str(resource["conn"])


def pairs(world: World, resource: Resource) -> dict[str, Any]:
    """Answers of role, cstate, dstate."""
    role, disk = peer_view(world, world.host, resource)
    return {"role": f"{resource['role']}/{role}", "cstate": resource["conn"], "dstate": f"{resource['disk']}/{disk}"}
