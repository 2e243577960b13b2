"""hooks moved: a domain is on another host now, and oned has to know (contract 6.4). Told by whoever moved it.

dnc-moved NAME SOURCE DESTINATION     as cxm calls its one-migrate; SOURCE may be `-` when nobody knows it
dnc-moved --here NAME...              these run on this host now; --left NAME...: these are gone from it
dnc-moved --retry                     tell what could not be told before, as far as it is due
dnc-moved --list                      what waits
dnc-moved --drop NAME                 forget what waits for it
dnc-moved --setup-user                as oneadmin on the frontend: OpenNebula's user for this, with the least rights
"""

from __future__ import annotations

from typing import Callable, Dict, List, Optional, Sequence

from ..errors import BadConfig, BadInput, Busy, DncError, NoPrivilege, TimedOut, ToolMissing, Unreachable
from ..grammar import parse_domain, parse_host, shown
from ..opennebula.api import Silent
from ..opennebula.driver import Call, Terminated
from . import arrivals, user
from .identity import become_owner
from .queue import Move
from .reporting import VERDICTS, Reporter

ARGUMENTS = ("words...",)

_USAGE = "NAME SOURCE DESTINATION, or --here NAME..., --left NAME..., --retry, --list, --drop NAME, --setup-user"
# What time heals: no error for who calls, since the move is written down.
_LATER = (Busy, Unreachable, TimedOut)
# What is wrong with this installation, and would be with the next move too.
_AT_FAULT = (BadConfig, NoPrivilege, ToolMissing)


def run(call: Call) -> str:
    """One line a move on stdout. A move that waits is success: it is written down, and the timer goes on with it."""
    become_owner(call.remotes)
    words = call.args("words")
    try:
        return _command(call, words)
    except Terminated:
        raise DncError(
            "dnc-moved was interrupted", hint="moves stay written down: dnc-moved --retry goes on with them"
        ) from None


def _command(call: Call, words: Sequence[str]) -> str:
    options: Dict[str, Callable[[], str]] = {
        "--here": lambda: _each(call, arrivals.arrived(call, words[1:])),
        "--left": lambda: _each(call, arrivals.departed(call, words[1:])),
        "--drop": lambda: _drop(call, words[1:]),
    }
    alone: Dict[str, Callable[[], str]] = {
        "--retry": lambda: _retry(call), "--list": lambda: _list(call), "--setup-user": lambda: user.setup(call),
    }
    if len(words) == 1 and words[0] in alone:
        return alone[words[0]]()
    if len(words) > 1 and words[0] in options:
        return options[words[0]]()
    if len(words) != 3 or any(word.startswith("--") for word in words):
        raise BadInput(f"dnc-moved takes {_USAGE}", hint="docs/hooks.md")
    move = _parse(call, *words)
    return f"{words[0]} is no domain of OpenNebula: nothing to do" if move is None else _each(call, [move])


def _parse(call: Call, name: str, source: str, destination: str) -> Optional[Move]:
    """The move; None for a domain that is not OpenNebula's. Raises BadInput."""
    hosts = parse_host(source) if source != "-" else "", parse_host(destination)
    try:
        number = parse_domain(name)
    except BadInput:
        return None
    return Move(number, *hosts, since=call.started)


def _each(call: Call, moves: Sequence[Move]) -> str:
    """Write all down, then tell of one after the other; what cannot be told now waits. Raises what needs a person."""
    reporter = Reporter(call)
    for move in moves:
        reporter.queue.put(move)
    said: List[str] = []
    errors: List[DncError] = []
    for move in moves:
        try:
            said.append(reporter.rehearse(move) if call.runner.dry_run else reporter.report(move.vm))
        except _LATER as error:
            said.append(f"{move.name}: waits: {error}")
        except DncError as error:
            errors.append(error)
    for further in errors[1:]:
        call.log.error(further.line())
    if errors:
        for line in said:
            call.log.info(line)
        raise errors[0]
    return "\n".join(line for line in said if line)


def _retry(call: Call) -> str:
    """Every move that is due. Raises the first fault that stops all of them."""
    reporter = Reporter(call)
    said: List[str] = []
    for move in reporter.queue.all():
        if move.due > call.started:
            continue
        try:
            said.append(reporter.rehearse(move) if call.runner.dry_run else reporter.report(move.vm))
        except Silent as error:
            call.log.info(f"{move.name} and what else is due wait: {error}")
            break
        except _LATER as error:
            call.log.info(f"{move.name}: waits: {error}")
        except _AT_FAULT:
            raise
        except VERDICTS as error:
            call.log.error(f"{move.name} is not tried again: {error.line()}")
        except DncError as error:
            call.log.error(f"{move.name} waits: {error.line()}")
    return "\n".join(line for line in said if line)


def _list(call: Call) -> str:
    lines = []
    for move in Reporter(call).queue.all():
        age, left = call.started - move.since, max(0.0, move.due - call.started)
        lines.append(
            f"{move.name} {move.source or '-'} {move.destination}: since {age:.0f} s, {move.attempts} attempts, "
            f"next in {left:.0f} s{': ' if move.why else ''}{move.why}"
        )
    return "\n".join(lines)


def _drop(call: Call, names: Sequence[str]) -> str:
    queue = Reporter(call).queue
    said = []
    for name in names:
        move = queue.read(parse_domain(name))
        if move is None or not queue.replace(move, None):
            raise BadInput(f"nothing waits for {shown(name)}", hint="dnc-moved --list shows all")
        said.append(f"{name}: forgotten, OpenNebula was not told that it is on {move.destination}")
    return "\n".join(said)
