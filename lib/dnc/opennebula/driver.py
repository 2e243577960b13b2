"""The frame around every action: argv, configuration, log, and how OpenNebula is told the result (contract 7.4).

An action is a module dnc.<family>.<action> with `ARGUMENTS`, the names of its argv, and `run(call)`, whose return
value goes to stdout. A name ending in `?` may be missing at the end; one ending in `...` takes any number.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any, List, NoReturn, Optional, Sequence, Tuple

from ..command import Runner
from ..config import Config, load, parse
from ..errors import BadConfig, BadInput, DncError
from ..log import Log, redact

FAMILIES = ("tm", "vmm", "datastore", "im", "hooks")


class Terminated(BaseException):
    """SIGTERM or SIGHUP came: unwind, so that sessions end and hosts roll back."""


class Call:
    """One call of a driver executable."""

    def __init__(
        self, remotes: str, family: str, action: str, values: Sequence[Tuple[str, Tuple[str, ...]]], config: Config,
        log: Log, runner: Runner, started: float,
    ) -> None:
        self.remotes = remotes
        self.family = family
        self.action = action
        self.config = config
        self.log = log
        self.runner = runner
        self.started = started
        self._values = dict(values)
        self._stdin: Optional[bytes] = None

    def arg(self, name: str) -> str:
        """The argument of that name; the empty text where an optional one was not given."""
        values = self._values[name]
        return values[0] if values else ""

    def args(self, name: str) -> Tuple[str, ...]:
        """All values of a `name...` argument."""
        return self._values[name]

    @property
    def stdin(self) -> bytes:
        """Everything on stdin, read at first use, at most what a document may be long plus one byte."""
        if self._stdin is None:
            from .xml import SIZE_LIMIT

            self._stdin = sys.stdin.buffer.read(SIZE_LIMIT * 2 + 1)
        return self._stdin


def match_arguments(names: Sequence[str], argv: Sequence[str]) -> List[Tuple[str, Tuple[str, ...]]]:
    """Give argv its names. Raises BadInput when there are too few or too many."""
    variable = [name for name in names if name.endswith("...")]
    optional = [name for name in names if name.endswith("?")]
    least = len(names) - len(variable) - len(optional)
    if len(argv) < least or (not variable and len(argv) > len(names)):
        usage = " ".join(f"<{name}>" for name in names)
        raise BadInput(f"{len(argv)} arguments given, usage: {usage}", hint="OpenNebula calls this, contract in docs/")
    spare = len(argv) - least
    values: List[Tuple[str, Tuple[str, ...]]] = []
    rest = list(argv)
    for name in names:
        take = 1
        if name.endswith("..."):
            take = spare
        elif name.endswith("?"):
            take = 1 if rest else 0
        values.append((name.rstrip(".?"), tuple(rest[:take])))
        rest = rest[take:]
    return values


def load_action(family: str, action: str) -> Any:
    """The module of an action. Raises BadInput for a name that is none."""
    name = action.replace("-", "_")
    if family not in FAMILIES or not name.isidentifier():
        raise BadInput(f"{family}/{action} is no action of dnc")
    import importlib

    try:
        return importlib.import_module(f"dnc.{family}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"dnc.{family}.{name}":
            raise
        raise BadInput(f"{family}/{action} is no action of dnc") from None


def _terminate(number: int, _frame: object) -> NoReturn:
    # A second signal must not interrupt the unwinding that the first one began.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise Terminated(f"signal {number}")


def main(remotes: str, family: str, action: str, argv: Sequence[str]) -> int:
    """Run an action; the exit status is 0 or 1, and a failure's one line for the user is the last one on stderr."""
    started = time.time()
    debug = os.environ.get("DNC_DEBUG") == "1"
    log = Log(action, debug=debug)
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGHUP, _terminate)
    try:
        module = load_action(family, action)
        values = match_arguments(module.ARGUMENTS, argv)
        config = _configuration(os.path.join(remotes, "dncrc"), family, log)
        runner = Runner(log, dry_run=os.environ.get("DNC_DRY_RUN") == "1")
        output = module.run(Call(remotes, family, action, values, config, log, runner, started))
    except DncError as error:
        if error.command:
            log.error(f"failed command: {error.command}")
        return _fail(error.line(), debug)
    except (KeyboardInterrupt, Terminated):
        return _fail(DncError(f"{action} was interrupted", hint="what it had begun was taken back").line(), debug)
    except MemoryError:
        return _fail(DncError(f"{action} ran out of memory on this machine").line(), debug)
    except Exception as error:  # a fault of the suite itself: still one line, and how to see more
        where = _origin(error)
        text = f"{action}: internal error {type(error).__name__}: {error} ({where})"
        return _fail(DncError(text, hint="run again with DNC_DEBUG=1 and report it").line(), debug)
    if output:
        sys.stdout.write(output if output.endswith("\n") else output + "\n")
        sys.stdout.flush()
    return 0


def _configuration(path: str, family: str, log: Log) -> Config:
    """dncrc. A damaged one stops every action but the probes: it must not put all hosts into ERROR at once, with what
    follows from that; host/system publishes the complaint (DNC_ERROR)."""
    try:
        return load(path)
    except BadConfig as error:
        if family != "im":
            raise
        log.warn(error.line())
        return parse("")


def _origin(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown place"
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"


def _fail(line: str, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    sys.stderr.write(redact(line) + "\n")
    sys.stderr.flush()
    return 1
