"""The small tools: sudo, udevadm, modprobe."""

from __future__ import annotations

import os
import sys

from sim.fake import PRIVILEGED
from sim.world import World


def sudo(world: World, argv: list[str]) -> None:
    """Run the command as root would: never returns."""
    words = argv[1:]
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word in ("-u", "-g", "-C", "-p") and words:
            words.pop(0)
        if word == "--":
            break
    while words and "=" in words[0] and not words[0].startswith("/"):
        words.pop(0)
    with world.open():
        allowed = world.of()["sudo"]
    if not allowed and os.geteuid() != 0:
        sys.stderr.write("sudo: a password is required\n")
        os._exit(1)
    if not words:
        os._exit(0)
    kept = {key: value for key, value in os.environ.items() if key.startswith(("LC_", "LANG")) or key == "TERM"}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    environment = {**kept, "PATH": path, "HOME": "/root", "USER": "root", "LOGNAME": "root", PRIVILEGED: "1"}
    for directory in ("",) if "/" in words[0] else ("/usr/local/sbin/", "/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/"):
        try:
            os.execve(directory + words[0], words, environment)
        except FileNotFoundError:
            continue
    sys.stderr.write(f"sudo: {words[0]}: command not found\n")
    os._exit(1)


def runuser(_world: World, argv: list[str]) -> None:
    """Run the command as the named user, without root's privilege: never returns."""
    words = argv[1:]
    user = words[words.index("-u") + 1] if "-u" in words else "oneadmin"
    command = words[words.index("--") + 1 :] if "--" in words else words[2:]
    environment = {key: value for key, value in os.environ.items() if key != PRIVILEGED}
    if os.geteuid() == 0 and user != "root":
        import pwd

        found = pwd.getpwnam(user)
        os.setgid(found.pw_gid)
        os.setuid(found.pw_uid)
    elif os.environ.get(PRIVILEGED) != "1" and os.geteuid() != 0:
        sys.stderr.write("runuser: may not be used by non-root users\n")
        os._exit(1)
    os.execvpe(command[0], command, environment)


def xenstore_read(world: World, path: str) -> tuple[int, str, str]:
    """What blkback tells a guest of a disk's size; it looks at its device all the time."""
    import re

    from sim.fake import is_privileged
    from sim.xl_text import vdev_number

    match = re.match(r"/local/domain/0/backend/vbd/(\d+)/(\d+)/sectors$", path)
    if not is_privileged():
        return 1, "", "xenstore-read: xs_open: Permission denied\n"
    with world.open():
        for domain in world.of()["xen"]["domains"].values():
            for disk in domain["disks"]:
                if match and match.groups() == (str(domain["id"]), str(vdev_number(disk["vdev"]))):
                    return 0, f"{os.path.getsize(os.path.realpath(disk['path'])) // 512}\n", ""
    return 1, "", f"xenstore-read: couldn't read path {path}\n"


def run(world: World, argv: list[str]) -> tuple[int, str, str]:
    """udevadm settle and trigger have nothing to wait for: links appear with the device here."""
    if argv[0] == "xenstore-read":
        return xenstore_read(world, argv[1])
    if argv[0] == "modprobe" and "drbd" in argv:
        with world.open():
            if not world.of()["drbd"].get("installed", True):
                return 1, "", "modprobe: FATAL: Module drbd not found in directory /lib/modules/6.12.107+deb13-amd64\n"
            world.of()["drbd"]["loaded"] = True
            from sim import drbd_link

            drbd_link.settle(world)
    return 0, "", ""
