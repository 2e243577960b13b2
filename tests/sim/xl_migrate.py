"""xl migrate and xl migrate-receive: the hand-over as xl does it, over whatever command line reaches the receiver.

Until the receiver has permission to start, its domain is called NAME--incoming and paused; from then on the
sender's is NAME--migratedaway and suspended.
"""

from __future__ import annotations

import json
import subprocess
import sys

from sim.world import Refused, World
from sim.xl_domain import Domain, end, find, make
from sim.xl_save import transmitted

TYPE_CHECKING = False  # typing costs each start of a tool some milliseconds
if TYPE_CHECKING:
    from typing import IO

BANNER = "xl migration receiver ready, send binary domain data.\n"
READY = "domain received, ready to unpause\n"
GO = "domain is yours, you are cleared to unpause\n"
DONE = "domain started\n"
KINDS = {"pv": "x86 PV"}


def _migrate(world: World, words: list[str]) -> tuple[int, str, str]:
    command, rest = "ssh", []
    words = list(words)
    while words:
        word = words.pop(0)
        if word == "-s":
            command = words.pop(0)
        elif word == "-C":
            words.pop(0)
        elif not word.startswith("-"):
            rest.append(word)
    name, target = rest
    with world.open():
        find(world, name)
    rune = target if command == "" else f"exec {command} {target} xl migrate-receive"
    with subprocess.Popen(["/bin/sh", "-c", rune], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True) as transport:
        assert transport.stdin and transport.stdout
        return _hand_over(world, name, transport, transport.stdin, transport.stdout)


def _hand_over(
    world: World, name: str, transport: subprocess.Popen[str], to: IO[str], back: IO[str]
) -> tuple[int, str, str]:  # fmt: skip
    if back.readline() != BANNER:
        return 1, "", _broken("banner", transport)
    sys.stderr.write("Saving to migration stream new xl format (info 0x3/0x0/1257)\n")
    sys.stderr.flush()
    with world.open():
        domain = find(world, name)
        if domain["ending"]:
            domain["ending"] = None
        domain["state"] = "suspended"
        stream = json.dumps(transmitted(domain))
    if not _send(to, stream + "\n") or back.readline() != READY:
        _resume(world, name, name)
        return 1, "", _broken("ready message", transport) + "Migration failed, resuming at sender.\n"
    text = (
        "migration sender: Target has acknowledged transfer.\nmigration sender: Giving target permission to start.\n"
    )
    with world.open():
        find(world, name)["name"] = f"{name}--migratedaway"
    if not _send(to, GO):
        return 1, "", text + _unsure(name)
    answer = back.readline()
    if answer == "":
        return 1, "", text + _unsure(name)
    if answer != DONE:
        _resume(world, f"{name}--migratedaway", name)
        return 1, "", text + "migration sender: Target reports startup failure\nMigration failed, resuming at sender.\n"
    with world.open():
        end(world, find(world, f"{name}--migratedaway"))
    transport.wait()
    return 0, "", text + "migration sender: Target reports successful startup.\nMigration successful.\n"


def _send(to: IO[str], text: str) -> bool:
    try:
        to.write(text)
        to.flush()
    except BrokenPipeError:
        return False
    return True


def _resume(world: World, name: str, wanted: str) -> None:
    with world.open():
        domain = find(world, name)
        domain["name"] = wanted
        domain["state"] = "running"


def _broken(what: str, transport: subprocess.Popen[str]) -> str:
    status = transport.wait()
    return (
        f"libxl: error: libxl_utils.c:507:libxl_read_exactly: file/stream truncated reading {what} from migration "
        f"receiver stream\n"
        f"libxl: info: libxl_exec.c:117:libxl_report_child_exitstatus: migration transport process [{transport.pid}] "
        f"exited with "
        f"error status {status}\n"
    )


def _unsure(name: str) -> str:
    return (
        "libxl: error: libxl_utils.c:507:libxl_read_exactly: file/stream truncated reading GO ack from migration "
        "receiver stream\n"
        "** Migration failed during final handshake **\n"
        "Do not know state of migration target, refusing to unpause it or to resume at sender\n"
        f"There may be two copies of this domain: {name}--migratedaway here\n"
    )


def _receive(world: World, _words: list[str]) -> tuple[int, str, str]:
    sys.stdout.write(BANNER)
    sys.stdout.flush()
    sys.stderr.write("migration target: Ready to receive domain.\n")
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        return 1, "", (
            "xc: error: Failed to read Record Header from stream (0 = Success): Internal error\n"
            "xc: error: Restore failed (0 = Success): Internal error\nmigration target: Domain creation failed (code "
            "-3).\n"
        )
    domain: Domain = json.loads(line)
    name = domain["name"]
    text = (
        "Loading new save file <incoming migration stream> (new xl fmt info 0x3/0x0/1257)\n"
        " Savefile contains xl domain config in JSON format\nParsing config from <saved>\nxc: info: Found "
        f"{KINDS.get(domain['type'], 'x86 HVM')} domain from Xen 4.20\nxc: info: Restoring domain\nxc: info: Restore "
        f"successful\n"
    )
    with world.open():
        domain.update(name=f"{name}--incoming", state="paused")
        try:
            make(world, domain, restored=True)
        except Refused as refusal:
            return 1, "", text + refusal.text + "migration target: Domain creation failed (code -3).\n"
        number = str(domain["id"])
    text += "migration target: Transfer complete, requesting permission to start domain.\n"
    if not _send(sys.stdout, READY) or sys.stdin.readline() != GO:
        return _give_up(world, number, text)
    with world.open():
        found = find(world, number)
        found.update(name=name, state="running")
    text += "migration target: Got permission, starting domain.\n"
    if not _send(sys.stdout, DONE):
        return 1, "", text
    return 0, "", text + "migration target: Domain started successsfully.\n"


def _give_up(world: World, number: str, text: str) -> tuple[int, str, str]:
    with world.open():
        end(world, find(world, number))
    return 1, "", text + "migration target: Failure, destroying our copy.\n"


COMMANDS = {"migrate": _migrate, "migrate-receive": _receive}
