"""The VMs' directories on this host, the disks they link to, and what those say of a VM whose domain is gone."""

from __future__ import annotations

import enum
import os
import re
from typing import Dict, Iterable, Mapping, Optional, Tuple

from ..errors import DncError
from ..tools.drbd import ResourceStatus, Role
from .machine import Host

_DISK = re.compile(r"disk\.(\d{1,5})\Z")
_TARGET = re.compile(r"/dev/(?:.+/)?(one-[0-9a-z-]+)(?:/0)?\Z")


class Place(enum.Enum):
    """Where a VM without a domain here can be."""

    AT_REST = "at rest"  # nowhere: its disks are ours, or nobody's
    BUSY = "busy"  # an action works on its disks
    MAYBE_ELSEWHERE = "maybe elsewhere"  # another host is Primary, or nobody can say


def vm_directories(location: str) -> Dict[int, Tuple[str, ...]]:
    """Paths <location>/<datastore>/<vm> by VM."""
    found: Dict[int, Tuple[str, ...]] = {}
    for datastore in _numbers(location):
        for vm in _numbers(f"{location}/{datastore}"):
            found[vm] = (*found.get(vm, ()), f"{location}/{datastore}/{vm}")
    return found


def disks_of(paths: Iterable[str]) -> Dict[int, str]:
    """Resource of each disk of a VM by number, as the links disk.N say."""
    disks: Dict[int, str] = {}
    for path in paths:
        for name in _names(path):
            match = _DISK.match(name)
            target = _TARGET.match(_link(f"{path}/{name}")) if match else None
            if match and target:
                disks[int(match[1])] = target[1]
    return disks


def places(host: Host, disks: Mapping[int, Iterable[str]]) -> Dict[int, Place]:
    """What is known of VMs without a domain here from their disks; one look at DRBD for all of them."""
    specs, odd = {}, set()
    for name in {name for names in disks.values() for name in names}:
        try:
            spec = host.resource_files.find(name)
            if spec is None:
                odd.add(name)
            elif spec.replicated:
                specs[name] = spec
        except DncError as error:
            host.log.warn(str(error))
            odd.add(name)
    try:
        statuses = host.resources.statuses(specs) if specs else {}
    except DncError as error:
        host.log.warn(str(error))
        statuses = {}
    away = odd | {name for name in specs if not _ours(statuses.get(name))}
    return {vm: _place(host, set(names), away) for vm, names in disks.items()}


def _place(host: Host, names: Iterable[str], away: Iterable[str]) -> Place:
    # The lock is looked at last: who took it before saw what we saw, who takes it later is told apart by the next look.
    if any(host.locks.taken(name) for name in names):
        return Place.BUSY
    return Place.MAYBE_ELSEWHERE if set(names) & set(away) else Place.AT_REST


def _ours(status: Optional[ResourceStatus]) -> bool:
    """Whether no other host can have a guest on it: we are Primary alone, or every peer is there and Secondary."""
    if status is None or any(peer.role is Role.PRIMARY for peer in status.peers):
        return False
    return status.role is Role.PRIMARY or all(peer.connected for peer in status.peers)


def _numbers(directory: str) -> Tuple[int, ...]:
    return tuple(int(name) for name in _names(directory) if name.isascii() and name.isdigit() and len(name) <= 10)


def _names(directory: str) -> Tuple[str, ...]:
    try:
        return tuple(os.listdir(directory))
    except OSError:
        return ()


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
