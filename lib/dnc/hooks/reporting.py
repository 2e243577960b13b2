"""The way of a move through the queue: written down before anything is asked, gone when oned knows or never will."""

from __future__ import annotations

import time
from typing import Optional

from ..errors import BadInput, DncError, NotFound, Unsafe
from ..host.files import Files
from ..host.waiting import Patience
from ..opennebula.api import Api, connect
from ..opennebula.credentials import hook_auth_path, read_session
from ..opennebula.driver import Call
from .queue import Move, Queue, queue_directory
from .telling import tell

# Said of the move itself: it leaves the queue. Whatever else goes wrong passes, or somebody mends it.
VERDICTS = (Unsafe, NotFound, BadInput)


class Reporter:
    """Tells oned of what the queue holds; one connection for all of it."""

    def __init__(self, call: Call, *, patience: Optional[Patience] = None, api: Optional[Api] = None) -> None:
        self.queue = Queue(queue_directory(call.config), Files(call.log, call.runner.dry_run))
        self._call = call
        self._patience = patience or Patience()
        self._api = api

    def report(self, vm: int) -> str:
        """Tell of the newest move of a VM, and of newer ones that come meanwhile; what was done, empty for nothing.

        Raises VERDICTS when the move was taken off the queue, other errors when it waits on.
        """
        said = ""
        while True:
            move = self.queue.read(vm)
            if move is None:
                return said
            with self.queue.working(vm) as mine:
                if not mine:
                    return f"{move.name}: another run tells OpenNebula"
                said = self._attempt(move)

    def rehearse(self, move: Move) -> str:
        """What would be done; a dry run writes nothing down."""
        return tell(self._call, self.api(), move, self._patience)

    def _attempt(self, move: Move) -> str:
        try:
            said = tell(self._call, self.api(), move, self._patience)
        except VERDICTS:
            self.queue.replace(move, None)
            raise
        except DncError as error:
            self._postpone(move, error)
            raise
        self.queue.replace(move, None)
        return said

    def _postpone(self, move: Move, error: DncError) -> None:
        """Later, unless it has waited for too long: then it is told and dropped."""
        now = time.time()
        if now - move.since > self._call.config.hook_expiry:
            self.queue.replace(move, None)
            raise Unsafe(
                f"{move.name} is on {move.destination}, and oned could not be told for {now - move.since:.0f} s: "
                f"{error.what}", hint=f"dnc-moved {move.name} {move.source or '-'} {move.destination} tries again",
            ) from None
        self.queue.replace(move, move.postponed(now, str(error)[:300]))

    def api(self) -> Api:
        """The connection, made when it is first needed. Raises BadConfig, ToolMissing."""
        if self._api is None:
            path = hook_auth_path(self._call.config)
            self._api = connect(self._call.config, read_session(path), path)
        return self._api
