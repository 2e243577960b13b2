"""One error root: what happened, on which host, the command that failed, and what to do next.

OpenNebula shows a person at most the first 60 characters of a TM error (observation 9), so `what` starts with
the thing and the fault, and `line()` puts the host right in front of it.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Type


class DncError(Exception):
    """Anything the suite reports on purpose; subclasses name what a caller can do about it."""

    def __init__(
        self, what: str, *, host: Optional[str] = None, command: Optional[str] = None, hint: Optional[str] = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.host = host
        self.command = command
        self.hint = hint

    def line(self) -> str:
        """The one line a user sees: `host: what; next step.`, without line breaks.

        It ends in a full stop and a blank, since OpenNebula glues `ExitCode: 1` to it (observation 9), and never
        starts with a dash, which OpenNebula takes for an empty message (contract 7.4).
        """
        prefix = f"{self.host}: " if self.host else ""
        hint = f"; {self.hint}" if self.hint else ""
        text = " ".join(f"{prefix}{self.what}{hint}".split()).lstrip("- ")
        return (text or "unknown error").rstrip(".") + ". "

    def __str__(self) -> str:
        return self.line().strip()

    def on(self, host: str) -> DncError:
        """This error with the host filled in, when it was raised where the host was not known."""
        if self.host is None:
            self.host = host
        return self

    def to_json(self) -> Dict[str, Optional[str]]:
        """A flat record for the agent's session."""
        return {
            "kind": type(self).__name__, "what": self.what, "host": self.host, "command": self.command,
            "hint": self.hint,
        }


class BadInput(DncError):
    """argv, XML or a name that does not fit its grammar."""


class BadConfig(DncError):
    """dncrc, or a datastore attribute, holds a value that is not allowed."""


class NotFound(DncError):
    """A volume, resource, domain, file or document that should exist does not."""


class Conflict(DncError):
    """Something of that name exists already and is another thing."""


class Busy(DncError):
    """Held open, locked by another action, or still needed."""


class Unreachable(DncError):
    """A host, or oned, does not answer."""


class OnedError(DncError):
    """oned answered, and refused."""


class ToolFailed(DncError):
    """A command ended with a status that was not expected; `status` and `stderr` are kept for the caller."""

    status: int = -1
    stderr: str = ""


class ToolMissing(DncError):
    """A command, kernel module or device driver that is needed is not there."""


class NoPrivilege(DncError):
    """sudo, or the file system, refused what the suite needs."""


class NoSpace(DncError):
    """A pool, file system or address range is full, or above its configured limit."""


class Unsafe(DncError):
    """A safety rule forbids it: a person has to decide."""


class GivenUp(DncError):
    """OpenNebula gave this disk or VM up while the action ran (observation 2)."""


class TimedOut(DncError):
    """An event did not come before its deadline."""


def _kinds() -> Dict[str, Type[DncError]]:
    kinds: List[Type[DncError]] = [DncError, *DncError.__subclasses__()]
    return {kind.__name__: kind for kind in kinds}


def from_json(record: Dict[str, Optional[str]]) -> DncError:
    """The error that a host agent sent; an unknown kind becomes the root class."""
    kind = _kinds().get(record.get("kind") or "", DncError)
    return kind(
        record.get("what") or "unknown error", host=record.get("host"), command=record.get("command"),
        hint=record.get("hint"),
    )
