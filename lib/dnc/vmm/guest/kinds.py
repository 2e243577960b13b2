"""How a guest is virtualised, and by which UUID Xen knows it."""

from __future__ import annotations

import re

from ...config import Config
from ...errors import BadInput
from ...grammar import shown
from ...opennebula.vm import VmDocument
from ...tools.xl_config import GuestType

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def setting(vm: VmDocument, name: str) -> str:
    """An attribute of dnc's own: oned puts those it does not know into USER_TEMPLATE (contract 8)."""
    return vm.user_template.get(name, vm.template.get(name, "")).strip()


def guest_type(vm: VmDocument, config: Config) -> GuestType:
    """XEN_TYPE, else OS/MACHINE if it is a Xen type (oned itself writes q35 there), else GUEST_TYPE of dncrc.

    Raises BadInput.
    """
    wanted = setting(vm, "XEN_TYPE").lower()
    if wanted:
        try:
            return GuestType(wanted)
        except ValueError:
            raise BadInput(f"XEN_TYPE {shown(wanted)} is not pvh, pv or hvm") from None
    machine = vm.os.get("MACHINE", "").strip().lower()
    names = [kind.value for kind in GuestType]
    return GuestType(machine if machine in names else config.guest_type)


def domain_uuid(vm: VmDocument) -> str:
    """OS/UUID if the template has one, else one that follows from the VM's number and never changes."""
    given = vm.os.get("UUID", "").strip().lower()
    return given if _UUID.match(given) else derived_uuid(f"dnc {vm.domain}")


def derived_uuid(name: str) -> str:
    """A UUID that follows from a name: version 5, name-based (RFC 4122)."""
    import hashlib  # 4 ms that only a guest without a UUID of its own has to pay

    digest = bytearray(hashlib.sha1(name.encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
