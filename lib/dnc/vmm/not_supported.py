"""VMM actions that dnc does not offer: each says why, and what to do instead (docs/vm-actions.md)."""

from __future__ import annotations

from typing import Dict, NoReturn, Tuple

from ..errors import DncError
from ..opennebula.driver import Call

ARGUMENTS = ("arguments...",)

_SYSTEM_SNAPSHOT = (
    "dnc takes no snapshots of whole VMs: one host cannot freeze all replicas",
    "onevm disk-snapshot-create saves disks, running ones too",
)
_EXEC = ("Xen has no guest agent: nothing can be run in a guest", "use ssh, or the context's START_SCRIPT")
_WHY: Dict[str, Tuple[str, str]] = {
    "snapshot_create": _SYSTEM_SNAPSHOT, "snapshot_revert": _SYSTEM_SNAPSHOT, "snapshot_delete": _SYSTEM_SNAPSHOT,
    "exec": _EXEC, "exec_cancel": _EXEC,
    "migrate_local": (
        "dnc migrates from the source host, never from the frontend",
        "remove `-l migrate=migrate_local` from ARGUMENTS of the VM_MAD in oned.conf",
    ),
}


def run(call: Call) -> NoReturn:
    """Raises DncError, always; nothing is changed, and stdin is not read."""
    what, hint = _WHY.get(call.action, (f"{call.action} is not supported by dnc", "nothing was changed"))
    raise DncError(what, hint=hint)
