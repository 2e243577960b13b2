"""The guest: kernel, initramfs with its counter, and a partitioned disk image with a boot loader of its own."""

from __future__ import annotations

import gzip
import shutil
import struct
from pathlib import Path

from .bootstrap import chrooted, kernel_version
from .cache import LAB_SOURCE
from .command import run_logged
from .kernel import Modules, cpio, unpack_module, vmlinux

GUEST_SOURCE = LAB_SOURCE / "guest"
SECTOR = 512
BOOT_START = 2048  # sectors: 1 MiB, the gap before it holds GRUB's core image
BOOT_SECTORS = 54 * 2048
COUNTER_SECTORS = 8 * 2048
IMAGE_BYTES = (BOOT_START + BOOT_SECTORS + COUNTER_SECTORS) * SECTOR
# test: without it `if [ ... ]` in grub.cfg takes the wrong turn
GRUB_MODULES = [
    "biosdisk", "part_msdos", "ext2", "search", "search_fs_file", "configfile", "normal", "test", "linux", "serial",
]


def compile_counter(builder: Path, log: Path) -> bytes:
    """The guest's counter, one static program, made in the builder tree."""
    shutil.copy(GUEST_SOURCE / "counter.c", builder / "root/counter.c")
    argv = ["gcc", "-O2", "-Wall", "-Werror", "-static", "-s", "-o", "/root/counter", "/root/counter.c"]
    run_logged(chrooted(builder, *argv), log, step="guest counter", timeout=120)
    return (builder / "root/counter").read_bytes()


def grub_gap(builder: Path, log: Path) -> tuple[bytes, bytes]:
    """(boot sector code, core image) of GRUB for a PC BIOS; the core image goes right behind the boot sector."""
    shutil.copy(GUEST_SOURCE / "embedded.cfg", builder / "root/embedded.cfg")
    argv = ["grub-mkimage", "-O", "i386-pc", "-p", "/boot/grub", "-c", "/root/embedded.cfg", "-o", "/root/core.img"]
    run_logged(chrooted(builder, *argv, *GRUB_MODULES), log, step="guest boot loader", timeout=120)
    boot = (builder / "usr/lib/grub/i386-pc/boot.img").read_bytes()
    return boot, (builder / "root/core.img").read_bytes()


def guest_initramfs(tree: Path, counter: bytes, work: Path) -> bytes:
    """The guest's whole root: busybox, modules, init and the counter."""
    top = work / "guest-root"
    for sub in ("bin", "sbin", "dev", "proc", "sys", "modules"):
        (top / sub).mkdir(parents=True)
    shutil.copy(tree / "usr/bin/busybox", top / "bin/busybox")
    (top / "bin/counter").write_bytes(counter)
    (top / "bin/counter").chmod(0o755)
    for name, target in (("init", "init"), ("poweroff", "sbin/poweroff"), ("reboot", "sbin/reboot")):
        shutil.copy(GUEST_SOURCE / name, top / target)
        (top / target).chmod(0o755)
    modules = Modules(tree, kernel_version(tree))
    for group, names in module_groups().items():
        files = [unpack_module(path, top / "modules") for path in modules.closure(names)]
        (top / f"order.{group}").write_text("".join(f"{name}\n" for name in files))
    return gzip.compress(cpio(top), 6, mtime=0)


def module_groups() -> dict[str, list[str]]:
    """Groups of guest/modules.txt: group name -> module names."""
    groups: dict[str, list[str]] = {}
    for line in (GUEST_SOURCE / "modules.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            group, name = line.split()
            groups.setdefault(group, []).append(name)
    return groups


def partition_table(boot_code: bytes) -> bytes:
    """A boot sector: GRUB's code and two Linux partitions, the first one active."""

    def entry(active: bool, start: int, count: int) -> bytes:
        beyond_chs = b"\xfe\xff\xff"
        return struct.pack("<B3sB3sII", 0x80 if active else 0, beyond_chs, 0x83, beyond_chs, start, count)

    table = entry(True, BOOT_START, BOOT_SECTORS) + entry(False, BOOT_START + BOOT_SECTORS, COUNTER_SECTORS)
    return boot_code[:440] + b"dncG\0\0" + table + bytes(32) + b"\x55\xaa"


def write_image(image: Path, filesystem: Path, boot: bytes, core: bytes) -> None:
    """Assemble the disk image from its boot file system and GRUB's two parts."""
    if SECTOR + len(core) > BOOT_START * SECTOR:
        raise ValueError(f"GRUB's core image is too large for the gap: {len(core)} bytes")
    with image.open("wb") as out:
        out.truncate(IMAGE_BYTES)
        out.write(partition_table(boot) + core)
        out.seek(BOOT_START * SECTOR)
        with filesystem.open("rb") as data:
            shutil.copyfileobj(data, out, 1 << 20)


def build_guest(tree: Path, builder: Path, target: Path, work: Path, log: Path) -> None:
    """`target` (an empty directory) gets guest-vmlinuz, guest-initrd, guest.raw and guest.qcow2."""
    kernel, initrd = target / "guest-vmlinuz", target / "guest-initrd"
    shutil.copy(tree / f"boot/vmlinuz-{kernel_version(tree)}", kernel)
    initrd.write_bytes(guest_initramfs(tree, compile_counter(builder, log), work))
    boot, core = grub_gap(builder, log)
    top = work / "guest-boot"
    (top / "boot/grub").mkdir(parents=True)
    shutil.copy(kernel, top / "boot/vmlinuz")
    shutil.copy(initrd, top / "boot/initrd")
    vmlinux(kernel, work / "guest-vmlinux")
    (top / "boot/vmlinux.gz").write_bytes(gzip.compress((work / "guest-vmlinux").read_bytes(), 6, mtime=0))
    shutil.copy(GUEST_SOURCE / "grub.cfg", top / "boot/grub/grub.cfg")
    filesystem = work / "guest-boot.ext4"
    with filesystem.open("wb") as file:
        file.truncate(BOOT_SECTORS * SECTOR)
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal,^metadata_csum,^64bit", "-m", "0", "-L", "guest"]
    argv += ["-U", "6c616220-6775-6573-7420-626f6f740001", "-E", "root_owner=0:0", "-d", str(top), str(filesystem)]
    run_logged(argv, log, step="guest file system", timeout=60)
    write_image(target / "guest.raw", filesystem, boot, core)
    argv = ["qemu-img", "convert", "-c", "-O", "qcow2", str(target / "guest.raw"), str(target / "guest.qcow2")]
    run_logged(argv, log, step="guest image", timeout=120)
    for path in target.iterdir():
        path.chmod(0o644)
