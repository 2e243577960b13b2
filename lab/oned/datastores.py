"""one_datastore: image and datastore actions on the frontend, always with base64 on stdin (contract section 4)."""

from __future__ import annotations

from .attributes import element
from .backend import Backend
from .calls import Call, CallLog
from .messages import datastore_message, failure_text, image_message, stat_message
from .records import Datastore, Image
from .transfer import DriverFailure


class DatastoreDriver:
    """Runs datastore actions; each returns the script's stdout or raises DriverFailure."""

    def __init__(self, backend: Backend, log: CallLog, version: str) -> None:
        self._backend = backend
        self._log = log
        self._version = version

    def image(self, action: str, datastore: Datastore, image: Image) -> str:
        """cp, mkfs, clone, rm, snap_revert, snap_delete about a registered image."""
        return self._run("ds", datastore.ds_mad, action, image.id, image_message(datastore, image))

    def stat(self, datastore: Datastore, path: str, request: int, with_size: bool) -> str:
        """Size in MiB of a path that is to become an image; the empty SIZE is left out for CD-ROMs."""
        return self._run("ds", datastore.ds_mad, "stat", request, stat_message(datastore, path, with_size))

    def monitor(self, datastore: Datastore, location: str, monitor_disks: bool) -> str:
        """Space of a datastore; a system datastore is asked through its TM driver."""
        if not datastore.is_system:
            return self._run("ds", datastore.ds_mad, "monitor", datastore.id, datastore_message(datastore))
        extra = element("DATASTORE_LOCATION", location) + element("MONITOR_VM_DISKS", int(monitor_disks))
        return self._run("tm", datastore.tm_mad, "monitor", datastore.id, datastore_message(datastore, extra=extra))

    def _run(self, mad: str, driver: str, action: str, about: int, message: str) -> str:
        call = Call(mad, driver, action, "frontend", (str(about),), "base64", message)
        done = self._log.perform(call, lambda: self._backend.local(call))
        if done.rc != 0:
            info, log = failure_text(done.stderr, self._version)
            raise DriverFailure(action.upper(), info, log)
        return done.stdout.strip()
