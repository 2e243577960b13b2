"""How to see later whether a disk was written to: what identifies the state of its data now.

Two facts, since neither does alone. DRBD's current generation UUID is kept in the metadata of every member and outlives
boots and moves to another host, but changes only when a Primary writes without one of its peers. The kernel's count of
what was written to this host's replica sees every write, the peer's too, but starts anew at each boot and `down`.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence

from ..errors import DncError
from ..tools import drbd
from ..tools.resource import ResourceSpec
from .files import read_text
from .machine import Host

_SECTORS_WRITTEN = 6  # column of /sys/class/block/*/stat (the kernel's Documentation/block/stat)


class DataState(NamedTuple):
    """A disk as it is now; None: not known here. written: in whatever unit, to be compared only."""

    generation: Optional[str]
    written: Optional[int]

    def since(self, then: DataState, same_boot: bool) -> Optional[bool]:
        """Whether it was written to since `then`: None when nothing here can tell."""
        if None not in (self.generation, then.generation) and self.generation != then.generation:
            return True
        counted = self.written is not None and then.written is not None and same_boot
        if not counted or self.written < then.written:  # type: ignore[operator]
            return None  # another boot, another host, or the device was taken down
        return self.written != then.written


def data_states(host: Host, names: Sequence[str]) -> Dict[str, DataState]:
    """The state of these disks. Raises NotFound for one without a replica here."""
    return {spec.name: _state(host, spec) for spec in map(host.resource_files.get, names)}


def boot_id(host: Host) -> str:
    """Tells this boot of this host from any other."""
    return f"{host.name} {(read_text(f'{host.paths.proc}/sys/kernel/random/boot_id') or '').strip()}"


def to_json(states: Mapping[str, DataState]) -> Dict[str, Any]:
    """For a record in a file."""
    return {name: dict(state._asdict()) for name, state in states.items()}


def from_json(record: Mapping[str, Any]) -> Dict[str, DataState]:
    """What to_json made. Raises KeyError, TypeError."""
    return {name: DataState(one["generation"], one["written"]) for name, one in record.items()}


def _state(host: Host, spec: ResourceSpec) -> DataState:
    if not spec.replicated:
        device = os.path.basename(os.path.realpath(spec.backing(host.name)))
        text = read_text(f"{host.paths.sys_block}/{device}/stat")
        words = (text or "").split()
        return DataState(None, int(words[_SECTORS_WRITTEN]) if len(words) > _SECTORS_WRITTEN else None)
    status = host.resources.status(spec.name)
    return DataState(_generation(host, spec), status.written if status else None)


def _generation(host: Host, spec: ResourceSpec) -> Optional[str]:
    """A client has no metadata."""
    if spec.member(host.name).diskless:
        return None
    dialect = host.resources.dialect(spec)
    try:
        text = host.runner.run(drbd.get_generation(spec.name), privileged=True, changes=False).stdout
        return dialect.parse_generation(text).current
    except DncError as error:
        host.log.warn(f"{spec.name}: its generation is not known: {error}")
        return None
