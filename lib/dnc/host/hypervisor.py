"""What the hypervisor of this host says of itself and of all domains: one process each, however many domains."""

from __future__ import annotations

from typing import Sequence, Tuple

from ..command import Runner
from ..log import Log
from ..tools import xl_info
from ..tools.xl_info import HypervisorInfo, ListedDomain

# Seconds; a toolstack that does not answer for so long is what monitoring has to tell.
_TIMEOUT = 30.0


class Hypervisor:
    """xl's questions about the whole host."""

    def __init__(self, runner: Runner, log: Log) -> None:
        self._runner = runner
        self._log = log

    def info(self) -> HypervisorInfo:
        """Processors, memory, version. Raises ToolFailed, TimedOut."""
        return xl_info.parse_info(self._ask(xl_info.info()))

    def domains(self) -> Tuple[ListedDomain, ...]:
        """All domains, dom0 included; a line that cannot be read is told and left out. Raises ToolFailed, TimedOut."""
        domains, odd = xl_info.parse_list_verbose(self._ask(xl_info.list_verbose()))
        for line in odd[:5]:
            self._log.warn(f"xl list: line not understood: {line[:80]!r}")
        return domains

    def _ask(self, argv: Sequence[str]) -> str:
        return self._runner.run(argv, privileged=True, changes=False, timeout=_TIMEOUT).stdout
