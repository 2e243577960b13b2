"""DS stat: the size that an image will have, in MiB (contract 4)."""

from __future__ import annotations

from ..farm.importer import content_size
from ..farm.making import mib
from ..opennebula.datastore import parse_message
from ..opennebula.driver import Call
from .source import open_source

ARGUMENTS = ("request",)


def run(call: Call) -> str:
    """The virtual size of a qcow2 image, the decompressed size of a compressed one."""
    message = parse_message(call.stdin)
    stream = open_source(call, message.require_image(), message.datastore, checksums=(), head=True)
    return str(mib(content_size(stream)))
