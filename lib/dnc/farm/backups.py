"""A VM's backup: its disks as they are at one moment, as qcow2 files on one host, where OpenNebula's driver takes them.

One replica of each disk is read, that of the VM's host if it is UpToDate; so a full backup works while members are
missing. Increments compare with the snapshot that the last one left on all members, and need all of them.
"""

from __future__ import annotations

import secrets
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import DncError, NotFound, Unsafe
from ..grammar import ResourceName
from ..tools.drbd import DiskState
from . import making, snapshots
from .importer import Progress
from .session import Answer
from .sessions import Sessions
from .survey import Located, locate, look_again, refuse_growing, refuse_half_made

FULL = "backup"


class Place(NamedTuple):
    """Where the files are to lie: <base>/<vm>/backup on `host`."""

    host: str
    base: str
    vm: int

    @property
    def path(self) -> str:
        """HOST:PATH, for messages."""
        return f"{self.host}:{self.base}/{self.vm}/backup"

    @property
    def where(self) -> Answer:
        """As operations take it."""
        return {"vm": self.vm, "base": self.base}


class Chain(NamedTuple):
    """INCREMENT mode. last: number of the increment before this one, -1 when a chain begins."""

    last: int

    @property
    def number(self) -> int:
        """This increment's."""
        return self.last + 1


class Part(NamedTuple):
    """One disk of a backup. before: the snapshot that it is compared with, and the disk's bytes then."""

    disk: int
    located: Located
    reader: str
    before: Optional[Tuple[str, int]]

    @property
    def name(self) -> str:
        """Of the disk's resource."""
        return self.located.name.text


class Backup:
    """One backup of a VM that runs or is powered off. pause: the domain stands still while snapshots are taken."""

    def __init__(
        self, farm: Sessions, place: Place, domain: str, *, chain: Optional[Chain] = None, pause: bool = False
    ) -> None:
        self._farm = farm
        self._place = place
        self._domain = domain
        self._chain = chain
        self._pause = pause
        self._label = FULL if chain is None else f"{FULL}-{chain.number}"

    def make(self, disks: Dict[int, ResourceName], document: bytes) -> None:
        """Files of all these disks, by DISK_ID; the caller commits. `document`: what vm.xml is to hold.

        Raises NotFound, Unsafe (no replica to rely on, an increment's predecessor is gone), Busy, NoSpace, Unreachable.
        """
        farm, place = self._farm, self._place
        farm.open([place.host])
        found = {number: self._find(name) for number, name in disks.items()}
        self._lock(list(found.values()))
        parts = [self._part(number, look_again(farm, located)) for number, located in found.items()]
        session = farm.sessions[place.host]
        session.receive(session.send("begin_backup", {**place.where, "length": len(document)}, document))
        self._take(parts)
        if farm.dry_run:
            farm.log.info(f"would copy {len(parts)} disks to {place.path}")
            return
        for part in parts:
            self._copy(part)

    # -- what is read, and where -----------------------------------------------------------------------------------

    def _find(self, name: ResourceName) -> Located:
        farm = self._farm
        located = locate(farm, name, self._place.host)
        if located is None:
            raise next(iter(farm.unreachable.values()), NotFound(f"{name} is on no host"))
        for host in located.missing:
            if self._chain is not None:
                raise farm.unreachable[host]
            farm.log.warn(f"{name}: backed up without {host}: {farm.unreachable[host].line()}")
        return located

    def _lock(self, found: Sequence[Located]) -> None:
        """All disks on all their members: who else wants several of them can't have one that waits for ours."""
        self._farm.lock({host for one in found for host in one.hosts}, [one.name.text for one in found])

    def _part(self, number: int, located: Located) -> Part:
        refuse_half_made(located)
        refuse_growing(located)
        snapshots.refuse_moving(located)
        keep = [] if self._chain is None or self._chain.last < 0 else [f"{FULL}-{self._chain.last}"]
        answers = self._farm.all(
            "sweep_backup", located.holders, resource=located.name.text, keep=keep, room=True)
        before = self._before(located, keep[0], answers) if keep else None
        return Part(number, located, self._reader(located), before)

    def _before(self, located: Located, label: str, answers: Dict[str, Answer]) -> Tuple[str, int]:
        """The last increment's snapshot, which all members must have alike."""
        proofs = {str(answers[host]["kept"].get(label) or "") for host in located.holders}
        proof = proofs.pop() if len(proofs) == 1 else ""
        kind, _, rest = proof.partition(":")
        size = rest.partition(":")[0]
        if kind != FULL or not size.isdigit():
            raise NotFound(
                f"{located.name} has no snapshot of the last increment", hint="begin anew: onevm backup --reset"
            )
        return label, int(size)

    def _reader(self, located: Located) -> str:
        """Whose replica is read: of those with the newest data the VM's host, if it is one. Raises Unsafe."""
        ordered = sorted(located.holders, key=lambda host: host != self._place.host)
        if not located.spec.replicated:
            return ordered[0]
        up = [host for host in ordered if located.found[host].status is not None]
        for host in up:
            status = located.found[host].status
            if status is not None and status.disk is DiskState.UP_TO_DATE:
                return host
        if not up and not located.missing and making.proof_of_rest(self._farm, located) is not None:
            return ordered[0]
        raise Unsafe(
            f"{located.name} has no replica known to be newest", hint="bring it up on all members: drbdadm up"
        )

    # -- the moment ------------------------------------------------------------------------------------------------

    def _take(self, parts: Sequence[Part]) -> None:
        """Snapshots of all disks at one moment. One disk whose one replica is read needs no guest to wait."""
        farm, lasting = self._farm, self._chain is not None
        requests = [
            (host, {"resource": part.name, "snapshot": self._label})
            for part in parts for host in (part.located.holders if lasting else (part.reader,))
        ]
        place = self._runs_on(parts)
        if place is not None and (len(parts) > 1 or self._pause or lasting):
            self._take_frozen(place, parts, requests)
        else:
            if lasting:
                self._require_equal(parts)
            self._at_once("create_snapshot", requests)
            if lasting and place is None:
                self._require_equal([part._replace(located=look_again(farm, part.located)) for part in parts])
        if lasting:
            token = secrets.token_hex(8)
            for part in parts:
                proof = f"{FULL}:{part.located.spec.data_bytes}:{token}"
                farm.all("prove_snapshot", part.located.holders, resource=part.name, snapshot=self._label, proof=proof)

    def _runs_on(self, parts: Sequence[Part]) -> Optional[str]:
        """The host where the guest writes, None where nobody does. Raises Unsafe when it is not one."""
        farm = self._farm
        found = {snapshots.primary(farm, part.located) for part in parts if part.located.spec.replicated}
        for part in parts:
            if not part.located.spec.replicated:
                holder = part.located.holders[0]
                runs = farm.call(holder, "find_domain", name=self._domain).get("state") is not None
                found.add(holder if runs else None)
        if len(found) > 1:
            shown = " ".join(sorted(str(host) for host in found if host))
            raise Unsafe(f"not all disks of {self._domain} are in use on {shown}", hint="is it starting or moving?")
        return found.pop() if found else None

    def _require_equal(self, parts: Sequence[Part]) -> None:
        for part in parts:
            located = part.located
            if not located.spec.replicated:
                continue
            if any(found.up for found in located.found.values()):
                snapshots.require_idle(located)
            elif making.proof_of_rest(self._farm, located) is None:
                raise Unsafe(f"{part.name}: its replicas are not proven equal", hint="let it resync, try again")

    def _take_frozen(self, place: str, parts: Sequence[Part], requests: List[Tuple[str, Answer]]) -> None:
        """Freeze, take all, thaw. The guest's host takes its own without another word from here."""
        farm = self._farm
        session = farm.sessions[place]
        names = [part.name for part in parts]
        frozen = session.send("freeze", {
            "resources": names, "domain": self._domain, "pause": self._pause, "degraded": self._chain is None,
        })
        own = [session.send("create_snapshot", args) for host, args in requests if host == place]
        try:
            session.receive(frozen)
            self._at_once("create_snapshot", [(host, args) for host, args in requests if host != place])
            for number in own:
                session.receive(number)
        except DncError:
            farm.try_each("thaw", {place: {}})
            raise
        thawed = farm.call(place, "thaw")
        farm.log.info(f"{self._domain}: the guest was frozen for {float(thawed['seconds']) * 1000:.0f} ms")
        if not thawed["intact"]:
            raise Unsafe(f"{self._domain}: the barrier broke during the backup", hint="nothing is kept; try again")

    def _at_once(self, op: str, requests: Sequence[Tuple[str, Answer]]) -> None:
        """Requests to several hosts, several each, without waiting in between. Raises the first failure."""
        sent = [(self._farm.sessions[host], self._farm.sessions[host].send(op, args)) for host, args in requests]
        failed: List[DncError] = []
        for session, number in sent:
            try:
                session.receive(number)
            except DncError as error:
                failed.append(error)
        if failed:
            raise failed[0]

    # -- the copying -----------------------------------------------------------------------------------------------

    def _copy(self, part: Part) -> None:
        farm, place, reader = self._farm, self._place, part.reader
        request: Answer = {"resource": part.name, "snapshot": self._label}
        if part.before is not None:
            request["before"], request["before_bytes"] = part.before
        size = int(farm.call(reader, "open_backup", **request)["bytes"])
        number = self._chain.number if self._chain is not None else 0
        path = str(farm.call(
            place.host, "begin_backup_file", **place.where, disk=part.disk, increment=number, bytes=size)["path"])
        progress = Progress(farm.log, f"backup of {part.name}", size)
        if reader == place.host:
            self._copy_there(part, path, progress)
        else:
            farm.log.info(f"{part.name} is read on {reader}: {place.host} has no replica to rely on")
            self._copy_across(part, path, progress)
        progress.done()
        farm.call(
            reader, "close_backup", resource=part.name, remove=None if self._chain is not None else self._label)

    def _copy_there(self, part: Part, path: str, progress: Progress) -> None:
        """From the snapshot to the file, both on one host."""
        before, done = 0, False
        while not done:
            answer = self._farm.call(self._place.host, "copy_backup", resource=part.name, path=path)
            done, data = bool(answer["done"]), int(answer["data"])
            progress.at(int(answer["offset"]), data - before)
            before = data

    def _copy_across(self, part: Part, path: str, progress: Progress) -> None:
        """From one host's snapshot to the file of another, through here."""
        source, target = self._farm.sessions[part.reader], self._farm.sessions[self._place.host]
        waiting: Optional[int] = None
        while True:
            answer = source.call("read_backup", resource=part.name)
            length = int(answer["length"])
            data = b"" if answer["zeros"] else source.take_raw(length)
            if waiting is not None:
                target.receive(waiting)
                waiting = None
            if answer["done"]:
                break
            progress.at(int(answer["offset"]) + length, len(data))
            where = {"path": path, "offset": answer["offset"], "length": length}
            if length:
                waiting = target.send("zero_backup" if answer["zeros"] else "write_backup", where, data)
        target.call("end_backup_file", path=path)


def tidy(farm: Sessions, place: Place, disks: Dict[int, ResourceName], keep: Sequence[str]) -> None:
    """Remove a VM's backup files, and what its backup left on the members that answer. Raises the host's error."""
    farm.open([place.host])
    farm.call(place.host, "remove_backup", **place.where)
    for name in disks.values():
        located = locate(farm, name, place.host)
        if located is None:
            continue
        farm.lock(located.hosts, [name.text])
        request = {"resource": name.text, "keep": list(keep)}
        _answers, errors = farm.try_each("sweep_backup", dict.fromkeys(located.holders, request))
        for error in errors.values():
            farm.log.warn(error.line())
