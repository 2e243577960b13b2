"""DRBD 9 (NOTES-drbd9; captures-drbd9): node ids, bitmap slots, JSON status."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Mapping, Optional, Tuple

from ..errors import BadInput
from .drbd import DiskState, Generation, PeerStatus, ResourceSpec, ResourceStatus, Role

_UUID = r"([0-9A-F]{16})"
_GENERATION = re.compile(rf"^{_UUID}:{_UUID}:{_UUID}:{_UUID}:((?:[01]:){{11}}[01])\s*$", re.MULTILINE)


def _enclosed(address: str) -> str:
    return f"ipv6 [{address}]" if ":" in address else address


class Drbd9:
    """The dialect of 9. slots: room for members to come, the same on every member, it decides the size (design D7)."""

    name = "9"
    slots = 7
    status_argv: Optional[Tuple[str, ...]] = ("drbdsetup", "status", "--json")
    can_suspend = True

    def render(self, spec: ResourceSpec) -> str:
        """Any number of members. Quorum needs three; with two it would stop both at every fault."""
        quorum = "quorum majority; on-no-quorum suspend-io; " if len(spec.members) > 2 else "quorum off; "
        members = "".join(
            f"  on {member.host} {{\n"
            f"    node-id {member.node_id};\n"
            f"    address {_enclosed(member.address)}:{spec.port};\n"
            f"    volume 0 {{ disk {member.device}; }}\n"
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
        return {record["name"]: self._status(record) for record in records if record["name"] in specs}

    def _status(self, record: Mapping[str, Any]) -> ResourceStatus:
        device = record["devices"][0] if record.get("devices") else {}
        return ResourceStatus(
            record["name"], device.get("minor"), Role(record["role"]), DiskState(device.get("disk-state", "Diskless")),
            bool(record.get("suspended")), tuple(self._peer(peer) for peer in record.get("connections", ())),
        )

    @staticmethod
    def _peer(record: Mapping[str, Any]) -> PeerStatus:
        device = record["peer_devices"][0] if record.get("peer_devices") else {}
        return PeerStatus(
            host=record["name"], connection=record["connection-state"], role=Role(record["peer-role"]),
            disk=DiskState(device.get("peer-disk-state", "DUnknown")),
            replication=device.get("replication-state", "Off"), out_of_sync=int(device.get("out-of-sync", 0)),
            percent=float(device["percent-in-sync"]) if "percent-in-sync" in device else None,
        )

    def create_metadata(self, spec: ResourceSpec) -> Tuple[str, ...]:
        """Every member must have the same number of slots, else their sizes differ (b-createmd)."""
        return ("drbdadm", "create-md", "--force", "--max-peers", str(spec.slots), spec.name)

    def read_generation(self, spec: ResourceSpec, host: str) -> Tuple[str, ...]:
        """Asked towards the first peer: bitmap UUIDs are per peer."""
        peer = spec.peers(host)[0]
        return (
            "drbdmeta", str(spec.minor), "v09", spec.member(host).device, "internal", "get-gi",
            "--node-id", str(peer.node_id),
        )

    def parse_generation(self, text: str) -> Generation:
        """Four UUIDs and twelve flags, in the order that show-gi draws. Raises BadInput."""
        match = _GENERATION.search(text)
        if not match:
            raise BadInput(f"drbdmeta get-gi said {text[:80]!r}")
        flags = [flag == "1" for flag in match.group(5).split(":")]
        return Generation(
            f"{int(match.group(1), 16) & ~1:016X}", match.group(2), consistent=flags[0], uptodate=flags[1],
            primary=flags[2], connected=flags[7], full_sync=flags[10] or flags[5], peer_outdated=flags[8],
            crashed_primary=flags[3] or flags[6],
        )

    def resize(self, spec: ResourceSpec) -> Tuple[str, ...]:
        """On a member with a disk, in any role (g-resize)."""
        return ("drbdadm", "resize", "--assume-clean", spec.name)

    def two_primaries(self, spec: ResourceSpec, peer: str, allowed: bool) -> Tuple[str, ...]:
        """Per peer: the all-peers form breaks absent ones (e-dualprimary)."""
        return (
            "drbdadm", "net-options", "--protocol=C", f"--allow-two-primaries={'yes' if allowed else 'no'}",
            f"{spec.name}:{peer}",
        )
