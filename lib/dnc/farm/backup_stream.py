"""A disk in a backup datastore as a stream: OpenNebula's own downloader fetches it, whatever the datastore is."""

from __future__ import annotations

import os
import re
import subprocess
from typing import Optional

from ..command import Runner
from ..errors import BadConfig, BadInput, Unreachable
from ..grammar import shown
from .source import PEEK, ImageStream, Tap, parse_qcow2

# <driver>://<datastore>/<backup job>/<increment>:<its id>,…/<path>. Strict, since a shell of OpenNebula's reads it.
_URL = re.compile(
    r"(?:rsync|restic)://[0-9]{1,10}/[0-9]{0,10}/[0-9]{1,10}:[A-Za-z0-9]{1,128}(?:,[0-9]{1,10}:[A-Za-z0-9]{1,128})*"
    r"/[A-Za-z0-9_./-]{1,1024}\Z"
)
_SCHEME = re.compile(r"(?:rsync|restic)(?:\+[a-z]+)?://")


def is_backup(path: str) -> bool:
    """Whether an image's PATH means a disk in a backup datastore."""
    return _SCHEME.match(path) is not None


def check_url(url: str) -> None:
    """Raises BadInput unless it names a disk in a form that we can read."""
    if url.startswith(("rsync+", "restic+")):
        raise BadInput(f"{shown(url)} is a backup of Ceph's own form", hint="restore it into a Ceph datastore")
    if not _URL.match(url) or ".." in url:
        raise BadInput(f"{shown(url)} names no disk of a backup", hint="take what oneimage restore makes of it")


def open_backup(runner: Runner, remotes: str, url: str, *, head: bool = False) -> ImageStream:
    """Begin to fetch a disk. head: only so much that its size is seen.

    Raises BadInput, BadConfig (OpenNebula's downloader is not there), Unreachable.
    """
    check_url(url)
    script = os.path.join(remotes, "datastore", "downloader.sh")
    if not os.access(script, os.X_OK):
        raise BadConfig("OpenNebula's downloader.sh is not installed", hint=f"it belongs to {script}")
    # As with a prefix of the wanted length the downloader still cleans up behind itself.
    options = ("--max-size", str(PEEK)) if head else ()
    errors = os.memfd_create("downloader-stderr")
    with open(errors, "wb", closefd=False) as sink:
        process = runner.start(
            [script, "--nodecomp", *options, url, "-"], stdin=subprocess.DEVNULL, stderr=sink)
    tap = Tap(_Download(process, errors), url, None)
    start = tap.peek()
    if not start:
        raise Unreachable(f"{shown(url)} is empty", hint="is the backup still there? oneimage show")
    qcow2 = parse_qcow2(start, url)
    return ImageStream(tap, tap, qcow2, qcow2.virtual_size if qcow2 else None, None)


class _Download:
    """A downloader's output; that it failed is seen at its end."""

    def __init__(self, process: subprocess.Popen[bytes], errors: int) -> None:
        self._process = process
        self._errors: Optional[int] = errors

    def read(self, size: int = -1) -> bytes:
        """As of a file. Raises OSError when the downloader failed."""
        stream = self._process.stdout
        data = stream.read(size) if stream is not None else b""
        if data or self._errors is None:
            return data
        status, said = self._process.wait(), os.pread(self._errors, 1 << 16, 0).decode("utf-8", "replace")
        os.close(self._errors)
        self._errors = None
        if status != 0:
            raise OSError((said.strip().splitlines() or [f"the downloader ended with {status}"])[0][:160])
        return b""
