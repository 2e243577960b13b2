"""Several sessions as one: the same operation on many hosts at once, locks in one order, one commit.

    with Sessions(call) as farm:
        farm.open(hosts)
        farm.each("bring_up", {host: {"resource": name} for host in hosts})
        farm.commit()

Hosts go by the name that ssh knows; DRBD's own names (`uname -n`) are translated by `ssh_name`.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple, Type

from ..errors import DncError, TimedOut
from ..tools.resource import Member
from .session import PATIENCE, Answer, Caller, Session, wait_readable

Errors = Dict[str, DncError]


class Sessions:
    """All sessions of one action. Leaving the `with` block without `commit` rolls every host back."""

    def __init__(self, caller: Caller, connect: Optional[Callable[[str, Caller], Session]] = None) -> None:
        self.config = caller.config
        self.log = caller.log
        self.sessions: Dict[str, Session] = {}
        self.unreachable: Errors = {}
        self.refusals: Errors = {}  # hosts that answer, and could not say what they have: why
        self._caller = caller
        self._connect = connect or Session

    def __enter__(self) -> Sessions:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        for session in self.sessions.values():
            session.end_input()
        for session in self.sessions.values():
            session.close()
        self.sessions.clear()

    @property
    def dry_run(self) -> bool:
        """Whether hosts only say what they would do."""
        return self._caller.runner.dry_run

    @property
    def hosts(self) -> Tuple[str, ...]:
        """The hosts with a session, sorted."""
        return tuple(sorted(self.sessions))

    def open(self, hosts: Iterable[str]) -> None:
        """Have sessions with these hosts, started in parallel. Raises the first host's error."""
        missing = list(hosts)
        self.try_open(missing)
        for host in missing:
            if host in self.unreachable:
                raise self.unreachable[host]

    def try_open(self, hosts: Iterable[str]) -> Errors:
        """Have sessions with those of the hosts that answer; the others are returned, and kept in `unreachable`."""
        wanted = list(dict.fromkeys(hosts))
        new = [host for host in wanted if host not in self.sessions and host not in self.unreachable]
        starting: List[Session] = []
        for host in new:
            session = self._connect(host, self._caller)
            starting.append(session)
            self.sessions[host] = session  # from here on __exit__ ends it
            session.start()
        for session in starting:
            try:
                session.greet()
            except DncError as error:
                self.unreachable[session.host] = error
                self.sessions.pop(session.host).close(2.0)
        return {host: self.unreachable[host] for host in wanted if host in self.unreachable}

    def about(self, host: str) -> Answer:
        """What the host said to hello."""
        return self.sessions[host].about

    def call(self, host: str, op: str, /, *, timeout: float = PATIENCE, **args: Any) -> Answer:
        """One operation on one host. Raises its error."""
        return self.sessions[host].call(op, timeout=timeout, **args)

    def each(self, op: str, requests: Mapping[str, Answer], timeout: float = PATIENCE) -> Dict[str, Answer]:
        """One operation on several hosts at once, each with its arguments.

        Waits for all of them; raises the error of the first in `requests` that failed, and logs the others.
        """
        answers, errors = self.try_each(op, requests, timeout)
        failed = [errors[host] for host in requests if host in errors]
        for error in failed[1:]:
            self.log.error(error.line())
        if failed:
            raise failed[0]
        return answers

    def all(self, op: str, hosts: Iterable[str], /, *, timeout: float = PATIENCE, **args: Any) -> Dict[str, Answer]:
        """One operation with the same arguments on several hosts at once. Raises like `each`."""
        return self.each(op, dict.fromkeys(hosts, args), timeout)

    def try_each(
        self, op: str, requests: Mapping[str, Answer], timeout: float = PATIENCE
    ) -> Tuple[Dict[str, Answer], Errors]:
        """Like `each`, with the errors of hosts that failed beside the answers of the others."""
        answers: Dict[str, Answer] = {}
        errors: Errors = {}
        waiting: Dict[str, int] = {}
        for host, args in requests.items():
            try:
                waiting[host] = self.sessions[host].send(op, args)
            except DncError as error:
                errors[host] = error
        deadline = time.monotonic() + timeout
        while waiting:
            for host in self._readable(list(waiting), deadline - time.monotonic()):
                session = self.sessions[host]
                try:
                    session.feed()
                    answer = session.take(waiting[host])
                    if answer is None:
                        continue
                    answers[host] = answer
                except DncError as error:
                    errors[host] = error
                del waiting[host]
            if waiting and time.monotonic() > deadline:
                for host in waiting:
                    errors[host] = TimedOut(f"no answer to {op} within {timeout:.0f} s", host=host)
                    self.sessions[host].failed = errors[host]
                break
        return answers, errors

    def _readable(self, hosts: List[str], timeout: float) -> List[str]:
        outputs = {self.sessions[host].output: host for host in hosts}
        return [outputs[descriptor] for descriptor in wait_readable(list(outputs), timeout)]

    def lock(
        self, hosts: Iterable[str], resources: Iterable[str], *, ignore_given_up: bool = False,
        shared: Iterable[str] = (),
    ) -> None:
        """Hold the locks of the resources on the hosts until the session ends. Raises Busy, GivenUp.

        Host after host in the order of their own names, which no other spelling can change: so two actions
        never wait for each other.
        """
        args: Answer = {"resources": sorted(resources), "timeout_s": self.config.lock_timeout}
        if ignore_given_up:
            args["ignore_given_up"] = True
        if tuple(shared):
            args["shared"] = sorted(shared)
        for host in sorted(hosts, key=lambda host: str(self.about(host).get("host", host))):
            self.call(host, "lock", **args)

    def commit(self, hosts: Optional[Iterable[str]] = None) -> None:
        """Keep what was done, on all hosts. Raises GivenUp, or the first host's error."""
        self.all("commit", self.hosts if hosts is None else hosts)

    def ssh_names(self, members: Iterable[Member]) -> Tuple[str, ...]:
        """Members of a resource by the names that ssh knows."""
        return tuple(self.ssh_name(member.host) for member in members)

    def ssh_name(self, member: str) -> str:
        """The name by which ssh reaches the host that calls itself `member` (`uname -n`)."""
        for host, session in self.sessions.items():
            if session.about.get("host") == member:
                return host
        if member in self.config.hosts:
            return member
        label = member.partition(".")[0]
        for host in self.config.hosts:
            if host.partition(".")[0] == label:
                return host
        return member
