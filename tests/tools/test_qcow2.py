"""qcow2 files as qemu-img sees them: sound, sparse, and chains that join."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from dnc.tools.qcow2 import CLUSTER, Layout

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def qemu_img(*argv: str) -> str:
    return subprocess.run(["qemu-img", *argv], check=True, capture_output=True, text=True).stdout


def build(path: Path, size: int, pieces: list[tuple[int, bytes | int]]) -> Path:
    """A file of data, or of so many zero bytes, at offsets."""
    layout = Layout(size)
    with path.open("wb") as file:
        for offset, data in pieces:
            for at, part in layout.zero(offset, data) if isinstance(data, int) else layout.put(offset, data):
                file.seek(at)
                file.write(part)
        assert file.tell() == 0 or path.read_bytes()[:4] != b"QFI\xfb", "no image before it is finished"
        for at, part in layout.finish():
            file.seek(at)
            file.write(part)
    qemu_img("check", "-q", str(path))
    return path


def raw(path: Path) -> bytes:
    target = path.with_suffix(".raw")
    qemu_img("convert", "-O", "raw", str(path), str(target))
    return target.read_bytes()


@pytest.mark.parametrize("size", [512, CLUSTER, CLUSTER + 512, 4 << 20, (4 << 20) + 4096])
def test_a_disk_of_any_size(tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert raw(build(tmp_path / "a", size, [(0, data)])) == data
    assert raw(build(tmp_path / "b", size, [])) == bytes(size)


def test_data_only_over_several_tables(tmp_path: Path) -> None:
    """An L2 table describes 512 MiB."""
    size, data = (1536 << 20) + 4096, random.Random(1).randbytes(3 * CLUSTER - 100)
    pieces: list[tuple[int, bytes | int]] = [(0, data), ((512 << 20) - CLUSTER, data), (1536 << 20, data[:4096])]
    path = build(tmp_path / "disk", size, pieces)
    assert os.stat(path).st_size < 1 << 20
    target = tmp_path / "raw"
    qemu_img("convert", "-O", "raw", str(path), str(target))
    assert target.stat().st_size == size
    with target.open("rb") as file:
        for offset, expected in pieces:
            assert isinstance(expected, bytes)
            file.seek(offset)
            assert file.read(len(expected)) == expected


def test_a_chain(tmp_path: Path) -> None:
    """Increments over a full image, one of them of a disk that has grown, as OpenNebula's drivers join them."""
    chance, small, large = random.Random(7), 40 * CLUSTER, 60 * CLUSTER
    state = bytearray(chance.randbytes(small))
    files = [build(tmp_path / "disk.0.0", small, [(0, bytes(state))])]
    for number, size in ((1, small), (2, large), (3, large)):
        state += bytes(size - len(state))
        pieces: list[tuple[int, bytes | int]] = []
        for cluster in sorted(chance.sample(range(size // CLUSTER), 12)):
            data = bytes(CLUSTER) if chance.random() < 0.4 else chance.randbytes(CLUSTER)
            state[cluster * CLUSTER : (cluster + 1) * CLUSTER] = data
            pieces.append((cluster * CLUSTER, data if data.strip(b"\0") else CLUSTER))
        files.append(build(tmp_path / f"disk.0.{number}", size, pieces))
        qemu_img("rebase", "-u", "-F", "qcow2", "-b", str(files[-2]), str(files[-1]))
        assert raw(files[-1]) == bytes(state), number
