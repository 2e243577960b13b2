"""The disks of one VM on this host: every disk passes a stage before any goes to the next (design rule 8)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator, List, Optional

from ..errors import DncError, GivenUp, NotFound, Unsafe
from ..host.machine import Host
from ..opennebula.vm import VmDocument
from ..tools.drbd import DiskState, ResourceSpec, ResourceStatus, Role

# How long a peer that is coming back gets to connect before it is asked whether it is alive, seconds.
CONNECT_GRACE = 10.0
_PROBE_TIMEOUT = 3.0
_SSH_PORT = 22


class VmDisks:
    """The managed disks of a VM, or one of them. `started` is this host's clock when the action began."""

    def __init__(self, host: Host, vm: VmDocument, started: float, only: Optional[int] = None) -> None:
        self._host = host
        self._started = started
        disks = [disk for disk in vm.managed_disks if only in (None, disk.id)]
        self.names = tuple(disk.resource(vm.id).text for disk in disks)

    @contextmanager
    def locked(self, holder: str) -> Iterator[None]:
        """Hold the lock of every disk. Raises Busy after LOCK_TIMEOUT."""
        self._host.locks.acquire(self.names, self._host.config.lock_timeout, holder)
        try:
            yield
        finally:
            self._host.locks.release()

    def device_of(self, name: str) -> str:
        """The block device of a resource on this host. Raises NotFound."""
        return self._host.resources.device(self._spec(name))

    def refuse_given_up(self) -> None:
        """Stop when OpenNebula gave a disk up after this action began (observation 2). Raises GivenUp.

        Marks carry this host's time too; a VMM action does not know the frontend's.
        """
        for name in self.names:
            mark = self._host.journal.given_up(name)
            if mark and float(mark["host"]) > self._started:
                raise GivenUp(f"{name} was given up while this action ran", hint="nothing to do: its delete cleans up")

    def ensure_startable(self) -> None:
        """Rule 5: every disk up, UpToDate here, Primary nowhere else, and its peer connected or dead. Raises Unsafe."""
        specs = [self._ready_spec(name) for name in self.names]
        for spec in specs:
            self._host.resources.ensure_up(spec.name)
        for spec in specs:
            if not self._host.runner.dry_run:
                self._check_startable(spec, self._connected(spec))
        for spec in specs:
            self._host.resources.ensure_device(spec)

    def promote(self) -> None:
        """Make every disk Primary here. Raises Unsafe."""
        for name in self.names:
            self._host.resources.promote(name)

    def check_primary(self) -> None:
        """Rule 3, after the start: still Primary and UpToDate. Raises Unsafe."""
        if self._host.runner.dry_run:
            return
        for name in self.names:
            status = self._host.resources.status(name)
            if status is None or status.role is not Role.PRIMARY or not status.usable:
                shown = status.summary() if status else "down"
                raise Unsafe(f"{name} is not usable after the start: {shown}", hint="see dmesg")

    def demote(self) -> List[str]:
        """Make every disk Secondary; each as far as it goes. Returns what did not work, also logged."""
        failures = []
        for name in self.names:
            try:
                self._host.resources.demote(name)
            except DncError as error:
                self._host.log.warn(f"{name} stays Primary: {error}")
                failures.append(name)
        return failures

    def check_two_primaries(self, destination: str) -> None:
        """Before a live migration: every disk Primary and UpToDate here and at the destination. Raises Unsafe.

        premigrate did it; with a Secondary there xl would report success for a guest with a dead disk.
        """
        for name in self.names:
            spec = self._ready_spec(name)
            if not spec.replicated:
                raise Unsafe(f"{name} has one replica: it cannot migrate live", hint="migrate it cold, or REPLICAS=2")
            self._check_pair(name, destination, self._host.resources.status(name))

    @staticmethod
    def _check_pair(name: str, destination: str, status: Optional[ResourceStatus]) -> None:
        if status is None or status.role is not Role.PRIMARY or not status.served:
            raise Unsafe(f"{name} is not Primary and UpToDate here: {status.summary() if status else 'down'}")
        for peer in status.peers:
            if peer.host == destination or len(status.peers) == 1:
                fit = peer.client or peer.disk is DiskState.UP_TO_DATE
                if peer.connected and peer.role is Role.PRIMARY and fit:
                    return
                raise Unsafe(
                    f"{name} is {peer.role.value} {peer.disk.value} {peer.connection} on {peer.host}, not ready for "
                    "the guest", hint="premigrate prepares it: migrate again",
                )
        raise Unsafe(f"{name} has no replica on {destination}", hint="migrate to a member host")

    def _spec(self, name: str) -> ResourceSpec:
        spec = self._host.resource_files.find(name)
        if spec is None:
            raise NotFound(f"{name} has no replica on this host", hint="deploy the VM on a host that holds its disks")
        return spec

    def _ready_spec(self, name: str) -> ResourceSpec:
        spec = self._spec(name)
        if spec.reverting:
            raise Unsafe(f"{name} is half reverted", hint=spec.revert_hint)
        if spec.moving:
            raise Unsafe(f"{name} is half moved", hint="migrate the VM cold once more: that finishes it")
        if spec.state != "ready":
            raise Unsafe(f"{name} is half made", hint="onevm recover --retry makes it again")
        return spec

    def _connected(self, spec: ResourceSpec) -> ResourceStatus:
        """The status once every peer is connected, or after a short grace as it is."""
        def settled() -> Optional[ResourceStatus]:
            status = self._host.resources.status(spec.name)
            if status is None:
                raise NotFound(f"{spec.name} is down", hint=f"drbdadm up {spec.name}")
            done = status.standalone or all(peer.connected or peer.client for peer in status.peers)
            return status if done or self._host.patience.now() > deadline else None

        deadline = self._host.patience.now() + CONNECT_GRACE
        return self._host.patience.until(
            settled, timeout=CONNECT_GRACE + 60, what=f"{spec.name} did not show its state", interval=0.1
        )

    def _check_startable(self, spec: ResourceSpec, status: ResourceStatus) -> None:
        if status.standalone:
            raise Unsafe(
                f"{spec.name}: DRBD refuses its peer (split brain?)", hint="a person has to choose the side that lives"
            )
        if not status.usable:
            raise Unsafe(f"{spec.name} is {status.disk.value} here", hint="wait for its resync, or start on its peer")
        for peer in status.peers:
            if peer.role is Role.PRIMARY:
                raise Unsafe(f"{spec.name} is Primary on {peer.host}", hint=f"see `xl list` on {peer.host}")
            if not peer.connected and peer.client:
                # What it wrote while it was apart it could write to nobody.
                self._host.log.warn(f"{spec.name}: {peer.host}, a client, is not connected")
            elif not peer.connected:
                self._require_dead(spec, peer.host)

    def _require_dead(self, spec: ResourceSpec, host: str) -> None:
        """A peer that answers but is not connected may run the VM: only a silent one may be passed over."""
        import socket  # only where a peer is silent

        address = spec.member(host).address
        try:
            socket.create_connection((address, _SSH_PORT), _PROBE_TIMEOUT).close()
        except ConnectionRefusedError:
            pass
        except OSError:
            self._host.log.warn(f"{spec.name}: {host} is not connected and does not answer: starting without it")
            return
        raise Unsafe(
            f"{spec.name}: {host} answers but is not connected", hint=f"drbdadm adjust {spec.name} there, then retry"
        )
