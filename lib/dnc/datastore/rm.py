"""DS rm: remove an image from every member (contract 4)."""

from __future__ import annotations

from ..farm import images
from ..farm.sessions import Sessions
from ..grammar import image_name, parse_id, parse_image_source
from ..opennebula.datastore import parse_message
from ..opennebula.driver import Call

ARGUMENTS = ("image",)


def run(call: Call) -> None:
    """Absent is success: an image whose import failed has nothing, or has left-overs, and no SOURCE."""
    message = parse_message(call.stdin)
    image = message.require_image()
    own = image_name(parse_id(call.arg("image"), "image id"))
    name = parse_image_source(image.source) if image.source else own
    pools = [pool for pool in (message.datastore.pool, call.config.pool) if pool is not None]
    with Sessions(call) as farm:
        images.remove(farm, name, pools)
        farm.commit()
    call.log.info(f"{name} removed")
