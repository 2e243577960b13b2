"""DS clone: an image from an image (contract 4)."""

from __future__ import annotations

from ..farm import images
from ..farm.sessions import Sessions
from ..grammar import MIB, image_name, parse_id, parse_image_source
from ..opennebula.datastore import parse_message
from ..opennebula.driver import Call

ARGUMENTS = ("image",)


def run(call: Call) -> str:
    """Snapshot each replica of the source; PATH is its SOURCE."""
    message = parse_message(call.stdin)
    image = message.require_image()
    source = parse_image_source(image.path)
    name = image_name(parse_id(call.arg("image"), "image id"))
    with Sessions(call) as farm:
        plan = images.clone(farm, source, name, image.size_mib * MIB, message.image_replicas)
        farm.commit()
    call.log.info(f"{name} from {source} on {' '.join(plan.hosts)}")
    return f"{name} raw"
