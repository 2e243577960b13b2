"""Fake drbdsetup, here for DRBD 8.4 (for 9: drbdsetup9): questions, and the few commands by minor or name."""

from __future__ import annotations

import os

from sim import drbd_kernel as kernel
from sim import drbd_link, drbd_text
from sim.fake import is_privileged
from sim.world import Refused, World

USAGE = (
    "\nUSAGE: drbdsetup command device arguments options\n\nDevice is usually /dev/drbdX or /dev/drbd/X.\n\nCommands "
    "are:\n"
    "    primary             secondary           attach              \n"
    "    disk-options        detach              connect             \n"
    "    net-options         disconnect          resize              \n"
    "    resource-options    new-current-uuid    invalidate          \n"
    "    invalidate-remote   pause-sync          resume-sync         \n"
    "    suspend-io          resume-io           outdate             \n"
    "    verify              down                state               \n"
    "    role                sh-status           cstate              \n"
    "    dstate              show-gi             get-gi              \n"
    "    show                status              check-resize        \n"
    "    events              events2             wait-connect        \n"
    "    wait-sync           new-resource        new-minor           \n"
    "    del-minor           del-resource        \n\n"
    "To get more details about a command issue 'drbdsetup help cmd'.\n\n"
)


def run(world: World, argv: list[str]) -> tuple[int, str, str]:
    words = [word for word in argv[1:] if not word.startswith("-")]
    options = {word.lstrip("-") for word in argv[1:] if word.startswith("-")}
    if not words:
        return 20, USAGE, ""
    command, names = words[0], words[1:]
    with world.open():
        if not world.of()["drbd"]["loaded"]:
            return 20, "", "Could not connect to 'drbd' generic netlink family\n"
        if not is_privileged():
            return (
                20,
                "",
                f"{names[0] if names else '??'}: Failure: (152) Permission denied. To perform this operation you need "
                f"CAP_SYS_ADMIN\n",
            )
        if world.state["drbd"] == "9":
            from sim import drbdsetup9

            return drbdsetup9.run(world, command, names, options)
        if command in ("status", "show", "events2") and "json" in options:
            return 20, USAGE, f"{command}: unrecognized option '--json'\n"
        if command in QUESTIONS:
            return QUESTIONS[command](world, names, options)
        if command not in ("primary", "secondary", "down"):
            return 20, USAGE, ""
        found = _find(world, names[0], command)
        if command == "primary":
            kernel.promote(world, found, "force" in options)
        else:
            kernel.demote(world, found, f"{names[0]}: State change failed: (-12) Device is held open by someone")
            if command == "down":
                kernel.remove(world, found)
        drbd_link.settle(world)
    return 0, "", ""


def _find(world: World, name: str, command: str) -> dict:
    for resource in kernel.resources(world).values():
        if name in (resource["name"], str(resource["minor"]), f"/dev/drbd{resource['minor']}"):
            return resource
    if name.isdigit():
        raise Refused(
            10, f"{name}: Failure: (127) Device minor not allocated\nadditional info from kernel:\nunknown minor"
        )
    if command == "down":
        raise Refused(10, f"{name}: Failure: (158) Unknown resource")
    raise Refused(10, f"{name}: No such resource")


def _status(world: World, names: list[str], options: set) -> tuple[int, str, str]:
    chosen = [_find(world, name, "status") for name in names] or [
        found for _, found in sorted(kernel.resources(world).items())
    ]
    return 0, "".join(drbd_text.status(world, found, bool({"verbose", "statistics"} & options)) for found in chosen), ""


def _show(world: World, names: list[str], _options: set) -> tuple[int, str, str]:
    chosen = [_find(world, name, "show") for name in names] or [
        found for _, found in sorted(kernel.resources(world).items())
    ]
    return 0, "\n".join(drbd_text.show(found) for found in chosen), ""


def _events(world: World, _names: list[str], _options: set) -> tuple[int, str, str]:
    return 0, drbd_text.events(world), ""


def _pair(which: str) -> object:
    def ask(world: World, names: list[str], _options: set) -> tuple[int, str, str]:
        return 0, drbd_text.pairs(world, _find(world, names[0], which))[which] + "\n", ""

    return ask


def _generation(world: World, names: list[str], _options: set) -> tuple[int, str, str]:
    from sim import drbd_meta

    metadata = drbd_meta.read(os.path.realpath(_find(world, names[0], "get-gi")["backing"]))
    return (0, drbd_meta.line(metadata) + "\n", "") if metadata else (10, "", "No valid meta data found\n")


QUESTIONS: dict = {
    "status": _status, "show": _show, "events2": _events, "role": _pair("role"), "cstate": _pair("cstate"),
    "dstate": _pair("dstate"),
    "get-gi": _generation, "show-gi": _generation,
}  # fmt: skip
