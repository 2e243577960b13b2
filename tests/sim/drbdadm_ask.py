"""What fake drbdadm answers to questions: status, roles, generations, devices."""

from __future__ import annotations

import os

from sim import drbd_kernel as kernel
from sim import drbd_meta, drbd_text
from sim.drbd_conf import Config
from sim.world import Refused, World

TYPE_CHECKING = False  # typing costs each start of a tool some milliseconds
if TYPE_CHECKING:
    from typing import Any, Callable

    Action = Callable[[World, Config, str, dict[str, str]], tuple[int, str, str]]

Options = dict


def running(world: World, name: str, command: str) -> dict[str, Any]:
    found = kernel.resources(world).get(name)
    if found is None:
        raise Refused(
            10, f"{name}: No such resource\nCommand 'drbdsetup-84 {command} {name}' terminated with exit code 10"
        )
    return found


def minor_of(world: World, config: Config, name: str, command: str) -> dict[str, Any]:
    found = kernel.resources(world).get(name)
    if found is None:
        minor = own_section(config, name)["minor"]
        raise Refused(10, f"{minor}: Failure: (127) Device minor not allocated\nadditional info from kernel:\nunknown "
                          f"minor\n"
                      f"Command 'drbdsetup-84 {command} {minor}' terminated with exit code 10")  # fmt: skip
    return found


def own_section(config: Config, name: str) -> dict[str, Any]:
    return config.resources[name]["hosts"][config.host]


def status(world: World, _config: Config, full: str, options: Options) -> tuple[int, str, str]:
    found = running(world, full, "status")
    return 0, drbd_text.status(world, found, "verbose" in options or "statistics" in options), ""


def pair(which: str) -> Action:
    def ask(world: World, config: Config, full: str, _options: Options) -> tuple[int, str, str]:
        return 0, drbd_text.pairs(world, minor_of(world, config, full, which))[which] + "\n", ""

    return ask


def show_gi(world: World, config: Config, full: str, _options: Options) -> tuple[int, str, str]:
    metadata = drbd_meta.read(os.path.realpath(own_section(config, full.split("/")[0])["backing"]))
    if metadata is None:
        raise Refused(255, "No valid meta data found")
    return 0, drbd_meta.line(metadata) + "\n", ""


def dump(_world: World, config: Config, full: str, _options: Options) -> tuple[int, str, str]:
    found = config.resources[full]
    text = f"# resource {full} on {config.host}: not ignored, not stacked\n# defined at /etc/{found['place']}\n"
    text += f"resource {full} {{\n"
    for host, own in found["hosts"].items():
        text += (
            f"    on {host} {{\n        device           /dev/drbd{own['minor']} minor {own['minor']};\n"
            f"        disk             {own['backing']};\n        meta-disk        internal;\n"
            f"        address          ipv4 {own['endpoint']};\n    }}\n"
        )
    return 0, text + "}\n\n", ""


def shell(which: str) -> Action:
    def ask(_world: World, config: Config, full: str, _options: Options) -> tuple[int, str, str]:
        own = own_section(config, full)
        answer = {"sh-dev": f"/dev/drbd{own['minor']}", "sh-minor": str(own["minor"]), "sh-ll-dev": own["backing"]}
        return 0, answer[which] + "\n", ""

    return ask
