"""What the actions on an image's snapshots share: the message, and finding the image at rest (contract 4)."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import Busy
from ..farm import snapshots
from ..farm.sessions import Sessions
from ..farm.survey import Located
from ..grammar import ResourceName, parse_id, parse_image_source
from ..opennebula.datastore import parse_message
from ..opennebula.driver import Call

ARGUMENTS = ("image",)


class Target(NamedTuple):
    """A snapshot of an image."""

    name: ResourceName
    label: str


def parse_target(call: Call) -> Target:
    """SOURCE and TARGET_SNAPSHOT. Raises BadInput."""
    message = parse_message(call.stdin)
    label = str(parse_id(message.extra.get("TARGET_SNAPSHOT", "").strip(), "TARGET_SNAPSHOT"))
    return Target(parse_image_source(message.require_image().source), label)


def find(farm: Sessions, target: Target) -> Located:
    """The image, locked. Raises Busy while a VM has it."""
    located = snapshots.find(farm, target.name, None)
    vms = {found.spec.vm for found in located.found.values() if found.spec is not None and found.spec.vm is not None}
    if vms:
        raise Busy(f"image {target.name} belongs to VM {min(vms)} now", hint="use the VM's disk snapshots")
    return located
