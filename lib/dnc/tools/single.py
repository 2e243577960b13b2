"""REPLICAS=1: the dialect of a resource without DRBD. Its device is the volume, always usable, never replicated."""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Tuple

from ..errors import BadInput
from .resource import Member, ResourceSpec
from .status import DiskState, Generation, ResourceStatus, Role


class Single:
    """Answers for one member what DRBD would: Primary, UpToDate, no peers. No command is ever needed."""

    name = "none"
    slots = 0
    most_replicas = 1
    clients = False
    status_argv: Optional[Tuple[str, ...]] = None
    can_suspend = False

    def render(self, spec: ResourceSpec) -> str:
        """The header line says it all."""
        return ""

    def parse_status(self, text: str, specs: Mapping[str, ResourceSpec], host: str) -> Dict[str, ResourceStatus]:
        """A volume is up as long as it exists."""
        return {
            name: ResourceStatus(name, None, Role.PRIMARY, DiskState.UP_TO_DATE, False, ())
            for name, spec in specs.items() if not spec.replicated
        }

    def create_metadata(self, spec: ResourceSpec) -> Tuple[str, ...]:
        """There is none."""
        return ()

    def new_day0(self) -> Optional[str]:
        """There is no metadata."""
        return None

    def stamp(self, spec: ResourceSpec, host: str) -> Tuple[str, ...]:
        """There is no metadata."""
        return ()

    def forget_peer(self, name: str, member: Member) -> Tuple[str, ...]:
        """There is no peer."""
        return ()

    def read_generation(self, spec: ResourceSpec, host: str) -> Tuple[Tuple[str, ...], ...]:
        """There is nothing to ask."""
        return ()

    def parse_generation(self, text: str) -> Generation:
        """One copy always equals itself."""
        if text:
            raise BadInput("a resource without DRBD has no metadata")
        return Generation("F" * 15 + "E", "0" * 16, True, True, False, False, False, False, False)

    def resize(self, spec: ResourceSpec) -> Tuple[str, ...]:
        """The volume is the disk."""
        return ()

    def two_primaries(self, spec: ResourceSpec, peer: str, allowed: bool) -> Tuple[str, ...]:
        """One member cannot have two primaries."""
        raise BadInput(f"{spec.name} has one replica: it cannot migrate live", hint="use REPLICAS=2")
