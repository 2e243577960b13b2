"""PCI devices of the host, and Xen's vTPM."""

from __future__ import annotations

import re
from typing import Dict, Optional, Tuple

from ...config import Config
from ...errors import BadInput
from ...grammar import shown
from ...opennebula.vm import VmDocument
from ...tools.xl_config import GuestType, PciConfig
from .attributes import check
from .kinds import derived_uuid

# OpenNebula writes SHORT_ADDRESS as lspci does, and ADDRESS with a colon before the function.
_ADDRESS = re.compile(r"(?:([0-9a-f]{4}):)?([0-9a-f]{2}):([0-9a-f]{2})[.:]([0-7])\Z")


def pci_configs(vm: VmDocument, kind: GuestType, config: Config) -> Tuple[PciConfig, ...]:
    """Every PCI element that oned gave a device of the host. Raises BadInput."""
    elements = vm.vectors.get("PCI", ())
    if elements and kind is GuestType.PVH:
        raise BadInput(f"PCI of VM {vm.id}: a pvh guest gets no devices of the host", hint="use XEN_TYPE hvm or pv")
    if elements and kind is GuestType.HVM and vm.memory_max_mib > vm.memory_mib:
        raise BadInput(
            f"MEMORY_MAX of VM {vm.id}: with PCI devices all memory is there from the start",
            hint="let MEMORY_MAX be MEMORY",
        )
    found = []
    for element in elements:
        check("PCI", element, f"PCI of VM {vm.id}")
        found.append(PciConfig(_address(vm, element), config.pci_seize == "yes"))
    return tuple(dict.fromkeys(found))


def _address(vm: VmDocument, element: Dict[str, str]) -> str:
    parts = [element.get(name, "").strip().lower() for name in ("DOMAIN", "BUS", "SLOT", "FUNCTION")]
    if all(parts[1:]):
        text = f"{parts[0] or '0000'}:{parts[1]}:{parts[2]}.{parts[3]}"
    else:
        text = (element.get("ADDRESS", "").strip() or element.get("SHORT_ADDRESS", "").strip()).lower()
    match = _ADDRESS.match(text)
    if not match:
        raise BadInput(f"PCI of VM {vm.id} has no device: {shown(text)}", hint="OpenNebula chose none on this host")
    domain, bus, slot, function = match.groups()
    return f"{domain or '0000'}:{bus}:{slot}.{function}"


def vtpm(vm: VmDocument, config: Config, uuid: str) -> Optional[Tuple[str, str]]:
    """(domain of the vTPM manager, UUID of this guest's vTPM), if the template asks for one. Raises BadInput."""
    if not vm.vector("TPM").get("MODEL", "").strip():
        return None
    if not config.vtpm_backend:
        raise BadInput(
            f"TPM of VM {vm.id}: no vTPM manager runs here", hint="name its domain in VTPM_BACKEND of dncrc",
        )
    return config.vtpm_backend, derived_uuid(f"dnc vtpm {uuid}")
