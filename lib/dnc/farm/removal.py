"""Removing disks for good, on every member that answers, whatever state they are in (contract 1.5, observation 2)."""

from __future__ import annotations

import time
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from ..errors import Busy, TimedOut
from ..grammar import PoolSpec, ResourceName
from . import making
from .sessions import Sessions
from .survey import Found, HostSurvey, candidates, try_survey

# A guest that is destroyed lets go of its disks within seconds; a deploy that was given up needs a little longer.
_LET_GO = 90.0
_TRY = 10.0


class Removal:
    """One disk to be removed. `domain` is the VM's domain, to be destroyed if it holds the disk; None: it is left."""

    def __init__(self, farm: Sessions, name: ResourceName, pools: Iterable[PoolSpec], domain: Optional[str]) -> None:
        self._farm = farm
        self._name = name
        self._pools = [str(pool) for pool in pools]
        self._domain = domain

    def reach(self, first: Optional[str]) -> Tuple[Dict[str, HostSurvey], List[str]]:
        """(what the hosts have, members that do not answer). Opens the sessions that are needed, no others.

        Raises Unreachable when no host at all answers.
        """
        farm = self._farm
        farm.try_open(candidates(farm, first))
        answers = try_survey(farm, farm.hosts, [self._name])
        members = self._members(answers)
        # Nobody who answered knows it: it may still be somewhere else. Who is asked later may know of more.
        more = [host for host in (members or farm.config.hosts) if host not in farm.sessions]
        while more:
            farm.try_open(more)
            new = [host for host in more if host in farm.sessions]
            answers.update(try_survey(farm, new, [self._name]))
            more = [host for host in self._members(answers) if host not in (*farm.sessions, *farm.unreachable)]
        members = self._members(answers) or list(farm.config.hosts)
        if not answers:
            raise next(iter(farm.unreachable.values()))
        lost = [host for host in members if host not in answers]
        concerned = {
            host: answer for host, answer in answers.items() if host in members or answer.of(self._name).anything
        }
        return concerned, lost

    def _members(self, answers: Dict[str, HostSurvey]) -> List[str]:
        specs = [answer.of(self._name).spec for answer in answers.values()]
        found = [answer.of(self._name) for answer in answers.values()]
        copies = [host for one in found for host in (*(one.copies or ()), *one.strays)]
        members = [host for spec in specs if spec is not None for host in (*spec.hosts(), *spec.image_hosts)]
        names = [self._farm.ssh_name(member) for member in (*members, *copies)]
        return list(dict.fromkeys(names))

    def run(self, first: Optional[str], link: Optional[str] = None) -> None:
        """Give the disk up, end who holds it, remove it everywhere, note what could not be reached.

        The mark comes before the lock, so that a clone or deploy in flight stops at its next step and takes back
        what it did. `link` is removed from `first`. Raises Busy when a domain that may stay holds the disk.
        """
        farm, name = self._farm, self._name.text
        answers, lost = self.reach(first)
        hosts = list(answers)
        farm.all("give_up", hosts, resource=name, frontend_time=time.time())
        farm.lock(hosts, [name], ignore_given_up=True)
        answers = try_survey(farm, hosts, [self._name])  # an action that stopped meanwhile has taken things back
        if link is not None and first in farm.sessions:
            farm.call(first, "remove_link", path=link)
            forget_move(farm, self._found(answers), first, link)
        self._release(answers)
        pools = [found.volume.pool for found in self._found(answers) if found.volume is not None]
        pools += [found.spec.pool for found in self._found(answers) if found.spec is not None]
        making.remove(farm, hosts, self._name, pools or self._pools, without_volume=self._clients(answers))
        if lost:
            farm.log.warn(f"{name}: {' '.join(lost)} does not answer; noted, to be finished when it is back")
            farm.all("note_unfinished", hosts, resource=name, hosts=lost)
        else:
            farm.all("clear_unfinished", hosts, resource=name)

    def _found(self, answers: Dict[str, HostSurvey]) -> Sequence[Found]:
        return [answer.of(self._name) for answer in answers.values()]

    def _clients(self, answers: Dict[str, HostSurvey]) -> List[str]:
        """Hosts that had the use of the disk only, and need not even have its pool."""
        found = {host: answer.of(self._name) for host, answer in answers.items()}
        return [
            host for host, one in found.items() if one.volume is None and one.spec is not None
            and self._farm.about(host).get("host") in [member.host for member in one.spec.clients]
        ]

    def _release(self, answers: Dict[str, HostSurvey]) -> None:
        found = {host: answer.of(self._name) for host, answer in answers.items()}
        up = [host for host, one in found.items() if one.up]
        release(self._farm, up, self._name, self._domain, held=any(one.primary for one in found.values()))


def forget_move(farm: Sessions, found: Iterable[Found], place: Optional[str], link: str) -> None:
    """Remove the VM's directory at the other end of a migration that nobody settled.

    A network driver's failure on the destination calls no failmigrate (observation 4); the intent still tells.
    `place` is the VM's host, `link` the path of one of its disks. Beside a living domain the directory stays.
    """
    intents = [one.intent for one in found if one.intent is not None]
    for vm, member in sorted({(one["vm"], str(one[end])) for one in intents for end in ("source", "destination")}):
        host = farm.ssh_name(member)
        if host == place or host not in farm.sessions:
            continue
        if farm.call(host, "find_domain", name=f"one-{vm}").get("state") is None:
            farm.call(host, "remove_directory", path=link.rpartition("/")[0])


def release(farm: Sessions, hosts: Sequence[str], name: ResourceName, domain: Optional[str], *, held: bool) -> None:
    """Take a resource down on these hosts; `domain`, if it runs there, is destroyed first.

    held: some host is Primary, so that a domain may have the disk open. Raises Busy, TimedOut.
    """
    deadline = time.monotonic() + _LET_GO
    waiting = list(hosts)
    while waiting:
        if held and domain is not None:
            destroy(farm, waiting, domain)
        request = {"resource": name.text, "timeout_s": _TRY}
        _, errors = farm.try_each("take_down", dict.fromkeys(waiting, request))
        for error in errors.values():
            if not isinstance(error, (Busy, TimedOut)) or domain is None or time.monotonic() > deadline:
                raise error
        waiting = [host for host in waiting if host in errors]
        held = True


def destroy(farm: Sessions, hosts: Iterable[str], domain: str) -> None:
    """Destroy a domain wherever it runs on these hosts."""
    answers = farm.all("find_domain", hosts, name=domain)
    for host, answer in answers.items():
        if answer.get("state") is not None:
            farm.log.warn(f"{host}: destroying {domain}, its VM is being removed")
            farm.call(host, "destroy_domain", name=domain)

