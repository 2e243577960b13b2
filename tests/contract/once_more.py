"""A driver call once more, exactly as it was: what OpenNebula does after it has lost the answer."""

from __future__ import annotations

import dataclasses

from oned import Oned
from oned.calls import Call, Completed


def last_call(cloud: Oned, action: str) -> Call:
    """The newest call of a VMM action. Raises LookupError."""
    for call in reversed(cloud.calls):
        if call.mad == "vmm" and call.action == action:
            return call
    raise LookupError(f"no vmm/{action} so far")


def again(cloud: Oned, like: str, **changes: object) -> Completed:
    """Run the newest call of the VMM action `like` again, or one that differs by `changes`; it is not recorded."""
    call = dataclasses.replace(last_call(cloud, like), **changes)  # type: ignore[arg-type]
    stream = cloud.backend.open_stream(call.where, call.action == "migrate")
    try:
        return stream.script(call)
    finally:
        stream.close()
