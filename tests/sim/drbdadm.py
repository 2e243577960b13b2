"""Fake drbdadm of drbd-utils 9.22: commands on configured resources, here with DRBD 8.4; with 9: drbdadm9."""

from __future__ import annotations

import os

from sim import drbd_kernel as kernel
from sim import drbd_link, drbd_meta
from sim.drbd_conf import CONF_ERROR, Config
from sim.drbdadm_ask import dump, minor_of, own_section, pair, running, shell, show_gi, status
from sim.fake import is_privileged
from sim.world import Refused, World

TYPE_CHECKING = False  # typing costs each start of a tool some milliseconds
if TYPE_CHECKING:
    from typing import Any, Callable

    Action = Callable[[World, Config, str, dict[str, str]], tuple[int, str, str]]

VERSION = (
    "DRBDADM_BUILDTAG=GIT-hash:\\ 409097fe02187f83790b88ac3e0d94f3c167adab"
    "\\ reproducible\\ build\\,\\ 2024-07-17\\ 17:22:06\n"
    "DRBDADM_API_VERSION=1\nDRBD_KERNEL_VERSION_CODE=0x08040b\nDRBDADM_VERSION_CODE=0x091600\nDRBDADM_VERSION=9.22.0\n"
)
Options = dict


def run(world: World, argv: list[str]) -> tuple[int, str, str]:
    with world.open():
        options, words = _parse(argv[1:])
        actions, version = _spoken(world)
        if actions is ACTIONS and "assume-clean" in options and "--" not in argv[: argv.index("--assume-clean")]:
            return 1, "", "drbdadm: unrecognized option '--assume-clean'\ntry 'drbdadm help'\n"
        if "version" in options:
            if world.of()["drbd"]["loaded"]:
                return 0, version, ""
            return 0, VERSION.replace("0x08040b", "0x000000").replace("API_VERSION=1", "API_VERSION=2"), ""
        if not words:
            return 1, "", "drbdadm: USAGE: drbdadm COMMAND [OPTION...] {all|RESOURCE...}\n"
        command, names = words[0], words[1:]
        config = Config("/etc/drbd.d", world.host, world.state["drbd"])
        if not config.everything:
            return 1, "", "no resources defined!\n"
        if command == "sh-resources":
            return 0, " ".join(sorted(config.resources)) + "\n", ""
        if command not in actions:
            return 1, "", f"drbdadm: Unknown command '{command}'\n"
        status, out, err = _each(world, config, actions[command], command, names, options)
        drbd_link.settle(world)
    return status, out, err


def _spoken(world: World) -> tuple[dict, str]:
    """(commands, answer to --version) with the module that is installed."""
    if world.state["drbd"] == "9":
        from sim import drbdadm9

        return drbdadm9.ACTIONS, drbdadm9.VERSION
    return ACTIONS, VERSION


def _parse(words: list[str]) -> tuple[Options, list[str]]:
    options: Options = {}
    rest = []
    words = list(words)
    while words:
        word = words.pop(0)
        if word in ("-d", "--dry-run"):
            options["dry-run"] = "yes"
        elif word in ("-c", "--config-file", "-t", "--config-to-test", "--max-peers") and words:
            options[word.lstrip("-")] = words.pop(0)
        elif word in ("-V", "--version"):
            options["version"] = "yes"
        elif word.startswith("--") and len(word) > 2:
            name, _, value = word[2:].partition("=")
            options[name] = value or "yes"
        elif word not in ("--", "-v", "-q", "-S"):
            rest.append(word)
    return options, rest


def _each(
    world: World, config: Config, action: Action, command: str, names: list[str], options: Options
) -> tuple[int, str, str]:
    every = not names or names == ["all"]
    if every and command not in ("status", "up", "down", "adjust", "dump", "role", "cstate", "dstate", "primary",
        "secondary",
                                 "connect", "disconnect", "attach", "detach", "wait-connect"):  # fmt: skip
        return 1, "", f"drbdadm: missing resource argument to '{command}'\n"
    worst, out, err = 0, "", ""
    for full in sorted(config.resources) if every else names:
        name = full.split("/")[0].split(":")[0]
        if name not in config.resources:
            return 1, out, err + f"'{name}' not defined in your config (for this host).\n"
        if not is_privileged() and command not in ("dump", "sh-dev", "sh-minor", "sh-ll-dev"):
            return 20, out, err + "Could not connect to 'drbd' generic netlink family: Operation not permitted\n"
        if "dry-run" in options and command != "net-options" and world.state["drbd"] == "9":
            continue
        try:
            status, text, error = action(world, config, full, options)
        except Refused as refusal:
            status, text, error = refusal.status, refusal.out, refusal.text
        out += text
        err += error if not error or error.endswith("\n") else error + "\n"
        worst = max(worst, status)
        if status and not every:
            break
    return worst, out, err


def _ends(config: Config, name: str) -> tuple[str, str, str, dict[str, str]]:
    """(own endpoint, peer's endpoint, peer's host, net options)"""
    found = config.resources[name]
    peer = next(host for host in found["hosts"] if host != config.host)
    return (
        found["hosts"][config.host]["endpoint"],
        found["hosts"][peer]["endpoint"],
        peer,
        {**config.common["net"], **found["net"]},
    )


def up(world: World, config: Config, full: str, options: Options) -> tuple[int, str, str]:
    own, name = own_section(config, full), full
    minor, backing = own["minor"], own["backing"]
    local, peer, peer_host, net = _ends(config, name)
    if "dry-run" in options:
        return (
            0,
            (
                f"drbdsetup-84 new-resource {name}\ndrbdsetup-84 new-minor {name} {minor} 0\ndrbdmeta {minor} v08 "
                f"{backing} internal apply-al\n"
                f"drbdsetup-84 attach {minor} {backing} {backing} internal\ndrbdsetup-84 connect {name} ipv4:{local} "
                f"ipv4:{peer} --protocol=C\n"
            ),
            "",
        )
    found = kernel.resources(world).get(name)
    apply_al = f"Command 'drbdmeta {minor} v08 {backing} internal apply-al' terminated with exit code "
    if found is not None and found["disk"] != "Diskless":
        raise Refused(1, f"Device '{minor}' is configured!\n{apply_al}20")
    found = found or kernel.make(world, name, minor)
    text = _attach(world, found, backing, apply_al)
    if found["conn"] == "StandAlone":
        kernel.connect(world, found, local, peer, peer_host, net)
    return 0, "", text


def _attach(world: World, found: dict[str, Any], backing: str, apply_al: str) -> str:
    if not os.path.exists(backing):
        raise Refused(1, f"open({backing}) failed: No such file or directory\n{apply_al}20")
    from sim.holders import holder

    if holder(world, backing) in ("drbd", "domain"):
        raise Refused(1, f"open({backing}) failed: Device or resource busy\n{apply_al}20")
    try:
        text = kernel.attach(world, found, backing)
    except Refused as refusal:
        raise Refused(1, f"{refusal.text}\n{apply_al}255")
    drbd_link.rejoin(world, world.host, found)
    return text


def adjust(world: World, config: Config, full: str, options: Options) -> tuple[int, str, str]:
    own = own_section(config, full)
    local, peer, peer_host, net = _ends(config, full)
    found = kernel.resources(world).get(full)
    if found is None:
        return up(world, config, full, options)
    text = ""
    if found["disk"] == "Diskless":
        text = _attach(
            world,
            found,
            own["backing"],
            f"Command 'drbdmeta {own['minor']} v08 {own['backing']} internal apply-al' terminated with exit code ",
        )
    if found["conn"] == "StandAlone":
        kernel.connect(world, found, local, peer, peer_host, net)
    else:
        found["net"] = dict(net)
    return 0, "", text


def down(world: World, _config: Config, full: str, options: Options) -> tuple[int, str, str]:
    if "dry-run" in options:
        return 0, f"drbdsetup-84 down {full}\n", ""
    found = kernel.resources(world).get(full)
    if found is None:
        return 0, "", ""
    kernel.demote(world, found, (
        f"{full}: State change failed: (-12) Device is held open by someone\nadditional info from kernel:\nfailed to "
        f"demote\n"
        f"Command 'drbdsetup-84 down {full}' terminated with exit code 11"
    ))  # fmt: skip
    kernel.remove(world, found)
    return 0, "", ""


def attach(world: World, config: Config, full: str, _options: Options) -> tuple[int, str, str]:
    own = own_section(config, full)
    found = kernel.resources(world).get(full) or kernel.make(world, full, own["minor"])
    if found["disk"] != "Diskless":
        raise Refused(10, f"{own['minor']}: Failure: (124) Device is attached to a disk (use detach first)\n"
                      f"Command 'drbdsetup-84 attach {own['minor']}' terminated with exit code 10")  # fmt: skip
    apply_al = f"Command 'drbdmeta {own['minor']} v08 {own['backing']} internal apply-al' terminated with exit code "
    return 0, "", _attach(world, found, own["backing"], apply_al)


def detach(world: World, config: Config, full: str, _options: Options) -> tuple[int, str, str]:
    found = minor_of(world, config, full, "detach")
    peer = kernel.connected_peer(world, world.host, found)
    if found["role"] == "Primary" and not (peer and peer[1]["disk"] == "UpToDate"):
        raise Refused(17, f"{found['minor']}: State change failed: (-2) Need access to UpToDate data\n"
                      f"Command 'drbdsetup-84 detach {found['minor']}' terminated with exit code 17")  # fmt: skip
    kernel.flush(world, world.host, found)
    found["disk"] = "Diskless"
    if peer and peer[1]["uuids"][1] == 0:
        peer[1]["pending"] = True  # its next write begins a generation
    return 0, "", ""


def connect(world: World, config: Config, full: str, options: Options) -> tuple[int, str, str]:
    found = running(world, full, "connect")
    local, peer, peer_host, net = _ends(config, full)
    if found["conn"] != "StandAlone":
        raise Refused(10, f"{full}: Failure: (125) Device has a net-config (use disconnect first)\n"
                      f"Command 'drbdsetup-84 connect {full} ipv4:{local} ipv4:{peer} --protocol=C' terminated with "
                      f"exit code 10")  # fmt: skip
    kernel.connect(world, found, local, peer, peer_host, net)
    found["discard"] = "discard-my-data" in options
    return 0, "", ""


def disconnect(world: World, config: Config, full: str, _options: Options) -> tuple[int, str, str]:
    found = kernel.resources(world).get(full)
    local, peer, _host, _net = _ends(config, full)
    if found is None or found["conn"] == "StandAlone":
        raise Refused(10, "??: Failure: (162) Invalid configuration request\nadditional info from kernel:\nunknown "
                          "connection\n"
                      f"Command 'drbdsetup-84 disconnect ipv4:{local} ipv4:{peer}' terminated with exit code 10")
    kernel.disconnect(world, world.host, found)
    return 0, "", ""


def primary(world: World, config: Config, full: str, options: Options) -> tuple[int, str, str]:
    kernel.promote(world, minor_of(world, config, full, "primary"), "force" in options)
    return 0, "", ""


def secondary(world: World, config: Config, full: str, _options: Options) -> tuple[int, str, str]:
    found = minor_of(world, config, full, "secondary")
    kernel.demote(world, found, (
        f"{found['minor']}: State change failed: (-12) Device is held open by someone\n"
        f"Command 'drbdsetup-84 secondary {found['minor']}' terminated with exit code 11"
    ))  # fmt: skip
    return 0, "", ""


def create_md(world: World, config: Config, full: str, _options: Options) -> tuple[int, str, str]:
    from sim.drbdmeta import create

    own = own_section(config, full)
    meta = f"drbdmeta {own['minor']} v08 {own['backing']} internal create-md --force"
    try:
        return create(world, own["minor"], own["backing"])
    except Refused as refusal:
        raise Refused(20, f"{refusal.text}\nCommand '{meta}' terminated with exit code 20")


def net_options(world: World, config: Config, full: str, options: Options) -> tuple[int, str, str]:
    found = kernel.resources(world).get(full)
    local, peer, _host, _net = _ends(config, full)
    given = " ".join(f"--{key}={value}" for key, value in options.items())
    failed = f"Command 'drbdsetup-84 net-options ipv4:{local} ipv4:{peer} {given}' terminated with exit code 10"
    if found is None or found["conn"] == "StandAlone":
        raise Refused(
            10,
            f"??: Failure: (162) Invalid configuration request\nadditional info from kernel:\nunknown "
            f"connection\n{failed}",
        )
    other = kernel.connected_peer(world, world.host, found)
    two = found["role"] == "Primary" and other is not None and other[1]["role"] == "Primary"
    if options.get("allow-two-primaries") == "no" and two:
        raise Refused(
            10,
            f"{full}: Failure: (164) Can not clear allow_two_primaries as long as there a primaries on both "
            f"sides\n{failed}",
        )
    found["net"].update({key: value for key, value in options.items() if key not in ("dry-run",)})
    return 0, "", ""


def new_current_uuid(world: World, config: Config, full: str, options: Options) -> tuple[int, str, str]:
    name = full.split("/")[0]
    found = minor_of(world, config, name, "new-current-uuid")
    clear = "clear-bitmap" in options
    peer = kernel.connected_peer(world, world.host, found)
    just_created = found["uuids"][0] == drbd_meta.JUST_CREATED
    if not (found["conn"] == "Connected" and just_created and clear and peer) and found["conn"] != "StandAlone":
        raise Refused(10, f"{found['minor']}: Failure: (151) Need to be StandAlone\nCommand 'drbdsetup-84 "
                          f"new-current-uuid {found['minor']}"
                      f"{' --clear-bitmap' if clear else ''}' terminated with exit code 10")  # fmt: skip
    kernel.new_generation(found)
    if clear:
        found["oos"] = []
    if peer and just_created:
        found["uuids"][1] = 0
        peer[1]["uuids"] = [found["uuids"][0], 0, 0, 0]
        peer[1]["oos"] = []
        found["disk"] = peer[1]["disk"] = "UpToDate"
        kernel.persist(world, peer[1], peer[0])
        world.state.setdefault("declared", []).append({"resource": name, "hosts": [world.host, peer[0]]})
    kernel.persist(world, found)
    return 0, "", ""


def invalidate(world: World, config: Config, full: str, _options: Options) -> tuple[int, str, str]:
    found = minor_of(world, config, full, "invalidate")
    peer = kernel.connected_peer(world, world.host, found)
    if peer is None or found["role"] == "Primary" or peer[1]["disk"] != "UpToDate":
        raise Refused(17, f"{found['minor']}: State change failed: (-2) Need access to UpToDate data\n"
                      f"Command 'drbdsetup-84 invalidate {found['minor']}' terminated with exit code 17")  # fmt: skip
    drbd_link._start(world, peer, (world.host, found), full=True)
    return 0, "", ""


def verify(world: World, config: Config, full: str, _options: Options) -> tuple[int, str, str]:
    from sim import blocks

    found = minor_of(world, config, full, "verify")
    if not (found["net"].get("verify-alg") or config.common["net"].get("verify-alg")):
        raise Refused(11, f"{found['minor']}: State change failed: (-14) Need a verify algorithm to start online "
                          f"verify\n"
                      f"Command 'drbdsetup-84 verify {found['minor']}' terminated with exit code 11")  # fmt: skip
    peer = kernel.connected_peer(world, world.host, found)
    if peer is None:
        raise Refused(11, f"{found['minor']}: State change failed: (-15) Need a connection to start verify or resync\n"
                      f"Command 'drbdsetup-84 verify {found['minor']}' terminated with exit code 11")  # fmt: skip
    here, there = kernel.volume(world, found), kernel.volume(world, peer[1], peer[0])
    found["oos"] = blocks.merge(found["oos"], blocks.differences(here, there, found["kib"] * 1024))
    peer[1]["oos"] = blocks.merge(peer[1]["oos"], found["oos"])
    return 0, "", ""


def resize(world: World, config: Config, full: str, options: Options) -> tuple[int, str, str]:
    from sim.drbd_grow import resize as grow

    return grow(world, minor_of(world, config, full, "resize"), options)


def wait_connect(world: World, config: Config, full: str, _options: Options) -> tuple[int, str, str]:
    minor_of(world, config, full, "wait-connect")
    drbd_link.settle(world)
    return 0, "", ""


def nothing(_world: World, _config: Config, _full: str, _options: Options) -> tuple[int, str, str]:
    return 0, "", ""


ACTIONS: dict[str, Action] = {
    "up": up, "down": down, "adjust": adjust, "attach": attach, "detach": detach, "connect": connect,
    "disconnect": disconnect,
    "primary": primary, "secondary": secondary, "create-md": create_md, "status": status, "role": pair("role"),
    "cstate": pair("cstate"), "dstate": pair("dstate"), "net-options": net_options,
    "new-current-uuid": new_current_uuid,
    "invalidate": invalidate, "verify": verify, "resize": resize, "get-gi": show_gi, "show-gi": show_gi, "dump": dump,
    "wait-connect": wait_connect, "sh-dev": shell("sh-dev"), "sh-minor": shell("sh-minor"),
    "sh-ll-dev": shell("sh-ll-dev"),
    "apply-al": nothing, "suspend-io": nothing, "resume-io": nothing, "pause-sync": nothing, "resume-sync": nothing,
}  # fmt: skip
__all__ = ["CONF_ERROR", "run"]
