"""IMAGE/PATH as an open stream, within the directories that datastore and dncrc allow."""

from __future__ import annotations

from typing import Iterable

from ..errors import BadInput
from ..farm.backup_stream import is_backup, open_backup
from ..farm.source import ImageStream, open_image
from ..opennebula.datastore import Datastore, Image
from ..opennebula.driver import Call


def open_source(
    call: Call, image: Image, datastore: Datastore, checksums: Iterable[str], *, head: bool = False
) -> ImageStream:
    """Open what an image is to be made from. head: only to see its size.

    Raises BadInput, NotFound, Unsafe, Unreachable.
    """
    if not image.path:
        raise BadInput("the image has no PATH", hint="an empty image is made from SIZE, with TYPE=DATABLOCK")
    if is_backup(image.path):
        return open_backup(call.runner, call.remotes, image.path, head=head)
    config = call.config
    return open_image(
        call.runner, image.path, config.safe_dirs + datastore.safe_dirs,
        config.restricted_dirs + datastore.restricted_dirs, checksums,
    )
