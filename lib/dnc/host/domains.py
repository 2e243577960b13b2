"""The domains of this host, through xl: every change waits until it can be seen, with a deadline that is named."""

from __future__ import annotations

from typing import Callable, List, Optional, Sequence, Tuple

from ..command import Runner
from ..errors import Conflict, DncError, NotFound, ToolFailed, Unsafe
from ..log import Log
from ..tools import cpu_features, xl
from ..tools.cpu_features import Hypervisor
from ..tools.xl import INCOMING, MIGRATED_AWAY, Backend, Domain, DomainDetails, DomainState
from .waiting import Patience

# Seconds. Building or ending a domain has no natural bound on an emulated host; these only end what hangs.
CREATE_TIMEOUT = 300.0
DESTROY_TIMEOUT = 120.0
REAP_AFTER = 60.0
TAKEN_TIMEOUT = 30.0
_INTERVAL = 0.3
_MOST_PAUSES = 16
_SETTLES = "onevm migrate --live again settles it"


def copy_timeout(memory_mib: int) -> float:
    """Seconds that a save, restore or migration may take: 5 minutes and 1 s for each 2 MiB of memory."""
    return CREATE_TIMEOUT + memory_mib / 2


class _NotHeard(ToolFailed):
    """A guest in its boot loader does not hear a request: it has to be made again."""


class Domains:
    """xl on one host. The runner decides which: this one, or another one through ssh."""

    def __init__(self, runner: Runner, log: Log, patience: Optional[Patience] = None) -> None:
        self._runner = runner
        self._log = log
        self._patience = patience or Patience()

    # Questions.

    def list(self) -> Tuple[Domain, ...]:
        """All domains, dom0 included. Raises ToolFailed."""
        return xl.parse_list(self._ask(xl.list_domains()))

    def find(self, name: str) -> Optional[Domain]:
        """The domain of exactly that name. Raises ToolFailed."""
        return next((domain for domain in self.list() if domain.name == name), None)

    def require_alive(self, name: str, *, paused: bool = False) -> Domain:
        """The domain, if its guest can act on what it is told; with `paused` also one that could, were it not paused.

        Raises NotFound (absent), Unsafe (half migrated, dying, crashed, paused).
        """
        listed = {domain.name: domain for domain in self.list()}
        domain = listed.get(name)
        if domain is None:
            half = next((one for one in (name + MIGRATED_AWAY, name + INCOMING) if one in listed), None)
            if half is not None:
                raise Unsafe(f"{name} is half migrated: {half} is here", hint=_SETTLES)
            raise NotFound(f"{name} does not run here", hint="look where it runs: xl list on each host")
        if not (domain.state.alive or (paused and domain.state is DomainState.PAUSED)):
            hint = "as root: xl unpause" if domain.state is DomainState.PAUSED else "power it off hard, then resume it"
            raise Unsafe(f"{name} is {domain.state.value}: it cannot be changed", hint=hint)
        return domain

    def require_absent(self, name: str) -> None:
        """That nothing is here of a domain that is not here. Raises Unsafe when it is half migrated."""
        half = next(iter(self.halves(name)), None)
        if half is not None:
            raise Unsafe(f"{name} is half migrated: {half.name} is here", hint=_SETTLES)

    def halves(self, name: str) -> Tuple[Domain, ...]:
        """What a migration has left of a domain here: what came, and what went. Raises ToolFailed."""
        return tuple(domain for domain in self.list() if domain.name in (name + INCOMING, name + MIGRATED_AWAY))

    def hypervisor(self) -> Hypervisor:
        """Xen's version, free memory and the CPU's features. Raises ToolFailed."""
        return cpu_features.parse_hypervisor(self._ask(xl.info()))

    def details(self, name: str) -> Optional[DomainDetails]:
        """Disks and interfaces of a domain as libxl keeps them. Raises ToolFailed."""
        entries = xl.parse_details(self._ask(xl.list_details()))
        return next((entry for entry in entries if entry.name == name), None)

    def user_of(self, paths: Sequence[str]) -> Optional[Tuple[str, str]]:
        """(domain, path) of a domain here that has one of these devices. Raises ToolFailed."""
        for entry in xl.parse_details(self._ask(xl.list_details())):
            for disk in entry.disks:
                if disk.path in paths:
                    return entry.name, disk.path
        return None

    def backends(self, name: str) -> Tuple[Backend, ...]:
        """State of each disk's backend. Raises ToolFailed."""
        return xl.parse_block_list(self._ask(xl.block_list(name)))

    def network_backends(self, name: str) -> Tuple[Backend, ...]:
        """State of each interface's backend. Raises ToolFailed."""
        return xl.parse_network_list(self._ask(xl.network_list(name)))

    # Checks.

    def await_capacity(self, name: str, vdev: str, size: int, timeout: float) -> None:
        """Wait until the guest has been told that a disk has `size` bytes; blkback looks ten times a second.

        Raises NotFound (no such domain), TimedOut, ToolFailed.
        """
        domain = self.require_alive(name, paused=True)
        if self._runner.dry_run:
            return
        argv = xl.disk_capacity(domain.id, xl.vdev_number(vdev))

        def told() -> Optional[bool]:
            text = self._ask(argv).strip()
            return True if text.isdigit() and int(text) * 512 >= size else None

        self._patience.until(
            told, timeout=timeout, what=f"{name}: the backend of {vdev} did not see {size} bytes", interval=_INTERVAL,
            hint="the guest sees the new size when it is started anew; dmesg tells what the backend does",
        )

    def verify_running(self, name: str, vdevs: Sequence[str]) -> None:
        """That the domain is there, not crashed, and has every disk of `vdevs` with a living backend.

        xl reports success for a guest whose disk could not be opened (lab/NOTES 3). Raises NotFound or Unsafe.
        """
        if self._runner.dry_run:
            return
        domain = self.find(name)
        if domain is None:
            raise NotFound(f"{name} is gone right after its start", hint=self._where_to_look(name))
        if domain.state in (DomainState.CRASHED, DomainState.DYING):
            raise Unsafe(f"{name} {domain.state.value} right after its start", hint=self._where_to_look(name))
        states = {backend.device: backend for backend in self.backends(name)}
        for vdev in vdevs:
            backend = states.get(xl.vdev_number(vdev))
            if backend is None or backend.dead:
                what = "is missing" if backend is None else f"has a dead backend (state {backend.state})"
                raise Unsafe(
                    f"{name}: disk {vdev} {what}", hint="dmesg tells why the backend could not open the device"
                )

    def await_disk_taken(self, name: str, vdev: str) -> None:
        """Wait until the guest's driver is connected to a disk. Raises Unsafe (its backend is dead), TimedOut."""
        number = xl.vdev_number(vdev)
        self._await_taken(name, f"disk {vdev}", lambda: [one for one in self.backends(name) if one.device == number])

    def await_nic_taken(self, name: str, devid: int) -> None:
        """Wait until the guest's driver is connected to an interface. Raises Unsafe, TimedOut."""
        self._await_taken(
            name, f"interface {devid}", lambda: [one for one in self.network_backends(name) if one.device == devid]
        )

    def _await_taken(self, name: str, what: str, look: Callable[[], List[Backend]]) -> None:
        if self._runner.dry_run:
            return

        def taken() -> Optional[bool]:
            backend = next(iter(look()), None)
            if backend is None or backend.dead:
                raise Unsafe(f"{name}: {what} has no living backend", hint="dmesg tells why it could not open it")
            return True if backend.connected else None

        self._patience.until(
            taken, timeout=TAKEN_TIMEOUT, what=f"{name}: the guest did not take {what}", interval=_INTERVAL,
            hint="has it PV drivers, and has it booted? its console tells",
        )

    @staticmethod
    def _where_to_look(name: str) -> str:
        return f"see /var/log/xen/xl-{name}.log and /var/log/xen/console/ there"

    # Changes.

    def create(self, name: str, config: str) -> None:
        """Start a domain. Raises Conflict if it exists, ToolFailed with xl's first complaint."""
        if self.find(name) is not None:
            raise Conflict(f"{name} exists already")
        self.change(xl.create(config), f"{name} cannot be started", CREATE_TIMEOUT)

    def shutdown(self, name: str, timeout: float) -> None:
        """Ask the guest to power off and wait until the domain is gone; absent is success.

        A guest in its boot loader is asked again until it hears. Raises TimedOut when it has heard and `timeout`
        seconds have passed, ToolFailed when it never heard: it runs on.
        """
        if self.find(name) is None:
            return
        self._patience.insist(lambda: self._request_shutdown(name), _NotHeard, timeout=timeout, interval=_INTERVAL)
        self.await_gone(
            name, timeout, f"{name} still runs: the guest did not shut down",
            hint="look at its console, or power it off hard",
        )

    def _request_shutdown(self, name: str) -> None:
        try:
            self.change(xl.shutdown(name), f"{name} cannot be shut down", DESTROY_TIMEOUT, absent_is_success=True)
        except ToolFailed as error:
            if xl.says_guest_did_not_hear(error.stderr):
                raise _NotHeard(error.what, command=error.command, hint="look at its console: does it boot?") from None
            raise

    def destroy(self, name: str) -> None:
        """End a domain at once and wait until it is gone; absent is success. Raises TimedOut, ToolFailed."""
        domain = self.find(name)
        if domain is None:
            return
        self._destroy(name)
        self.await_gone(
            name, DESTROY_TIMEOUT, f"{name} did not go away when destroyed", number=domain.id, reap=False,
            hint="a backend may still hold its memory: look at xl list and dmesg",
        )

    def _destroy(self, name: str) -> None:
        """xl complains when it meets another xl that cleans the same domain up: what counts is that it goes."""
        try:
            self.change(xl.destroy(name), f"{name} cannot be destroyed", DESTROY_TIMEOUT, absent_is_success=True)
        except ToolFailed:
            domain = self.find(name)
            if domain is not None and domain.state is not DomainState.DYING:
                raise

    def await_gone(
        self, name: str, timeout: float, what: str, *, hint: str, number: Optional[int] = None, reap: bool = True
    ) -> None:
        """Wait until no domain has the name (or the number: a dying one loses its name first).

        With `reap`, a domain that has shut down but stays, because its xl process is dead, is destroyed. Raises
        TimedOut: `what` within `timeout` seconds.
        """
        if self._runner.dry_run:
            return
        shut_since: Optional[float] = None

        def gone() -> Optional[bool]:
            nonlocal shut_since
            left = [domain for domain in self.list() if domain.name == name or domain.id == number]
            if not left:
                return True
            if not reap or left[0].state is not DomainState.SHUTDOWN:
                shut_since = None
                return None
            now = self._patience.now()
            shut_since = now if shut_since is None else shut_since
            if now - shut_since > REAP_AFTER:
                self._log.info(f"{name} has shut down and nothing cleans it up: destroying it")
                self._destroy(name)
                shut_since = None
            return None

        self._patience.until(gone, timeout=timeout, what=what, hint=hint, interval=_INTERVAL)

    def save(self, name: str, checkpoint: str, memory_mib: int) -> None:
        """Write a running domain to a file and end it: it may take a moment to go. A failure leaves it running.

        Raises ToolFailed, TimedOut.
        """
        self.change(xl.save(name, checkpoint), f"{name} cannot be saved", copy_timeout(memory_mib))

    def await_saved(self, name: str) -> None:
        """Wait until a domain that was saved is gone. Raises TimedOut."""
        self.await_gone(
            name, DESTROY_TIMEOUT, f"{name} is saved but did not go away", hint="destroy it: xl destroy", reap=False
        )

    def restore(self, name: str, config: str, checkpoint: str, memory_mib: int) -> None:
        """Continue a saved domain. Raises Conflict if it exists, ToolFailed."""
        if self.find(name) is not None:
            raise Conflict(f"{name} exists already")
        self.change(xl.restore(config, checkpoint), f"{name} cannot be restored", copy_timeout(memory_mib))

    def migrate(self, name: str, receiver: str, memory_mib: int) -> Optional[DncError]:
        """Run `xl migrate`; returns xl's complaint instead of raising it, since only a look at both hosts
        tells what happened (design rule 4)."""
        try:
            self.change(xl.migrate(name, receiver), f"{name} cannot be migrated", copy_timeout(memory_mib))
        except DncError as error:
            return error
        return None

    def reboot(self, name: str) -> None:
        """Ask the guest to reboot. Raises NotFound, Unsafe (it cannot hear), ToolFailed."""
        self.require_alive(name)
        self.change(xl.reboot(name), f"{name} cannot be rebooted", DESTROY_TIMEOUT)

    def unpause(self, name: str) -> None:
        """End one pause; the guest goes on when it was the last, since they add up. Raises ToolFailed."""
        self.change(xl.unpause(name), f"{name} cannot be unpaused", DESTROY_TIMEOUT)

    def wake(self, name: str) -> None:
        """End every pause of a domain, whoever made them: ours are made under locks, which the caller holds."""
        for _ in range(_MOST_PAUSES):
            domain = self.find(name)
            if domain is None or domain.state is not DomainState.PAUSED or self._runner.dry_run:
                return
            self.unpause(name)

    def rename(self, name: str, new: str) -> None:
        """Give a domain another name. Raises ToolFailed."""
        self.change(xl.rename(name, new), f"{name} cannot be renamed to {new}", DESTROY_TIMEOUT)

    def resume_suspended(self, name: str) -> None:
        """Continue a domain that a broken-off migration left suspended; older xl knows no `resume`."""
        try:
            self.change(xl.resume(name), f"{name} cannot be resumed", DESTROY_TIMEOUT)
        except ToolFailed as error:
            if not xl.says_unknown_command(error.stderr):
                raise
        domain = self.find(name)
        if domain is not None and domain.state is DomainState.PAUSED:
            self.unpause(name)

    def attach_disk(self, name: str, specification: str) -> None:
        """Plug a disk. Raises ToolFailed."""
        self.change(xl.block_attach(name, specification), f"{name}: the disk cannot be attached", CREATE_TIMEOUT)

    def detach_disk(self, name: str, vdev: str, timeout: float) -> None:
        """Unplug a disk and wait until the guest has let go of it; absent is success.

        By force only what the guest never took, or has closed itself: xl waits for a guest in vain there, and leaves
        the disk with the domain. Raises Unsafe (it cannot let go: paused, dying), TimedOut: the guest holds it.
        """
        number = xl.vdev_number(vdev)

        def state() -> Optional[int]:
            return next((one.state for one in self.backends(name) if one.device == number), None)

        before = state()
        if before is None:
            return
        force = before not in xl.IN_USE
        if not force:
            self.require_alive(name)
        try:
            self.change(xl.block_detach(name, vdev, force=force), f"{name}: {vdev} stays", DESTROY_TIMEOUT)
        except ToolFailed as error:
            self._log.info(f"{name}: {vdev}: {error}")  # the guest may let go later than xl waits
        self._await_unplugged(
            lambda: state() is None, timeout, f"{name}: the guest does not release {vdev}",
            "unmount it in the guest and detach it again; it goes when the guest closes it",
        )

    def attach_nic(self, name: str, specification: str) -> None:
        """Plug an interface. Raises ToolFailed."""
        self.change(
            xl.network_attach(name, specification), f"{name}: the interface cannot be attached", CREATE_TIMEOUT
        )

    def detach_nic(self, name: str, devid: int, timeout: float) -> None:
        """Unplug an interface and wait until its backend is gone; xl itself ends one that the guest does not release.

        Raises ToolFailed, TimedOut.
        """
        self.change(
            xl.network_detach(name, str(devid)), f"{name}: interface {devid} cannot be detached", DESTROY_TIMEOUT
        )
        self._await_unplugged(
            lambda: all(backend.device != devid for backend in self.network_backends(name)), timeout,
            f"{name}: the guest does not release interface {devid}", "unconfigure it in the guest",
        )

    def insert_medium(self, name: str, vdev: str, path: str) -> None:
        """Put a medium into an emulated CD-ROM drive. Raises ToolFailed."""
        self.change(xl.cd_insert(name, vdev, path), f"{name}: {vdev} takes no medium", DESTROY_TIMEOUT)

    def eject_medium(self, name: str, vdev: str) -> None:
        """Empty an emulated CD-ROM drive. Raises ToolFailed."""
        self.change(xl.cd_eject(name, vdev), f"{name}: {vdev} cannot be ejected", DESTROY_TIMEOUT)

    def _await_unplugged(self, unplugged: Callable[[], bool], timeout: float, what: str, hint: str) -> None:
        if not self._runner.dry_run:
            self._patience.until(
                lambda: unplugged() or None, timeout=timeout, what=what, interval=_INTERVAL, hint=hint
            )

    def _ask(self, argv: List[str]) -> str:
        return self._runner.run(argv, privileged=True, changes=False).stdout

    def change(
        self, argv: List[str], what: str, timeout: float = DESTROY_TIMEOUT, *, absent_is_success: bool = False
    ) -> None:
        """Run an xl command that changes something. Raises ToolFailed: `what`, and xl's first complaint."""
        try:
            self._runner.run(argv, privileged=True, timeout=timeout)
        except ToolFailed as error:
            if absent_is_success and xl.says_unknown_domain(error.stderr):
                return
            for line in error.stderr.splitlines():
                self._log.info(f"xl: {line}")
            better = ToolFailed(
                f"{what}: {xl.reason(error.stderr) or f'xl exit status {error.status}'}", command=error.command
            )
            better.status, better.stderr = error.status, error.stderr
            raise better from None

