"""Where an image comes from: a path on the frontend or an http address, decompressed on the fly, hashed as it came.

What it is, is told by its content, never by its name.
"""

from __future__ import annotations

import os
import stat
import struct
import threading
from typing import IO, Any, Callable, Dict, Iterable, NamedTuple, Optional, Protocol, Sequence, Tuple, Type

from ..command import Runner
from ..errors import BadInput, DncError, NotFound, ToolMissing, Unreachable, Unsafe
from ..grammar import parse_path, shown
from .files import explain

PIECE = 1 << 20
PEEK = 1 << 16
HTTP_TIMEOUT = 60.0  # seconds without a byte

_COMPRESSED = ((b"\x1f\x8b", "gz"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zst"), (b"BZh", "bz2"))
_REFUSED = (
    (b"KDMV", 0, "vmdk"), (b"COWD", 0, "vmdk"), (b"# Disk DescriptorFile", 0, "vmdk"), (b"\x7f\x10\xda\xbe", 64, "vdi"),
    (b"conectix", 0, "vhd"), (b"vhdxfile", 0, "vhdx"), (b"QED\0", 0, "qed"),
)


class Reader(Protocol):
    """Anything with `read`."""

    def read(self, size: int = -1) -> bytes: ...


class Tap:
    """Reads a source through, hashing and counting the bytes as they come; `peek` looks ahead."""

    def __init__(self, stream: Reader, name: str, size: Optional[int], checksums: Iterable[str] = ()) -> None:
        self.name = name
        self.size = size
        self.count = 0
        self._stream = stream
        self._ahead = b""
        self._hashes: Dict[str, Any] = {}
        checksums = tuple(checksums)
        if checksums:
            import hashlib

            self._hashes = {kind: hashlib.new(kind) for kind in checksums}

    def peek(self, size: int = PEEK) -> bytes:
        """The next bytes, left in place."""
        while len(self._ahead) < size:
            data = self._fetch(size - len(self._ahead))
            if not data:
                break
            self._ahead += data
        return self._ahead[:size]

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes (all when negative), b"" at the end. Raises Unreachable when a download breaks off."""
        if size < 0:
            parts = []
            while data := self.read(PIECE):
                parts.append(data)
            return b"".join(parts)
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data
        return self._fetch(size)

    def _fetch(self, size: int) -> bytes:
        try:
            data = self._stream.read(size)
        except OSError as error:
            raise Unreachable(f"{self.name} cannot be read on: {error}", hint="try again") from None
        if not data and self.size is not None and self.count < self.size:
            raise Unreachable(f"{self.name} broke off after {self.count} of {self.size} bytes", hint="try again")
        self.count += len(data)
        for running in self._hashes.values():
            running.update(data)
        return data

    def verify(self, expected: Dict[str, str]) -> None:
        """Read to the end and compare checksums of the file as it came. Raises BadInput."""
        while self.read(PIECE):
            pass
        for kind, wanted in expected.items():
            found = self._hashes[kind].hexdigest()
            if found != wanted.lower():
                raise BadInput(
                    f"{kind.upper()} of {shown(self.name)} is {found}, not {wanted}",
                    hint="the download is damaged or another file: correct the image's path or checksum",
                )


class Qcow2(NamedTuple):
    """What matters of a qcow2 header; bytes."""

    virtual_size: int


class ImageStream(NamedTuple):
    """An opened image. `size`: bytes of its content where that is known before reading; `path`: only for a local
    file that is not compressed."""

    tap: Tap
    content: Tap
    qcow2: Optional[Qcow2]
    size: Optional[int]
    path: Optional[str]


def open_image(
    runner: Runner, path: str, safe: Sequence[str], restricted: Sequence[str], checksums: Iterable[str] = ()
) -> ImageStream:
    """Open an image, look what it is. Raises NotFound, Unsafe (directory not allowed), Unreachable, BadInput."""
    if path.startswith(("http://", "https://")):
        tap, local = _open_http(path, checksums), None
    else:
        tap, local = _open_file(path, safe, restricted, checksums)
    kind = _compression(tap.peek(16))
    content = tap
    if kind is not None:
        content = Tap(_Decoder(runner, tap, kind), f"{tap.name} ({kind})", None)
        local = None
    start = content.peek()
    for magic, offset, refused in _REFUSED:
        if start[offset : offset + len(magic)] == magic:
            raise BadInput(
                f"{shown(tap.name)} is a {refused} image, dnc takes raw and qcow2",
                hint="convert it: qemu-img convert -O qcow2",
            )
    qcow2 = parse_qcow2(start, tap.name)
    size = qcow2.virtual_size if qcow2 else content.size
    return ImageStream(tap, content, qcow2, size, local)


def download(address: str, target: str) -> None:
    """Fetch an http address into a file. Raises Unreachable, NoSpace."""
    tap = _open_http(address, ())
    try:
        with open(target, "wb") as stream:
            while data := tap.read(PIECE):
                stream.write(data)
    except OSError as error:
        raise explain(error, target) from None


def allowed(real: str, safe: Sequence[str], restricted: Sequence[str]) -> bool:
    """Whether a path may be imported: the longest directory that holds it decides, SAFE_DIRS before RESTRICTED_DIRS."""

    def longest(directories: Sequence[str]) -> int:
        holding = [len(one) for one in directories if real == one or real.startswith(one.rstrip("/") + "/")]
        return max(holding, default=0)

    return longest(safe) >= longest(restricted)


def _open_file(
    path: str, safe: Sequence[str], restricted: Sequence[str], checksums: Iterable[str]
) -> Tuple[Tap, str]:
    path = parse_path(path)
    try:
        # O_NONBLOCK: a fifo must not hold us up; what was opened is checked, not what the name meant a moment ago.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist on the frontend") from None
    except OSError as error:
        raise explain(error, path) from None
    real = os.path.realpath(f"/proc/self/fd/{descriptor}")
    if not allowed(real, safe, restricted):
        raise Unsafe(
            f"{real} is not below a directory for images", hint="SAFE_DIRS of the datastore or of dncrc names them"
        )
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise BadInput(f"{path} is no regular file")
    if status.st_size == 0:
        raise BadInput(f"{path} is empty")
    stream = open(descriptor, "rb", buffering=0)  # noqa: SIM115 - lives as long as the tap
    return Tap(stream, real, status.st_size, checksums), real


def _open_http(address: str, checksums: Iterable[str]) -> Tap:
    import http.client
    import urllib.error
    import urllib.request  # 60 ms that only downloads pay

    request = urllib.request.Request(address, headers={"User-Agent": "dnc", "Accept-Encoding": "identity"})
    try:
        response = urllib.request.urlopen(request, timeout=HTTP_TIMEOUT)
    except urllib.error.HTTPError as error:
        kind = NotFound if error.code in (404, 410) else Unreachable
        raise kind(f"{shown(address)}: the server answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise Unreachable(f"{shown(address)} cannot be fetched: {reason}", hint="can the frontend reach it?") from None
    length = response.headers.get("Content-Length", "")
    return Tap(_Response(response), address, int(length) if length.isdigit() else None, checksums)


class _Response:
    """An answer whose every failure is an OSError."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def read(self, size: int = -1) -> bytes:
        """As of a file."""
        from http.client import HTTPException

        try:
            data: bytes = self._response.read(size)
        except HTTPException as error:
            raise OSError(f"{type(error).__name__} {error}") from None
        return data


def _compression(start: bytes) -> Optional[str]:
    for magic, kind in _COMPRESSED:
        if start.startswith(magic):
            return kind
    return None


def parse_qcow2(start: bytes, name: str) -> Optional[Qcow2]:
    """The header of a qcow2 image, None for anything else.

    Raises Unsafe for one that refers to other files (a backing file, an external data file): they would be read
    from the frontend's disk. Raises BadInput for a damaged or encrypted one.
    """
    if not start.startswith(b"QFI\xfb"):
        return None
    if len(start) < 72:
        raise BadInput(f"{shown(name)} is a truncated qcow2 image")
    version, backing, _length, _bits, size, encrypted = struct.unpack(">IQIIQI", start[4:36])
    features = struct.unpack(">Q", start[72:80])[0] if version >= 3 and len(start) >= 80 else 0
    if backing or features & 4:
        raise Unsafe(f"{shown(name)} is a qcow2 image that needs another file", hint="flatten it: qemu-img convert")
    if encrypted or version not in (2, 3):
        raise BadInput(f"{shown(name)} is an encrypted or unknown kind of qcow2 image")
    if not 0 < size <= 1 << 60:
        raise BadInput(f"{shown(name)} is a qcow2 image with a damaged header")
    return Qcow2(size)


class _Decoder:
    """Decompresses what a tap delivers; every kind of damage is one BadInput."""

    def __init__(self, runner: Runner, tap: Tap, kind: str) -> None:
        self._tap = tap
        self._kind = kind
        self._damage: Tuple[Type[Exception], ...] = (EOFError, ValueError, OSError)
        self._finish: Callable[[], None] = _nothing
        self._stream = self._open(runner)

    def _open(self, runner: Runner) -> Reader:
        source: Any = _Seekless(self._tap)
        if self._kind == "gz":
            import gzip
            import zlib

            self._damage += (zlib.error,)
            return gzip.GzipFile(fileobj=source, mode="rb")
        if self._kind == "bz2":
            import bz2

            return bz2.BZ2File(source)
        if self._kind == "xz":
            import lzma

            self._damage += (lzma.LZMAError,)
            return lzma.LZMAFile(source)
        return self._zstd(runner)

    def _zstd(self, runner: Runner) -> Reader:
        try:
            process = runner.start(["zstd", "-d", "-c", "-q"])
        except ToolMissing as error:
            error.hint = "install zstd on the frontend, or offer the image in another format"
            raise
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        failure: list[DncError] = []
        feeder = threading.Thread(target=_feed, args=(self._tap, process.stdin, failure), daemon=True)
        feeder.start()

        def finish() -> None:
            feeder.join()
            if failure:
                raise failure[0]
            said = process.stderr.read().decode("utf-8", "replace").strip() if process.stderr else ""
            if process.wait() != 0:
                raise ValueError(said or "zstd failed")

        self._finish = finish
        return process.stdout

    def read(self, size: int = -1) -> bytes:
        """Decompressed bytes. Raises BadInput for damaged data."""
        try:
            data = self._stream.read(size)
            if not data:
                self._finish()
            return data
        except self._damage as error:
            what = f"{shown(self._tap.name)} is damaged ({self._kind}): {error}"
            raise BadInput(what, hint="fetch it again") from None


def _nothing() -> None:
    """Only zstd, a process of its own, has an end to be looked at."""


class _Seekless:
    """A tap as the decompressors of the standard library want it."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap

    def read(self, size: int = -1) -> bytes:
        """As the tap."""
        return self._tap.read(size)

    @staticmethod
    def readable() -> bool:
        """It is."""
        return True

    @staticmethod
    def seekable() -> bool:
        """Never."""
        return False


def _feed(tap: Tap, sink: IO[bytes], failure: list[DncError]) -> None:
    try:
        while data := tap.read(PIECE):
            sink.write(data)
    except BrokenPipeError:
        pass  # the decoder ended: its status tells why
    except DncError as error:
        failure.append(error)
    finally:
        _close(sink)


def _close(sink: IO[bytes]) -> None:
    try:
        sink.close()
    except BrokenPipeError:
        return

