"""SCHED_REQUIREMENTS of a VM, kept in step with where its disks have replicas; the user's own part stays as it is.

Ours is one clause for each set of hosts, joined to the user's text by `&`, and known by its first alternative, which
names the disks and is no host name:

    (user's own text) & (NAME = "dnc:disk 0,2" | NAME = "node1" | NAME = "node3")

Where a VM's disks have no host in common, as DRBD 9's clients allow, no host could meet all clauses: then those that
contradict the latest one go. The scheduler reads it from USER_TEMPLATE at each deploy and automatic migration (contract
8); a host that a user names himself is not checked against it by oned.
"""

from __future__ import annotations

import re
from typing import Dict, FrozenSet, Iterable, NamedTuple, Optional

from .xml import cdata

ATTRIBUTE = "SCHED_REQUIREMENTS"
_CLAUSE = r'\(NAME = "dnc:disk ([0-9,]+)"((?: \| NAME = "[A-Za-z0-9._-]+")+)\)'
_OWN = r'\((?!NAME = "dnc:disk )(?P<own>.*?)\) & '
_WHOLE = re.compile(rf"(?:{_OWN})?{_CLAUSE}(?: & {_CLAUSE})*\Z", re.DOTALL)
_JOINED = re.compile(rf"\s*&\s*{_CLAUSE}|{_CLAUSE}\s*&\s*|{_CLAUSE}")
_HOST = re.compile(r'NAME = "([^"]+)"')
_OPERATOR = re.compile(r"\A\s*[&|]|[&|!(]\s*\Z")

Hosts = FrozenSet[str]


class Requirements(NamedTuple):
    """The user's own part, and for each disk the hosts with a replica."""

    own: str
    disks: Dict[int, Hosts]

    def render(self) -> str:
        """The whole attribute; empty when there is nothing to require."""
        clauses = []
        for hosts in sorted({tuple(sorted(hosts)) for hosts in self.disks.values()}):
            numbers = ",".join(str(disk) for disk in sorted(self.disks) if self.disks[disk] == frozenset(hosts))
            names = " | ".join(f'NAME = "{name}"' for name in (f"dnc:disk {numbers}", *hosts))
            clauses.append(f"({names})")
        if not clauses:
            return self.own
        return " & ".join([f"({self.own})"] * bool(self.own) + clauses)


def parse(text: str) -> Optional[Requirements]:
    """What an attribute says; None when our clauses cannot be taken out, since a user joined them by `|`."""
    disks: Dict[int, Hosts] = {}
    for match in re.finditer(_CLAUSE, text):
        for number in match.group(1).split(","):
            if number:
                disks[int(number)] = frozenset(_HOST.findall(match.group(2)))
    whole = _WHOLE.match(text)
    if whole is not None and not re.search(_CLAUSE, whole.group("own") or ""):
        return Requirements(whole.group("own") or "", disks)
    own = _JOINED.sub("", text)
    if disks and _OPERATOR.search(own):
        return None
    return Requirements(own, disks)


def changed(
    text: str, present: Iterable[int], disk: int, hosts: Iterable[str], farm: Iterable[str]
) -> Optional[str]:
    """The attribute after a disk has got its place (no hosts: it is gone); None when it is to stay as it is.

    present: disks that the VM has; clauses of others go. farm: hosts that may hold replicas; a disk that is on all of
    them needs no clause.
    """
    found = parse(text)
    if found is None:
        return None
    kept = set(present) | {disk}
    disks: Dict[int, Hosts] = {number: where for number, where in found.disks.items() if number in kept}
    members = frozenset(hosts)
    disks.pop(disk, None)
    if members and not set(farm) <= members:
        disks[disk] = members
    disks = _met_together(disks, disk)
    if disks == found.disks:
        return None
    return Requirements(found.own, disks).render()


def _met_together(disks: Dict[int, Hosts], first: int) -> Dict[int, Hosts]:
    """Those of the disks' hosts that one host can be among at once: `first`'s before the others'."""
    kept: Dict[int, Hosts] = {}
    for disk in sorted(disks, key=lambda number: (number != first, number)):
        if frozenset.intersection(disks[disk], *kept.values()):
            kept[disk] = disks[disk]
    return kept


def template(text: str) -> str:
    """The argument of one.vm.update that sets the attribute; as XML, where quotes need no care."""
    return f"<TEMPLATE><{ATTRIBUTE}>{cdata(text)}</{ATTRIBUTE}></TEMPLATE>"

