"""SOURCE in argv: an image volume of dnc's own datastores, or a file of a file-based one, imported when first used."""

from __future__ import annotations

import os

from ..errors import BadInput
from ..farm.sessions import Sessions
from ..grammar import ResourceName, parse_image_source, parse_path, shown
from ..opennebula.driver import Call
from ..opennebula.oned import host_register
from ..opennebula.paths import parse_source
from ..opennebula.vm import Disk, VmDocument


def check_source(text: str) -> None:
    """Refuse what is neither a volume's name nor a path, before anybody is asked. Raises BadInput."""
    source = parse_source(text)
    if source.startswith("/"):
        parse_path(source)
    else:
        parse_image_source(source)


def parse_block_source(text: str, disk: Disk) -> ResourceName:
    """The image volume behind a `FE:SOURCE` argument: named there, or by the number of an image that is a file.

    Raises BadInput, also where argv and the VM document contradict each other.
    """
    source = parse_source(text)
    if not source.startswith("/"):
        return parse_image_source(source)
    if disk.image is None or parse_path(disk.file or "/") != parse_path(source):
        raise BadInput(
            f"{shown(source)} is a file, and disk {disk.id} is not its copy",
            hint="file-based images need TM_MAD=dnc in their datastore",
        )
    return disk.image


def ensure_image(
    farm: Sessions, call: Call, image: ResourceName, document: VmDocument, disk: Disk, host: str
) -> None:
    """Have an image that is a file imported; nothing to do for any other. Raises as farm.imports.

    It serves other VMs, too: so this one may ask for more replicas than REPLICAS, not for fewer.
    """
    if not disk.file:
        return
    from ..farm.imports import FileImage, ensure_import  # only file-based datastores pay for it

    roots = [call.config.datastore_location]
    if os.environ.get("ONE_LOCATION"):
        roots.append(os.environ["ONE_LOCATION"].rstrip("/") + "/var/datastores")
    replicas = max(call.config.replicas, document.replicas(disk)[0] or 0)
    file = FileImage(
        image, parse_path(disk.file), disk.pool or call.config.pool, replicas, (*roots, *call.config.safe_dirs)
    )
    ensure_import(farm, call.runner, file, host, host_register(call.log))
