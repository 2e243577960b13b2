"""DRBD 8.4 (the kernel's own): no JSON, two members, status from /proc/drbd."""

from __future__ import annotations

import re
from typing import Dict, Mapping, Optional, Tuple

from ..errors import BadInput
from .resource import Member, ResourceSpec
from .status import DiskState, Generation, PeerStatus, ResourceStatus, Role

_DEVICE = re.compile(r"^ *(\d+): cs:(\w+)(?: ro:(\w+)/(\w+) ds:(\w+)/(\w+) \S? *(\S+))?", re.MULTILINE)
_OUT_OF_SYNC = re.compile(r"\boos:(\d+)")
_WRITTEN = re.compile(r"\bdw:(\d+)")
_PROGRESS = re.compile(r"sync'ed:\s*([0-9.]+)%")
_UUID = r"([0-9A-F]{16})"
_GENERATION = re.compile(rf"^{_UUID}:{_UUID}:{_UUID}:{_UUID}:((?:[01]:){{6}}[01])\s*$", re.MULTILINE)
# cs: values that mean a living connection; all but Connected are stages of a handshake, resync or verify.
_SYNCING = frozenset((
    "WFReportParams", "StartingSyncS", "StartingSyncT", "WFBitMapS", "WFBitMapT", "WFSyncUUID", "SyncSource",
    "SyncTarget", "PausedSyncS", "PausedSyncT", "VerifyS", "VerifyT", "Ahead", "Behind",
))


_COUNTERS = re.compile(r"\b(lo|pe|ua|ap|dw):(\d+)")


def activity(text: str, minor: int) -> Tuple[int, int]:
    """(requests that are under way, KiB written to the local disk so far) of a minor in /proc/drbd."""
    match = re.search(rf"^ *{minor}: cs:.*?(?=^ *\d+: cs:|\Z)", text, re.MULTILINE | re.DOTALL)
    counters = {key: int(value) for key, value in _COUNTERS.findall(match.group() if match else "")}
    return sum(counters.get(key, 0) for key in ("lo", "pe", "ua", "ap")), counters.get("dw", 0)


def _enclosed(address: str) -> str:
    return f"ipv6 [{address}]" if ":" in address else address


class Drbd84:
    """The dialect of 8.4. Options known to 9 only stop every drbdadm command here (84-options)."""

    name = "8.4"
    slots = 1
    most_replicas = 2
    clients = False
    status_argv: Optional[Tuple[str, ...]] = None
    can_suspend = False

    def render(self, spec: ResourceSpec) -> str:
        """Two members, one volume; policies never resolve a split brain (design rule 6)."""
        if len(spec.replicas) != 2 or spec.clients:
            raise BadInput(f"{spec.name}: DRBD 8.4 takes two members", hint="or use DRBD 9")
        members = "".join(
            f"  on {member.host} {{\n"
            f"    address {_enclosed(member.address)}:{spec.port};\n"
            f"    volume 0 {{ device minor {spec.minor}; disk {member.device}; meta-disk internal; }}\n"
            "  }\n"
            for member in spec.members
        )
        return (
            f"resource {spec.name} {{\n"
            "  options { on-no-data-accessible io-error; }\n"
            "  net {\n"
            "    protocol C;\n"
            "    cram-hmac-alg sha256;\n"
            f"    shared-secret \"{spec.secret}\";\n"
            "    after-sb-0pri disconnect;\n"
            "    after-sb-1pri disconnect;\n"
            "    after-sb-2pri disconnect;\n"
            "    rr-conflict disconnect;\n"
            "    verify-alg md5;\n"
            "  }\n"
            "  disk { rs-discard-granularity 65536; discard-zeroes-if-aligned yes; }\n"
            f"{members}"
            "}\n"
        )

    def parse_status(self, text: str, specs: Mapping[str, ResourceSpec], host: str) -> Dict[str, ResourceStatus]:
        """From /proc/drbd, which knows minors only: the resource files give the names."""
        names = {spec.minor: spec for spec in specs.values() if spec.replicated}
        matches = list(_DEVICE.finditer(text))
        found: Dict[str, ResourceStatus] = {}
        for number, match in enumerate(matches):
            spec = names.get(int(match.group(1)))
            if spec is None or match.group(2) == "Unconfigured":
                continue
            end = matches[number + 1].start() if number + 1 < len(matches) else len(text)
            found[spec.name] = self._status(spec, match, text[match.end():end], host)
        return found

    @staticmethod
    def _status(spec: ResourceSpec, match: re.Match[str], rest: str, host: str) -> ResourceStatus:
        _, state, role, peer_role, disk, peer_disk, flags = match.groups()
        syncing = state in _SYNCING
        out_of_sync = _OUT_OF_SYNC.search(rest)
        progress = _PROGRESS.search(rest)
        written = _WRITTEN.search(rest)
        peer = PeerStatus(
            host=spec.peers(host)[0].host,
            connection="Connected" if syncing or state == "Connected" else state,
            role=Role(peer_role or "Unknown"), disk=DiskState(peer_disk or "DUnknown"),
            replication=state if syncing else "Established" if state == "Connected" else "Off",
            out_of_sync=int(out_of_sync.group(1)) if out_of_sync else 0,
            percent=float(progress.group(1)) if progress else None,
        )
        return ResourceStatus(
            spec.name, spec.minor, Role(role or "Unknown"), DiskState(disk or "DUnknown"),
            (flags or "r").startswith("s"), (peer,), written=int(written.group(1)) if written else None,
        )

    def create_metadata(self, spec: ResourceSpec) -> Tuple[str, ...]:
        """Fresh metadata; --force answers its questions."""
        return ("drbdadm", "create-md", "--force", spec.name)

    def new_day0(self) -> Optional[str]:
        """set-gi here would mark everything out of sync (84-grow-c): new-current-uuid once it is up."""
        return None

    def stamp(self, spec: ResourceSpec, host: str) -> Tuple[str, ...]:
        """Never."""
        return ()

    def forget_peer(self, name: str, member: Member) -> Tuple[str, ...]:
        """There is one slot, for whoever is the peer."""
        return ()

    def read_generation(self, spec: ResourceSpec, host: str) -> Tuple[Tuple[str, ...], ...]:
        """drbdmeta on the volume itself: drbdadm would want the resource up."""
        return (("drbdmeta", str(spec.minor), "v08", spec.backing(host), "internal", "get-gi"),)

    def parse_generation(self, text: str) -> Generation:
        """`UUID:UUID:UUID:UUID:` and seven flags. Raises BadInput."""
        match = _GENERATION.search(text)
        if not match:
            raise BadInput(f"drbdmeta get-gi said {text[:80]!r}")
        flags = [flag == "1" for flag in match.group(5).split(":")]
        return Generation(f"{int(match.group(1), 16) & ~1:016X}", match.group(2), *flags)

    def resize(self, spec: ResourceSpec) -> Tuple[str, ...]:
        """drbdadm knows the option only as drbdsetup's, behind `--` (drbd-resize)."""
        return ("drbdadm", "--", "--assume-clean", "resize", spec.name)

    def two_primaries(self, spec: ResourceSpec, peer: str, allowed: bool) -> Tuple[str, ...]:
        """There is one peer only, so the resource's form is the per-peer form."""
        two = "yes" if allowed else "no"
        return ("drbdadm", "net-options", "--protocol=C", f"--allow-two-primaries={two}", spec.name)
