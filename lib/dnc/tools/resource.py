"""A resource as its file says: who its members are, where it came from, why its replicas are equal."""

from __future__ import annotations

import json
import re
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

from ..errors import BadInput, NotFound
from ..grammar import parse_host, parse_path, parse_pool, parse_resource

HEADER = "# dnc "
REVERT = "revert:"  # in place of a proof while the replicas are being reverted
RESTORE = "restore"  # in place of a snapshot's label when they are reverted to a backup
_SECRET = re.compile(r"[A-Za-z0-9]{16,64}\Z")
_MINOR_USE = re.compile(r"\bminor\s+(\d+)\s*;|/dev/drbd(\d+)\b")
_PORT_USE = re.compile(r"\baddress\s[^;]*:(\d+)\s*;")


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
