"""Image sources: told by content, decompressed, hashed, and kept out of directories they have no business in."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import http.server
import lzma
import os
import shutil
import struct
import subprocess
import threading

import pytest
from caller import TestCaller

from dnc.errors import BadInput, NotFound, ToolMissing, Unreachable, Unsafe
from dnc.farm.importer import Spool, content_size, unpack_qcow2
from dnc.farm.source import allowed, open_image, parse_qcow2

CONTENT = b"\0" * 100_000 + os.urandom(300_000) + b"\0" * 100_000


def compressed(kind: str) -> bytes:
    if kind == "zst":
        return subprocess.run(["zstd", "-c"], input=CONTENT, capture_output=True, check=True).stdout
    return {"raw": bytes, "gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}[kind](CONTENT)


def opened(path, checksums=(), runner=None):
    caller = TestCaller()
    return open_image(runner or caller.runner, str(path), (str(os.path.dirname(path)),), ("/",), checksums)


@pytest.mark.parametrize("kind", ["raw", "gz", "xz", "bz2", "zst"])
def test_every_compression_is_recognised_by_content(tmp_path, kind):
    if kind == "zst" and shutil.which("zstd") is None:
        pytest.skip("needs zstd")
    path = tmp_path / "misleading.iso"
    path.write_bytes(compressed(kind))
    stream = opened(path, ("md5", "sha1", "sha256"))
    assert stream.content.read() == CONTENT
    packed = path.read_bytes()
    stream.tap.verify({name: hashlib.new(name, packed).hexdigest() for name in ("md5", "sha1", "sha256")})


@pytest.mark.parametrize("kind", ["raw", "gz"])
def test_a_wrong_checksum_is_refused_although_everything_was_read(tmp_path, kind):
    path = tmp_path / "image"
    path.write_bytes(compressed(kind))
    stream = opened(path, ("md5",))
    stream.content.read()
    with pytest.raises(BadInput, match="MD5 of .* is .*, not 0{32}"):
        stream.tap.verify({"md5": "0" * 32})


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2", "zst"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_archives_are_bad_input(tmp_path, kind, damage):
    if kind == "zst" and shutil.which("zstd") is None:
        pytest.skip("needs zstd")
    data = bytearray(compressed(kind))
    if damage == "cut":
        data = data[: len(data) // 2]
    else:
        data[len(data) // 2] ^= 0xFF
        data[-10:] = bytes(10)
    path = tmp_path / "image"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=rf"damaged \({kind}\)"):
        content_size(opened(path))


def test_sizes_are_known_without_reading_where_they_can_be(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(CONTENT)
    assert opened(path).size == len(CONTENT)
    path.write_bytes(gzip.compress(CONTENT))
    stream = opened(path)
    assert stream.size is None
    assert content_size(stream) == len(CONTENT)


def qcow2_header(size=1 << 30, backing=0, version=3, features=0, encrypted=0) -> bytes:
    head = struct.pack(">4sIQIIQI", b"QFI\xfb", version, backing, 0, 16, size, encrypted)
    return head.ljust(72, b"\0") + struct.pack(">Q", features) + bytes(64)


def test_qcow2_headers():
    assert parse_qcow2(b"raw data", "x") is None
    found = parse_qcow2(qcow2_header(), "x")
    assert found is not None
    assert found.virtual_size == 1 << 30


@pytest.mark.parametrize(("header", "kind"), [
    (qcow2_header(backing=512), Unsafe), (qcow2_header(features=4), Unsafe), (qcow2_header(version=9), BadInput),
    (qcow2_header(encrypted=1), BadInput), (qcow2_header(size=0), BadInput), (b"QFI\xfb\0\0", BadInput),
])
def test_qcow2_images_that_would_read_other_files_or_are_damaged(header, kind):
    with pytest.raises(kind):
        parse_qcow2(header, "x")


@pytest.mark.parametrize(("start", "name"), [
    (b"KDMV", "vmdk"), (b"conectix", "vhd"), (b"vhdxfile", "vhdx"), (b"\0" * 64 + b"\x7f\x10\xda\xbe", "vdi"),
])
def test_other_formats_say_how_to_convert(tmp_path, start, name):
    path = tmp_path / "image"
    path.write_bytes(start + b"x" * 1000)
    with pytest.raises(BadInput, match=f"is a {name} image.*qemu-img convert"):
        opened(path)


def test_qcow2_becomes_a_sparse_raw_file(tmp_path, monkeypatch):
    if shutil.which("qemu-img") is None:
        pytest.skip("needs qemu-img")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    raw, image = tmp_path / "in.raw", tmp_path / "image"
    raw.write_bytes(CONTENT)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image], check=True)
    path = tmp_path / "packed"
    path.write_bytes(gzip.compress(image.read_bytes()))
    for source in (image, path):
        stream = opened(source)
        assert stream.size is not None
        assert stream.size >= len(CONTENT)
        with Spool() as place:
            with open(unpack_qcow2(TestCaller().runner, stream, place), "rb") as result:
                assert result.read()[: len(CONTENT)] == CONTENT
            directory = place.directory
        assert not os.path.exists(directory)


def test_the_spool_of_a_killed_import_is_swept_and_a_living_one_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    dead = tmp_path / "dnc-import-dead"
    dead.mkdir()
    (dead / "image.raw").write_bytes(b"x")
    with Spool() as living, Spool():
        assert not dead.exists()
        assert os.path.isdir(living.directory)


@pytest.mark.parametrize(("path", "safe", "restricted", "fine"), [
    ("/var/tmp/a", ("/var/tmp",), ("/",), True),
    ("/etc/passwd", ("/var/tmp",), ("/",), False),
    ("/var/tmpx/a", ("/var/tmp",), ("/",), False),
    ("/var/tmp/secret/a", ("/var/tmp",), ("/", "/var/tmp/secret"), False),
    ("/home/a", ("/var/tmp",), ("/etc",), True),
    ("/data/a", ("/data",), ("/data",), True),
    ("/", ("/var/tmp",), ("/",), False),
])
def test_the_longest_directory_decides(path, safe, restricted, fine):
    assert allowed(path, safe, restricted) is fine


def test_links_out_of_a_safe_directory_are_seen_through(tmp_path):
    safe, secret = tmp_path / "safe", tmp_path / "secret"
    safe.mkdir()
    secret.write_bytes(b"x" * 1000)
    (safe / "image").symlink_to(secret)
    with pytest.raises(Unsafe, match="secret is not below a directory for images"):
        open_image(TestCaller().runner, str(safe / "image"), (str(safe),), ("/",))


@pytest.mark.parametrize("text", ["relative", "/a/../etc/passwd", "/a\nb", "file:///etc/passwd", "-rf", "ftp://x/y"])
def test_paths_that_are_none(text):
    with pytest.raises(BadInput):
        open_image(TestCaller().runner, text, ("/",), ())


def test_fifos_directories_and_absent_files_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").touch()
    for name, kind in (("fifo", BadInput), ("absent", NotFound), ("empty", BadInput)):
        with pytest.raises(kind):
            opened(tmp_path / name)
    with pytest.raises((BadInput, Unsafe)):
        opened(tmp_path)


def test_zstd_that_is_not_installed_is_told(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    runner = TestCaller().runner

    def missing(*_args, **_more):
        raise ToolMissing("zstd is not installed")

    runner.start = missing
    with pytest.raises(ToolMissing, match="install zstd on the frontend"):
        opened(path, runner=runner)


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/absent":
            self.send_error(404)
            return
        self.send_response(200)
        promised = len(CONTENT) + (1000 if self.path == "/short" else 0)
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_args):
        pass


@pytest.fixture
def web():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_http_streams_with_its_size(web):
    stream = open_image(TestCaller().runner, f"{web}/image", (), ("/",), ("md5",))
    assert stream.size == len(CONTENT)
    assert stream.content.read() == CONTENT
    stream.tap.verify({"md5": hashlib.md5(CONTENT).hexdigest()})


def test_http_that_breaks_off_fails_or_is_not_there(web):
    stream = open_image(TestCaller().runner, f"{web}/short", (), ("/",))
    with pytest.raises(Unreachable):
        stream.content.read()
    with pytest.raises(NotFound, match="the server answers 404"):
        open_image(TestCaller().runner, f"{web}/absent", (), ("/",))
    with pytest.raises(Unreachable, match="cannot be fetched"):
        open_image(TestCaller().runner, "http://127.0.0.1:1/image", (), ("/",))
