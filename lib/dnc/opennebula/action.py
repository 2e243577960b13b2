"""VMM_DRIVER_ACTION_DATA: what VMM actions other than deploy get, raw, on stdin (contract 2.5)."""

from __future__ import annotations

from typing import NamedTuple, Union

from ..errors import BadInput
from .vm import VmDocument, vm_from_element
from .xml import parse_document, text_of


class VmmMessage(NamedTuple):
    """The message; `host` is where the action runs, `migration_host` the destination of a migration or empty."""

    host: str
    migration_host: str
    deploy_id: str
    checkpoint: str
    vm: VmDocument


def parse_vmm_message(data: Union[bytes, str]) -> VmmMessage:
    """A VMM action's stdin. Raises BadInput."""
    what = "the VMM message"
    root = parse_document(data, "VMM_DRIVER_ACTION_DATA", what)
    vm = root.find("VM")
    if vm is None:
        raise BadInput(f"{what} has no VM")
    return VmmMessage(
        host=text_of(root, "HOST").strip(), migration_host=text_of(root, "MIGR_HOST").strip(),
        deploy_id=text_of(root, "DEPLOY_ID").strip(), checkpoint=text_of(root, "CHECKPOINT_FILE").strip(),
        vm=vm_from_element(vm),
    )
