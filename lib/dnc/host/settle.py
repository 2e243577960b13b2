"""Roles and two-primaries of a VM's disks, brought to what the place of its domain demands (design rule 2).

Each host settles its own side. Where the domain runs we stay Primary and wait until the peer is Secondary; elsewhere
we demote. Then, on either side, two primaries are forbidden and the intent is dropped.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, NamedTuple, Optional

from ..errors import DncError
from ..tools.status import ResourceStatus, Role
from .machine import Host

PEER_TIMEOUT_S = 30.0


class Settled(NamedTuple):
    """How it went for one disk; `why` is empty when it is settled."""

    settled: bool
    role: str
    peer_role: str
    why: str

    def to_json(self) -> Dict[str, Any]:
        """As in the answer of `settle`."""
        return dict(self._asdict())


def settle(host: Host, names: Iterable[str], running_here: bool) -> Dict[str, Settled]:
    """Settle disks, each as far as it goes: one that can't be settled now stops no other."""
    first = {name: _leave(host, name) for name in names} if not running_here else {}
    return {name: _close(host, name, running_here, first.get(name, "")) for name in names}


def _leave(host: Host, name: str) -> str:
    """Demote, since the domain is not here; the reason when it does not work."""
    try:
        host.resources.demote(name)
    except DncError as error:
        return str(error)
    return ""


def _close(host: Host, name: str, running_here: bool, failed: str) -> Settled:
    """Forbid two primaries as soon as there are none."""
    why = failed
    try:
        status = host.resources.status(name)
        if not why and status is not None:
            why = _unfit(status) if running_here else ""
            if running_here and _peer_role(status) is Role.PRIMARY:
                status = _await_peer(host, name)
            if _two(status):
                why = why or "both sides are Primary"
            elif host.journal.intent(name) is not None:
                host.resources.forbid_two_primaries(name)
        if not why:
            host.journal.clear_intent(name)
    except DncError as error:
        why = str(error)
        status = host.resources.status(name)
    if why:
        host.log.warn(f"{name} is not settled: {why}")
    return Settled(not why, status.role.value if status else "down", _peer_role(status).value, why)


def _unfit(status: ResourceStatus) -> str:
    if status.role is not Role.PRIMARY:
        return "its domain runs here on a device that is not Primary"
    return ""


def _peer_role(status: Optional[ResourceStatus]) -> Role:
    """Primary if any peer is."""
    roles = {peer.role for peer in status.peers} if status else set()
    if Role.PRIMARY in roles:
        return Role.PRIMARY
    return Role.SECONDARY if Role.SECONDARY in roles else Role.UNKNOWN


def _two(status: Optional[ResourceStatus]) -> bool:
    return status is not None and status.role is Role.PRIMARY and _peer_role(status) is Role.PRIMARY


def _await_peer(host: Host, name: str) -> Optional[ResourceStatus]:
    """The other side demotes at the same time; wait for it."""
    def demoted() -> Optional[ResourceStatus]:
        status = host.resources.status(name)
        return None if _peer_role(status) is Role.PRIMARY else status

    return host.patience.until(
        demoted, timeout=PEER_TIMEOUT_S, what=f"{name} stayed Primary on the peer", interval=0.1,
        hint="settle the peer too: its domain may still hold the device",
    )
