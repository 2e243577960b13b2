"""DRBD 9 (NOTES-drbd9; captures-drbd9): node ids, bitmap slots, JSON status."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from ..errors import BadInput
from .resource import Member, ResourceSpec
from .status import MISSING, DiskState, Generation, PeerStatus, ResourceStatus, Role

_UUID = r"([0-9A-F]{16})"
_GENERATION = re.compile(rf"^{_UUID}:{_UUID}:{_UUID}:{_UUID}:((?:[01]:){{11}}[01])\s*$", re.MULTILINE)


def _generation(match: re.Match[str]) -> Generation:
    flags = [flag == "1" for flag in match.group(5).split(":")]
    return Generation(
        f"{int(match.group(1), 16) & ~1:016X}", match.group(2), consistent=flags[0], uptodate=flags[1],
        primary=flags[2], connected=flags[7], full_sync=flags[10] or flags[5], peer_outdated=flags[8],
        crashed_primary=flags[3] or flags[6],
    )


def _enclosed(address: str) -> str:
    return f"ipv6 [{address}]" if ":" in address else address


class Drbd9:
    """The dialect of 9. slots: room for members to come, the same on every member, it decides the size (design D7)."""

    name = "9"
    slots = 7
    most_replicas = 3
    clients = True
    status_argv: Optional[Tuple[str, ...]] = ("drbdsetup", "status", "--json")
    can_suspend = True

    def render(self, spec: ResourceSpec) -> str:
        """Any number of members. Quorum needs three; with two it would stop both at every fault.

        A client votes only where the replicas stand half against half (NOTES-drbd9, j).
        """
        quorum = "quorum majority; on-no-quorum suspend-io; " if len(spec.members) > 2 else "quorum off; "
        members = "".join(
            f"  on {member.host} {{\n"
            f"    node-id {member.node_id};\n"
            f"    address {_enclosed(member.address)}:{spec.port};\n"
            f"    volume 0 {{ disk {member.device or 'none'}; }}\n"
            "  }\n"
            for member in spec.members
        )
        return (
            f"resource {spec.name} {{\n"
            f"  options {{ auto-promote no; {quorum}on-no-data-accessible io-error;"
            " on-suspended-primary-outdated force-secondary; }\n"
            "  net {\n"
            "    protocol C;\n"
            "    cram-hmac-alg sha256;\n"
            f"    shared-secret \"{spec.secret}\";\n"
            "    after-sb-0pri disconnect;\n"
            "    after-sb-1pri disconnect;\n"
            "    after-sb-2pri disconnect;\n"
            "    rr-conflict retry-connect;\n"
            "    verify-alg md5;\n"
            "  }\n"
            "  disk { rs-discard-granularity 65536; discard-zeroes-if-aligned yes; }\n"
            f"  volume 0 {{ device minor {spec.minor}; meta-disk internal; }}\n"
            f"{members}"
            f"  connection-mesh {{ hosts {' '.join(spec.hosts())}; }}\n"
            "}\n"
        )

    def parse_status(self, text: str, specs: Mapping[str, ResourceSpec], host: str) -> Dict[str, ResourceStatus]:
        """From `drbdsetup status --json`."""
        records = json.loads(text) if text.strip() else []
        return {
            record["name"]: self._status(record, specs[record["name"]].peers(host))
            for record in records if record["name"] in specs
        }

    def _status(self, record: Mapping[str, Any], members: Sequence[Member]) -> ResourceStatus:
        device = record["devices"][0] if record.get("devices") else {}
        peers = [self._peer(peer) for peer in record.get("connections", ())]
        known = {peer.host for peer in peers}
        peers += [
            PeerStatus(member.host, MISSING, Role.UNKNOWN, DiskState.UNKNOWN, "Off", 0, client=member.diskless)
            for member in members if member.host not in known
        ]
        return ResourceStatus(
            record["name"], device.get("minor"), Role(record["role"]), DiskState(device.get("disk-state", "Diskless")),
            bool(record.get("suspended")), tuple(peers), client=bool(device.get("client")),
            written=None if device.get("client") else device.get("written"),
        )

    @staticmethod
    def _peer(record: Mapping[str, Any]) -> PeerStatus:
        device = record["peer_devices"][0] if record.get("peer_devices") else {}
        return PeerStatus(
            host=record["name"], connection=record["connection-state"], role=Role(record["peer-role"]),
            disk=DiskState(device.get("peer-disk-state", "DUnknown")),
            replication=device.get("replication-state", "Off"), out_of_sync=int(device.get("out-of-sync", 0)),
            percent=float(device["percent-in-sync"]) if "percent-in-sync" in device else None,
            client=bool(device.get("peer-client")),
        )

    def create_metadata(self, spec: ResourceSpec) -> Tuple[str, ...]:
        """Every member must have the same number of slots, else their sizes differ (b-createmd)."""
        return ("drbdadm", "create-md", "--force", "--max-peers", str(spec.slots), spec.name)

    def new_day0(self) -> Optional[str]:
        """Random and even: the lowest bit says Primary."""
        import secrets  # 4 ms that only a new resource has to pay

        return f"{secrets.randbits(64) & ~1 | 1 << 63:016X}"

    def stamp(self, spec: ResourceSpec, host: str) -> Tuple[str, ...]:
        """One call does for all peers; the node id is stamped at the first attach (NOTES-drbd9, c.4)."""
        if spec.day0 is None:
            return ()
        return (
            "drbdmeta", "--force", str(spec.minor), "v09", spec.backing(host), "internal", "set-gi",
            "--node-id", "0", f"{spec.day0}:0:0:0:1:1",
        )

    def forget_peer(self, name: str, member: Member) -> Tuple[str, ...]:
        """By number: drbdadm knows the host no longer (d-retire). A client never had a slot."""
        return () if member.diskless else ("drbdsetup", "forget-peer", name, str(member.node_id))

    def read_generation(self, spec: ResourceSpec, host: str) -> Tuple[Tuple[str, ...], ...]:
        """Bitmap UUIDs and flags are kept by peer, so each other replica is asked for."""
        return tuple(
            (
                "drbdmeta", str(spec.minor), "v09", spec.backing(host), "internal", "get-gi",
                "--node-id", str(peer.node_id),
            )
            for peer in spec.peers(host) if not peer.diskless
        )

    def parse_generation(self, text: str) -> Generation:
        """Four UUIDs and twelve flags a peer, in the order that show-gi draws; the worst of all peers. Raises BadInput.
        """
        found = [_generation(match) for match in _GENERATION.finditer(text)]
        if not found:
            raise BadInput(f"drbdmeta get-gi said {text[:80]!r}")
        unclean = [one for one in found if not one.clean]
        return (unclean or found)[0]

    def resize(self, spec: ResourceSpec) -> Tuple[str, ...]:
        """On a member with a disk, in any role (g-resize)."""
        return ("drbdadm", "resize", "--assume-clean", spec.name)

    def two_primaries(self, spec: ResourceSpec, peer: str, allowed: bool) -> Tuple[str, ...]:
        """Per peer: the all-peers form breaks absent ones (e-dualprimary)."""
        return (
            "drbdadm", "net-options", "--protocol=C", f"--allow-two-primaries={'yes' if allowed else 'no'}",
            f"{spec.name}:{peer}",
        )
