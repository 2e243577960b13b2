"""Small files that survive a power cut: written whole, fsynced, renamed, their directory fsynced (design rule 14)."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Optional

from ..errors import DncError, NoPrivilege, NoSpace
from ..log import Log


def sync_directory(path: str) -> None:
    """Make renames and removals in a directory last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_text(path: str, limit: int = 1 << 20) -> Optional[str]:
    """The text of a small file, None when it is absent."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(limit)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise explain(error, path) from None


def explain(error: OSError, path: str) -> DncError:
    """The typed error for what the kernel said about a path."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"no space left for {path}", hint="free space on that file system")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NoPrivilege(f"no permission for {path}", hint="run share/host/prepare of dnc on this host")
    if error.errno == errno.EIO:
        return DncError(f"{path}: input/output error", hint="see dmesg; is the pool below it full?")
    return DncError(f"{path}: {error.strerror or error}")


class Files:
    """Writes and removes; a dry run only tells."""

    def __init__(self, log: Log, dry_run: bool) -> None:
        self._log = log
        self._dry_run = dry_run

    @property
    def dry_run(self) -> bool:
        """Whether nothing may be changed."""
        return self._dry_run

    def would(self, text: str) -> bool:
        """True in a dry run, after telling what would have been done."""
        if self._dry_run:
            self._log.info(f"would {text}")
        return self._dry_run

    def write(self, path: str, text: str, mode: int = 0o640) -> None:
        """Put a file in place, whole or not at all. The name on the way ends in `.new`: drbdadm reads *.res only."""
        if self.would(f"write {path}"):
            return
        directory, name = os.path.split(path)
        passing = f"{directory}/.{name}.{os.getpid()}.new"
        try:
            descriptor = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(descriptor)
            os.rename(passing, path)
            sync_directory(directory)
        except OSError as error:
            self._drop(passing)
            raise explain(error, path) from None

    @staticmethod
    def _drop(path: str) -> None:
        if os.path.lexists(path):
            os.unlink(path)

    def remove(self, path: str) -> bool:
        """Remove a file; False when it was absent."""
        if not os.path.lexists(path) or self.would(f"remove {path}"):
            return False
        try:
            os.unlink(path)
            sync_directory(os.path.dirname(path))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise explain(error, path) from None
        return True

    def write_record(self, path: str, record: Dict[str, Any]) -> None:
        """A JSON record as a file."""
        self.write(path, json.dumps(record, sort_keys=True) + "\n")

    def read_record(self, path: str) -> Optional[Dict[str, Any]]:
        """The record of a file; None when absent; a damaged one is told and taken for absent."""
        text = read_text(path)
        if text is None:
            return None
        try:
            record = json.loads(text)
        except ValueError:
            record = None
        if isinstance(record, dict):
            return record
        self._log.warn(f"{path} is damaged and ignored")
        return None
