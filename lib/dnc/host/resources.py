"""DRBD resources of this host, driven. What 8.4, 9 and REPLICAS=1 do differently is in the dialect."""

from __future__ import annotations

import os
from typing import Callable, Dict, List, Mapping, Optional, Sequence

from ..command import Runner
from ..errors import Busy, DncError, NotFound, TimedOut, ToolFailed, ToolMissing, Unsafe
from ..log import Log
from ..tools import drbd
from ..tools.drbd import Dialect
from ..tools.resource import ResourceSpec
from ..tools.single import Single
from ..tools.status import MISSING, DiskState, Generation, ResourceStatus, Role
from .files import read_text
from .journal import Journal
from .resource_files import ResourceFiles
from .waiting import Patience

RELEASE_TIMEOUT_S = 20.0
DEVICE_TIMEOUT_S = 15.0


class Resources:
    """Drives the resources. proc_drbd: /proc/drbd; devices: /dev; sys_block: /sys/class/block."""

    def __init__(
        self, host: str, dialect: Optional[Dialect], files: ResourceFiles, runner: Runner, patience: Patience,
        journal: Journal, log: Log, proc_drbd: str, devices: str, sys_block: str,
    ) -> None:
        self.files = files
        self._host = host
        self._dialect = dialect
        self._single: Dialect = Single()
        self._runner = runner
        self._patience = patience
        self._journal = journal
        self._log = log
        self._proc_drbd = proc_drbd
        self._devices = devices
        self._sys_block = sys_block

    def dialect(self, spec: ResourceSpec) -> Dialect:
        """What speaks for this resource. Raises ToolMissing when DRBD is needed and not loaded."""
        if not spec.replicated:
            return self._single
        if self._dialect is None:
            raise ToolMissing("DRBD is not loaded", host=self._host, hint="modprobe drbd, and have it loaded at boot")
        return self._dialect

    def _run(self, argv: Sequence[str], spec: ResourceSpec, *, timeout: float = 120.0) -> None:
        """A drbdadm command; nothing at all for a resource without DRBD."""
        if not spec.replicated:
            return
        self.dialect(spec)

        def once() -> Optional[ToolFailed]:
            try:
                self._runner.run(argv, privileged=True, timeout=timeout)
            except ToolFailed as error:
                if drbd.read_while_removed(error):
                    raise Busy(f"{spec.name}: resource files change all the time", command=error.command) from None
                return error
            return None

        failed = self._patience.insist(once, Busy, timeout=10.0, interval=0.05)
        if failed is not None:
            raise drbd.explain(failed, spec.name)

    # -- files ---------------------------------------------------------------------------------------------------

    def write(self, spec: ResourceSpec) -> None:
        """Write the resource file, whole. Raises Conflict, NotFound when this host is no member."""
        spec.member(self._host)
        self.files.write(spec, drbd.file_text(spec, self.dialect(spec)))

    def mark_ready(self, name: str, proof: Optional[str]) -> None:
        """All members are done: state ready, and why their data is known to be equal."""
        spec = self.files.get(name)
        self.write(spec._replace(state="ready", proof=proof or spec.proof))

    # -- looking -------------------------------------------------------------------------------------------------

    def statuses(self, specs: Mapping[str, ResourceSpec]) -> Dict[str, ResourceStatus]:
        """Status of those that are up. On 8.4 no process is started."""
        found = self._single.parse_status("", specs, self._host)
        replicated = {name: spec for name, spec in specs.items() if spec.replicated}
        if replicated and self._dialect is not None:
            found.update(self._dialect.parse_status(self._status_text(replicated), replicated, self._host))
        return found

    def _status_text(self, specs: Mapping[str, ResourceSpec]) -> str:
        argv = self._dialect.status_argv if self._dialect is not None else None
        if argv is None:
            return read_text(self._proc_drbd) or ""
        command, option = argv[:-1], argv[-1]
        only = tuple(specs) if len(specs) == 1 else ()
        # 10: this one resource is not up
        return self._runner.run((*command, *only, option), privileged=True, changes=False, ok=(0, 10)).stdout

    def status(self, name: str) -> Optional[ResourceStatus]:
        """Status of one resource, None when it is down or has no file."""
        spec = self.files.find(name)
        return self.statuses({name: spec}).get(name) if spec else None

    def _status(self, spec: ResourceSpec) -> Optional[ResourceStatus]:
        return self.statuses({spec.name: spec}).get(spec.name)

    def device(self, spec: ResourceSpec) -> str:
        """The device that a guest gets: never a bare minor."""
        if spec.replicated:
            return f"{self._devices}/drbd/by-res/{spec.name}/0"
        return spec.backing(self._host)

    def ensure_device(self, spec: ResourceSpec) -> str:
        """Wait for the link that udev makes. Raises TimedOut."""
        path = self.device(spec)
        if self._runner.dry_run:
            return path
        return self._patience.until(
            lambda: path if os.path.exists(path) else None, timeout=DEVICE_TIMEOUT_S,
            what=f"{path} did not appear", interval=0.02, hint="are DRBD's udev rules installed?",
        )

    # -- metadata ------------------------------------------------------------------------------------------------

    def _must_be_down(self, spec: ResourceSpec) -> None:
        if spec.replicated and not self._runner.dry_run and self._status(spec) is not None:
            raise Unsafe(f"{spec.name} is up: its metadata is not to be touched", hint=f"drbdadm down {spec.name}")

    def generation(self, name: str) -> Generation:
        """The generation identifiers of the local replica. Raises Unsafe while it is up."""
        spec = self.files.get(name)
        self._must_be_down(spec)
        dialect = self.dialect(spec)
        try:
            return dialect.parse_generation("".join(
                self._runner.run(argv, privileged=True, changes=False).stdout
                for argv in dialect.read_generation(spec, self._host)
            ))
        except ToolFailed as error:
            raise drbd.explain(error, name) from None

    def create_metadata(self, name: str) -> None:
        """Fresh metadata, for a resource that is being made. Raises Unsafe for any other.

        With the resource's day0 in it, which says: these contents are where all replicas began (design rule 1).
        """
        spec = self.files.get(name)
        if spec.state != "making":
            raise Unsafe(f"{name} holds data: its metadata is not to be made anew")
        self._must_be_down(spec)
        dialect = self.dialect(spec)
        self._run(dialect.create_metadata(spec), spec)
        stamp = dialect.stamp(spec, self._host)
        if stamp:
            self._run(stamp, spec)

    def declare_equal(self, name: str) -> None:
        """All members hold equal data, as proven by the caller (design rule 1): no resync will run."""
        spec = self.files.get(name)
        if not spec.replicated or self._runner.dry_run:
            self._run(drbd.new_current_uuid(name), spec)
            return
        status = self._await_connected(spec, 60.0)
        if status.ready:
            return
        states = {status.disk, *(peer.disk for peer in status.peers)}
        if states != {DiskState.INCONSISTENT}:
            raise Unsafe(f"{name} is not freshly made everywhere: {status.summary()}", hint="let DRBD resync it")
        self._run(drbd.new_current_uuid(name), spec)

    def invalidate(self, name: str) -> None:
        """This member's data are to be copied from its peers, all of them. Raises Unsafe for a resource at work."""
        spec = self.files.get(name)
        if spec.state != "making":
            raise Unsafe(f"{name} holds data: they are not thrown away")
        self._run(drbd.invalidate(name), spec)

    # -- up and down ---------------------------------------------------------------------------------------------

    def ensure_up(self, name: str) -> None:
        """Attached and connecting, from whatever half-way state. Raises Unsafe (no metadata), NotFound, Conflict."""
        spec = self.files.get(name)
        status = self._status(spec)
        if status is None:
            self._bring_up(spec)
        elif status.dropped or self._lost_disk(spec, status):
            self._run(drbd.adjust(name), spec)

    def _lost_disk(self, spec: ResourceSpec, status: ResourceStatus) -> bool:
        """Without the disk that it should have; a client has none."""
        bare = status.disk in (DiskState.DISKLESS, DiskState.FAILED)
        return bare and not spec.member(self._host).diskless

    def _bring_up(self, spec: ResourceSpec) -> None:
        try:
            self._run(drbd.up(spec.name), spec)
        except DncError:
            # A failed up leaves the resource half configured (NOTES-drbd9, h).
            self._run(drbd.down(spec.name), spec)
            raise

    def ensure_down(self, name: str, timeout: float = RELEASE_TIMEOUT_S) -> None:
        """Disconnected and detached; absent or down is success. Raises Busy while the device is held open."""
        spec = self.files.find(name)
        if spec is None or not spec.replicated or self._status(spec) is None:
            return
        try:
            self._patience.insist(lambda: self._run(drbd.down(name), spec), Busy, timeout=timeout)
        except Busy:
            self._run(drbd.adjust(name), spec)  # a refused down has dropped the peers already (h-errors2)
            raise

    def _await_connected(self, spec: ResourceSpec, timeout: float) -> ResourceStatus:
        def connected() -> Optional[ResourceStatus]:
            status = self._must_be_up(spec)
            replicas = [peer for peer in status.peers if not peer.client]
            idle = all(peer.connected and peer.disk is not DiskState.UNKNOWN for peer in replicas)
            return status if idle else None

        return self._patience.until(
            connected, timeout=timeout, what=f"{spec.name} did not connect to {self._missing(spec)}",
            interval=self._interval(spec), hint="check the replication network, and the peer",
        )

    def _missing(self, spec: ResourceSpec) -> str:
        return " ".join(member.host for member in spec.peers(self._host) if not member.diskless)

    def _interval(self, spec: ResourceSpec) -> float:
        return 0.03 if self.dialect(spec).status_argv is None else 0.2

    def _must_be_up(self, spec: ResourceSpec) -> ResourceStatus:
        """The status. Raises Unsafe when waiting can't help: down, no disk, connection given up."""
        status = self._status(spec)
        if status is None:
            raise NotFound(f"{spec.name} is down", hint=f"drbdadm up {spec.name}")
        if self._lost_disk(spec, status):
            raise Unsafe(f"{spec.name} has lost its volume here", hint=f"see dmesg, then drbdadm adjust {spec.name}")
        if status.standalone:
            raise Unsafe(
                f"{spec.name}: DRBD refuses its peer (split brain, other data or other secret)",
                hint="see dmesg on both hosts; a person has to choose the side that lives",
            )
        return status

    def await_ready(
        self, name: str, connect_timeout: float, sync_timeout: float, without: Sequence[str] = ()
    ) -> Optional[ResourceStatus]:
        """Wait until every replica is connected, UpToDate and nothing is out of sync. Raises TimedOut, Unsafe.

        without: hosts that are known to be away, and are not waited for.
        """
        spec = self.files.get(name)
        if self._runner.dry_run:
            return self._status(spec)
        began = told = self._patience.now()
        while True:
            status = self._must_be_up(spec)
            if status._replace(peers=tuple(peer for peer in status.peers if peer.host not in without)).ready:
                self._require_size(spec)
                return status
            syncing = any(peer.connected and peer.replication != "Established" for peer in status.peers)
            if syncing and self._patience.now() - told > 5:
                told = self._patience.now()
                self._tell(name, status)
            limit = sync_timeout if syncing else connect_timeout
            self._patience.turn(began + limit, self._interval(spec), _late(name, status, limit))

    def _require_size(self, spec: ResourceSpec) -> None:
        """Exit statuses say nothing about sizes (design rule 12): what the kernel has must hold the data."""
        size = self.kernel_bytes(spec)
        if size is not None and size < spec.data_bytes:
            raise Unsafe(
                f"{spec.name} has {size} bytes, not {spec.data_bytes}",
                hint="a member's volume is smaller than it should be: compare them",
            )

    def kernel_bytes(self, spec: ResourceSpec) -> Optional[int]:
        """Size of the DRBD device as the kernel has it; None while it is down, or without DRBD."""
        sectors = read_text(f"{self._sys_block}/drbd{spec.minor}/size") if spec.replicated else None
        return int(sectors) * 512 if sectors else None

    def resize(self, name: str) -> None:
        """Take over volumes that have grown on all members; sizes are the caller's to compare (design rule 12)."""
        spec = self.files.get(name)
        self._run(self.dialect(spec).resize(spec), spec)

    def _tell(self, name: str, status: ResourceStatus) -> None:
        for peer in status.peers:
            percent = "" if peer.percent is None else f" {peer.percent:.0f} %"
            self._log.info(f"{name}: resync with {peer.host}{percent}, {peer.out_of_sync} KiB left")

    # -- roles ---------------------------------------------------------------------------------------------------

    def promote(self, name: str) -> Optional[ResourceStatus]:
        """Primary, and seen to be (design rule 3). Raises Unsafe by rule 5: not UpToDate, or a peer is Primary."""
        spec = self.files.get(name)
        status = self._status(spec)
        if self._runner.dry_run:
            self._run(drbd.primary(name), spec)
            return status
        status = self._must_be_attached(spec, status)
        if status.role is not Role.PRIMARY:
            if any(not peer.connected and not peer.client for peer in status.peers):
                self._log.warn(f"{name}: promoted without its peer: {status.summary()}")
            self._run(drbd.primary(name), spec)
            status = self._status(spec)
            if status is None or status.role is not Role.PRIMARY:
                raise Unsafe(f"{name} did not become Primary", hint=f"drbdadm status {name}; dmesg")
        return status

    def _must_be_attached(self, spec: ResourceSpec, status: Optional[ResourceStatus]) -> ResourceStatus:
        if status is None:
            raise NotFound(f"{spec.name} is down", hint=f"drbdadm up {spec.name}")
        if not status.usable:
            raise Unsafe(f"{spec.name} is {status.disk.value} here", hint="connect its peer and wait for the resync")
        primaries = [peer.host for peer in status.peers if peer.role is Role.PRIMARY]
        if primaries and status.role is not Role.PRIMARY and self._journal.intent(spec.name) is None:
            raise Unsafe(f"{spec.name} is Primary on {primaries[0]}", hint="see where its VM runs: xl list")
        return status

    def demote(self, name: str, timeout: float = RELEASE_TIMEOUT_S) -> Optional[ResourceStatus]:
        """Secondary; down is success. Raises Busy while the device is held open."""
        spec = self.files.find(name)
        status = self._status(spec) if spec else None
        if spec is None or status is None or status.role is not Role.PRIMARY or not spec.replicated:
            return status
        self._patience.insist(lambda: self._run(drbd.secondary(name), spec), Busy, timeout=timeout)
        return self._status(spec)

    def allow_two_primaries(self, name: str, peer: str) -> None:
        """Let `peer` be Primary too, for a live migration. Raises Unsafe unless both are connected and UpToDate."""
        spec = self.files.get(name)
        argv = self.dialect(spec).two_primaries(spec, spec.member(peer).host, True)
        status = self._status(spec)
        if not self._runner.dry_run and (status is None or not status.in_step_with(peer)):
            raise Unsafe(
                f"{name} is not in sync: {status.summary() if status else 'down'}",
                hint="wait for the resync, then migrate again",
            )
        self._run(argv, spec)

    def forbid_two_primaries(self, name: str) -> None:
        """Back to one Primary, towards the peer of the migration; without a note of it towards all."""
        spec = self.files.get(name)
        intent = self._journal.intent(name) or {}
        ends = {intent.get("source"), intent.get("destination")}
        for peer in self._peers_with_option(spec):
            if ends.isdisjoint(spec.hosts()) or peer in ends:
                self._run(self.dialect(spec).two_primaries(spec, peer, False), spec)

    def _peers_with_option(self, spec: ResourceSpec) -> List[str]:
        status = self._status(spec)
        if status is None:
            return []  # a resource that is down forgets the option
        return [peer.host for peer in status.peers if peer.connection != MISSING and peer.host in spec.hosts()]

    # -- members -------------------------------------------------------------------------------------------------

    def change_members(self, spec: ResourceSpec) -> None:
        """Other members from now on (DRBD 9): the file, and what runs follows it; who left is forgotten.

        Whoever leaves is down already, whoever comes is not up yet (NOTES-drbd9, d). Raises NotFound, Unsafe.
        """
        before = self.files.get(spec.name)
        self.write(spec)
        if self._status(before) is None:
            return
        self._run(drbd.adjust(spec.name), spec)
        if spec.member(self._host).diskless:
            return
        for member in before.members:
            argv = self.dialect(spec).forget_peer(spec.name, member) if member.host not in spec.hosts() else ()
            if argv:
                self._run(argv, spec)


def _late(name: str, status: ResourceStatus, limit: float) -> Callable[[], DncError]:
    """Why a resource is not ready in time."""
    return lambda: TimedOut(
        f"{name} not in sync within {limit:.0f} s: {status.summary()}",
        hint="check the replication network and the peer; drbdadm status",
    )
