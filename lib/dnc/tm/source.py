"""SOURCE in argv: what dnc's own datastores print, and what it says to anything else."""

from __future__ import annotations

from ..errors import DncError
from ..grammar import ResourceName, parse_image_source, shown
from ..opennebula.paths import parse_source


def parse_block_source(text: str) -> ResourceName:
    """The image volume that a `FE:SOURCE` argument names. Raises BadInput, DncError for a file-based datastore."""
    source = parse_source(text)
    if source.startswith("/"):
        raise DncError(
            f"{shown(source)} is a file: no file datastores in dnc yet",
            hint="put the image into a datastore with DS_MAD=dnc",
        )
    return parse_image_source(source)
