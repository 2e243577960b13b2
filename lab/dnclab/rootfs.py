"""A host's root disk: the bootstrapped tree, fitted for the lab, as one ext4 image."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .bootstrap import chrooted, kernel_version
from .cache import LAB_SOURCE
from .command import capture, run_logged
from .errors import LabError
from .kernel import Modules, cpio, unpack_module, vmlinux

HOST_SOURCE = LAB_SOURCE / "host"
ONEADMIN_ID = 9869
MAX_HOSTS = 3
ROOT_BYTES = 4 << 30
# What a host's initramfs must load to reach its root disk.
ROOT_MODULES = ["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"]


def make_keys(directory: Path) -> None:
    """Keys of one build: `root` (equipment), `frontend` (its owner is user nobody), and each host's own."""
    directory.mkdir(mode=0o755)
    for name in ("root", "frontend", *(f"node{number}" for number in range(1, MAX_HOSTS + 1))):
        capture(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"dnc-lab-{name}", "-f", str(directory / name)])
    shutil.chown(directory / "frontend", "nobody", "nogroup")
    lines = []
    for number in range(1, MAX_HOSTS + 1):
        kind, key, _ = (directory / f"node{number}.pub").read_text().split()
        lines.append(f"node{number},10.99.0.{number} {kind} {key}\n")
    (directory / "known_hosts").write_text("".join(lines))


def install_zfs(tree: Path, zfs_modules: Path, version: str) -> None:
    """Put the natively built ZFS modules into the tree; LabError if they are for another kernel."""
    target = tree / "usr/lib/modules" / version / "updates/dkms"
    target.mkdir(parents=True)
    for path in sorted(zfs_modules.iterdir()):
        unpack_module(path, target)
    magic = capture(["modinfo", "-F", "vermagic", str(target / "zfs.ko")]).split()[0]
    if magic != version:
        raise LabError(
            f"the ZFS modules are for kernel {magic}, the hosts have {version}", "run `lab/lab build --fresh`"
        )


def prune_modules(tree: Path, version: str, log: Path) -> None:
    """Drop the modules that a host never uses and unpack the rest."""
    kernel = tree / "usr/lib/modules" / version / "kernel"
    for line in (HOST_SOURCE / "pruned-modules.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            shutil.rmtree(kernel / line, ignore_errors=True)
    packed = [str(path) for path in kernel.rglob("*.ko.xz")]
    for start in range(0, len(packed), 300):
        run_logged(["xz", "-d", *packed[start : start + 300]], log, step="kernel modules", timeout=300)
    run_logged(chrooted(tree, "/sbin/depmod", version), log, step="depmod", timeout=120)


def initramfs(tree: Path, version: str, work: Path) -> bytes:
    """The archive with which a host reaches its root disk."""
    top = work / "initramfs"
    for sub in ("bin", "dev", "proc", "root", "modules"):
        (top / sub).mkdir(parents=True)
    shutil.copy(tree / "usr/bin/busybox", top / "bin/busybox")
    (top / "bin/sh").symlink_to("busybox")
    names = [unpack_module(path, top / "modules") for path in Modules(tree, version).closure(ROOT_MODULES)]
    (top / "order").write_text("".join(f"{name}\n" for name in names))
    shutil.copy(HOST_SOURCE / "init-root", top / "init")
    (top / "init").chmod(0o755)
    return cpio(top)


def add_users(tree: Path, keys: Path, log: Path) -> None:
    """User oneadmin as OpenNebula makes it, and the authorized keys of oneadmin and root."""
    for argv in (
        ["/usr/sbin/groupadd", "-g", str(ONEADMIN_ID), "oneadmin"],
        [
            "/usr/sbin/useradd",
            "-u",
            str(ONEADMIN_ID),
            "-g",
            "oneadmin",
            "-G",
            "disk,adm",
            "-d",
            "/var/lib/one",
            "-m",
            "-s",
            "/bin/bash",
            "oneadmin",
        ],
        ["/usr/sbin/usermod", "-p", "*", "oneadmin"],
    ):
        run_logged(chrooted(tree, *argv), log, step="user oneadmin", timeout=60)
    for home, owner, key in (("root", 0, "root.pub"), ("var/lib/one", ONEADMIN_ID, "frontend.pub")):
        directory = tree / home / ".ssh"
        directory.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(keys / key, directory / "authorized_keys")
        for path in (directory, directory / "authorized_keys"):
            os.chown(path, owner, owner)
        (directory / "authorized_keys").chmod(0o600)


def configure(tree: Path, keys: Path) -> None:
    """Files of the lab in a host's tree."""
    own = tree / "usr/lib/dnc-lab"
    (own / "keys").mkdir(parents=True, mode=0o755)
    for path in keys.glob("node*"):
        shutil.copy(path, own / "keys" / path.name)
        (own / "keys" / path.name).chmod(0o600)
    for name in ("boot", "halt"):
        shutil.copy(HOST_SOURCE / name, own / name)
        (own / name).chmod(0o755)
    (own / "init").symlink_to("/usr/bin/busybox")
    for name in ("poweroff", "reboot", "halt"):
        link = tree / "usr/sbin" / name
        if not link.exists():
            link.symlink_to("/usr/bin/busybox")
    shutil.copy(HOST_SOURCE / "inittab", tree / "etc/inittab")
    shutil.copy(HOST_SOURCE / "sshd.conf", tree / "etc/ssh/sshd_config.d/dnc-lab.conf")
    shutil.copy(HOST_SOURCE / "drbd-global.conf", tree / "etc/drbd.d/global_common.conf")
    shutil.copy(HOST_SOURCE / "modprobe.conf", tree / "etc/modprobe.d/dnc-lab.conf")
    shutil.copy(keys / "known_hosts", tree / "etc/ssh/ssh_known_hosts")
    for path in (tree / "etc/ssh").glob("ssh_host_*"):
        path.unlink()
    hosts = "".join(f"10.99.0.{number} node{number}\n" for number in range(1, MAX_HOSTS + 1))
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n" + hosts)
    (tree / "etc/machine-id").write_text("")
    for path in (tree / "boot").glob("initrd.img*"):
        path.unlink()


def make_image(tree: Path, image: Path, log: Path) -> None:
    """The tree as a sparse ext4 image with a journal: a power cut loses only what was not synced."""
    for sub in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(tree / sub, ignore_errors=True)
        (tree / sub).mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(ROOT_BYTES)
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-J", "size=32", "-O", "^metadata_csum", "-m", "0", "-L", "labroot"]
    argv += ["-E", "lazy_itable_init=1,root_owner=0:0", "-d", str(tree), str(image)]
    run_logged(argv, log, step="root image", timeout=300)


def copy_tree(source: Path, target: Path) -> None:
    """A copy with owners, modes, links and capabilities."""
    capture(["cp", "-a", "--reflink=auto", str(source), str(target)], timeout=300)


def boot_files(tree: Path, version: str, target: Path) -> None:
    """What QEMU loads directly: the hypervisor and the dom0 kernel, both unpacked."""
    vmlinux(tree / f"boot/vmlinuz-{version}", target / "vmlinux")
    packed = sorted((tree / "boot").glob("xen-*-amd64.gz"))
    if len(packed) != 1:
        raise LabError(f"the root file system holds {len(packed)} hypervisors, not one", "run `lab/lab build --fresh`")
    with (target / "xen").open("wb") as out:
        subprocess.run(["gzip", "-dc", str(packed[0])], stdout=out, check=True)


def build_rootfs(pristine: Path, zfs_modules: Path, guest: Path, target: Path, work: Path, log: Path) -> None:
    """All of a host: `target` gets root.raw, xen, vmlinux, initrd and keys/."""
    tree = work / "tree"
    copy_tree(pristine, tree)
    version = kernel_version(tree)
    boot_files(tree, version, target)
    make_keys(target / "keys")
    install_zfs(tree, zfs_modules, version)
    prune_modules(tree, version, log)
    (target / "initrd").write_bytes(initramfs(tree, version, work))
    add_users(tree, target / "keys", log)
    configure(tree, target / "keys")
    (tree / "var/lib/dnc-lab").mkdir(parents=True)
    copy_tree(guest, tree / "var/lib/dnc-lab/guest")
    make_image(tree, target / "root.raw", log)
