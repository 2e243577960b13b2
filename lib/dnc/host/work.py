"""What one session works with: the host, its undo stack, open devices; and the shape of an operation."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple, Union

from ..errors import DncError
from .arguments import Parser
from .backups import Backups
from .barrier import Barrier
from .devices import Devices
from .machine import Host
from .undo import Undo

Reply = Union[None, Dict[str, Any], Tuple[Dict[str, Any], bytes]]


class Work:
    """The state of a session. started: when the frontend's action began, by its clock."""

    def __init__(self, host: Host, undo: Undo, started: float, action: str) -> None:
        self.host = host
        self.undo = undo
        self.started = started
        self.action = action
        self.devices = Devices(host)
        self.ignores_marks = False
        self.failed_write: Optional[DncError] = None
        self.barrier = Barrier(host)
        self.backups = Backups(host)

    def own(self, name: str) -> None:
        """Have the exclusive lock of a resource. Raises Busy, GivenUp."""
        if not self.host.locks.held(name):
            self.host.locks.acquire([name], self.host.config.lock_timeout, self.action)
            self.host.journal.outdate_copies(name)
        self.refuse_given_up(name)

    def share(self, name: str) -> None:
        """Have at least the shared lock of a resource. Raises Busy."""
        if not self.host.locks.held(name, shared=True):
            self.host.locks.acquire([], self.host.config.lock_timeout, self.action, shared=[name])

    def refuse_given_up(self, name: str) -> None:
        """Raises GivenUp when the resource was given up after this action began, unless it is a removal itself."""
        if not self.ignores_marks:
            self.host.journal.refuse_given_up(name, self.started)

    def refuse_all_given_up(self) -> None:
        """The same for everything that this session has locked."""
        for name in self.host.locks.names():
            if self.host.locks.held(name):
                self.refuse_given_up(name)


class Operation(NamedTuple):
    """shape: argument -> (parser, may be left out); takes_raw: `length` raw bytes follow the request."""

    act: Callable[..., Reply]
    shape: Mapping[str, Tuple[Parser, bool]]
    takes_raw: bool = False


def offer(act: Callable[..., Reply], raw: bool = False, **shape: Parser) -> Operation:
    """An operation; an argument whose name ends in `_` may be left out (the `_` is not part of the name).

    A trailing `__` stands for a name that is a word of Python: from__ is `from`.
    """
    arguments: Dict[str, Tuple[Parser, bool]] = {}
    for key, parser in shape.items():
        optional = key.endswith("_") and not key.endswith("__")
        arguments[key.rstrip("_")] = (parser, optional)
    return Operation(act, arguments, raw)
