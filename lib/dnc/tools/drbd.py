"""DRBD: commands, the size of metadata, what drbdadm's complaints mean, and what a Dialect has to answer.

What differs between versions is a Dialect: drbd84, drbd9, or single for a resource without DRBD. dialects.py finds
the one for a host.
"""

from __future__ import annotations

import json
from typing import Dict, Mapping, Optional, Protocol, Tuple

from ..errors import Busy, DncError, NotFound, ToolFailed, ToolMissing, Unsafe
from ..grammar import MIB
from .resource import HEADER, Member, ResourceSpec
from .status import Generation, ResourceStatus

_ACTIVITY_LOG = 32 * 1024
_SUPER_BLOCK = 4 * 1024
_BITMAP_BLOCK = 4 * 1024


class Dialect(Protocol):
    """What 8.4, 9 and `no DRBD` do differently. status_argv None: the text comes from /proc/drbd.

    most_replicas: as many a resource can have; clients: whether hosts without a replica can use it.
    """

    name: str
    slots: int
    most_replicas: int
    clients: bool
    status_argv: Optional[Tuple[str, ...]]
    can_suspend: bool
    """Whether suspend-io holds writes back safely: never on 8.4, where one in flight hangs (84-suspend-hang)."""

    def render(self, spec: ResourceSpec) -> str:
        """The body of the resource file."""
        ...

    def parse_status(self, text: str, specs: Mapping[str, ResourceSpec], host: str) -> Dict[str, ResourceStatus]:
        """Status of the resources in `specs` that are up."""
        ...

    def create_metadata(self, spec: ResourceSpec) -> Tuple[str, ...]:
        """Fresh metadata, nothing known of the peers."""
        ...

    def new_day0(self) -> Optional[str]:
        """A UUID for `stamp`, where replicas are told apart from the first moment; None: declare them equal once up."""
        ...

    def stamp(self, spec: ResourceSpec, host: str) -> Tuple[str, ...]:
        """Write day0 into fresh metadata: a promise that nobody checks; () where there is no such thing."""
        ...

    def forget_peer(self, name: str, member: Member) -> Tuple[str, ...]:
        """Free the bitmap slot of a member that left, after its connection is gone; () where there is none."""
        ...

    def read_generation(self, spec: ResourceSpec, host: str) -> Tuple[Tuple[str, ...], ...]:
        """Ask the metadata of a resource that is down; one question for each other replica."""
        ...

    def parse_generation(self, text: str) -> Generation:
        """All answers of read_generation, one behind the other."""
        ...

    def resize(self, spec: ResourceSpec) -> Tuple[str, ...]:
        """Take over grown volumes without a resync of the new space, which reads as zeros everywhere."""
        ...

    def two_primaries(self, spec: ResourceSpec, peer: str, allowed: bool) -> Tuple[str, ...]:
        """Allow or forbid two primaries towards `peer`, in the running resource."""
        ...


def up(name: str) -> Tuple[str, ...]:
    """Attach and connect."""
    return ("drbdadm", "up", name)


def adjust(name: str) -> Tuple[str, ...]:
    """Bring a half configured resource to what its file says."""
    return ("drbdadm", "adjust", name)


def down(name: str) -> Tuple[str, ...]:
    """Disconnect and detach; rc 0 when it is down already."""
    return ("drbdadm", "down", name)


def primary(name: str) -> Tuple[str, ...]:
    """Promote, never by force."""
    return ("drbdadm", "primary", name)


def secondary(name: str) -> Tuple[str, ...]:
    """Demote."""
    return ("drbdadm", "secondary", name)


def new_current_uuid(name: str) -> Tuple[str, ...]:
    """Declare all members equal; legal on just created metadata only. The /0 is needed."""
    return ("drbdadm", "new-current-uuid", "--clear-bitmap", f"{name}/0")


def get_generation(name: str) -> Tuple[str, ...]:
    """The generation UUIDs and flags of a resource, up or down, as drbdmeta's get-gi prints them. The /0 is needed."""
    return ("drbdadm", "get-gi", f"{name}/0")


def suspend_io(name: str) -> Tuple[str, ...]:
    """On the Primary: wait until nothing is in flight, then hold all writes back (DRBD 9 only)."""
    return ("drbdadm", "suspend-io", name)


def resume_io(name: str) -> Tuple[str, ...]:
    """End suspend_io."""
    return ("drbdadm", "resume-io", name)


def invalidate(name: str) -> Tuple[str, ...]:
    """This member's data count no more: all of them are copied from its peers."""
    return ("drbdadm", "invalidate", name)


def data_end(volume_bytes: int, slots: int) -> int:
    """Where the data area of a volume ends and DRBD's internal metadata begins, in bytes; slots 0: no DRBD.

    Layout: bitmaps (one bit per 4 KiB and slot), activity log, super block (b-createmd: 128 MiB with 1, 7, 31
    slots: 131032, 131008, 130912 KB; 84-grow-a: 192 MiB: 196564 KB).
    """
    if slots == 0:
        return volume_bytes
    sector_bits = 16 * MIB  # one sector of bitmap covers this much
    bitmap = -(-volume_bytes // sector_bits) * 512 * slots
    bitmap = -(-bitmap // _BITMAP_BLOCK) * _BITMAP_BLOCK
    return volume_bytes - _SUPER_BLOCK - _ACTIVITY_LOG - bitmap


def volume_size(data_bytes: int, slots: int) -> int:
    """Size in bytes (whole MiB) of a volume whose data area holds at least `data_bytes`; slots 0: no DRBD."""
    data = -(-data_bytes // MIB) * MIB
    if slots == 0:
        return data
    size = data + MIB
    while data_end(size, slots) < data:
        size += MIB
    return size


def file_text(spec: ResourceSpec, dialect: Dialect) -> str:
    """The whole resource file: our header line, then what drbdadm reads. The same bytes on every member."""
    header = {
        "state": spec.state, "kind": spec.kind, "vm": spec.vm, "origin": spec.origin, "proof": spec.proof,
        "pool": spec.pool, "data_bytes": spec.data_bytes, "slots": spec.slots,
        "members": [list(member) for member in spec.members], "minor": spec.minor, "port": spec.port,
        **({"image_hosts": spec.image_hosts} if spec.image_hosts else {}),
    }
    header.update({key: value for key in ("day0", "epoch", "leaving") if (value := getattr(spec, key))})
    return f"{HEADER}{json.dumps(header, sort_keys=True)}\n{dialect.render(spec)}"


def read_while_removed(error: ToolFailed) -> bool:
    """Whether drbdadm stumbled over a resource file that vanished between its listing and its reading: ask again."""
    return any(text in error.stderr for text in ("Failed to open include file", "include file vanished"))


def explain(error: ToolFailed, name: str) -> DncError:
    """The typed error for drbdadm's own words (captures drbd*.txt, h-errors2). The numbers are DRBD's own."""
    text = error.stderr
    if "held open" in text or "opened by" in text:
        return Busy(f"{name}: its device is held open", command=error.command, hint="see who uses it: xl list, fuser")
    if "(-1) Multiple primaries" in text:
        return Unsafe(f"{name} is Primary on a peer", command=error.command, hint="see where its VM runs: xl list")
    if "(-2) Need access to UpToDate data" in text:
        return Unsafe(f"{name} has no UpToDate data here", command=error.command, hint="connect its peer")
    if "(-25) No quorum" in text:
        return Unsafe(f"{name} has no quorum", command=error.command, hint="bring its other members back")
    if "conflicting use of" in text or "already exists (delete it first)" in text:
        line = next((line for line in text.splitlines() if "conflicting" in line), text.splitlines()[0])
        return DncError(f"{name}: DRBD's files conflict: {line[:160]}", command=error.command, hint="see /etc/drbd.d")
    if "not defined in your config" in text:
        return NotFound(f"{name} is not defined on this host", command=error.command)
    if "No valid meta data found" in text:
        return Unsafe(
            f"{name} has no DRBD metadata where it should be", command=error.command,
            hint="its volume changed size or was overwritten: do not create-md before looking",
        )
    if "Could not connect to 'drbd' generic netlink" in text or "modprobe" in text:
        return ToolMissing("DRBD is not loaded", command=error.command, hint="modprobe drbd, also at boot")
    return error
