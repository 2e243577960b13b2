"""Notes that must outlive an action: disks given up, two primaries allowed, growth and removals to be finished."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Optional

from ..errors import GivenUp
from .files import Files

GIVEN_UP = "given-up"
INTENTS = "intents"
UNFINISHED = "unfinished"
COPIES = "copies"
GROWING = "growing"
IMPORTS = "imports"
STRAYS = "strays"
# Far longer than any action runs; older marks stop nobody any more.
_MARK_AGE_S = 7 * 86400.0
# OpenNebula monitors datastores every five minutes.
_FILL_AGE_S = 600.0


class Journal:
    """Small JSON records below /var/lib/dnc, one file a resource and kind."""

    def __init__(self, state: str, files: Files) -> None:
        self._state = state
        self._files = files

    def _path(self, kind: str, name: str) -> str:
        return f"{self._state}/{kind}/{name}.json"

    def give_up(self, name: str, frontend_time: float) -> None:
        """OpenNebula wants the disk gone: actions on it that were started before must stop (observation 2)."""
        earlier = self.given_up(name)
        self._sweep()
        newest = max(frontend_time, float(earlier["frontend"]) if earlier else 0.0)
        self._files.write_record(self._path(GIVEN_UP, name), {"frontend": newest, "host": time.time()})

    def given_up(self, name: str) -> Optional[Dict[str, Any]]:
        """{frontend, host}: when the disk was last given up, by either clock."""
        return self._files.read_record(self._path(GIVEN_UP, name))

    def refuse_given_up(self, name: str, started: float) -> None:
        """Raises GivenUp when the disk was given up after `started` (frontend's clock)."""
        mark = self.given_up(name)
        if mark and float(mark["frontend"]) > started:
            raise GivenUp(f"{name} was given up while this action ran", hint="nothing to do: its delete cleans up")

    def _sweep(self) -> None:
        directory = f"{self._state}/{GIVEN_UP}"
        if not os.path.isdir(directory):
            return
        for entry in os.scandir(directory):
            if entry.name.endswith(".json") and time.time() - entry.stat().st_mtime > _MARK_AGE_S:
                self._files.remove(entry.path)

    def note_intent(self, name: str, vm: int, source: str, destination: str) -> None:
        """Two primaries are about to be allowed for one live migration (design rule 2)."""
        record = {"vm": vm, "source": source, "destination": destination, "since": time.time()}
        self._files.write_record(self._path(INTENTS, name), record)

    def intent(self, name: str) -> Optional[Dict[str, Any]]:
        """{vm, source, destination, since} while two primaries may be allowed."""
        return self._files.read_record(self._path(INTENTS, name))

    def clear_intent(self, name: str) -> None:
        """Two primaries are forbidden again."""
        self._files.remove(self._path(INTENTS, name))

    def note_copy(self, name: str, host: str, current: bool) -> None:
        """An image of this host is copied to another one; current: its content there is that of now."""
        self._files.write_record(self._path(COPIES, name), {**self.copies(name), host: current})

    def copies(self, name: str) -> Dict[str, bool]:
        """Hosts that hold a copy of an image, and whether it is that of now."""
        return self._files.read_record(self._path(COPIES, name)) or {}

    def outdate_copies(self, name: str) -> None:
        """The image may change from now on: its copies are no longer to be cloned."""
        copies = self.copies(name)
        if any(copies.values()):
            self._files.write_record(self._path(COPIES, name), dict.fromkeys(copies, False))

    def clear_copies(self, name: str) -> None:
        """The image is gone, and its copies with it."""
        self._files.remove(self._path(COPIES, name))

    def note_strays(self, name: str, hosts: List[str]) -> None:
        """Hosts on which replicas that do not count may lie: on their way here, or left behind. None: forget it."""
        if hosts:
            self._files.write_record(self._path(STRAYS, name), {"hosts": sorted(hosts), "since": time.time()})
        else:
            self._files.remove(self._path(STRAYS, name))

    def strays(self, name: str) -> List[str]:
        """What note_strays recorded."""
        return list((self._files.read_record(self._path(STRAYS, name)) or {}).get("hosts", ()))

    def note_growth(self, name: str, old_bytes: int, cleaned: bool) -> None:
        """A disk is growing from volumes of `old_bytes`; cleaned: what was metadata there is harmless already."""
        record = {"old_bytes": old_bytes, "cleaned": cleaned, "since": time.time()}
        self._files.write_record(self._path(GROWING, name), record)

    def growth(self, name: str) -> Optional[Dict[str, Any]]:
        """{old_bytes, cleaned, since} of a growth that is not finished."""
        return self._files.read_record(self._path(GROWING, name))

    def clear_growth(self, name: str) -> None:
        """The growth is finished, or the disk is gone."""
        self._files.remove(self._path(GROWING, name))

    def note_content(self, name: str, content: Dict[str, Any]) -> None:
        """An image volume holds what a file on the frontend held: `content` says which, as it was then."""
        self._files.write_record(self._path(IMPORTS, name), content)

    def content(self, name: str) -> Optional[Dict[str, Any]]:
        """What note_content recorded."""
        return self._files.read_record(self._path(IMPORTS, name))

    def clear_content(self, name: str) -> None:
        """The image volume is gone."""
        self._files.remove(self._path(IMPORTS, name))

    def note_fill(self, pool: str, percent: float) -> None:
        """How full a pool was when monitoring looked."""
        self._files.write_record(self._fill_path(pool), {"percent": percent, "since": time.time()})

    def last_fill(self, pool: str) -> Optional[float]:
        """The fill of a pool in percent, if monitoring saw it within the last ten minutes."""
        record = self._files.read_record(self._fill_path(pool))
        if record is None or not 0 <= time.time() - float(record["since"]) < _FILL_AGE_S:
            return None
        return float(record["percent"])

    def _fill_path(self, pool: str) -> str:
        return f"{self._state}/fill-{pool.replace('/', '-').replace(':', '-')}.json"

    def note_unfinished(self, name: str, hosts: List[str]) -> None:
        """A removal did not reach these hosts; `dnc verify` and gc finish it."""
        earlier = self.unfinished(name)
        known = set(earlier["hosts"]) if earlier else set()
        record = {"hosts": sorted(known.union(hosts)), "since": time.time()}
        self._files.write_record(self._path(UNFINISHED, name), record)

    def unfinished(self, name: str) -> Optional[Dict[str, Any]]:
        """{hosts, since} of a removal to finish."""
        return self._files.read_record(self._path(UNFINISHED, name))

    def clear_unfinished(self, name: str) -> None:
        """The removal is finished."""
        self._files.remove(self._path(UNFINISHED, name))
