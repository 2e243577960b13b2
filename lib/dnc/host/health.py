"""How the resources of this host are, for whoever watches it: names of those that need a person or a repair."""

from __future__ import annotations

from typing import Mapping, NamedTuple, Optional, Tuple

from ..tools.drbd import ResourceSpec, ResourceStatus, Role
from .machine import Host


class Health(NamedTuple):
    """Resources by name. degraded: up, and not every replica connected and UpToDate; down: a VM's disk that is not up;
    dual_primary: Primary on two hosts, or still allowed to be."""

    resources: int
    degraded: Tuple[str, ...]
    down: Tuple[str, ...]
    dual_primary: Tuple[str, ...]


def health(host: Host, specs: Mapping[str, ResourceSpec]) -> Health:
    """One look at all of them. Raises ToolFailed, when DRBD does not answer."""
    statuses = host.resources.statuses(specs)
    replicated = {name: spec for name, spec in sorted(specs.items()) if spec.replicated}
    return Health(
        resources=len(specs),
        degraded=tuple(name for name in replicated if _degraded(statuses.get(name))),
        down=tuple(name for name, spec in replicated.items() if name not in statuses and _should_be_up(spec)),
        dual_primary=tuple(
            name for name in replicated if _dual(statuses.get(name)) or host.journal.intent(name) is not None
        ),
    )


def _should_be_up(spec: ResourceSpec) -> bool:
    """Images rest; the disks of stopped VMs stay up (docs/decisions/0005)."""
    return spec.state == "ready" and spec.kind != "image"


def _degraded(status: Optional[ResourceStatus]) -> bool:
    return status is not None and not status.ready


def _dual(status: Optional[ResourceStatus]) -> bool:
    return status is not None and status.role is Role.PRIMARY and any(
        peer.role is Role.PRIMARY for peer in status.peers
    )
