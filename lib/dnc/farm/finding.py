"""Finding hosts for replicas: oned is asked once, the hosts that were chosen by session, and others only if need be.

Placement among a thousand hosts so costs no more sessions than among two. Where figures are not published (no probe
yet, or too old), a bounded number of hosts is asked by session instead.
"""

from __future__ import annotations

import hashlib
import time
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..errors import DncError
from ..grammar import PoolSpec, parse_resource
from .placement import Choice, Rules, Wanted, choose, rules_of
from .published import MAX_AGE_S, Figure
from .sessions import Sessions
from .space import Space
from .survey import HostSurvey, try_survey

# So many hosts are asked by session where no figures are published.
BY_SESSION = 8
_ROUNDS = 4


class HostRecord(NamedTuple):
    """A host as oned knows it. unusable: why no replica may go there, empty when one may; figures by pool."""

    name: str
    unusable: str
    figures: Mapping[str, Figure]


Register = Callable[[], Mapping[str, HostRecord]]
"""Asks oned for all hosts; called at most once an action, and only where there is a choice."""


def nobody() -> Mapping[str, HostRecord]:
    """A register that knows no host."""
    return {}


class Found(NamedTuple):
    """The choice, and what the chosen hosts said by session."""

    choice: Choice
    surveys: Dict[str, HostSurvey]


def find_hosts(farm: Sessions, wanted: Wanted, hosts: Sequence[str], register: Register) -> Found:
    """Choose among `hosts`, have sessions with the chosen ones, see that they have the room they were chosen for.

    A host that does not answer or has less than it published is passed over, and another one takes its place.
    Raises NoSpace, Unreachable, DncError.
    """
    search = _Search(farm, wanted, hosts, register)
    for _ in range(_ROUNDS):
        choice = search.choose()
        missing = [host for host in choice.hosts if host not in search.surveys]
        search.ask(missing)
        if all(search.fits(host) for host in choice.hosts):
            for line in choice.lines():
                farm.log.info(f"{wanted.name}: {line}")
            return Found(choice, {host: search.surveys[host] for host in choice.hosts})
    raise DncError(
        f"{wanted.name}: {_ROUNDS} choices of hosts did not hold", hint="they answer otherwise than they publish"
    )


class _Search:
    """What is known of the hosts so far. spaces: published, then by session."""

    def __init__(self, farm: Sessions, wanted: Wanted, hosts: Sequence[str], register: Register) -> None:
        self._farm = farm
        self._wanted = wanted
        self._rules: Rules = rules_of(farm.config)
        self._passed_over: Dict[str, str] = {}
        self._spaces: Dict[str, Space] = {}
        self._unknown: List[str] = []
        self.surveys: Dict[str, HostSurvey] = {}
        records = self._records(hosts, register)
        for host in hosts:
            self._take(host, records.get(host))
        self._stale = bool(self._spaces)
        self.ask(self._first_asked())

    def _records(self, hosts: Sequence[str], register: Register) -> Mapping[str, HostRecord]:
        """oned is asked only where there is a choice: a farm no larger than a resource needs no answer."""
        if len(hosts) <= self._wanted.replicas or self._wanted.replicas == 1 and self._wanted.first is not None:
            return {}
        try:
            return register()
        except DncError as error:
            self._farm.log.warn(f"{error.line()}Hosts are asked themselves")
            return {}

    def _take(self, host: str, record: Optional[HostRecord]) -> None:
        if record is not None and record.unusable and host != self._wanted.first:
            self._passed_over[host] = record.unusable
            return
        space = recent_space(record, self._wanted.pool)
        if space is not None:
            self._spaces[host] = space
        else:
            self._unknown.append(host)

    def _first_asked(self) -> List[str]:
        """The host that is a must; and of those without figures a few, others for another resource."""
        first = [self._wanted.first] if self._wanted.first is not None else []
        if self._wanted.replicas == len(first):
            return first
        unknown = spread(self._unknown, self._wanted.name, BY_SESSION) if len(self._spaces) < BY_SESSION else []
        return list(dict.fromkeys((*first, *unknown)))

    def ask(self, hosts: Sequence[str]) -> None:
        """Hear it from the hosts themselves; who does not answer is passed over."""
        if not hosts:
            return
        farm = self._farm
        for host, error in farm.try_open(hosts).items():
            farm.log.warn(error.line())
            if host == self._wanted.first:
                raise error
            self._passed_over[host] = "does not answer"
        name, pool = parse_resource(self._wanted.name), self._wanted.pool
        answers = try_survey(farm, [host for host in hosts if host in farm.sessions], [name], [pool])
        self.surveys.update(answers)
        for host in hosts:
            answer = answers.get(host)
            if answer is not None and str(pool) in answer.pools:
                self._spaces[host] = answer.pools[str(pool)]
            else:
                self._spaces.pop(host, None)
                self._passed_over.setdefault(host, f"has no pool {pool}")

    def choose(self) -> Choice:
        """The choice by what is known now. Raises NoSpace, DncError, or why too few hosts answer."""
        if len(self._spaces) < self._wanted.replicas and self._farm.unreachable:
            raise next(iter(self._farm.unreachable.values()))
        return choose(self._wanted, self._spaces, self._passed_over, self._rules, stale=self._stale)

    def fits(self, host: str) -> bool:
        """Whether a host has said itself that it has the room."""
        space = self._spaces.get(host)
        return host in self.surveys and space is not None and (
            space.usable(self._wanted.fill_limit) >= self._wanted.bytes)


def recent_space(record: Optional[HostRecord], pool: PoolSpec) -> Optional[Space]:
    """What a host published about a pool, if it did of late."""
    figure = record.figures.get(str(pool)) if record is not None else None
    if figure is None or not -60 <= time.time() - figure.at <= MAX_AGE_S:
        return None
    return figure.space


def spread(hosts: Sequence[str], name: str, count: int) -> Tuple[str, ...]:
    """`count` of the hosts, by a hash with `name`: the same ones for the same name, others for another."""
    if len(hosts) <= count:
        return tuple(hosts)
    return tuple(sorted(hosts, key=lambda host: hashlib.sha256(f"{name} {host}".encode()).hexdigest())[:count])
