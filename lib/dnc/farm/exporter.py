"""An image's content back as a sparse raw file on the frontend, for marketplaces."""

from __future__ import annotations

import os
import tempfile
import time
from typing import NamedTuple

from ..errors import NotFound, Unsafe
from ..grammar import ResourceName
from ..log import Log
from . import making
from .files import explain
from .importer import FRAME, runs
from .sessions import Sessions
from .survey import locate, look_again

PREFIX = "dnc-export-"
# What nobody has fetched within this time was forgotten.
_AGE_S = 2 * 86400.0


class Exported(NamedTuple):
    """A raw file; its bytes, and its MD5 over all of them, holes too."""

    path: str
    bytes: int
    md5: str


def export(farm: Sessions, name: ResourceName, directory: str) -> Exported:
    """Write an image at rest into a new file of `directory`; the caller says who removes it.

    Read from one member: which, does not matter, since all are proven equal. Raises NotFound, Busy (in use),
    Unsafe (not proven), NoSpace, Unreachable.
    """
    image = locate(farm, name, None)
    if image is None:
        raise next(iter(farm.unreachable.values()), NotFound(f"image {name} is on no host"))
    image.require_all(farm)
    farm.lock(image.hosts, [], shared=[name.text])
    image = look_again(farm, image)
    making.require_rest(farm, image)
    if making.proof_of_rest(farm, image) is None:
        raise Unsafe(f"{name}: its replicas are not proven equal", hint="bring it up once and let it resync")
    _sweep(directory, farm.log)
    try:
        descriptor, path = tempfile.mkstemp(prefix=f"{PREFIX}{name}-", suffix=".raw", dir=directory)
    except OSError as error:
        raise explain(error, directory) from None
    try:
        with os.fdopen(descriptor, "wb") as target:
            return _copy(farm, name, image.holders[0], path, target.fileno(), image.spec.data_bytes)
    except OSError as error:
        os.unlink(path)
        raise explain(error, path) from None
    except BaseException:
        os.unlink(path)
        raise


def _copy(farm: Sessions, name: ResourceName, host: str, path: str, target: int, size: int) -> Exported:
    import hashlib

    session, digest, offset = farm.sessions[host], hashlib.md5(), 0  # noqa: S324 - what marketplaces compare by
    os.ftruncate(target, size)
    while offset < size:
        length = min(FRAME, size - offset)
        answer = session.call("read_volume", resource=name.text, offset=offset, length=length)
        got = int(answer["length"])
        if not got:
            raise Unsafe(f"{name} ends at {offset} of {size} bytes", host=host, hint="compare its volumes")
        data = bytes(got) if answer["zeros"] else session.take_raw(got)
        digest.update(data)
        for at, piece in runs(data, offset):
            os.pwrite(target, piece, at)
        offset += got
    os.fsync(target)
    return Exported(path, size, digest.hexdigest())


def _sweep(directory: str, log: Log) -> None:
    """Remove our exports that nobody has fetched."""
    try:
        for entry in os.scandir(directory):
            status = entry.stat(follow_symlinks=False)
            own = entry.name.startswith(PREFIX) and status.st_uid == os.geteuid()
            if own and entry.is_file(follow_symlinks=False) and time.time() - status.st_mtime > _AGE_S:
                log.info(f"{entry.path} was fetched by nobody: removed")
                os.unlink(entry.path)
    except OSError as error:
        raise explain(error, directory) from None
