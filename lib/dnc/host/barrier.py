"""The barrier for a snapshot of a running VM's disk: the guest waits until every member has its snapshot (rule 11).

DRBD 9: writes are held back on the Primary (`suspend-io`). DRBD 8.4: the domain is paused, and nothing may be under
way. A holder (freezing.py) freezes and thaws; so the guest goes on within moments when the agent is killed, by whatever
signal, and after LIMIT_S in any case.
"""

from __future__ import annotations

import time
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import DncError, TimedOut, Unsafe
from ..tools import drbd, drbd84, xl
from ..tools.drbd import ResourceSpec
from .files import read_text
from .freezing import Argv, Holder
from .machine import Host

# No guest waits longer, whatever happens to those who froze it.
LIMIT_S = 60.0
# A request that was under way when the domain was paused is done in milliseconds, unless the peer is dying.
_QUIET_S = 10.0
# Two looks this far apart must see the same: what the backend had taken from the guest may not be with DRBD yet.
_BETWEEN_LOOKS_S = 0.01


class Thawed(NamedTuple):
    """What the guest had of it. intact: nothing was written, and every member was there, from freeze to thaw."""

    seconds: float
    intact: bool


class Barrier:
    """At most one in a session."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._holder: Optional[Holder] = None
        self._specs: List[ResourceSpec] = []
        self._written: Dict[str, int] = {}
        self._began = 0.0
        self._degraded = False

    def freeze(
        self, names: Sequence[str], domain: Optional[str], *, pause: bool = False, degraded: bool = False
    ) -> None:
        """From here on nobody writes to these disks. Raises Unsafe (not Primary and in sync here), TimedOut.

        pause: the domain stands still in any case. degraded: members may be missing, since one snapshot of each disk
        is all that is taken.
        """
        host = self._host
        specs = [host.resource_files.get(name) for name in names]
        self._specs = [spec for spec in specs if spec.replicated]
        self._degraded = degraded
        for spec in self._specs:
            self._require_ready(spec)
        # One disk with one replica: its snapshot is one instant anyway. Several of them nothing but a pause holds.
        freeze, thaw = self._commands(domain, pause or (len(specs) > 1 and len(self._specs) < len(specs)))
        if not freeze:
            return
        if host.runner.dry_run:
            host.log.info("would freeze, and thaw after all snapshots: " + "; ".join(" ".join(argv) for argv in freeze))
            return
        self._holder = Holder(host, freeze, thaw, LIMIT_S)
        self._began = time.monotonic()
        try:
            self._holder.freeze(names[0])
            self._await_quiet()
        except DncError:
            self.end()
            raise

    def _require_ready(self, spec: ResourceSpec) -> None:
        status = self._host.resources.status(spec.name)
        if status is None or not self._fit(status) or status.role is not drbd.Role.PRIMARY:
            seen = status.summary() if status else "down"
            raise Unsafe(f"{spec.name} is not Primary and in sync here: {seen}", hint="wait for its resync, try again")

    def _fit(self, status: drbd.ResourceStatus) -> bool:
        return status.ready or (self._degraded and status.usable and not status.suspended)

    def _commands(self, domain: Optional[str], pause: bool) -> Tuple[List[Argv], List[Argv]]:
        """How to freeze, how to thaw; nothing where nobody writes."""
        resources = self._host.resources
        suspend = [spec.name for spec in self._specs if resources.dialect(spec).can_suspend]
        stubborn = [spec.name for spec in self._specs if spec.name not in suspend]
        freeze: List[Argv] = [drbd.suspend_io(name) for name in suspend]
        thaw: List[Argv] = [drbd.resume_io(name) for name in suspend]
        if not (stubborn or pause):
            return freeze, thaw
        if domain is None or self._host.domains.find(domain) is None:
            if stubborn:
                text = " ".join(stubborn)
                raise Unsafe(f"{text} is Primary without its domain here", hint="see what uses it: fuser, xl list")
            return freeze, thaw
        return [xl.pause(domain), *freeze], [*thaw, xl.unpause(domain)]

    def _activity(self) -> Tuple[int, Dict[str, int]]:
        """(requests under way, KiB written by resource); with DRBD 9 the kernel has waited for us."""
        text = read_text(f"{self._host.paths.proc}/drbd") or ""
        seen = {
            spec.name: drbd84.activity(text, spec.minor) for spec in self._specs
            if spec.minor is not None and not self._host.resources.dialect(spec).can_suspend
        }
        return sum(pending for pending, _ in seen.values()), {name: written for name, (_, written) in seen.items()}

    def _await_quiet(self) -> None:
        deadline = time.monotonic() + _QUIET_S
        pending, self._written = self._activity()
        while self._written:
            time.sleep(_BETWEEN_LOOKS_S)
            before = self._written
            pending, self._written = self._activity()
            if not pending and before == self._written:
                return
            if time.monotonic() > deadline:
                raise TimedOut(
                    f"{self._specs[0].name}: {pending} requests under way {_QUIET_S:.0f} s after the guest was paused",
                    hint="is its peer dying? drbdadm status",
                )

    def thaw(self) -> Thawed:
        """The guest goes on. Raises nothing: what went wrong makes the barrier not intact."""
        if self._holder is None:
            return Thawed(0.0, True)
        intact = self._activity() == (0, self._written) if self._written else True
        intact = self.end() and intact
        seconds = time.monotonic() - self._began
        statuses = [self._host.resources.status(spec.name) for spec in self._specs]
        return Thawed(seconds, intact and all(status is not None and self._fit(status) for status in statuses))

    def end(self) -> bool:
        """Have the guest go on, whatever the state; whether it was frozen until now."""
        holder, self._holder = self._holder, None
        return holder is not None and holder.thaw()
