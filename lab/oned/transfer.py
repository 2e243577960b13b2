"""one_tm: lines of a transfer file, and their execution (contract 1.1, 1.2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .attributes import Attributes, text_of
from .backend import Backend
from .calls import Call, CallLog, Completed
from .machine import Ticket, VirtualMachine
from .messages import context_files, failure_text


class DriverFailure(Exception):
    """A driver action failed; info is what it told oned, log the lines that only the VM's log shows."""

    def __init__(self, action: str, info: str, log: list[str]) -> None:
        super().__init__(f"{action}: {info}")
        self.action = action
        self.info = info
        self.log = log


class GivenUp(Exception):
    """The action was cancelled, or its result is no longer waited for; info is the stdout that came all the same."""

    def __init__(self, action: str, info: str = "") -> None:
        super().__init__(action)
        self.info = info


class Places(Protocol):
    """Names and paths that lines are made of."""

    frontend: str
    tm_mad: str

    def vm_directory(self, datastore_id: int, vm_id: int) -> str: ...

    def frontend_vm_directory(self, vm_id: int) -> Path: ...


def is_volatile(disk: Attributes) -> bool:
    """A disk that belongs to no image."""
    return text_of(disk, "TYPE").lower() in ("fs", "swap")


def is_saved(disk: Attributes) -> bool:
    """A disk whose contents are a persistent image's."""
    return text_of(disk, "SAVE") == "YES"


@dataclass(frozen=True)
class Lines:
    """Makes the lines of transfer files for one machine."""

    places: Places
    vm: VirtualMachine

    def _disk_path(self, host: str, datastore_id: int, disk: Attributes) -> str:
        return f"{host}:{self.places.vm_directory(datastore_id, self.vm.id)}/disk.{text_of(disk, 'DISK_ID')}"

    def _owner(self, disk: Attributes) -> str:
        """The datastore that a line names last: the image's, or the system datastore for volatile disks."""
        return str(self.vm.datastore_id) if is_volatile(disk) else text_of(disk, "DATASTORE_ID")

    def create(self, disk: Attributes) -> str:
        """CLONE, LN, MKIMAGE or MKSWAP."""
        vm, system = self.vm, self.vm.datastore_id
        target = self._disk_path(vm.host, system, disk)
        if is_volatile(disk):
            size = text_of(disk, "SIZE")
            if text_of(disk, "TYPE").lower() == "swap":
                return f"MKSWAP {self.places.tm_mad} {size} {target} {vm.id} {system}"
            return f"MKIMAGE {self.places.tm_mad} {size} {text_of(disk, 'FORMAT', 'raw')} {target} {vm.id} {system}"
        verb = "CLONE" if text_of(disk, "CLONE") == "YES" else "LN"
        source = text_of(disk, "SOURCE")
        if ":" not in source:
            source = f"{self.places.frontend}:{source}"
        return f"{self._verb(verb, disk)} {text_of(disk, 'TM_MAD')} {source} {target} {vm.id} {self._owner(disk)}"

    def remove(self, disk: Attributes, host: str | None = None, forced: bool = False) -> str:
        """MVDS for a disk to be saved, else DELETE; forced: DELETE whatever it is (observation 1)."""
        path = self._disk_path(host or self.vm.host, self.vm.datastore_id, disk)
        if is_saved(disk) and not forced:
            verb, middle = self._verb("MVDS", disk), f" {text_of(disk, 'SOURCE')}"
        else:
            verb, middle = ("DELETE" if forced else self._verb("DELETE", disk)), ""
        return f"{verb} {text_of(disk, 'TM_MAD')} {path}{middle} {self.vm.id} {self._owner(disk)}"

    @staticmethod
    def _verb(verb: str, disk: Attributes) -> str:
        """Hot-plugged disks carry TM_MAD_SYSTEM, which becomes a suffix (observation 8); volatile creation has none."""
        suffix = text_of(disk, "TM_MAD_SYSTEM")
        return f"{verb}.{suffix}" if suffix else verb

    def prolog(self) -> list[str]:
        """Everything that a first deployment needs."""
        return [self.create(disk) for disk in self.vm.disks]

    def epilog(self, host: str) -> list[str]:
        """Save and remove all disks, then the directory."""
        return [*(self.remove(disk, host) for disk in self.vm.disks), self._remove_directory(host)]

    def cleanup(self, host: str) -> list[str]:
        """DELETE for all disks, persistent ones too, then the directory."""
        return [*(self.remove(disk, host, forced=True) for disk in self.vm.disks), self._remove_directory(host)]

    def _remove_directory(self, host: str) -> str:
        vm = self.vm
        path = self.places.vm_directory(vm.datastore_id, vm.id)
        return f"DELETE {self.places.tm_mad} {host}:{path} {vm.id} {vm.datastore_id}"

    def move(self, source: tuple[str, int], target: tuple[str, int]) -> list[str]:
        """MV of every disk and of the directory between (host, system datastore) pairs."""
        vm = self.vm
        lines = []
        for disk in vm.disks:
            owner = str(target[1]) if is_volatile(disk) else text_of(disk, "DATASTORE_ID")
            verb, old, new = self._verb("MV", disk), self._disk_path(*source, disk), self._disk_path(*target, disk)
            lines.append(f"{verb} {text_of(disk, 'TM_MAD')} {old} {new} {vm.id} {owner}")
        old, new = (f"{host}:{self.places.vm_directory(datastore, vm.id)}" for host, datastore in (source, target))
        return [*lines, f"MV {self.places.tm_mad} {old} {new} {vm.id} {target[1]}"]

    def context(self) -> str:
        """CONTEXT, empty if the machine has no context."""
        vm = self.vm
        if vm.context_disk_id is None:
            return ""
        files = [str(self.places.frontend_vm_directory(vm.id) / "context.sh"), *context_files(vm)]
        path = f"{self.places.vm_directory(vm.datastore_id, vm.id)}/disk.{vm.context_disk_id}"
        return f"CONTEXT {self.places.tm_mad} {' '.join(files)} {vm.host}:{path} {vm.id} {vm.datastore_id}"

    def migrate(self, source: str, target: str) -> str:
        """MIGRATE, which names the destination's path."""
        vm = self.vm
        path = self.places.vm_directory(vm.datastore_id, vm.id)
        return f"MIGRATE {self.places.tm_mad} {source} {target} {path} {vm.id} {vm.datastore_id}"

    def snapshot(self, verb: str, disk: Attributes, snapshot_id: int) -> str:
        """SNAP_CREATE, SNAP_CREATE_LIVE, SNAP_DELETE or SNAP_REVERT."""
        path = self._disk_path(self.vm.host, self.vm.datastore_id, disk)
        return f"{verb} {text_of(disk, 'TM_MAD')} {path} {snapshot_id} {self.vm.id} {text_of(disk, 'DATASTORE_ID')}"

    def resize(self, disk: Attributes, size: int) -> str:
        """RESIZE to so many MiB."""
        path = self._disk_path(self.vm.host, self.vm.datastore_id, disk)
        return f"RESIZE {text_of(disk, 'TM_MAD')} {path} {size} {self.vm.id} {self._owner(disk)}"

    def backup(self, disks: list[str], job: str = "-") -> str:
        """BACKUP of disks by DISK_ID; PRE and POST, and _LIVE, are put around the verb."""
        vm = self.vm
        path = f"{vm.host}:{self.places.vm_directory(vm.datastore_id, vm.id)}"
        return f"BACKUP {self.places.tm_mad} {path} {':'.join(disks)} {vm.deploy_id} {job} {vm.id} {vm.datastore_id}"

    def restore(self, image: int, increment: int, disk: int) -> str:
        """RESTORE from a backup image; -1: the last increment, all disks."""
        path = f"{self.vm.host}:{self.places.vm_directory(self.vm.datastore_id, self.vm.id)}"
        return f"RESTORE {self.places.tm_mad} {path} {self.vm.id} {image} {increment} {disk}"

    def save_as(self, disk: Attributes, source: str, snapshot_id: int, host: str) -> str:
        """CPDS into the new image's volume."""
        path = self._disk_path(host, self.vm.datastore_id, disk)
        owner = text_of(disk, "DATASTORE_ID")
        return f"CPDS {text_of(disk, 'TM_MAD')} {path} {source} {snapshot_id} {self.vm.id} {owner}"


class TransferDriver:
    """Runs transfer files and single TM commands on the frontend."""

    def __init__(self, backend: Backend, log: CallLog, places: Places, version: str) -> None:
        self._backend = backend
        self._log = log
        self._places = places
        self._version = version

    def run_file(self, vm: VirtualMachine, phase: str, lines: list[str], ticket: Ticket) -> None:
        """Write transfer.<seq>.<phase> and run its lines; the first that fails ends it (DriverFailure)."""
        directory = self._places.frontend_vm_directory(vm.id)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"transfer.{vm.current.seq}.{phase}").write_text("".join(f"{line}\n" for line in lines))
        for line in lines:
            if ticket.cancelled:
                raise GivenUp(phase)
            done = self.run_line(line)
            if done.rc != 0:
                self._failed(done, ticket)
        if ticket.dropped:
            raise GivenUp(phase)

    def run_line(self, line: str, stdin: str = "", encoding: str = "none", action: str = "") -> Completed:
        """One command; the action's name may be given when it is not the line's own (MIGRATE runs premigrate)."""
        verb, mad, *argv = line.split()
        name = action or verb.lower()
        if not self._backend.has_script("tm", mad, name) and "." in name:
            name = name.split(".")[0]
        if not self._backend.has_script("tm", mad, name):
            return Completed(1, "", f"Transfer Manager '{mad}' has no action {name}")
        call = Call("tm", mad, name, "frontend", tuple(argv), encoding, stdin)
        return self._log.perform(call, lambda: self._backend.local(call))

    def _failed(self, done: Completed, ticket: Ticket) -> None:
        if ticket.dropped:
            raise GivenUp("transfer")
        info, log = failure_text(done.stderr, self._version)
        raise DriverFailure("TRANSFER", info, log)
