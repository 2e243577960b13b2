"""State of the stand-in: what exists, which driver runs it, and how a user operation is recorded."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict

from .backend import Backend
from .building import Refused, Store
from .calls import Call, CallLog
from .datastores import DatastoreDriver
from .machine import Ticket, VirtualMachine
from .messages import VmmMessage, action_error, context_script, transfer_error
from .records import Datastore, HostRecord, Image, Network
from .settings import Settings
from .states import HistoryAction, ImageState
from .transfer import DriverFailure, GivenUp, Lines, TransferDriver
from .vmm import Context, VmmDriver


@dataclass
class Operation:
    """A user operation: what was done, whether it succeeded, what the user reads, which calls it made."""

    label: str
    vm: VirtualMachine | None = None
    image: Image | None = None
    ok: bool = False
    refused: bool = False
    given_up: bool = False
    error: str = ""
    seconds: float = 0.0
    calls: list[Call] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def running(self) -> bool:
        """Whether its thread still waits for a driver."""
        return not self._done.is_set()

    def wait(self, timeout_s: float = 600.0) -> Operation:
        """Wait for the end; TimeoutError names the operation."""
        if not self._done.wait(timeout_s):
            raise TimeoutError(f"{self.label} still runs after {timeout_s:g} s")
        return self

    def checked(self) -> Operation:
        """Itself, if it succeeded; RuntimeError with the user's error text otherwise."""
        if not self.ok:
            raise RuntimeError(f"{self.label}: {self.error or 'failed without an error text'}")
        return self


class OperationFailed(Exception):
    """A driver failed and oned has noted it; ends the operation's thread of work."""


class Core:
    """Records and drivers; operations are added by the classes that build on this one."""

    def __init__(self, location: Path, settings: Settings, backend: Backend, log: CallLog) -> None:
        self.location = location
        self.settings = settings
        self.frontend = settings.frontend
        self.tm_mad = settings.tm_mad
        self.log = log
        self.backend = backend
        self.vms: Dict[int, VirtualMachine] = {}
        self.images: Dict[int, Image] = {}
        self.datastores: Dict[int, Datastore] = {}
        self.hosts: Dict[int, HostRecord] = {}
        self.networks: Dict[int, Network] = {}
        self.next_ids: Dict[str, int] = {"vm": 0, "image": 0, "datastore": 100, "host": 0, "network": 0, "stat": 0}
        self.operations: list[Operation] = []
        self.transfer = TransferDriver(backend, log, self, settings.version)
        self.vmm = VmmDriver(backend, log, self.transfer, settings.vmm_directory, settings.version)
        self.datastore_driver = DatastoreDriver(backend, log, settings.version)
        self._request = 1000

    # --- places ----------------------------------------------------------------------------------------------------

    def vm_directory(self, datastore_id: int, vm_id: int) -> str:
        """The machine's directory in a system datastore, as text for argv."""
        return f"{self.settings.datastore_location}/{datastore_id}/{vm_id}"

    def frontend_vm_directory(self, vm_id: int) -> Path:
        """The machine's directory on the frontend."""
        return self.settings.frontend_vm_directory(self.location, vm_id)

    # --- looking up ------------------------------------------------------------------------------------------------

    def new_id(self, kind: str) -> int:
        """The next id of that kind."""
        value = self.next_ids[kind]
        self.next_ids[kind] = value + 1
        return value

    def request_id(self) -> int:
        """A number for the request that a history record names."""
        self._request += 1
        return self._request

    def host(self, name: str) -> HostRecord:
        """The host of that name; Refused if there is none."""
        for host in self.hosts.values():
            if host.name == name:
                return host
        raise Refused(f"HOST named {name} not found.")

    def image_with_id(self, image_id: str) -> Image:
        """The image of that id; Refused if there is none."""
        if not image_id.isdigit() or int(image_id) not in self.images:
            raise Refused(f"Error getting image [{image_id}].")
        return self.images[int(image_id)]

    def image_named(self, name: str) -> Image:
        """The image of that name; Refused if there is none."""
        for image in self.images.values():
            if image.name == name:
                return image
        raise Refused(f"IMAGE named {name} not found.")

    def network_named(self, name: str) -> Network:
        """The network of that name; Refused if there is none."""
        for network in self.networks.values():
            if network.name == name:
                return network
        raise Refused(f"VNET named {name} not found.")

    @property
    def store(self) -> Store:
        """What building a machine needs to look up."""
        return Store(self.image_with_id, self.image_named, lambda ds_id: self.datastores[ds_id], self.network_named,
                     self.settings.inherit_datastore_attributes, self.settings.device_prefix,
                     self.settings.tm_mad_conf.get("DRIVER", ""))

    def system_datastore(self, name: str | None) -> Datastore:
        """The system datastore of that name, or the first one."""
        for datastore in self.datastores.values():
            if datastore.is_system and name in (None, datastore.name):
                return datastore
        raise Refused(f"DATASTORE named {name or '(any system datastore)'} not found.")

    # --- operations ------------------------------------------------------------------------------------------------

    def operate(self, label: str, work: Callable[[Operation], None], vm: VirtualMachine | None = None,
                background: bool = False) -> Operation:
        """Do the work of a user operation, in a thread of its own if it may be given up."""
        operation = Operation(label, vm)
        self.operations.append(operation)
        if background:
            threading.Thread(target=self._work, args=(operation, work), daemon=True).start()
            return operation
        self._work(operation, work)
        return operation

    def _work(self, operation: Operation, work: Callable[[Operation], None]) -> None:
        begun, thread = time.monotonic(), threading.get_ident()
        self.log.threads[thread] = operation.calls
        try:
            work(operation)
            operation.ok = True
        except Refused as refused:
            operation.refused, operation.error = True, str(refused)
        except GivenUp:
            operation.given_up, operation.error = True, "given up by the user"
        except OperationFailed as failed:
            operation.error = str(failed)
        finally:
            del self.log.threads[thread]
            operation.seconds = time.monotonic() - begun
            operation._done.set()

    # --- what drivers are told -------------------------------------------------------------------------------------

    def lines(self, vm: VirtualMachine) -> Lines:
        """The maker of transfer lines for a machine."""
        return Lines(self, vm)

    def context_of(self, vm: VirtualMachine, ticket: Ticket, parts: VmmMessage,
                   datastore_id: int | None = None) -> Context:
        """The shared part of a virtualisation action; a machine being moved away is still in the old datastore."""
        chosen = vm.datastore_id if datastore_id is None else datastore_id
        return Context(vm, self.datastores[chosen], parts, ticket)

    def write_context(self, vm: VirtualMachine) -> None:
        """context.sh, written anew for every start."""
        if vm.context_disk_id is not None:
            directory = self.frontend_vm_directory(vm.id)
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "context.sh").write_text(context_script(vm))

    def note_transfer_failure(self, vm: VirtualMachine, failure: DriverFailure) -> str:
        """Set the machine's ERROR after a failed transfer; returns what there is to say about it."""
        return self._note(vm, failure, transfer_error(failure.info))

    def note_action_failure(self, vm: VirtualMachine, failure: DriverFailure) -> str:
        """Set the machine's ERROR after a failed virtualisation action."""
        return self._note(vm, failure, action_error(failure.action, failure.info))

    @staticmethod
    def _note(vm: VirtualMachine, failure: DriverFailure, text: str) -> str:
        vm.log += failure.log
        vm.log.append(text or failure.action)
        if text:
            vm.set_error(text)
        return text or "; ".join(failure.log) or f"{failure.action} failed without a message"

    # --- images ----------------------------------------------------------------------------------------------------

    def acquire_images(self, vm: VirtualMachine, images: list[Image]) -> None:
        """A machine begins to use images."""
        for image in images:
            image.vm_ids.append(vm.id)
            image.running_vms += 1
            image.change_state(ImageState.USED_PERS if image.persistent else ImageState.USED)

    def release_images(self, vm: VirtualMachine, images: list[Image], in_error: bool = False) -> None:
        """A machine no longer uses images; after a forced clean-up a persistent one is left in ERROR."""
        for image in images:
            if vm.id in image.vm_ids:
                image.vm_ids.remove(vm.id)
                image.running_vms -= 1
            if image.persistent and in_error:
                image.change_state(ImageState.ERROR)
            elif image.running_vms == 0 and image.state is not ImageState.ERROR:
                image.change_state(ImageState.READY)

    def images_of(self, vm: VirtualMachine) -> list[Image]:
        """The images that a machine's disks use, those that still exist."""
        ids = [int(str(disk["IMAGE_ID"])) for disk in vm.disks if "IMAGE_ID" in disk]
        return [self.images[one] for one in ids if one in self.images]

    def begin(self, vm: VirtualMachine, action: HistoryAction) -> None:
        """Note in the newest record what the user asked for."""
        vm.current.begin_action(action, self.request_id())
