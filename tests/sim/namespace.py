"""Build the inside of one simulated host: its own root, devices, network and host name (root only)."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x00020000, 0x04000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG = 1

# Directories that a host has for itself, empty at first; the test sees them under LIVE/hosts/HOST/files.
PRIVATE = (
    "/tmp",
    "/run",
    "/var/tmp",
    "/var/lib/one",
    "/var/lib/dnc",
    "/var/lib/drbd",
    "/var/log/xen",
    "/etc/drbd.d",
    "/root",
)
# The fake tools run as the user, so root's /var/lib/drbd has to be the user's too.
OWNED_BY_USER = ("/var/lib/one", "/var/lib/dnc", "/etc/drbd.d", "/var/log/xen", "/var/lib/drbd")
SBIN_TOOLS = (
    "zfs", "zpool", "lvs", "lvcreate", "lvremove", "lvchange", "lvextend", "lvrename", "vgs", "pvs",
    "drbdadm", "drbdsetup", "drbdmeta", "xl", "modprobe", "runuser",
)  # fmt: skip
BIN_TOOLS = ("sudo", "udevadm", "xenstore-read", "xenstore-watch")
REAL_FILESYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "overlay", "virtiofs", "9p", "f2fs")
NO_DRIVER = (147 << 8) | 200  # DRBD's major: opening it where no DRBD is loaded fails, as opening a Secondary does

_libc = ctypes.CDLL(None, use_errno=True)

# Below a host's own part: what it sees as /sys/bus/xen-backend/devices.
BACKENDS = "sysbus/xen-backend/devices"

LAUNCHER = """#!/usr/bin/python3 -IS
import sys
sys.path[:0] = ["/run/sim/code"]
from sim.fake import main
main({tool!r})
"""
CLIENT = """#!/usr/bin/python3 -IS
import sys
sys.path[:0] = [{code!r}]
from sim.session import {tool}_main
{tool}_main({sockets!r})
"""
GLOBAL_CONF = "global { usage-count no; }\ncommon {\n  net { protocol C; }\n}\n"
# A power cut empties files that were never fsynced: so every Python on a host tells which ones were.
NOTE_FSYNC = """import os
_fsync = os.fsync
def _noted(file):
    _fsync(file)
    number = file if isinstance(file, int) else file.fileno()
    with open("/run/sim/live/hosts/{name}/synced", "a") as notes:
        notes.write(str(os.fstat(number).st_ino) + "\\n")
os.fsync = _noted
"""


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    _check(
        _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode() or None),
        f"mount {source} on {target}",
    )


def make_private() -> None:
    mount("none", "/", "none", MS_REC | MS_PRIVATE)


def bind(source: str, target: str) -> None:
    mount(source, target, "none", MS_BIND)


def die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, 9)


def write_program(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o755)


def build(live: str, code: str, sockets: str, host: dict) -> None:
    """Enter the new host: after this the calling process lives in it. host: name, number, uid, gid, packages."""
    home = f"{live}/hosts/{host['name']}"
    root = f"{home}/root"
    unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWNET)
    make_private()
    for directory in ("root", "upper", "work", "dev", "proc", "volumes", "sysblock", "files", BACKENDS):
        os.makedirs(f"{home}/{directory}", exist_ok=True)
    os.chown(f"{home}/dev", host["uid"], host["gid"])
    with open(f"{home}/synced", "w"):
        os.chmod(f"{home}/synced", 0o666)
    for directory in (home, f"{home}/volumes", f"{home}/sysblock", f"{home}/{BACKENDS}"):
        os.chown(directory, host["uid"], host["gid"])
    _write_upper(f"{home}/upper", host)
    other_mounts = _other_filesystems(os.path.dirname(live))
    mount("overlay", root, "overlay", 0, f"lowerdir=/,upperdir={home}/upper,workdir={home}/work")
    for path in other_mounts:
        os.makedirs(root + path, exist_ok=True)
        bind(path, root + path)
    _private_directories(home, root, host)
    for source, target in ((live, "live"), (code, "code"), (sockets, "sock")):
        os.makedirs(f"{root}/run/sim/{target}", exist_ok=True)
        bind(source, f"{root}/run/sim/{target}")
    _devices(f"{home}/dev", host)
    bind(f"{home}/dev", f"{root}/dev")
    _processes(f"{home}/proc", home, f"{root}/proc")
    mount("sysfs", f"{root}/sys", "sysfs")
    bind(f"{home}/sysblock", f"{root}/sys/class/block")
    bind(f"{home}/sysbus", f"{root}/sys/bus")
    for name, source in host["packages"].items():
        target = f"{root}/usr/lib/python3/dist-packages/{name}"
        os.makedirs(target, exist_ok=True)
        bind(source, target)
    with open("/proc/sys/kernel/hostname", "w") as file:
        file.write(host["name"])
    _network(host)
    os.chroot(root)
    os.chdir("/")


def _other_filesystems(hidden: str) -> list[str]:
    """Mount points of real file systems beside the root: the overlay shows only the root's own."""
    found = []
    with open("/proc/self/mounts") as file:
        for line in file:
            _source, target, kind = line.split()[:3]
            own = (hidden, "/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp")
            if kind in REAL_FILESYSTEMS and target != "/" and os.path.isdir(target) and not target.startswith(own):
                found.append(target)
    return found


def _write_upper(upper: str, host: dict) -> None:
    for tool in SBIN_TOOLS:
        write_program(f"{upper}/usr/sbin/{tool}", LAUNCHER.format(tool=tool))
    for tool in BIN_TOOLS:
        write_program(f"{upper}/usr/bin/{tool}", LAUNCHER.format(tool=tool))
    for tool in ("ssh", "scp"):
        write_program(
            f"{upper}/usr/bin/{tool}", CLIENT.format(tool=tool, code="/run/sim/code", sockets="/run/sim/sock")
        )
    os.makedirs(f"{upper}/etc", exist_ok=True)
    with open(f"{upper}/etc/hostname", "w") as file:
        file.write(host["name"] + "\n")
    for name, extra in (
        ("passwd", f"oneadmin:x:{host['uid']}:{host['gid']}::/var/lib/one:/bin/bash\n"),
        ("group", f"oneadmin:x:{host['gid']}:\n"),
    ):
        with open(f"/etc/{name}") as file:
            lines = [line for line in file if not line.startswith("oneadmin:")]
        with open(f"{upper}/etc/{name}", "w") as file:
            file.write("".join(lines) + (extra if host["uid"] else ""))
    with open(f"{upper}/etc/drbd.conf", "w") as file:
        file.write('include "drbd.d/global_common.conf";\ninclude "drbd.d/*.res";\n')
    os.makedirs(f"{upper}/usr/lib/python3/dist-packages", exist_ok=True)
    library = "/usr/lib/" + os.path.basename(os.path.realpath("/usr/bin/python3"))
    write_program(f"{upper}{library}/sitecustomize.py", NOTE_FSYNC.format(name=host["name"]))


def _private_directories(home: str, root: str, host: dict) -> None:
    for path in PRIVATE:
        own = f"{home}/files{path}"
        os.makedirs(own, exist_ok=True)
        os.chmod(own, 0o1777 if path in ("/tmp", "/var/tmp") else 0o755)
        if path in OWNED_BY_USER:
            os.chown(own, host["uid"], host["gid"])
        os.makedirs(root + path, exist_ok=True)
        bind(own, root + path)
    os.makedirs(f"{home}/files/var/lib/one/datastores", exist_ok=True)
    os.chown(f"{home}/files/var/lib/one/datastores", host["uid"], host["gid"])
    with open(f"{home}/files/etc/drbd.d/global_common.conf", "w") as file:
        file.write(GLOBAL_CONF)


def _devices(dev: str, host: dict) -> None:
    for name, minor in (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)):
        os.mknod(f"{dev}/{name}", stat.S_IFCHR | 0o666, os.makedev(1, minor))
        os.chmod(f"{dev}/{name}", 0o666)
    os.mknod(f"{dev}/tty", stat.S_IFCHR | 0o666, os.makedev(5, 0))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"{dev}/{name}")
    os.symlink("/proc/self/fd", f"{dev}/fd")
    os.mknod(f"{dev}/.secondary", stat.S_IFBLK | 0o660, os.makedev(147, 200))
    os.chown(f"{dev}/.secondary", host["uid"], host["gid"])
    os.chmod(f"{dev}/.secondary", 0o660)
    for directory in ("shm", "zvol", "vg0", "mapper", "drbd", "drbd/by-res"):
        os.makedirs(f"{dev}/{directory}")
        os.chown(f"{dev}/{directory}", host["uid"], host["gid"])


def _processes(own: str, home: str, target: str) -> None:
    """/proc/drbd cannot be made in procfs, so /proc is a directory of links into the real one, and drbd beside them."""
    os.makedirs(f"{own}/.real", exist_ok=True)
    for name in os.listdir("/proc"):
        if not name.isdigit() and name != "drbd":
            os.symlink(f".real/{name}", f"{own}/{name}")
    os.symlink(f"/run/sim/live/hosts/{os.path.basename(home)}/proc-drbd", f"{own}/drbd")
    os.makedirs(f"{own}/xen", exist_ok=True)
    with open(f"{own}/xen/capabilities", "w") as file:
        file.write("control_d\n")
    bind(own, target)
    mount("proc", f"{target}/.real", "proc")


def _network(host: dict) -> None:
    """Address 10.99.0.N/24 on br0, or on lo where the kernel has no bridges."""
    address = f"10.99.0.{host['number']}/24"
    wanted = ["link set lo up", "link add br0 type bridge", "link set br0 up", f"addr add {address} dev br0"]
    for attempt in (wanted, [f"addr add {address} dev lo"]):
        subprocess.run(
            ["/usr/sbin/ip", "-force", "-batch", "-"], input="\n".join(attempt) + "\n", text=True, check=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with open("/proc/self/net/dev") as file:
            if " br0:" in file.read():
                return
