"""Images that are files on the frontend (DS_MAD=fs): imported once per content, cloned from then on.

The import is an image volume named after the image. Its members note which file it was made from, with its time and
size: a file that has changed is imported anew. OpenNebula tells nobody when such an image is deleted; so imports
whose file is gone or has changed are removed when a disk of any such image is made or removed, once no disk needs
them.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Tuple

from ..command import Runner
from ..errors import BadInput, Busy, Conflict, DncError, NotFound
from ..grammar import MIB, PoolSpec, ResourceKind, ResourceName, parse_resource
from ..log import Log
from . import images
from .files import explain
from .finding import Register
from .importer import Spool
from .making import mib
from .removal import Removal
from .sessions import Sessions
from .source import open_image
from .survey import Found, Located, locate, survey

# An import of terabytes takes hours; whoever needs the same one waits as long.
_WAIT_S = 86400.0
_LOOK_S = 0.5


class Content(NamedTuple):
    """What identifies the content of a file: path, time of change in ns, bytes."""

    path: str
    mtime_ns: int
    size: int


def identify(path: str) -> Content:
    """The content of a file as it is now. Raises NotFound, BadInput (no regular file), NoPrivilege."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise NotFound(f"{path} is not there", hint="see oneimage show; is its datastore mounted?") from None
    except OSError as error:
        raise explain(error, path) from None
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(f"{path} is no regular file", hint="file-based images are raw or qcow2 files")
    return Content(path, status.st_mtime_ns, status.st_size)


class FileImage(NamedTuple):
    """An image file, and the image volume that stands for it. roots: directories below which images may lie."""

    name: ResourceName
    path: str
    pool: PoolSpec
    replicas: int
    roots: Tuple[str, ...]


def ensure_import(farm: Sessions, runner: Runner, image: FileImage, host: str, register: Register) -> None:
    """Have an image volume with the file's present content; `host` is a member of a new one.

    Whoever comes while another action imports it waits for that one. Raises NotFound, BadInput, Unsafe, NoSpace,
    Conflict (an image of another datastore has the name), Unreachable.
    """
    with _turn(image.name.text, farm.log):
        wanted = identify(image.path)
        located = locate(farm, image.name, host)
        if located is not None and _holds(farm, located, wanted):
            return
        if located is not None:
            farm.log.info(f"{image.path} has changed since it was imported: anew")
            Removal(farm, image.name, [image.pool], None).run(host)
        _import(farm, runner, image, wanted, host, register)
    reclaim(farm)


def _holds(farm: Sessions, located: Located, wanted: Content) -> bool:
    """Whether the volume holds that content, complete on all members. Raises Conflict, Unreachable."""
    seen = [found.content for found in located.found.values()]
    if located.spec.state == "ready" and not any(seen):
        raise Conflict(f"{located.name} is no import of a file", hint="does another OpenNebula use the hosts?")
    if any(dict(one) == _record(wanted) for one in seen if one):
        located.require_all(farm)
        return located.complete
    return False


def _record(content: Content) -> Dict[str, Any]:
    return dict(content._asdict())


def _import(
    farm: Sessions, runner: Runner, image: FileImage, wanted: Content, host: str, register: Register
) -> None:
    stream = open_image(runner, image.path, image.roots, ("/",))
    size = max(mib(stream.size or 0), 1) * MIB
    if stream.size is None:
        raise BadInput(f"{image.path} is compressed", hint="file-based images are raw or qcow2: unpack it")
    with Spool() as place:
        plan = images.place(farm, image.name, size, image.pool, (), image.replicas, register, host)
        spec = images.fill(farm, plan, stream, {}, runner, place)
        if identify(image.path) != wanted:
            raise Busy(f"{image.path} changed while it was imported", hint="wait until it is written, then try again")
        farm.all("note_content", plan.hosts, resource=image.name.text, content=_record(wanted))
        images.rest(farm, plan, spec)
        farm.commit()
    farm.log.info(f"{image.path} imported as {image.name} on {' '.join(plan.hosts)}")


def reclaim(farm: Sessions) -> None:
    """Remove imports of files that are gone or have changed, once no disk needs them.

    What does not work is told and left for the next time: no disk depends on it.
    """
    try:
        for name in _stale(farm):
            farm.log.info(f"{name}: its file is gone or has changed and no disk needs it: removed")
            _remove(farm, name)
    except DncError as error:
        farm.log.warn(f"imports are not looked through: {error.line()}")


def _remove(farm: Sessions, name: str) -> None:
    try:
        Removal(farm, parse_resource(name), [farm.config.pool], None).run(None)
    except DncError as error:
        farm.log.warn(f"{name} is left: {error.line()}")


def _stale(farm: Sessions) -> List[str]:
    """Imports on the hosts involved whose file is not what it was, and which are no disk's origin."""
    seen = _seen(farm)
    stale = [found for found in seen if _is_import(found) and not _current(found.content or {})]
    # Their disks lie on some of their members, and where they were copied to.
    places = {host for found in stale if found.spec for host in (*found.spec.hosts(), *(found.copies or ()))}
    if not {farm.ssh_name(host) for host in places} <= set(farm.sessions):
        farm.open([farm.ssh_name(host) for host in sorted(places)])
        seen = _seen(farm)
    needed = {found.spec.origin for found in seen if found.spec is not None}
    return sorted({found.spec.name for found in stale if found.spec is not None} - needed)


def _seen(farm: Sessions) -> List[Found]:
    return [found for answer in survey(farm, farm.hosts, None).values() for found in answer.resources.values()]


def _is_import(found: Found) -> bool:
    spec = found.spec
    return spec is not None and found.content is not None and parse_resource(spec.name).kind is ResourceKind.IMAGE


def _current(content: Mapping[str, Any]) -> bool:
    try:
        return _record(identify(str(content.get("path")))) == dict(content)
    except NotFound:
        return False
    except DncError:
        return True  # nobody knows: it stays


@contextmanager
def _turn(name: str, log: Log) -> Iterator[None]:
    """One import of an image at a time; all actions of OpenNebula run on this machine. Raises Busy after a day."""
    path = os.path.join(os.environ.get("TMPDIR") or "/var/tmp", f"dnc-{os.geteuid()}-{name}.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise explain(error, path) from None
    try:
        deadline = time.monotonic() + _WAIT_S
        told = False
        while not _taken(descriptor):
            if not told:
                log.info(f"{name} is being imported by another action: waiting for it")
                told = True
            if time.monotonic() > deadline:
                raise Busy(f"{name} is still being imported after a day", hint=f"see who holds {path}: fuser")
            time.sleep(_LOOK_S)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
