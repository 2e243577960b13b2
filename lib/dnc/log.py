"""Log lines in the form that OpenNebula sorts out of stderr (contract 7.4), redacted at this one place."""

from __future__ import annotations

import re
import sys
from typing import Callable, Optional, TextIO

# DRBD prints the secret in arguments and in error texts (NOTES-drbd9, a).
_SECRET = re.compile(r"(shared-secret[=\s\"']+)[^\s\"';]+")


def redact(text: str) -> str:
    """`text` without the value of any shared secret."""
    if "shared-secret" not in text:
        return text
    return _SECRET.sub(r"\1***", text)


class Log:
    """Writes `LEVEL: action: text` lines; the agent passes a `sink` that sends them to the frontend instead."""

    def __init__(
        self, action: str, *, debug: bool = False, stream: Optional[TextIO] = None,
        sink: Optional[Callable[[str, str], None]] = None,
    ) -> None:
        self.action = action
        self.debug_enabled = debug
        self._stream = stream
        self._sink = sink

    def _write(self, level: str, text: str) -> None:
        text = " ".join(redact(text).splitlines())
        if self._sink is not None:
            self._sink(level, text)
            return
        stream = self._stream or sys.stderr
        stream.write(f"{level}: {self.action}: {text}\n")
        stream.flush()

    def info(self, text: str) -> None:
        """What was done, for the log of the VM or image."""
        self._write("INFO", text)

    def warn(self, text: str) -> None:
        """Something that a person should look at, although the action goes on."""
        self._write("WARN", text)

    def error(self, text: str) -> None:
        """Details of a failure; the bare user line is printed by the driver's frame, last."""
        self._write("ERROR", text)

    def debug(self, text: str) -> None:
        """Every command that ran; only with DNC_DEBUG=1."""
        if self.debug_enabled:
            self._write("DEBUG", text)
