"""What the kernel and the metadata say of a resource: roles, disk states, peers, data generations."""

from __future__ import annotations

import enum
from typing import Any, Dict, NamedTuple, Optional, Tuple


class Role(enum.Enum):
    """Role of a resource on one host."""

    PRIMARY = "Primary"
    SECONDARY = "Secondary"
    UNKNOWN = "Unknown"


class DiskState(enum.Enum):
    """disk-state, as both versions print it."""

    DISKLESS = "Diskless"
    ATTACHING = "Attaching"
    DETACHING = "Detaching"
    FAILED = "Failed"
    NEGOTIATING = "Negotiating"
    INCONSISTENT = "Inconsistent"
    OUTDATED = "Outdated"
    UNKNOWN = "DUnknown"
    CONSISTENT = "Consistent"
    UP_TO_DATE = "UpToDate"


class PeerStatus(NamedTuple):
    """A peer as this host sees it; out_of_sync in KiB, percent of a running resync. client: diskless on purpose."""

    host: str
    connection: str
    role: Role
    disk: DiskState
    replication: str
    out_of_sync: int
    percent: Optional[float] = None
    client: bool = False

    @property
    def connected(self) -> bool:
        """Whether data flows, or could."""
        return self.connection == "Connected"

    @property
    def bare(self) -> bool:
        """Whether it has no disk, on purpose or since that failed (on-io-error detach)."""
        return self.client or self.disk in _BARE

    @property
    def equal(self) -> bool:
        """Connected, UpToDate, nothing out of sync."""
        idle = self.replication == "Established"
        return self.connected and idle and self.disk is DiskState.UP_TO_DATE and self.out_of_sync == 0


_BARE = (DiskState.DISKLESS, DiskState.FAILED)
MISSING = "Missing"  # our word for a member that the kernel has no connection object for


class ResourceStatus(NamedTuple):
    """What the kernel says of a resource that is up. client: no disk here, on purpose.

    written: KiB written to the replica here since it was attached, by whomever; None: not known.
    """

    name: str
    minor: Optional[int]
    role: Role
    disk: DiskState
    suspended: bool
    peers: Tuple[PeerStatus, ...]
    client: bool = False
    written: Optional[int] = None

    @property
    def usable(self) -> bool:
        """Whether a guest may start here: UpToDate, or a client of somebody who is."""
        return self.served if self.client else self.disk is DiskState.UP_TO_DATE

    @property
    def served(self) -> bool:
        """Whether a guest that runs here sees the newest data, even through a peer since the disk here failed."""
        if not self.client and self.disk not in _BARE:
            return self.disk is DiskState.UP_TO_DATE
        return any(peer.connected and peer.disk is DiskState.UP_TO_DATE for peer in self.peers)

    @property
    def ready(self) -> bool:
        """Usable here, and every other replica connected, UpToDate, nothing out of sync; clients don't count."""
        return self.usable and not self.suspended and all(peer.equal for peer in self.peers if not peer.client)

    def in_step_with(self, host: str) -> bool:
        """Whether this host and the peer `host` may both be Primary: of the others nothing is asked."""
        only = self.peers[0] if len(self.peers) == 1 else None
        peer = next((peer for peer in self.peers if peer.host == host), only)
        if peer is None or not self.served or self.suspended:
            return False
        return peer.connected and self.usable if peer.bare else peer.equal

    @property
    def standalone(self) -> bool:
        """Whether DRBD gave the connection to a replica up: split brain, unrelated data, wrong secret or size."""
        return any(peer.connection == "StandAlone" for peer in self.peers if not peer.client)

    @property
    def dropped(self) -> bool:
        """Whether a connection does not even try: given up, or lost in a refused `down` (h-errors2). adjust heals."""
        return any(peer.connection in ("StandAlone", MISSING) for peer in self.peers)

    def to_json(self) -> Dict[str, Any]:
        """STATUS of the agent's protocol."""
        return {
            "name": self.name, "minor": self.minor, "role": self.role.value, "disk": self.disk.value,
            "ready": self.ready, "suspended": self.suspended, "client": self.client,
            "peers": [{
                "host": peer.host, "connection": peer.connection, "role": peer.role.value, "disk": peer.disk.value,
                "replication": peer.replication, "out_of_sync": peer.out_of_sync, "client": peer.client,
            } for peer in self.peers],
        }

    def summary(self) -> str:
        """For messages: `Secondary UpToDate, node2 Connected UpToDate oos:0`."""
        peers = "".join(f", {p.host} {p.connection} {p.disk.value} oos:{p.out_of_sync}" for p in self.peers)
        return f"{self.role.value} {self.disk.value}{peers}"


class Generation(NamedTuple):
    """The generation in a member's metadata; UUIDs in hex, the current one without its lowest (primary) bit."""

    current: str
    bitmap: str
    consistent: bool
    uptodate: bool
    primary: bool
    connected: bool
    full_sync: bool
    peer_outdated: bool
    crashed_primary: bool

    @property
    def clean(self) -> bool:
        """At rest after a clean life: with equal `current` on all members their data is equal (design rule 1)."""
        return (
            self.consistent and self.uptodate and not self.primary and not self.full_sync
            and not self.peer_outdated and not self.crashed_primary
            and int(self.bitmap, 16) == 0 and int(self.current, 16) > JUST_CREATED
        )

    def to_json(self) -> Dict[str, Any]:
        """Answer of the operation `generation`."""
        return {**self._asdict(), "clean": self.clean}


JUST_CREATED = 5  # UUID_JUST_CREATED is 4; the lowest bit is a flag
