"""Stream an image's content into a resource, zeros left out: the volumes are fresh and read as zeros already."""

from __future__ import annotations

import fcntl
import os
import time
import zlib
from typing import Iterator, List, Optional, Sequence, Tuple, Union

from ..command import Runner
from ..errors import BadInput, ToolMissing
from ..grammar import MIB
from ..log import Log
from .files import explain
from .session import Answer, Session
from .source import ImageStream, Reader

FRAME = 2 << 20  # bytes a request carries at most
BLOCK = 1 << 16  # zeros are left out in multiples of this
REPORT_EVERY = 15.0  # seconds between progress lines
_PREFIX = "dnc-import-"

_ZEROS = bytes(FRAME)
_ZERO_BLOCK = bytes(BLOCK)

Piece = Tuple[int, Union[bytes, memoryview]]


class Progress:
    """Says in the log how far an import has come."""

    def __init__(self, log: Log, name: str, total: int) -> None:
        self._log = log
        self._name = name
        self._total = total
        self._began = self._said = time.monotonic()
        self.sent = 0

    def at(self, offset: int, sent: int) -> None:
        """`offset` bytes of the content are done; `sent` more bytes crossed the network."""
        self.sent += sent
        now = time.monotonic()
        if now - self._said >= REPORT_EVERY:
            self._said = now
            part = min(100, 100 * offset // max(1, self._total))
            self._log.info(f"{self._name}: {part} % ({offset // MIB} of {self._total // MIB} MiB)")

    def done(self) -> None:
        """The last word."""
        seconds = max(0.001, time.monotonic() - self._began)
        rate = self._total / MIB / seconds
        self._log.info(
            f"{self._name}: {self._total // MIB} MiB in {seconds:.1f} s ({rate:.0f} MiB/s),"
            f" {self.sent // MIB} MiB of them not zero"
        )


def send(session: Session, resource: str, pieces: Iterator[Piece], progress: Progress) -> None:
    """Write the pieces to the promoted resource and wait until they are on all disks. Raises the host's error."""
    send_to_all((session,), resource, pieces, progress)
    progress.done()


def send_to_all(sessions: Sequence[Session], resource: str, pieces: Iterator[Piece], progress: Progress) -> None:
    """The same to several hosts, each of which writes for itself.

    Requests follow each other without waiting; the flush tells of any that failed.
    """
    packer = Packer()
    for offset, data in pieces:
        began = time.perf_counter()
        request: Answer = {"resource": resource, "offset": offset, "quiet": True}
        packed = packer.pack(data)
        if packed is not None:
            request["packed"] = len(data)
        sent = data if packed is None else packed
        for session in sessions:
            session.send("write", {**request, "length": len(sent)}, sent)
        packer.took(time.perf_counter() - began, len(data))
        progress.at(offset + len(data), len(sent))
    for session in sessions:
        session.call("flush", resource=resource)


class Packer:
    """Compresses when that is faster than sending data as they are; both are tried at first, and again now and then.

    A connection's buffers swallow a few MiB at once, so each way is timed over several pieces.
    """

    TRY = 8  # pieces sent each way before it is decided
    AGAIN = 128  # pieces after which both are tried again

    def __init__(self) -> None:
        self._turn = 0
        self._better = False
        self._seconds = {False: 0.0, True: 0.0}
        self._bytes = {False: 0, True: 0}

    def pack(self, data: Union[bytes, memoryview]) -> Optional[bytes]:
        """The piece compressed, None when it is to go as it is."""
        turn = self._turn % self.AGAIN
        if not (self._better if turn >= 2 * self.TRY else turn >= self.TRY):
            return None
        packed = zlib.compress(data, 1)
        return packed if len(packed) < len(data) else None

    def took(self, seconds: float, size: int) -> None:
        """What a piece of `size` bytes took, its compression included."""
        turn = self._turn % self.AGAIN
        if turn < 2 * self.TRY:
            # A piece that did not shrink counts against packing all the same: it was tried.
            way = turn >= self.TRY
            self._seconds[way] += seconds
            self._bytes[way] += size
        self._turn += 1
        if turn == 2 * self.TRY - 1:
            plain, packing = (self._seconds[way] / max(1, self._bytes[way]) for way in (False, True))
            self._better = packing < plain
            self._seconds, self._bytes = {False: 0.0, True: 0.0}, {False: 0, True: 0}


def runs_of_stream(stream: Reader, limit: int) -> Iterator[Piece]:
    """The parts of a stream that are not zero. Raises BadInput when it is longer than `limit` bytes."""
    offset = 0
    while True:
        data = _fill(stream, FRAME)
        if not data:
            return
        if offset + len(data) > limit:
            raise BadInput(
                f"content is larger than the image's SIZE of {limit // MIB} MiB",
                hint="was it exchanged after it was measured? create the image again",
            )
        yield from runs(data, offset)
        offset += len(data)


def runs_of_file(path: str) -> Iterator[Piece]:
    """The parts of a raw file that are not zero; holes are not even read."""
    try:
        with open(path, "rb", buffering=0) as stream:
            descriptor = stream.fileno()
            end = os.fstat(descriptor).st_size
            offset = 0
            while offset < end:
                try:
                    offset = os.lseek(descriptor, offset, os.SEEK_DATA)
                except OSError:
                    return  # only a hole is left
                hole = os.lseek(descriptor, offset, os.SEEK_HOLE)
                while offset < hole:
                    data = os.pread(descriptor, min(FRAME, hole - offset), offset)
                    if not data:
                        return
                    yield from runs(data, offset)
                    offset += len(data)
    except OSError as error:
        raise explain(error, path) from None


def runs(data: bytes, offset: int) -> Iterator[Piece]:
    """The parts of one piece that are not zero, whole blocks joined."""
    if data == (_ZEROS if len(data) == FRAME else _ZEROS[: len(data)]):
        return
    view = memoryview(data)
    start: Optional[int] = None
    for at in range(0, len(data), BLOCK):
        block = view[at : at + BLOCK]
        if block == _ZERO_BLOCK[: len(block)]:
            if start is not None:
                yield offset + start, view[start:at]
                start = None
        elif start is None:
            start = at
    if start is not None:
        yield offset + start, view[start:]


def _fill(stream: Reader, size: int) -> bytes:
    """Exactly `size` bytes, fewer only at the end: short reads must not make small requests."""
    data = stream.read(size)
    if len(data) in (0, size):
        return data
    parts: List[bytes] = [data]
    have = len(data)
    while have < size:
        data = stream.read(size - have)
        if not data:
            break
        parts.append(data)
        have += len(data)
    return b"".join(parts)


def content(runner: Runner, stream: ImageStream, size: int, place: Spool, *, hashed: bool) -> Iterator[Piece]:
    """What is to be written, at most `size` bytes. A local raw file is read around its holes, unless it is hashed."""
    if runner.dry_run:
        return iter(())
    if stream.qcow2 is not None:
        return runs_of_file(unpack_qcow2(runner, stream, place))
    if stream.path is not None and not hashed:
        return runs_of_file(stream.path)
    return runs_of_stream(stream.content, size)


def content_size(stream: ImageStream) -> int:
    """Bytes of the content; a compressed raw image has to be read through for it. Raises BadInput, Unreachable."""
    if stream.size is not None:
        return stream.size
    size = 0
    while data := stream.content.read(FRAME):
        size += len(data)
    return size


class Spool:
    """A directory of our own for what has to be a file before it can be sent; what killed imports left goes with it.

    Raises DncError, NoSpace.
    """

    def __init__(self) -> None:
        self._place = os.environ.get("TMPDIR") or "/var/tmp"
        self._lock = -1
        self.directory = ""

    def __enter__(self) -> Spool:
        import tempfile

        self._sweep()
        try:
            self.directory = tempfile.mkdtemp(prefix=_PREFIX, dir=self._place)
            self._lock = os.open(self.directory, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError as error:
            raise explain(error, self._place) from None
        return self

    def __exit__(self, *_: object) -> None:
        import shutil

        shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self._lock)

    def _sweep(self) -> None:
        """Remove the directories of imports that no process holds any more."""
        import shutil

        for entry in os.scandir(self._place):
            own = entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False)
            if not own or entry.stat(follow_symlinks=False).st_uid != os.geteuid():
                continue
            try:
                lock = os.open(entry.path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry.path, ignore_errors=True)
            except BlockingIOError:
                pass  # a living import
            finally:
                os.close(lock)


def unpack_qcow2(runner: Runner, stream: ImageStream, place: Spool) -> str:
    """Make a qcow2 image a sparse raw file in the spool directory; returns its path.

    A local file is read where it is; anything else is fetched first, since qemu-img has to seek in it.
    Raises ToolMissing, ToolFailed, NoSpace, Unreachable.
    """
    path, raw = stream.path, os.path.join(place.directory, "image.raw")
    if path is None:
        path = os.path.join(place.directory, "image.qcow2")
        try:
            with open(path, "wb") as sink:
                while data := stream.content.read(FRAME):
                    sink.write(data)
        except OSError as error:
            raise explain(error, path) from None
    try:
        runner.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw], changes=False, timeout=86400.0)
    except ToolMissing as error:
        error.hint = "install qemu-utils on the frontend, or offer the image as raw"
        raise
    return raw
