"""TM context: build the context CD-ROM on the frontend and put it into the VM's directory (contract 1.2).

Run at every deploy and restore and when the context changes, so the new one replaces the old in one step.
"""

from __future__ import annotations

import tempfile

from ..farm import context
from ..farm.files import Directory, HostDirectory, LocalDirectory
from ..farm.sessions import Sessions
from ..opennebula.driver import Call
from ..opennebula.paths import parse_disk_path
from .hosts import frontend_directory, is_frontend

ARGUMENTS = ("source...", "destination", "vm", "datastore")


def run(call: Call) -> None:
    """context.sh and the VM's files in, disk.<id> on the host out."""
    place = parse_disk_path(call.arg("destination"))
    with tempfile.TemporaryDirectory(prefix="dnc-context-") as directory:
        image = context.build(call.runner, call.args("source"), directory)
        size = context.require_built(image)
        local = LocalDirectory(directory, "/")
        with Sessions(call) as farm:
            target: Directory
            if is_frontend(call, place.host):
                target = frontend_directory(call, place.directory)
            else:
                farm.open([place.host])
                target = HostDirectory(farm, place.host, place.directory)
            target.ensure()
            target.write(f"disk.{place.disk}", local.read("context.iso", size))
            farm.commit()
    call.log.info(f"context of {size >> 10} KiB on {place.host} as {place.path}")
