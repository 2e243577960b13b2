"""A guest held still while its disks change below it; one that a killed action left paused is found and goes on."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import Iterator, Optional

from ..errors import Busy, DncError
from ..tools.xl import DomainState
from .files import explain
from .machine import Host


class Freeze:
    """For how many seconds the guest stood still."""

    def __init__(self) -> None:
        self.seconds = 0.0


@contextmanager
def frozen(host: Host, domain: str) -> Iterator[Freeze]:
    """Hold a domain of this host still; nothing to do where it does not run, or is paused by somebody else.

    The note on disk is locked as long as this process lives: whoever finds it unlocked knows that nobody will wake
    the guest any more. Raises ToolFailed when xl refuses, Busy.
    """
    freeze = Freeze()
    found = host.domains.find(domain) if domain else None
    if found is None or found.state is DomainState.PAUSED or host.runner.dry_run:
        yield freeze
        return
    note = _note(host, domain)
    began = time.monotonic()
    try:
        host.domains.pause(domain)
        yield freeze
    finally:
        try:
            host.domains.unpause(domain)
            freeze.seconds = time.monotonic() - began
            host.log.info(f"{domain} stood still for {freeze.seconds:.2f} s")
            host.files.remove(host.journal.frozen_path(domain))
        finally:
            os.close(note)


def wake_forgotten(host: Host) -> None:
    """Wake the guests that killed actions left paused; those of living actions are let be."""
    for domain in host.journal.frozen_domains():
        note = None if host.runner.dry_run else _take(host.journal.frozen_path(domain))
        if note is None:
            continue
        try:
            found = host.domains.find(domain)
            if found is not None and found.state is DomainState.PAUSED:
                host.log.warn(f"{domain} was left paused by an action that was killed: it goes on")
                host.domains.unpause(domain)
            host.files.remove(host.journal.frozen_path(domain))
        except DncError as error:
            host.log.error(f"{domain} may still be paused: {error}")
        finally:
            os.close(note)


def _note(host: Host, domain: str) -> int:
    """Write the note and lock it; the descriptor keeps the lock."""
    path = host.journal.frozen_path(domain)
    if os.path.exists(path):
        raise Busy(f"{domain} is held still by another action", hint="wait until it has ended, then try again")
    host.files.write(path, f"pid {os.getpid()}\n")
    note = _take(path)
    if note is None:
        raise Busy(f"{domain} is held still by another action", hint="wait until it has ended, then try again")
    return note


def _take(path: str) -> Optional[int]:
    """The note's lock, None when somebody has it or the note is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain(error, path) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
