"""DS cp: import an image once to one member, let DRBD carry it to the other (contract 4; design: storage actions)."""

from __future__ import annotations

from typing import Iterator

from ..farm import images, importer
from ..farm.importer import Piece, Progress
from ..farm.making import Plan, mib
from ..farm.sessions import Sessions
from ..farm.source import ImageStream
from ..grammar import MIB, image_name, parse_id
from ..opennebula.datastore import Image, parse_message
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
    with Sessions(call) as farm, importer.Spool() as place:
        plan = images.place(
            farm, name, size, datastore.pool or call.config.pool, datastore.bridge_list, replicas,
            host_register(call.log),
        )
        pieces = _content(call, image, stream, size, place)
        spec = images.create(farm, plan)
        host = plan.hosts[0]
        farm.call(host, "promote", resource=name.text)
        importer.send(farm.sessions[host], name.text, pieces, Progress(call.log, name.text, size))
        stream.tap.verify(image.checksums)
        farm.call(host, "demote", resource=name.text)
        images.rest(farm, plan, spec)
        farm.commit()
    _tell(call, plan, size)
    return f"{name} raw"


def _content(call: Call, image: Image, stream: ImageStream, size: int, place: importer.Spool) -> Iterator[Piece]:
    """What is to be written. A local raw file without checksum is read around its holes."""
    if call.runner.dry_run:
        return iter(())
    if stream.qcow2 is not None:
        return importer.runs_of_file(importer.unpack_qcow2(call.runner, stream, place))
    if stream.path is not None and not image.checksums:
        return importer.runs_of_file(stream.path)
    return importer.runs_of_stream(stream.content, size)


def _tell(call: Call, plan: Plan, size: int) -> None:
    call.log.info(f"{plan.name} of {size // MIB} MiB in {plan.pool} on {' '.join(plan.hosts)}")
