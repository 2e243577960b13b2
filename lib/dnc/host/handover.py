"""After `xl migrate`: which of two hosts has the domain. Decided by looking at both (design rule 4).

xl renames the source to --migratedaway before it lets the destination start, and the destination carries
--incoming until it may; so what a domain is called tells how far the hand-over came (xl_migrate.c).
"""

from __future__ import annotations

import enum
from typing import NamedTuple, Optional, Tuple

from ..errors import DncError, TimedOut, ToolFailed, Unsafe
from ..log import Log
from ..tools.xl import INCOMING, MIGRATED_AWAY, Domain, DomainState
from .domains import Domains
from .waiting import Patience

SETTLE_TIMEOUT = 60.0
_INTERVAL = 1.0


class Sight(NamedTuple):
    """What one host shows of a domain."""

    plain: Optional[Domain]
    incoming: Optional[Domain]
    away: Optional[Domain]


class Step(enum.Enum):
    """What the truth table says to do next."""

    ARRIVED = "it runs at the destination only"
    STAYED = "it runs at the source only"
    END_SOURCE = "it runs at the destination, the source keeps a paused remainder"
    END_SHELL = "it runs at the source, the destination keeps an empty shell"
    TAKE_BACK = "only the paused source is left"
    BOTH = "it runs at both"
    NOWHERE = "it runs at neither"
    UNKNOWN = "the destination cannot be seen"


def see(domains: Tuple[Domain, ...], name: str) -> Sight:
    """Pick a domain and its migration halves out of a host's list."""
    by_name = {domain.name: domain for domain in domains}
    return Sight(by_name.get(name), by_name.get(name + INCOMING), by_name.get(name + MIGRATED_AWAY))


def decide(here: Sight, there: Optional[Sight]) -> Step:
    """The truth table of a migration from here to there; `there` is None when it could not be seen."""
    if there is None:
        # Under its plain name the source never gave, or got back, the permission to run.
        return Step.STAYED if here.plain else Step.UNKNOWN
    if here.plain and there.plain:
        return Step.BOTH
    if there.plain:
        return Step.END_SOURCE if here.away else Step.ARRIVED
    if there.incoming:
        # A shell has never run a single instruction of the guest.
        return Step.END_SHELL if here.plain or here.away else Step.NOWHERE
    if here.plain:
        return Step.STAYED
    return Step.TAKE_BACK if here.away else Step.NOWHERE


class Handover:
    """One migration of `name` between two hosts, seen from the source."""

    def __init__(
        self, name: str, here: Domains, there: Domains, destination: str, log: Log,
        patience: Optional[Patience] = None,
    ) -> None:
        self._name = name
        self._here = here
        self._there = there
        self._destination = destination
        self._log = log
        self._patience = patience or Patience()

    def is_plainly_here(self) -> bool:
        """Whether this host alone tells that the domain runs here, with no half of an earlier migration."""
        here = see(self._here.list(), self._name)
        return here.plain is not None and here.away is None and here.incoming is None

    def look(self) -> Tuple[Sight, Optional[Sight]]:
        """Both hosts as they are now."""
        here = see(self._here.list(), self._name)
        try:
            return here, see(self._there.list(), self._name)
        except DncError as error:
            self._log.warn(f"{self._destination} cannot be looked at: {error}")
            return here, None

    def settle(self, complaint: Optional[DncError]) -> None:
        """Bring both hosts to one running domain; returns when it is the destination's.

        `complaint` is what xl said, None for success. Raises `complaint` (or an error like it) when the domain
        is here in the end, Unsafe when a person has to decide: two running domains are never reduced to one.
        """
        self._patience.until(
            lambda: self._turn(complaint) or None, timeout=SETTLE_TIMEOUT, interval=_INTERVAL,
            what=f"{self._name} to {self._destination} did not settle",
            hint=f"look at `xl list` here and on {self._destination}",
        )

    def _turn(self, complaint: Optional[DncError]) -> bool:
        """Look, and do what the truth table says; True when the domain has arrived."""
        here, there = self.look()
        step = decide(here, there)
        self._log.info(f"{self._name}: {step.value}")
        if step is Step.ARRIVED:
            self._wake(there)
            return True
        if step is Step.STAYED:
            self._rouse(here)
            raise complaint or Unsafe(f"{self._name} is still here although xl reports its migration")
        if step is Step.UNKNOWN and complaint is None and here.away is None:
            self._log.warn(f"xl reports success and {self._name} is gone here: taken for arrived")
            return True
        if step in (Step.BOTH, Step.NOWHERE, Step.UNKNOWN):
            self._refuse(step, complaint)
        self._act(step)
        return False

    def _act(self, step: Step) -> None:
        try:
            if step is Step.END_SOURCE:
                self._here.destroy(self._name + MIGRATED_AWAY)
            elif step is Step.END_SHELL:
                self._there.destroy(self._name + INCOMING)
            elif step is Step.TAKE_BACK:
                self._here.rename(self._name + MIGRATED_AWAY, self._name)
                self._here.resume_suspended(self._name)
        except (ToolFailed, TimedOut) as error:
            # xl may be cleaning up itself at the same moment: the next look tells.
            self._log.info(f"{step.value}: {error}")

    def _wake(self, there: Optional[Sight]) -> None:
        domain = there.plain if there else None
        if domain is not None and domain.state is DomainState.PAUSED and domain.cpu_seconds == 0.0:
            self._there.unpause(self._name)

    def _rouse(self, here: Sight) -> None:
        domain = here.plain
        if domain is not None and domain.state is DomainState.PAUSED:
            self._here.resume_suspended(self._name)

    def _refuse(self, step: Step, complaint: Optional[DncError]) -> None:
        said = f" (xl: {complaint.what})" if complaint else ""
        hints = {
            Step.BOTH: f"decide which copy is right, destroy the other with `xl destroy {self._name}`, here or there",
            Step.NOWHERE: "resume the VM from OpenNebula once it shows POWEROFF",
            Step.UNKNOWN: f"look at `xl list` on {self._destination} before anything is resumed or destroyed",
        }
        raise Unsafe(f"{self._name} to {self._destination}: {step.value}{said}", hint=hints[step])
