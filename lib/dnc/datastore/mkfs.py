"""DS mkfs: an empty image, with a file system if asked for; also the target of a disk-saveas (contract 4)."""

from __future__ import annotations

from ..errors import BadInput
from ..farm import images, making
from ..farm.sessions import Sessions
from ..grammar import MIB, image_name, parse_id, shown
from ..opennebula.datastore import parse_message
from ..opennebula.driver import Call
from ..opennebula.oned import host_register

ARGUMENTS = ("image",)


def run(call: Call) -> str:
    """Make the volume on its members, format it, put it to rest. FORMAT=save_as: an empty one, cpds fills it."""
    message = parse_message(call.stdin)
    image, datastore = message.require_image(), message.datastore
    name = image_name(parse_id(call.arg("image"), "image id"))
    if image.size_mib < 1:
        raise BadInput(f"image {name} has no SIZE", hint="give SIZE in MiB")
    if image.format.lower() not in ("", "raw", "save_as"):
        raise BadInput(f"images of dnc are raw, not {shown(image.format)}", hint="leave FORMAT out, or set raw")
    filesystem = image.filesystem.lower() if image.format.lower() != "save_as" else ""
    replicas = message.replicas(call.config.replicas)
    with Sessions(call) as farm:
        size = image.size_mib * MIB
        plan = images.place(
            farm, name, size, datastore.pool or call.config.pool, datastore.bridge_list, replicas,
            host_register(call.log),
        )
        spec = images.create(farm, plan)
        if filesystem not in ("", "raw", "none"):
            making.format_disk(farm, plan.hosts[0], spec, filesystem)
        images.rest(farm, plan, spec)
        farm.commit()
    return name.text
