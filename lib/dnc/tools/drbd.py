"""DRBD: the records that 8.4 and 9 share, the resource file, the size of metadata.

What differs is a Dialect: drbd84, drbd9, or single for a resource without DRBD. dialects.py finds the one for a host.
"""

from __future__ import annotations

import enum
import json
import re
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Protocol, Tuple

from ..errors import BadInput, Busy, DncError, NotFound, ToolFailed, ToolMissing, Unsafe
from ..grammar import MIB, parse_host, parse_path, parse_pool, parse_resource

HEADER = "# dnc "
REVERT = "revert:"  # in place of a proof while the replicas are being reverted
RESTORE = "restore"  # in place of a snapshot's label when they are reverted to a backup
_ACTIVITY_LOG = 32 * 1024
_SUPER_BLOCK = 4 * 1024
_BITMAP_BLOCK = 4 * 1024
_SECRET = re.compile(r"[A-Za-z0-9]{16,64}\Z")
_MINOR_USE = re.compile(r"\bminor\s+(\d+)\s*;|/dev/drbd(\d+)\b")
_PORT_USE = re.compile(r"\baddress\s[^;]*:(\d+)\s*;")


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


class Member(NamedTuple):
    """A host of a resource. device: path of its volume there, None for a diskless client; address: without port."""

    host: str
    address: str
    device: Optional[str]
    node_id: int

    @property
    def diskless(self) -> bool:
        """Whether it has no replica of its own (DRBD 9 only)."""
        return self.device is None


class ResourceSpec(NamedTuple):
    """All that a resource file says. One member: no DRBD, no minor, no port. slots: bitmap slots of the metadata.

    day0: the UUID with which the metadata of all replicas began (DRBD 9): a replica made later over the same first
    contents, stamped with it, receives only what was written since (NOTES-drbd9, d). None: not known.
    epoch: how often replicas came or went; of two finished files the one with the higher one is right. leaving: the
    member that is to go once all others are in sync. image_hosts: who knows more, for a copy, `joining`, `leaving`.
    """

    name: str
    minor: Optional[int]
    port: Optional[int]
    secret: str
    members: Tuple[Member, ...]
    state: str
    kind: str
    vm: Optional[int]
    origin: Optional[str]
    proof: Optional[str]
    pool: str
    data_bytes: int
    slots: int
    image_hosts: Tuple[str, ...] = ()
    day0: Optional[str] = None
    epoch: int = 0
    leaving: Optional[str] = None

    @property
    def replicated(self) -> bool:
        """Whether DRBD lies above the volume."""
        return len(self.members) > 1

    @property
    def reverting(self) -> bool:
        """Whether a revert to a snapshot was begun and not finished."""
        return self.state == "making" and (self.proof or "").startswith(REVERT)

    @property
    def revert_hint(self) -> str:
        """What has to be repeated when a revert was not finished."""
        restoring = (self.proof or "").startswith(REVERT + RESTORE)
        return "onevm restore again" if restoring else "onevm disk-snapshot-revert again"

    @property
    def is_copy(self) -> bool:
        """Whether this is a copy of an image with its replicas on `image_hosts`, metadata included (farm/copies)."""
        return self.state in ("copying", "copy")

    @property
    def moving(self) -> bool:
        """Whether its file alone does not say if this replica counts: those in `image_hosts` know (farm/replicas)."""
        return self.state in ("joining", "leaving")

    def member(self, host: str) -> Member:
        """The member on `host`. Raises NotFound."""
        for member in self.members:
            if member.host == host:
                return member
        raise NotFound(f"{self.name} has no replica here", host=host, hint="its members: " + " ".join(self.hosts()))

    def peers(self, host: str) -> Tuple[Member, ...]:
        """All members but the one on `host`."""
        return tuple(member for member in self.members if member.host != host)

    def hosts(self) -> Tuple[str, ...]:
        """Names of the member hosts, clients among them."""
        return tuple(member.host for member in self.members)

    @property
    def replicas(self) -> Tuple[Member, ...]:
        """The members that hold the data."""
        return tuple(member for member in self.members if not member.diskless)

    @property
    def clients(self) -> Tuple[Member, ...]:
        """The members that hold none of it."""
        return tuple(member for member in self.members if member.diskless)

    def backing(self, host: str) -> str:
        """Path of the volume on `host`. Raises NotFound for a client."""
        device = self.member(host).device
        if device is None:
            raise NotFound(f"{self.name} has no volume here: a diskless client", host=host)
        return device

    def to_json(self) -> Dict[str, Any]:
        """The record as it crosses the session, secret included."""
        record: Dict[str, Any] = dict(self._asdict())
        record["members"] = [dict(member._asdict()) for member in self.members]
        return record


def new_secret() -> str:
    """A random shared secret: a mis-wired port then never looks like the right peer."""
    import secrets  # 4 ms that only a new resource has to pay

    return secrets.token_hex(20)


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
    """What the kernel says of a resource that is up. client: no disk here, on purpose."""

    name: str
    minor: Optional[int]
    role: Role
    disk: DiskState
    suspended: bool
    peers: Tuple[PeerStatus, ...]
    client: bool = False

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


def parse_file(name: str, text: str) -> Optional[ResourceSpec]:
    """The record of our own resource file, None for a foreign one. Raises BadInput when ours is damaged."""
    line, _, body = text.partition("\n")
    if not line.startswith(HEADER):
        return None
    try:
        record = json.loads(line[len(HEADER):])
        record["members"] = [
            dict(zip(("host", "address", "device", "node_id"), member)) for member in record["members"]
        ]
        secret = re.search(r'shared-secret "([A-Za-z0-9]+)";', body)
        return parse_spec({**record, "name": name, "secret": secret.group(1) if secret else ""})
    except (ValueError, KeyError, TypeError, BadInput) as error:
        raise BadInput(f"resource file of {name} is damaged: {error}", hint=f"restore {name}.res from a peer")


def usage(text: str) -> Tuple[Tuple[int, ...], Tuple[int, ...]]:
    """(minors, ports) that any resource file uses, read leniently: foreign files count too."""
    minors = tuple(int(a or b) for a, b in _MINOR_USE.findall(text))
    return minors, tuple(int(port) for port in _PORT_USE.findall(text))


def _number(record: Mapping[str, Any], key: str, low: int, high: int) -> int:
    value = record[key]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadInput(f"{key} of a resource is not a number from {low} to {high}")
    return value


def _text(record: Mapping[str, Any], key: str, pattern: str) -> str:
    value = record[key]
    if not isinstance(value, str) or not re.match(rf"(?:{pattern})\Z", value):
        raise BadInput(f"{key} of a resource is not valid")
    return value


def _optional(record: Mapping[str, Any], key: str, parse: Callable[[], Any]) -> Any:
    return None if record.get(key) is None else parse()


def parse_member(record: Mapping[str, Any]) -> Member:
    """A member from JSON. Raises BadInput, KeyError."""
    address = _text(record, "address", r"[0-9.]{7,15}|[0-9a-fA-F:]{2,39}")
    device = _optional(record, "device", lambda: parse_path(_text(record, "device", r"/[^\s\"';{}#\\]+")))
    return Member(parse_host(_text(record, "host", r".+")), address, device, _number(record, "node_id", 0, 31))


def parse_spec(record: Mapping[str, Any]) -> ResourceSpec:
    """SPEC from the session or from a file, every field checked. Raises BadInput, KeyError."""
    members = tuple(parse_member(member) for member in record["members"])
    if not 1 <= len(members) <= 16 or len({member.host for member in members}) != len(members):
        raise BadInput("a resource needs 1 to 16 members on different hosts")
    if len({member.node_id for member in members}) != len(members):
        raise BadInput("two members of a resource have the same node id")
    if all(member.diskless for member in members):
        raise BadInput("a resource needs a member with a volume")
    replicated = len(members) > 1
    secret = record["secret"]
    if not isinstance(secret, str) or bool(secret) != replicated or (secret and not _SECRET.match(secret)):
        raise BadInput("a replicated resource needs a shared secret of 16 to 64 letters and digits")
    return ResourceSpec(
        name=str(parse_resource(_text(record, "name", r".+"))),
        minor=_number(record, "minor", 0, (1 << 20) - 1) if replicated else None,
        port=_number(record, "port", 1, 65535) if replicated else None,
        secret=secret, members=members, state=_text(record, "state", "making|ready|copying|copy|joining|leaving"),
        kind=_text(record, "kind", "image|clone|volatile"),
        vm=_optional(record, "vm", lambda: _number(record, "vm", 0, 1 << 32)),
        origin=_optional(record, "origin", lambda: str(parse_resource(_text(record, "origin", r".+")))),
        proof=_optional(record, "proof", lambda: _text(record, "proof", r"[A-Za-z0-9:._-]{1,120}")),
        pool=str(parse_pool(_text(record, "pool", r".+"))),
        data_bytes=_number(record, "data_bytes", 1, 1 << 60), slots=_number(record, "slots", 0, 31),
        image_hosts=tuple(parse_host(str(host)) for host in record.get("image_hosts") or ()),
        day0=_optional(record, "day0", lambda: _text(record, "day0", r"[0-9A-F]{15}[02468ACE]")),
        epoch=_number({"epoch": 0, **record}, "epoch", 0, 1 << 60),
        leaving=_optional(record, "leaving", lambda: parse_host(_text(record, "leaving", r".+"))),
    )


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
