"""Kernel pieces: the ELF inside a bzImage, module lists, initramfs archives."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

from .command import missing_tool
from .errors import LabError

# Offsets of the setup header are those of Documentation/arch/x86/boot.rst in the kernel's source.
SETUP_SECTORS = 0x1F1
PAYLOAD = 0x248
UNPACKERS = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zX": "xz", b"\x1f\x8b\x08\x00": "gzip"}


def vmlinux(bzimage: Path, target: Path) -> None:
    """Write the ELF kernel that is packed in a bzImage (Xen loads it without unpacking it in emulation)."""
    data = bzimage.read_bytes()
    start = ((data[SETUP_SECTORS] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", data, PAYLOAD)
    payload = data[start + offset : start + offset + length]
    tool = UNPACKERS.get(payload[:4])
    if tool is None:
        raise LabError(f"{bzimage.name} is packed in an unknown way ({payload[:4].hex()})", "add it to UNPACKERS")
    argv = [tool, "-dc"] + (["--single-stream"] if tool == "xz" else [])
    try:
        # The payload ends in a size field that the unpackers call trailing garbage: only the result counts.
        done = subprocess.run(argv, input=payload, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        raise missing_tool(tool) from None
    if not done.stdout.startswith(b"\x7fELF"):
        raise LabError(f"{bzimage.name} holds no ELF kernel", "the kernel package is not one the lab knows")
    target.write_bytes(done.stdout)


class Modules:
    """The modules of one kernel in a tree, by name, with what each depends on (from modules.dep)."""

    def __init__(self, tree: Path, version: str) -> None:
        self.directory = tree / "usr/lib/modules" / version
        self.needs: dict[str, list[str]] = {}
        for line in (self.directory / "modules.dep").read_text().splitlines():
            path, _, needed = line.partition(":")
            self.needs[path] = needed.split()
        self.path_of = {_module_name(path): path for path in self.needs}

    def closure(self, names: list[str]) -> list[Path]:
        """Files of the named modules and all they need, in loading order; built-in ones are left out."""
        order: list[str] = []
        for name in names:
            path = self.path_of.get(name.replace("-", "_"))
            if path is None:
                continue
            for needed in [*reversed(self.needs[path]), path]:
                if needed not in order:
                    order.append(needed)
        return [self.directory / path for path in order]


def _module_name(path: str) -> str:
    return os.path.basename(path).split(".ko")[0].replace("-", "_")


def unpack_module(source: Path, target_dir: Path) -> str:
    """Copy a module, unpacked, into a directory; returns its file name."""
    name = source.name.split(".ko")[0] + ".ko"
    if source.suffix == ".ko":
        shutil.copyfile(source, target_dir / name)
        return name
    tool = {".xz": "xz", ".zst": "zstd", ".gz": "gzip"}[source.suffix]
    with (target_dir / name).open("wb") as out:
        subprocess.run([tool, "-dc", str(source)], stdout=out, check=True)
    return name


def cpio(tree: Path) -> bytes:
    """A directory as an initramfs archive (format newc, everything owned by root)."""
    entries = sorted(path.relative_to(tree) for path in tree.rglob("*"))
    parts = [_entry(number, str(entry), tree / entry) for number, entry in enumerate(entries, 1)]
    parts.append(_header("TRAILER!!!", 0, 0, 0, 1))
    return b"".join(parts)


def _entry(inode: int, name: str, path: Path) -> bytes:
    mode = path.lstat().st_mode
    if path.is_symlink():
        data = os.readlink(path).encode()
    elif path.is_dir():
        data = b""
    else:
        data = path.read_bytes()
    return _header(name, inode, mode, len(data), 1) + data + b"\0" * (-len(data) % 4)


def _header(name: str, inode: int, mode: int, size: int, links: int) -> bytes:
    raw = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, len(raw), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + raw
    return head + b"\0" * (-len(head) % 4)
