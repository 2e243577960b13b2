"""TM cpds: a VM's disk, or a snapshot of it, becomes an image (disk-saveas; contract 1.2, 1.4).

DS mkfs has made an empty image just before, possibly on other hosts; it is replaced by an instant copy on the disk's
own members. The VM may run: it is frozen as for a snapshot. For STOPPED and UNDEPLOYED the host is the frontend.
"""

from __future__ import annotations

from typing import Optional

from ..farm import snapshots
from ..farm.saving import Saving
from ..farm.sessions import Sessions
from ..grammar import parse_id, parse_image_source
from ..opennebula.driver import Call
from ..opennebula.oned import vm_info
from ..opennebula.paths import parse_disk_path, parse_source
from .hosts import storage_host

ARGUMENTS = ("disk", "image", "snapshot", "vm", "datastore")


def run(call: Call) -> None:
    """The image stands on its own: disk and image may go in any order."""
    place = parse_disk_path(call.arg("disk"))
    image = parse_image_source(parse_source(call.arg("image")))
    label = _label(call.arg("snapshot"))
    vm = vm_info(parse_id(call.arg("vm"), "VM id"))
    name = vm.disk(place.disk).resource(vm.id)
    with Sessions(call) as farm:
        disk = snapshots.find(farm, name, storage_host(call, place.host))
        saving = Saving(farm, disk, image, label, vm.domain)
        plan = saving.run()
        farm.commit()
        saving.tidy()
    call.log.info(f"{image} from {name} on {' '.join(plan.hosts)}")


def _label(text: str) -> Optional[str]:
    """SNAPID; -1 means the disk as it is now."""
    return None if text == "-1" else str(parse_id(text, "snapshot id"))
