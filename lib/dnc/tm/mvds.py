"""TM mvds: a VM gives its persistent image back; what it wrote is there already (contract 1.2)."""

from __future__ import annotations

from ..farm import disks
from ..farm.removal import forget_move
from ..farm.sessions import Sessions
from ..farm.survey import locate, look_again
from ..grammar import parse_id, parse_image_source
from ..opennebula.driver import Call
from ..opennebula.paths import parse_disk_path, parse_source
from .hosts import storage_host

ARGUMENTS = ("disk", "source", "vm", "datastore")


def run(call: Call) -> None:
    """Demote, unlink, see that all replicas are equal, take the image down on all members."""
    place = parse_disk_path(call.arg("disk"))
    name = parse_image_source(parse_source(call.arg("source")))
    vm = parse_id(call.arg("vm"), "VM id")
    parse_id(call.arg("datastore"), "datastore id")
    with Sessions(call) as farm:
        host = storage_host(call, place.host)
        image = locate(farm, name, host)
        if image is None:
            disks.refuse_unseen(farm)
            call.log.warn(f"{name} is on no host: nothing to give back")
            return
        farm.lock(image.hosts, [name.text])
        disks.remove_link(farm, host, place.path)
        forget_move(farm, image.found.values(), host, place.path)
        disks.release_persistent(farm, look_again(farm, image), vm)
        farm.commit()
