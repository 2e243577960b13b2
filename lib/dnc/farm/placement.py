"""Which hosts get the replicas, and why; how much can really be allocated. Pure functions, no host is asked here."""

from __future__ import annotations

import hashlib
from typing import Dict, List, Mapping, NamedTuple, NoReturn, Optional, Sequence, Tuple

from ..config import Config
from ..errors import BadConfig, DncError, NoSpace
from ..grammar import MIB, PoolSpec
from .space import Space

# Hosts with at least this part of the best host's room count as equal: among them replicas are spread.
_AS_GOOD = 0.9
_SHOWN = 8


class Rules(NamedTuple):
    """What counts beside free space: partner of each paired host, failure domain of each host that has one."""

    partners: Mapping[str, str]
    domains: Mapping[str, str]

    def domain(self, host: str) -> str:
        """The failure domain of a host; one that is in none stands for itself."""
        return self.domains.get(host, f"host {host}")

    def together(self, host: str, chosen: Sequence[str]) -> bool:
        """Whether a host may get a replica of what lies on the hosts in `chosen` already."""
        if any(self.domain(host) == self.domain(other) for other in chosen):
            return False
        if len(chosen) != 1:
            return True
        return self.partners.get(chosen[0], host) == host and self.partners.get(host, chosen[0]) == chosen[0]


def allowed(hosts: Sequence[str], rules: Rules) -> bool:
    """Whether these hosts may all have a replica of the same resource."""
    return all(rules.together(host, hosts[:number]) for number, host in enumerate(hosts))


class Wanted(NamedTuple):
    """What is to be placed: a resource's name, in which pool, how large (bytes), how often; `first` is a must."""

    name: str
    pool: PoolSpec
    bytes: int
    replicas: int
    fill_limit: int
    first: Optional[str] = None


class Choice(NamedTuple):
    """The hosts, best first, and a reason for each host that was looked at: chosen ones first."""

    hosts: Tuple[str, ...]
    reasons: Tuple[Tuple[str, str], ...]

    def lines(self) -> Tuple[str, ...]:
        """The reasons as text; of those passed over, the first few and how many more."""
        shown = [f"{host}: {reason}" for host, reason in self.reasons[: len(self.hosts) + _SHOWN]]
        more = len(self.reasons) - len(shown)
        return (*shown, f"and {more} more hosts passed over") if more > 0 else tuple(shown)


def rules_of(config: Config) -> Rules:
    """The rules of dncrc."""
    partners = {one: other for pair in config.host_pairs for one, other in (pair, pair[::-1])}
    return Rules(partners, {host: domain for domain, hosts in config.failure_domains for host in hosts})


def farm_hosts(configured: Sequence[str], bridge_list: Sequence[str] = ()) -> Tuple[str, ...]:
    """The hosts that may hold replicas: BRIDGE_LIST of a datastore, else HOSTS of dncrc. Raises BadConfig."""
    hosts = tuple(dict.fromkeys(bridge_list or configured))
    if not hosts:
        raise BadConfig("no hosts are configured", hint='set HOSTS="host1 host2" in remotes/dncrc')
    return hosts


def choose(
    wanted: Wanted, spaces: Mapping[str, Space], passed_over: Mapping[str, str], rules: Rules, *, stale: bool = False
) -> Choice:
    """The hosts for the replicas of a new volume, by room, then spread, within the rules; the same for the same input.

    spaces: the pool on every host that counts; passed_over: hosts that do not, with the reason. stale: figures of a
    while ago, by which actions at the same time would all take the same hosts: so they are spread by the name.
    Raises NoSpace when too few have room, DncError when too few are there at all.
    """
    if len(spaces) < wanted.replicas:
        raise DncError(
            f"{len(spaces)} of the hosts answer, {wanted.replicas} replicas need {wanted.replicas}",
            hint=_why_not(passed_over) or "bring the others back, or name more hosts in dncrc",
        )
    room = {host: space.usable(wanted.fill_limit) for host, space in spaces.items()}
    order = _ranked(wanted, spaces, room, rules, stale)
    chosen = _first_that_fit(wanted, order, rules)
    if chosen is None:
        _refuse(wanted, room, order)
    return Choice(chosen, _reasons(wanted, chosen, spaces, room, passed_over, rules))


def _ranked(
    wanted: Wanted, spaces: Mapping[str, Space], room: Mapping[str, int], rules: Rules, stale: bool
) -> List[str]:
    """Hosts with room, best first. What counts of a paired host is the smaller of both."""
    fitting = {
        host: min(amount, room.get(rules.partners.get(host, host), 0)) if wanted.replicas > 1 else amount
        for host, amount in room.items() if amount >= wanted.bytes
    }
    enough = _AS_GOOD * max(fitting.values(), default=0)

    def key(host: str) -> Tuple[int, str, str]:
        if fitting[host] < enough:
            return (-fitting[host], "", host)
        if stale:
            return (-1 << 70, hashlib.sha256(f"{wanted.name} {host}".encode()).hexdigest(), host)
        return (-1 << 70, f"{spaces[host].volumes:012d}", host)

    return sorted(fitting, key=key)


def _first_that_fit(wanted: Wanted, order: Sequence[str], rules: Rules) -> Optional[Tuple[str, ...]]:
    """The best hosts that may go together; with `first` in front, if that has room."""
    if wanted.first is not None:
        return _extend((wanted.first,), wanted.replicas, order, rules) if wanted.first in order else None
    return _extend((), wanted.replicas, order, rules)


def _extend(
    chosen: Tuple[str, ...], replicas: int, order: Sequence[str], rules: Rules
) -> Optional[Tuple[str, ...]]:
    if len(chosen) == replicas:
        return chosen
    for host in order:
        if host not in chosen and rules.together(host, chosen):
            found = _extend((*chosen, host), replicas, order, rules)
            if found is not None:
                return found
    return None


def _refuse(wanted: Wanted, room: Mapping[str, int], order: Sequence[str]) -> NoReturn:
    if len(order) >= wanted.replicas and wanted.first in (None, *order):
        raise NoSpace(
            f"no {wanted.replicas} hosts for {wanted.name} may go together",
            hint=f"HOST_PAIRS and FAILURE_DOMAINS of dncrc; with room: {_few(order)}",
        )
    shown = _few([f"{host} {amount // MIB} MiB" for host, amount in sorted(room.items())], ", ")
    raise NoSpace(
        f"pool {wanted.pool} has no room for {wanted.bytes // MIB} MiB on {wanted.replicas} hosts",
        hint=f"usable below POOL_FILL_LIMIT={wanted.fill_limit}: {shown or 'nothing'}",
    )


def _few(words: Sequence[str], between: str = " ") -> str:
    more = f"{between}and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return between.join(words[:_SHOWN]) + more


def _why_not(passed_over: Mapping[str, str]) -> str:
    return _few([f"{host} {why}" for host, why in sorted(passed_over.items())], ", ")


def _reasons(
    wanted: Wanted, chosen: Sequence[str], spaces: Mapping[str, Space], room: Mapping[str, int],
    passed_over: Mapping[str, str], rules: Rules,
) -> Tuple[Tuple[str, str], ...]:
    reasons = [(host, _praise(wanted, host, spaces[host], room[host], rules)) for host in chosen]
    for host in sorted(set(room) - set(chosen)):
        amount = f"{room[host] // MIB} MiB usable"
        if room[host] < wanted.bytes:
            reasons.append((host, f"too full: {amount} below {wanted.fill_limit} %"))
        elif not all(rules.together(host, (other,)) for other in chosen):
            reasons.append((host, f"may not go with the chosen ones: {amount}"))
        else:
            reasons.append((host, f"would do: {amount}, {spaces[host].volumes} volumes"))
    return (*reasons, *sorted(passed_over.items()))


def _praise(wanted: Wanted, host: str, space: Space, room: int, rules: Rules) -> str:
    words = [f"chosen: {room // MIB} MiB usable below {wanted.fill_limit} %, {space.volumes} volumes"]
    if host == wanted.first:
        words.append("the host of the VM")
    if host in rules.partners and wanted.replicas > 1:
        words.append(f"paired with {rules.partners[host]}")
    if host in rules.domains:
        words.append(f"in {rules.domains[host]}")
    return ", ".join(words)


class Capacity(NamedTuple):
    """Of a datastore, in MiB: data that fits on distinct hosts as often as there are replicas."""

    used: int
    free: int
    total: int

    def text(self) -> str:
        """The lines that `monitor` prints (contract 1.7, 4)."""
        return f"USED_MB={self.used}\nFREE_MB={self.free}\nTOTAL_MB={self.total}"


def paired(amounts: Sequence[int], replicas: int) -> int:
    """How much data fits when each part goes to `replicas` distinct hosts that have these amounts.

    It is the largest k for which the hosts, none counted with more than k, have `replicas` times k.
    """
    low, high = 0, sum(amounts) // replicas
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(amount, middle) for amount in amounts) >= replicas * middle:
            low = middle
        else:
            high = middle - 1
    return low


def capacity(pools: Mapping[str, Space], replicas: int, fill_limit: int, rules: Rules) -> Capacity:
    """What a datastore can report, from its pool on the hosts that answer."""
    free = _placeable({host: space.usable(fill_limit) for host, space in pools.items()}, replicas, rules) // MIB
    total = {host: space.total * fill_limit // 100 for host, space in pools.items()}
    whole = _placeable(total, replicas, rules) // MIB
    return Capacity(max(0, whole - free), free, whole)


def _placeable(amounts: Mapping[str, int], replicas: int, rules: Rules) -> int:
    """Bytes that fit within the rules: in a pair the smaller decides, a domain is as one host."""
    if replicas == 1:
        return sum(amounts.values())
    pairs = 0
    if replicas == 2:
        ends = sorted({tuple(sorted((host, other))) for host, other in rules.partners.items()})
        pairs = sum(min(amounts.get(one, 0), amounts.get(other, 0)) for one, other in ends)
    groups: Dict[str, int] = {}
    for host, amount in amounts.items():
        if replicas > 2 or host not in rules.partners:
            groups[rules.domain(host)] = groups.get(rules.domain(host), 0) + amount
    return pairs + paired(list(groups.values()), replicas)
