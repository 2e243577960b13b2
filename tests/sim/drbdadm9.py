"""Fake drbdadm with DRBD 9: what it does when the module is 9; the order of its steps is that of `drbdadm -d`."""

from __future__ import annotations

import os

from sim import drbd9_disk as disk
from sim import drbd9_kernel as kernel
from sim import drbd9_link as link
from sim import drbd9_meta, drbd9_text, drbd_kernel, drbd_meta
from sim.drbd_conf import Config
from sim.drbdadm_ask import dump, shell
from sim.world import Refused, World

TYPE_CHECKING = False  # typing costs each start of a tool some milliseconds
if TYPE_CHECKING:
    from typing import Any

VERSION = (
    "DRBDADM_BUILDTAG=GIT-hash:\\ 409097fe02187f83790b88ac3e0d94f3c167adab"
    "\\ reproducible\\ build\\,\\ 2024-07-17\\ 17:22:06\n"
    "DRBDADM_API_VERSION=2\nDRBD_KERNEL_VERSION_CODE=0x090303\nDRBDADM_VERSION_CODE=0x091600\nDRBDADM_VERSION=9.22.0\n"
)
Answer = tuple
Options = dict


def own_section(config: Config, name: str) -> dict[str, Any]:
    return config.resources[name.split("/")[0].split(":")[0]]["hosts"][config.host]


def running(world: World, name: str, command: str) -> kernel.Resource:
    found = drbd_kernel.resources(world).get(name.split("/")[0].split(":")[0])
    if found is None:
        raise Refused(10, f"{name}: No such resource\nCommand 'drbdsetup {command} {name}' terminated with exit code "
                          "10")  # fmt: skip
    return found


def peers_of(config: Config, name: str) -> dict[str, tuple[str, tuple[str, str], bool]]:
    """node id -> (host, endpoints, whether it has a disk) of the other hosts in the file."""
    hosts = config.resources[name]["hosts"]
    mine = hosts[config.host]["endpoint"]
    return {
        str(own["node_id"]): (host, (mine, own["endpoint"]), own["backing"] != "none")
        for host, own in hosts.items() if host != config.host
    }  # fmt: skip


def net_of(config: Config, name: str) -> dict[str, str]:
    return {**config.common["net"], **config.resources[name]["net"]}


def told(peer: kernel.Peer, net: dict[str, str]) -> str:
    """The options of a connection as drbdsetup gets them, and as its errors print them: with the secret."""
    order = ("rr-conflict", "verify-alg", "after-sb-2pri", "after-sb-1pri", "after-sb-0pri", "shared-secret",
             "cram-hmac-alg", "protocol", "allow-two-primaries")  # fmt: skip
    return " ".join([f"--_name={peer['name']}", *(f"--{key}={net[key]}" for key in order if key in net)])


def up(world: World, config: Config, name: str, options: Options) -> Answer:
    """new-resource, new-minor, peers and paths, apply-al, attach, connect: what fails leaves the steps before it."""
    own = own_section(config, name)
    minor, backing = own["minor"], own["backing"]
    found = drbd_kernel.resources(world).get(name)
    if found is not None:
        raise Refused(1, (
            f"new-minor {name} {minor} 0: sysfs node '/sys/devices/virtual/block/drbd{minor}' (already? still?) "
            f"exists\n{name}: Failure: (161) Minor or volume exists already (delete it first)\n"
            f"Command 'drbdsetup new-minor {name} {minor} 0' terminated with exit code 10"))  # fmt: skip
    found = kernel.make(world, name, minor, own["node_id"], config.resources[name]["options"])
    for node, (host, ends, diskful) in peers_of(config, name).items():
        kernel.new_peer(found, int(node), host, ends, net_of(config, name), diskful)
    text = ""
    if backing == "none":
        found["client"] = True
        kernel.publish(world, found)
    else:
        text = attach_disk(world, found, backing)
    for peer in found["peers"].values():
        peer["conn"] = "Connecting"
    return 0, "", text


def attach_disk(world: World, found: kernel.Resource, backing: str) -> str:
    failed = f"Command 'drbdmeta {found['minor']} v09 {backing} internal apply-al' terminated with exit code 20"
    if not os.path.exists(backing):
        raise Refused(1, f"open({backing}) failed: No such file or directory\n{failed}")
    from sim.holders import holder

    if holder(world, backing) in ("drbd", "domain"):
        raise Refused(1, f"open({backing}) failed: Device or resource busy\n{failed}")
    try:
        text = disk.apply_log(world, found["minor"], backing)
    except Refused as refusal:
        raise Refused(1, refusal.text)
    return text + disk.attach(world, found, backing)


def adjust(world: World, config: Config, name: str, options: Options) -> Answer:
    """The difference between the file and the kernel, no more; a resource that is down comes up."""
    found = drbd_kernel.resources(world).get(name)
    if found is None:
        return up(world, config, name, options)
    own, wanted, net = own_section(config, name), peers_of(config, name), net_of(config, name)
    found["options"] = dict(config.resources[name]["options"])
    for node in [node for node in found["peers"] if node not in wanted or found["peers"][node]["name"] !=
                 wanted[node][0]]:  # fmt: skip
        kernel.del_peer(world, found, node)
    for node, (host, ends, diskful) in wanted.items():
        peer = found["peers"].get(node)
        if peer is None:
            kernel.new_peer(found, int(node), host, ends, net, diskful)["bitmap"] = False
        else:
            change_net(world, found, node, {**net, "allow-two-primaries": net.get("allow-two-primaries", "no")}, 1,
                       f"--set-defaults {told(peer, net)}")  # fmt: skip
        change_bitmap(world, found, node, diskful)
    text = change_disk(world, found, own["backing"])
    for peer in found["peers"].values():
        if peer["conn"] == "StandAlone":
            peer["conn"] = "Connecting"
    return 0, "", text


def change_bitmap(world: World, found: kernel.Resource, node: str, diskful: bool) -> None:
    """peer-device-options: a client becomes a replica, or the other way round."""
    peer = found["peers"][node]
    if diskful and not peer["bitmap"] and found["disk"] in kernel.ATTACHED:
        disk.take_slot(found, node, f"peer-device-options {found['name']} {node} 0 --set-defaults")
    if not diskful and peer["bitmap"]:
        peer.update(slot=False, uuid=0, oos=[])
    peer["bitmap"] = diskful
    kernel.persist(world, found)


def change_disk(world: World, found: kernel.Resource, backing: str) -> str:
    """attach, or detach --diskless."""
    if backing != "none" and found["disk"] == "Diskless":
        text = attach_disk(world, found, backing)
        for node, peer in found["peers"].items():
            if peer["conn"] == "Connected":
                kernel.disconnect(world, world.host, found, node)  # the disk is negotiated anew
        return text
    if backing == "none" and found["disk"] in kernel.ATTACHED:
        found.update(disk="Diskless", client=True, backing="")
        kernel.publish(world, found)
    return ""


def down(world: World, _config: Config, name: str, _options: Options) -> Answer:
    """All peers go first, then it is refused if anybody has the device open, even for reading (h-errors2)."""
    found = drbd_kernel.resources(world).get(name)
    if found is None:
        return 0, "", ""
    kernel.flush(world, world.host, found)
    opener = kernel.opened(world, world.host, found)
    if opener and not found["io_failures"]:
        for node in list(found["peers"]):
            kernel.del_peer(world, found, node)
        raise Refused(17, (
            f"{name}: State change failed: (-2) Need access to UpToDate data\nadditional info from kernel:\n"
            f"drbd{found['minor']} opened by {opener} at 2026-11-20 12:05:29.093\n"
            f"Command 'drbdsetup down {name}' terminated with exit code 17"))  # fmt: skip
    if found["role"] == "Primary":
        kernel.become_secondary(world, world.host, found)
    kernel.remove(world, found)
    return 0, "", ""


def primary(world: World, _config: Config, name: str, options: Options) -> Answer:
    found = running(world, name, "primary")
    kernel.promote(world, found, "force" in options)
    return 0, "", ""


def secondary(world: World, _config: Config, name: str, options: Options) -> Answer:
    kernel.demote(world, running(world, name, "secondary"), "force" in options)
    return 0, "", ""


def create_md(world: World, config: Config, name: str, options: Options) -> Answer:
    from sim.drbdmeta9 import create

    own, slots = own_section(config, name), int(options.get("max-peers", "1"))
    meta = f"drbdmeta {own['minor']} v09 {own['backing']} internal create-md {slots} --force"
    try:
        return create(world, own["minor"], own["backing"], slots)
    except Refused as refusal:
        raise Refused(20, f"{refusal.text}\nCommand '{meta}' terminated with exit code 20")


def net_options(world: World, config: Config, full: str, options: Options) -> Answer:
    """Of one connection (NAME:HOST), or of all of them (NAME)."""
    name, _, host = full.partition(":")
    found = running(world, name, "net-options")
    nodes = [node for node, peer in found["peers"].items() if host in ("", peer["name"])]
    if not nodes:
        return 1, "", f"Not a valid connection ({full}) for this host\n"
    said = ""
    for node in sorted(nodes, key=int):
        peer = found["peers"][node]
        net = {**net_of(config, name), **{key: value for key, value in options.items() if key != "dry-run"}}
        if "dry-run" in options:
            said += f"drbdsetup net-options {name} {node} {told(peer, net)}\n"
            continue
        change_net(world, found, node, net, 10, told(peer, net))
    return 0, said, ""


def change_net(world: World, found: kernel.Resource, node: str, net: dict[str, str], status: int, said: str) -> None:
    """Options of a connection; two primaries are agreed with a peer that is connected (e-dualprimary)."""
    peer = found["peers"][node]
    back = next((back for _o, _t, one, back in kernel.ends(world, world.host, found) if one is peer), None)
    role, _disk = drbd9_text.peer_view(world, world.host, found, peer)
    if kernel.two_allowed(peer) and net.get("allow-two-primaries", "no") == "no" and \
            found["role"] == role == "Primary":  # fmt: skip
        raise Refused(status, (
            f"{found['name']}: Failure: (164) Can not clear allow_two_primaries as long as\nthere a primaries on both "
            f"sides\nCommand 'drbdsetup net-options {found['name']} {node} {said}' terminated with exit code 10"))
    peer["net"] = dict(net)
    if back is not None and peer["conn"] == back["conn"] == "Connected":
        back["net"]["allow-two-primaries"] = net.get("allow-two-primaries", "no")


def new_current_uuid(world: World, _config: Config, full: str, options: Options) -> Answer:
    found = running(world, full.split("/")[0], "new-current-uuid")
    clear = "clear-bitmap" in options
    others = [there for _host, there in kernel.connected(world, world.host, found) if there["disk"] in kernel.ATTACHED]
    every = [found, *others]
    if not clear or not others or any(one["current"] != drbd_meta.JUST_CREATED for one in every):
        raise Refused(10, (
            f"{found['minor']}: Failure: (151) Need to be StandAlone\nCommand 'drbdsetup new-current-uuid "
            f"{found['minor']}{' --clear-bitmap' if clear else ''}' terminated with exit code 10"))  # fmt: skip
    uuid = drbd_meta.new_uuid() & ~1
    for one in every:
        # Two different day 0: a replica made later finds no common one (b-createmd, c-restoremd).
        one.update(current=uuid, disk="UpToDate", free={"uuid": drbd_meta.new_uuid() if one is found else uuid,
                                                        "oos": []})  # fmt: skip
        for peer in one["peers"].values():
            peer.update(uuid=0, oos=[])
    kernel.persist(world, found)
    for host, there in kernel.connected(world, world.host, found):
        kernel.persist(world, there, host)
    hosts = [world.host, *(host for host, there in kernel.connected(world, world.host, found) if there in others)]
    world.state.setdefault("declared", []).append({"resource": found["name"], "hosts": hosts})
    return 0, "", ""


def connect(world: World, _config: Config, full: str, options: Options) -> Answer:
    name, _, host = full.partition(":")
    found = running(world, name, "connect")
    for node, peer in sorted(found["peers"].items()):
        if host in ("", peer["name"]):
            if peer["conn"] != "StandAlone":
                raise Refused(10, f"{name}: Failure: (125) Device has a net-config (use disconnect first)\n"
                                  f"Command 'drbdsetup connect {name} {node}' terminated with exit code 10")
            peer.update(conn="Connecting", discard="discard-my-data" in options)
    return 0, "", ""


def disconnect(world: World, _config: Config, full: str, _options: Options) -> Answer:
    """Leaving a Primary behind, a leg says that it is outdated from then on (c-thirdleg)."""
    name, _, host = full.partition(":")
    found = running(world, name, "disconnect")
    written = any(there["role"] == "Primary" for _other, there in kernel.connected(world, world.host, found))
    for node, peer in found["peers"].items():
        if host in ("", peer["name"]):
            kernel.disconnect(world, world.host, found, node)
    alone = all(peer["conn"] != "Connected" for peer in found["peers"].values())
    if alone and written and found["role"] != "Primary" and found["disk"] == "UpToDate":
        found["disk"] = "Outdated"
        kernel.persist(world, found)
    return 0, "", ""


def detach(world: World, _config: Config, name: str, _options: Options) -> Answer:
    found = running(world, name, "detach")
    opener = kernel.opened(world, world.host, found)
    if (opener or found["role"] == "Primary") and not kernel.good_peers(world, world.host, found):
        more = f"additional info from kernel:\ndrbd{found['minor']} opened by {opener} at 12:05:29\n" if opener else ""
        raise Refused(17, f"{found['minor']}: State change failed: (-2) Need access to UpToDate data\n{more}"
                          f"Command 'drbdsetup detach {found['minor']}' terminated with exit code 17")  # fmt: skip
    found["disk"] = "Diskless"
    return 0, "", ""


def suspend_io(world: World, _config: Config, name: str, _options: Options) -> Answer:
    """Returns when what was under way is everywhere; on a Secondary it only stops that host."""
    found = running(world, name, "suspend-io")
    kernel.flush(world, world.host, found)
    found["user_suspended"] = True
    return 0, "", ""


def resume_io(world: World, _config: Config, name: str, _options: Options) -> Answer:
    running(world, name, "resume-io")["user_suspended"] = False
    return 0, "", ""


def resource_options(world: World, _config: Config, name: str, options: Options) -> Answer:
    running(world, name, "resource-options")["options"].update(options)
    return 0, "", ""


def resize(world: World, config: Config, name: str, options: Options) -> Answer:
    from sim.drbd9_grow import resize as grow

    if own_section(config, name)["backing"] == "none":
        return 10, "", "The resize command requires a local disk, but the configuration gives none.\n"
    return grow(world, running(world, name, "resize"), options)


def apply_al(world: World, config: Config, name: str, _options: Options) -> Answer:
    own = own_section(config, name)
    return 0, "", disk.apply_log(world, own["minor"], own["backing"])


def forget_peer(_world: World, _config: Config, full: str, _options: Options) -> Answer:
    """drbdadm no longer knows a host that left the file; drbdsetup goes by its number."""
    return 1, "", f"Not a valid connection ({full}) for this host\n"


def status(world: World, _config: Config, name: str, _options: Options) -> Answer:
    return 0, drbd9_text.status(world, running(world, name, "status")), ""


def get_gi(_world: World, config: Config, full: str, _options: Options) -> Answer:
    name = full.split("/")[0]
    metadata = drbd9_meta.read(os.path.realpath(own_section(config, name)["backing"]))
    if metadata is None:
        raise Refused(255, "No valid meta data found")
    return 0, "".join(drbd9_meta.line(metadata, int(node)) + "\n" for node in sorted(peers_of(config, name))), ""


def _role(world: World, _config: Config, name: str, _options: Options) -> Answer:
    return 0, running(world, name, "role")["role"] + "\n", ""


def _waited(world: World, _config: Config, name: str, _options: Options) -> Answer:
    running(world, name, "wait-connect")
    link.settle(world)
    return 0, "", ""


ACTIONS: dict = {
    "up": up, "down": down, "adjust": adjust, "primary": primary, "secondary": secondary, "create-md": create_md,
    "net-options": net_options, "new-current-uuid": new_current_uuid, "connect": connect, "disconnect": disconnect,
    "detach": detach, "suspend-io": suspend_io, "resume-io": resume_io, "resource-options": resource_options,
    "resize": resize, "apply-al": apply_al, "forget-peer": forget_peer, "status": status, "get-gi": get_gi,
    "show-gi": get_gi, "role": _role, "wait-connect": _waited, "wait-sync": _waited, "dump": dump,
    "sh-dev": shell("sh-dev"), "sh-minor": shell("sh-minor"), "sh-ll-dev": shell("sh-ll-dev"),
}  # fmt: skip
