"""What a probe saw when it looked last: one small JSON file a probe below /var/lib/dnc/monitoring.

Not below /var/tmp/one, which OpenNebula empties. Renamed into place whole, but never fsynced: a probe runs every few
seconds, and one that finds nothing, or a damaged file, only looks at everything as for the first time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from typing import Any, Dict, Iterator, Optional

from ..log import Log
from .files import read_text

_LIMIT = 16 << 20


class Sample:
    """What was seen, empty at first. boot: of the present boot; a sample of an earlier one is dropped."""

    def __init__(self, seen: Dict[str, Any]) -> None:
        self.seen = seen
        self.next: Optional[Dict[str, Any]] = None

    def keep(self, seen: Dict[str, Any]) -> None:
        """What the next look finds."""
        self.next = seen


class Samples:
    """The samples of this host. proc: /proc."""

    def __init__(self, directory: str, proc: str, log: Log) -> None:
        self._directory = directory
        self._log = log
        self._boot = (read_text(f"{proc}/sys/kernel/random/boot_id") or "").strip()

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Sample]:
        """The sample of a probe, nobody else's meanwhile. Where nothing can be kept, that is told and nothing more."""
        path = f"{self._directory}/{name}.json"
        with contextlib.ExitStack() as held:
            descriptor = self._lock(f"{self._directory}/{name}.lock")
            if descriptor is not None:
                held.callback(os.close, descriptor)
            sample = Sample(self._read(path))
            yield sample
            if sample.next is not None and sample.next != sample.seen and descriptor is not None:
                self._write(path, sample.next)

    def _lock(self, path: str) -> Optional[int]:
        try:
            os.makedirs(self._directory, mode=0o750, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            self._log.warn(f"nothing is remembered: {path}: {error.strerror}; run share/host/prepare of dnc here")
            return None
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor

    def _read(self, path: str) -> Dict[str, Any]:
        try:
            record = json.loads(read_text(path, _LIMIT) or "{}")
        except Exception as error:  # also what json says of nesting without end
            self._log.warn(f"{path} is damaged and ignored: {type(error).__name__}")
            return {}
        if not isinstance(record, dict) or record.get("boot") != self._boot or not isinstance(record.get("seen"), dict):
            return {}
        seen: Dict[str, Any] = record["seen"]
        return seen

    def _write(self, path: str, seen: Dict[str, Any]) -> None:
        passing = f"{path}.new"
        try:
            with open(passing, "w", encoding="utf-8") as stream:
                json.dump({"boot": self._boot, "seen": seen}, stream, sort_keys=True)
            os.rename(passing, path)
        except OSError as error:
            self._log.warn(f"nothing is remembered: {path}: {error.strerror}")
