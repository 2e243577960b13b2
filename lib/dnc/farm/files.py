"""Small files of VM directories (context CD-ROM, checkpoint, vm.xml) between hosts and frontend, streamed through.

A directory is on a host, or here on the frontend; both sides look alike to `move_files`.
"""

from __future__ import annotations

import os
from typing import Dict, Iterable, Iterator, Optional, Protocol, Tuple

from ..errors import BadInput, DncError, NoPrivilege, NoSpace
from ..grammar import shown
from ..log import Log
from .sessions import Sessions

PIECE = 2 << 20


class Directory(Protocol):
    """A VM's directory somewhere. `place` is for messages."""

    @property
    def place(self) -> str: ...

    def files(self) -> Dict[str, int]:
        """Regular files and their bytes; nothing when the directory is absent."""
        ...

    def exists(self) -> bool:
        """Whether there is such a directory."""
        ...

    def ensure(self) -> None:
        """Have the directory."""
        ...

    def read(self, name: str, size: int) -> Iterator[bytes]:
        """A file's content in pieces."""
        ...

    def write(self, name: str, pieces: Iterable[bytes]) -> None:
        """A file, whole or not at all."""
        ...

    def remove_file(self, name: str) -> None:
        """Absent is success."""
        ...

    def remove(self) -> None:
        """With all contents; absent is success."""
        ...


class HostDirectory:
    """On a host that has a session."""

    def __init__(self, farm: Sessions, host: str, path: str) -> None:
        self._farm = farm
        self._host = host
        self._path = path

    @property
    def place(self) -> str:
        """HOST:PATH."""
        return f"{self._host}:{self._path}"

    def files(self) -> Dict[str, int]:
        """See Directory. Raises BadInput for a name that no VM directory has."""
        answer = self._farm.call(self._host, "list_files", path=self._path)
        return {_checked(name): int(size) for name, size in answer["files"].items()}

    def exists(self) -> bool:
        """See Directory."""
        return bool(self._farm.call(self._host, "list_files", path=self._path)["exists"])

    def take(self, source: HostDirectory, name: str) -> bool:
        """Have a file of another directory of this host without copying it; False where that can't be."""
        if source._host != self._host:
            return False
        old, new = f"{source._path}/{name}", f"{self._path}/{name}"
        return bool(self._farm.call(self._host, "rename_file", path=old, to=new)["renamed"])

    def ensure(self) -> None:
        """See Directory."""
        self._farm.call(self._host, "ensure_directory", path=self._path)

    def read(self, name: str, size: int) -> Iterator[bytes]:
        """See Directory."""
        session = self._farm.sessions[self._host]
        offset = 0
        while offset < size:
            answer = session.call("read_file", path=f"{self._path}/{name}", offset=offset, length=PIECE)
            length = int(answer["length"])
            data = session.take_raw(length)
            if not data:
                raise DncError(f"{self._path}/{name} became shorter while it was read", host=self._host)
            offset += length
            yield data

    def write(self, name: str, pieces: Iterable[bytes]) -> None:
        """See Directory."""
        session = self._farm.sessions[self._host]
        offset = 0
        for data, last in _with_last(pieces):
            args = {"path": f"{self._path}/{name}", "offset": offset, "length": len(data), "last": last}
            session.receive(session.send("write_file", args, data))
            offset += len(data)

    def remove_file(self, name: str) -> None:
        """See Directory."""
        self._farm.call(self._host, "remove_file", path=f"{self._path}/{name}")

    def remove(self) -> None:
        """See Directory."""
        self._farm.call(self._host, "remove_directory", path=self._path)


class LocalDirectory:
    """Here on the frontend, where stopped and undeployed VMs keep theirs. Raises NoPrivilege, NoSpace, DncError."""

    def __init__(self, path: str, root: str, dry: Optional[Log] = None) -> None:
        """`dry`: in a dry run, the log that is told what would be changed. Raises BadInput outside of `root`."""
        if os.path.commonpath([path, root]) != root or path == root:
            raise BadInput(f"{path} lies outside of {root}", hint="check DATASTORE_LOCATION in dncrc")
        self._path = path
        self._dry = dry

    def _would(self, text: str) -> bool:
        if self._dry is not None:
            self._dry.info(f"would {text}")
        return self._dry is not None

    @property
    def place(self) -> str:
        """The path."""
        return f"frontend:{self._path}"

    def files(self) -> Dict[str, int]:
        """See Directory."""
        if not os.path.isdir(self._path):
            return {}
        entries = [entry for entry in os.scandir(self._path) if entry.is_file(follow_symlinks=False)]
        return {_checked(entry.name): entry.stat().st_size for entry in entries}

    def exists(self) -> bool:
        """See Directory."""
        return os.path.isdir(self._path)

    def ensure(self) -> None:
        """See Directory."""
        if os.path.isdir(self._path) or self._would(f"make {self._path}"):
            return
        try:
            os.makedirs(self._path, exist_ok=True)
        except OSError as error:
            raise explain(error, self._path) from None

    def read(self, name: str, size: int) -> Iterator[bytes]:
        """See Directory."""
        with open(os.path.join(self._path, name), "rb") as stream:
            while data := stream.read(PIECE):
                yield data

    def write(self, name: str, pieces: Iterable[bytes]) -> None:
        """See Directory."""
        if self._would(f"write {self._path}/{name}"):
            return
        passing = os.path.join(self._path, f".{name}.new")
        try:
            with open(passing, "wb") as stream:
                for data in pieces:
                    stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.rename(passing, os.path.join(self._path, name))
        except OSError as error:
            raise explain(error, passing) from None

    def remove_file(self, name: str) -> None:
        """See Directory."""
        if self._would(f"remove {self._path}/{name}"):
            return
        try:
            os.unlink(os.path.join(self._path, name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise explain(error, self._path) from None

    def remove(self) -> None:
        """See Directory."""
        import shutil  # 2 ms that only the frontend's own directory has to pay

        try:
            shutil.rmtree(self._path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise explain(error, self._path) from None


def copy_files(source: Directory, destination: Directory, *, skip: Tuple[str, ...] = ()) -> int:
    """Copy the regular files over, those that begin with a word of `skip` left out; returns their bytes.

    Nothing is copied when both are the same directory on shared storage.
    """
    files = source.files()
    destination.ensure()
    if not files or same_directory(source, destination):
        return 0
    return _copy(files, source, destination, skip)


def move_files(source: Directory, destination: Directory) -> int:
    """Have the regular files at the destination and no source directory; returns the bytes that were moved.

    On shared storage the directory stays as it is. Interrupted and run again, it goes on with what is left.
    """
    destination.ensure()
    if not source.exists() or same_directory(source, destination):
        return 0
    files = source.files()
    left = dict(files)
    if isinstance(source, HostDirectory) and isinstance(destination, HostDirectory):
        left = {name: size for name, size in sorted(files.items()) if not destination.take(source, name)}
    _copy(left, source, destination, ())
    source.remove()
    return sum(files.values())


def _copy(files: Dict[str, int], source: Directory, destination: Directory, skip: Tuple[str, ...]) -> int:
    wanted = {name: size for name, size in sorted(files.items()) if not (skip and name.startswith(skip))}
    for name, size in wanted.items():
        destination.write(name, source.read(name, size) if size else ())
    return sum(wanted.values())


def same_directory(one: Directory, other: Directory) -> bool:
    """Whether two hosts see the same directory: a token written at one shows at the other."""
    token = f".dnc-{os.urandom(8).hex()}"
    one.write(token, (b"dnc\n",))
    try:
        return token in other.files()
    finally:
        one.remove_file(token)


def _with_last(pieces: Iterable[bytes]) -> Iterator[Tuple[bytes, bool]]:
    """Each piece with whether it is the last; an empty file is one empty piece."""
    held = b""
    for data in pieces:
        if held:
            yield held, False
        held = data
    yield held, True


def _checked(name: str) -> str:
    if not name or "/" in name or name in (".", "..") or any(ord(c) < 32 for c in name):
        raise BadInput(f"{shown(name)} is not a file name of a VM directory")
    return name


def explain(error: OSError, path: str) -> DncError:
    """An error of this machine's file system as one line."""
    import errno

    what = f"{path}: {error.strerror}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return NoPrivilege(what, hint="the files belong to oneadmin on a working installation")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(what, hint="make room on the frontend")
    return DncError(what)
