"""An interactive session on a host's serial console."""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import tty
from pathlib import Path

from .errors import LabError

LEAVE = b"\x1d"  # Ctrl-]


def attach(path: Path) -> None:
    """Connect the terminal to a QEMU console socket until Ctrl-] or the end of the host."""
    line = socket.socket(socket.AF_UNIX)
    try:
        line.connect(str(path))
    except OSError as error:
        raise LabError(
            f"{path.parent.name}: its console does not answer ({error.strerror})", "run `lab/lab status`"
        ) from None
    print(f"console of {path.parent.name}: Enter for a shell, Ctrl-] leaves\r", file=sys.stderr)
    before = termios.tcgetattr(0) if sys.stdin.isatty() else None
    try:
        if before:
            tty.setraw(0)
        _exchange(line)
    finally:
        if before:
            termios.tcsetattr(0, termios.TCSADRAIN, before)
        line.close()


def _exchange(line: socket.socket) -> None:
    while True:
        ready = select.select([0, line.fileno()], [], [])[0]
        if line.fileno() in ready:
            data = line.recv(65536)
            if not data:
                return
            os.write(1, data)
        if 0 in ready:
            typed = os.read(0, 1024)
            if not typed or LEAVE in typed:
                return
            line.sendall(typed)
