"""DS cp: import an image once to one member, let DRBD carry it to the other (contract 4; design: storage actions)."""

from __future__ import annotations

from ..farm import images
from ..farm.importer import Spool
from ..farm.making import mib
from ..farm.sessions import Sessions
from ..grammar import MIB, image_name, parse_id
from ..opennebula.datastore import parse_message
from ..opennebula.driver import Call
from ..opennebula.oned import host_register
from .source import open_source

ARGUMENTS = ("image",)


def run(call: Call) -> str:
    """Look at the source, make an empty resource, stream, verify checksums and replicas, put it to rest."""
    message = parse_message(call.stdin)
    image, datastore = message.require_image(), message.datastore
    name = image_name(parse_id(call.arg("image"), "image id"))
    stream = open_source(call, image, datastore, image.checksums)
    replicas = message.replicas(call.config.replicas)
    size = max(image.size_mib, mib(stream.size or 0), 1) * MIB
    with Sessions(call) as farm, Spool() as place:
        plan = images.place(
            farm, name, size, datastore.pool or call.config.pool, datastore.bridge_list, replicas,
            host_register(call.log),
        )
        spec = images.fill(farm, plan, stream, image.checksums, call.runner, place)
        images.rest(farm, plan, spec)
        farm.commit()
    call.log.info(f"{name} of {size // MIB} MiB in {plan.pool} on {' '.join(plan.hosts)}")
    return f"{name} raw"
