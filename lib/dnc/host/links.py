"""Links and small files in the VMs' directories; nothing outside the allowed roots is ever touched."""

from __future__ import annotations

import errno
import os
from typing import Dict, Tuple

from ..errors import BadInput, Conflict, NotFound
from ..grammar import parse_path
from .files import Files, explain, sync_directory


class Links:
    """roots: the directories below which paths may lie."""

    def __init__(self, roots: Tuple[str, ...], files: Files) -> None:
        self._roots = roots
        self._files = files

    def inside(self, path: str) -> str:
        """The path, if it lies below an allowed root, links in its directories followed. Raises BadInput."""
        clean = parse_path(path)
        real = os.path.join(os.path.realpath(os.path.dirname(clean)), os.path.basename(clean))
        for root in self._roots:
            if clean.startswith(root + "/") and real.startswith(os.path.realpath(root) + "/"):
                return clean
        raise BadInput(f"{clean} lies outside of the datastores", hint="check DATASTORE_LOCATION")

    def ensure_directory(self, path: str) -> bool:
        """Make a directory and those above it; True when it was made."""
        path = self.inside(path)
        if os.path.isdir(path) or self._files.would(f"make {path}"):
            return False
        try:
            os.makedirs(path, mode=0o755, exist_ok=True)
        except OSError as error:
            raise explain(error, path) from None
        return True

    def remove_directory(self, path: str) -> None:
        """Remove a directory with its contents; links are removed, never followed. Absent is success."""
        path = self.inside(path)
        if not os.path.lexists(path) or self._files.would(f"remove {path}"):
            return
        try:
            if os.path.islink(path) or not os.path.isdir(path):
                os.unlink(path)
                return
            for directory, names, files in os.walk(path, topdown=False):
                for name in files:
                    os.unlink(os.path.join(directory, name))
                for name in names:
                    entry = os.path.join(directory, name)
                    os.unlink(entry) if os.path.islink(entry) else os.rmdir(entry)
            os.rmdir(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise explain(error, path) from None

    def target(self, path: str) -> str:
        """Where a link points; the empty text when there is none."""
        path = self.inside(path)
        return os.readlink(path) if os.path.islink(path) else ""

    def ensure_link(self, path: str, target: str) -> None:
        """Make `path` point to `target`. Raises Conflict when something else than a link is there."""
        path = self.inside(path)
        if self.target(path) == target:
            return
        if os.path.lexists(path) and not os.path.islink(path):
            raise Conflict(f"{path} exists and is no link", hint="look at it, move it away")
        if self._files.would(f"link {path} to {target}"):
            return
        passing = f"{path}.{os.getpid()}.new"
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            os.symlink(target, passing)
            os.rename(passing, path)
        except OSError as error:
            if os.path.islink(passing):
                os.unlink(passing)
            raise explain(error, path) from None

    def remove_link(self, path: str) -> None:
        """Remove a link. Raises Conflict when something else is there; absent is success."""
        path = self.inside(path)
        if os.path.lexists(path) and not os.path.islink(path):
            raise Conflict(f"{path} is no link", hint="look at it, move it away")
        self._files.remove(path)

    def remove_file(self, path: str) -> None:
        """Remove a file or a link; absent is success."""
        self._files.remove(self.inside(path))

    def rename_file(self, path: str, to: str) -> bool:
        """Move a file within this host; False between file systems. Its directory is there. Raises NotFound."""
        path, to = self.inside(path), self.inside(to)
        if self._files.would(f"rename {path} to {to}"):
            return True
        try:
            os.rename(path, to)
            sync_directory(os.path.dirname(to))
        except FileNotFoundError:
            raise NotFound(f"{path} does not exist") from None
        except OSError as error:
            if error.errno == errno.EXDEV:
                return False
            raise explain(error, to) from None
        return True

    def exists(self, path: str) -> bool:
        """Whether there is such a directory."""
        return os.path.isdir(self.inside(path))

    def listing(self, path: str) -> Tuple[Dict[str, int], Dict[str, str]]:
        """(regular files with their bytes, links with their targets) right in a directory; absent is empty."""
        path = self.inside(path)
        files: Dict[str, int] = {}
        links: Dict[str, str] = {}
        if not os.path.isdir(path):
            return files, links
        for entry in os.scandir(path):
            if entry.is_symlink():
                links[entry.name] = os.readlink(entry.path)
            elif entry.is_file():
                files[entry.name] = entry.stat().st_size
        return files, links

    def read(self, path: str, offset: int, length: int) -> Tuple[bytes, int]:
        """(data, size of the file). Raises NotFound."""
        path = self.inside(path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise NotFound(f"{path} does not exist") from None
        except OSError as error:
            raise explain(error, path) from None
        try:
            return os.pread(descriptor, length, offset), os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def write(self, path: str, offset: int, data: bytes, mode: int, last: bool) -> None:
        """One piece of a file; it appears under its name, whole, with the last piece."""
        path = self.inside(path)
        if self._files.would(f"write {path}"):
            return
        passing = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_TRUNC if offset == 0 else 0)
        try:
            descriptor = os.open(passing, flags, mode)
            try:
                view = memoryview(data)
                while view:
                    written = os.pwrite(descriptor, view, offset)
                    view, offset = view[written:], offset + written
                if last:
                    os.fchmod(descriptor, mode)
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if last:
                os.rename(passing, path)
        except OSError as error:
            raise explain(error, path) from None
