"""Disks become what they were in a backup: filled beside the present volumes, seen to be equal, then exchanged.

Every member gets the same bytes over volumes that read as zeros, and all tell the same checksum of them: that is the
proof by which no resync is needed (design rule 1). Until the exchange the old data stay.
"""

from __future__ import annotations

import secrets
from typing import Dict, Iterable, List, NamedTuple, Sequence

from ..command import Runner
from ..errors import BadInput, Unsafe
from ..grammar import MIB, ResourceName
from ..tools.drbd import RESTORE
from . import snapshots
from .backup_stream import open_backup
from .importer import Progress, Spool, content, send_to_all
from .sessions import Sessions
from .survey import Located

# Reading terabytes back for their checksum takes hours.
_PATIENCE_S = 86400.0


class Wanted(NamedTuple):
    """A disk, and where its backup comes from."""

    name: ResourceName
    url: str


def restore(farm: Sessions, runner: Runner, remotes: str, host: str, wanted: Sequence[Wanted], place: Spool) -> None:
    """All these disks or none; committed when it returns, and what they were before is gone.

    All are filled before any is exchanged. Raises NotFound, Busy (in use), BadInput (larger than the disk), Unsafe,
    NoSpace, Unreachable (a member, or the backup).
    """
    found = [snapshots.find(farm, one.name, host) for one in wanted]
    for located in found:
        snapshots.require_revertible(located)
    proofs: List[str] = []
    for one, located in zip(wanted, found):
        farm.all("prepare_restore", located.holders, resource=one.name.text)
        proofs.append(_fill(farm, runner, remotes, one, located, place))
    for located, proof in zip(found, proofs):
        snapshots.exchange(farm, located, RESTORE, located.holders, proof)
    farm.commit()
    for located in found:
        # What increments were compared with is of no use any more: OpenNebula begins a new chain.
        farm.all("sweep_backup", located.holders, resource=located.name.text, keep=[])
        snapshots.settle(farm, located)


def _fill(farm: Sessions, runner: Runner, remotes: str, one: Wanted, located: Located, place: Spool) -> str:
    """Write the backup into the prepared volumes of all members; why they are equal."""
    size = located.spec.data_bytes
    if farm.dry_run:
        farm.log.info(f"would fetch {one.url} into {one.name}")
        return f"{RESTORE}:dry-run"
    stream = open_backup(runner, remotes, one.url)
    if stream.size is not None and stream.size > size:
        raise BadInput(
            f"the backup of {one.name} has {stream.size // MIB} MiB, the disk {size // MIB}",
            hint="resize the disk first, or restore the backup as an image",
        )
    progress = Progress(farm.log, f"restore of {one.name}", size)
    members = [farm.sessions[host] for host in located.holders]
    send_to_all(members, one.name.text, content(runner, stream, size, place, hashed=False), progress)
    answers = farm.all("restored_digest", located.holders, timeout=_PATIENCE_S, resource=one.name.text)
    if len({str(answer["sha256"]) for answer in answers.values()}) != 1:
        raise Unsafe(f"{one.name}: its members got different data", hint="look at their disks: dmesg; try again")
    progress.done()
    return f"{RESTORE}:{secrets.token_hex(8)}"


def forget_snapshots(farm: Sessions, names: Iterable[ResourceName], host: str) -> None:
    """Remove the users' snapshots of disks: OpenNebula forgets them all with a restore, and counts from 0 again."""
    for name in names:
        located = snapshots.find(farm, name, host)
        labels: Dict[str, snapshots.Known] = snapshots.known(farm, located)
        for label in labels:
            if label.isdigit():
                snapshots.remove_label(farm, located, label)
