"""User operations on backups: of machines into a backup datastore, back into their disks, and as new images."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from xml.etree import ElementTree

from .attributes import Attributes, collapsed, text_of, upper
from .building import Refused
from .core import Operation, OperationFailed
from .lifecycle import wrong_state
from .machine import VirtualMachine
from .messages import VmmMessage
from .records import Datastore, Image
from .snapshots import SnapshotOperations
from .states import HistoryAction, ImageState, ImageType, LcmState, VmState
from .transfer import DriverFailure
from .vmm import Step

L = LcmState
_DRIVER = Path(__file__).with_name("rsync_driver.py")
_ACTIONS = ("rsync/backup", "rsync/backup_cancel", "rsync/ls", "rsync/rm", "downloader.sh")


class BackupOperations(SnapshotOperations):
    """Operations on backups."""

    def create_backup_datastore(self, name: str, directory: Path, template: Attributes | None = None) -> Datastore:
        """A BACKUP_DS of the double of the rsync driver, which is installed; its files go below `directory`."""
        remotes = self.location / "var/remotes/datastore"
        (remotes / "rsync").mkdir(parents=True, exist_ok=True)
        for action in _ACTIONS:
            shutil.copy(_DRIVER, remotes / action)
        datastore_id = self.new_id("datastore")
        path = directory / str(datastore_id)
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)
        given = {"DS_MAD": "rsync", "RESTRICTED_DIRS": "/", "SAFE_DIRS": "/var/tmp", "TM_MAD": "-", "TYPE": "BACKUP_DS",
                 **upper(template or {})}
        datastore = Datastore(datastore_id, name, "BACKUP_DS", text_of(given, "DS_MAD"), "-", str(path), given)
        self.datastores[datastore_id] = datastore
        return datastore

    def configure_backup(self, vm: VirtualMachine, **values: str) -> None:
        """`onevm updateconf` of BACKUP_CONFIG: MODE, KEEP_LAST, BACKUP_VOLATILE, FS_FREEZE, DISK_IDS."""
        vm.backup_config = {"BACKUP_VOLATILE": "NO", "FS_FREEZE": "NONE", "MODE": "FULL", "INCREMENTAL_BACKUP_ID": "-1",
                            "LAST_INCREMENT_ID": "-1", **values}

    def backup(
        self, vm: VirtualMachine, datastore: Datastore, reset: bool = False, background: bool = False
    ) -> Operation:
        """`onevm backup`: RUNNING or POWEROFF. The new or longer backup image is operation.image."""
        return self.operate(f"backup {vm.id}", lambda operation: self._backup(operation, vm, datastore, reset), vm,
                            background)

    def _backup(self, operation: Operation, vm: VirtualMachine, datastore: Datastore, reset: bool) -> None:
        if not (vm.is_running or vm.state is VmState.POWEROFF):
            raise wrong_state("one.vm.backup", "create a new backup for", vm)
        if not vm.backup_config:
            self.configure_backup(vm)
        config = vm.backup_config
        config["LAST_DATASTORE_ID"] = str(datastore.id)
        if reset:
            config["LAST_INCREMENT_ID"] = config["INCREMENTAL_BACKUP_ID"] = "-1"
        self.record_hot(vm, HistoryAction.BACKUP)
        live = vm.is_running
        with self.changing(vm, L.BACKUP if live else L.BACKUP_POWEROFF, False) as ticket:
            line = self.lines(vm).backup(self.backup_disks(vm))
            document = collapsed(vm.xml())
            suffix = "_live" if live else ""
            message = f"<DS_DRIVER_ACTION_DATA>{datastore.xml()}{document}</DS_DRIVER_ACTION_DATA>"
            after = Step("tm", f"postbackup{suffix}", (line,), stdin=document, encoding="plain")
            answer = self.vmm.run("BACKUP", self.context_of(vm, ticket, VmmMessage(vm.host, tm_command=f"{line}\n")), [
                Step("tm", f"prebackup{suffix}", (line,), stdin=document, encoding="plain", fail_actions=(after,)),
                Step("ds", "backup", (datastore.ds_mad, *line.split()[2:]), stdin=message, encoding="plain",
                     fail_actions=(after,)),
                after])
        operation.image = self._stored(vm, datastore, answer)

    def backup_disks(self, vm: VirtualMachine) -> list[str]:
        """DISK_IDs that oned would name."""
        volatile = text_of(vm.backup_config, "BACKUP_VOLATILE", "NO") == "YES"
        chosen = text_of(vm.backup_config, "DISK_IDS").split(",") if "DISK_IDS" in vm.backup_config else None
        found = []
        for disk in vm.disks:
            kind, number = text_of(disk, "TYPE").lower(), text_of(disk, "DISK_ID")
            if kind in ("swap", "cdrom") or (kind == "fs" and not volatile) or (chosen and number not in chosen):
                continue
            found.append(number)
        return found

    def _stored(self, vm: VirtualMachine, datastore: Datastore, answer: str) -> Image:
        """The backup image as oned keeps it after the driver said what it stored."""
        words = answer.split()
        if len(words) not in (2, 3):
            raise OperationFailed(f"BACKUP: Cannot parse backup information: {answer}")
        config, increments = vm.backup_config, text_of(vm.backup_config, "MODE") == "INCREMENT"
        known = int(text_of(config, "INCREMENTAL_BACKUP_ID", "-1"))
        if increments and known in self.images:
            image = self.images[known]
        else:
            image = Image(self.new_id("image"), f"{vm.id} backup {len(self.images)}", ImageType.BACKUP, datastore.id,
                          datastore.name, 0, True, source=words[0], format=words[2] if len(words) == 3 else "raw",
                          size=int(words[1]), state=ImageState.READY, vm_ids=[vm.id])
            self.images[image.id] = image
            vm.backup_ids.append(image.id)
        if increments:
            image.increments.append((len(image.increments), words[0]))
            config["INCREMENTAL_BACKUP_ID"] = str(image.id)
            config["LAST_INCREMENT_ID"] = str(image.increments[-1][0])
        else:
            self._forget_old(vm)
        return image

    def _forget_old(self, vm: VirtualMachine) -> None:
        keep = int(text_of(vm.backup_config, "KEEP_LAST", "0") or "0")
        while keep and len(vm.backup_ids) > keep:
            self.delete_backup(self.images[vm.backup_ids[0]])

    def cancel_backup(self, vm: VirtualMachine, datastore: Datastore) -> Operation:
        """`onevm backup-cancel`, while another thread waits for the backup."""
        def work(_: Operation) -> None:
            if vm.status not in ("BACKUP", "BACKUP_POWEROFF"):
                raise wrong_state("one.vm.backupcancel", "cancel the backup of", vm)
            place = f"{vm.host}:{self.vm_directory(vm.datastore_id, vm.id)}"
            step = Step("ds", "backup_cancel", (datastore.ds_mad, place, vm.deploy_id), stdin=collapsed(vm.xml()),
                        encoding="plain")
            try:
                self.vmm.run("BACKUPCANCEL", self.context_of(vm, vm.ticket, VmmMessage(vm.host)), [step])
            except DriverFailure as failure:
                raise OperationFailed(failure.info) from None
        return self.operate(f"cancel backup of {vm.id}", work, vm)

    def delete_backup(self, image: Image) -> Operation:
        """`oneimage delete` of a backup."""
        def work(operation: Operation) -> None:
            operation.image = image
            self.datastore_driver.image("rm", self.datastores[image.datastore_id], image)
            del self.images[image.id]
            for vm in self.vms.values():
                if image.id in vm.backup_ids:
                    vm.backup_ids.remove(image.id)
        return self.operate(f"delete backup {image.id}", work)

    # --- back ------------------------------------------------------------------------------------------------------

    def restore(self, vm: VirtualMachine, image: Image, increment: int = -1, disk: int = -1) -> Operation:
        """`onevm restore`: POWEROFF only. oned forgets all snapshots of disks that are no persistent images."""
        def work(_: Operation) -> None:
            if vm.state is not VmState.POWEROFF:
                raise wrong_state("one.vm.restore", "restore", vm)
            if image.type is not ImageType.BACKUP:
                raise Refused("[one.vm.restore] Image is not of type BACKUP")
            self.record_hot(vm, HistoryAction.RESTORE)
            with self.changing(vm, L.RESTORE, True) as ticket:
                self.transfer.run_file(vm, "restore", [self.lines(vm).restore(image.id, increment, disk)], ticket)
            for one in vm.disks:
                if text_of(one, "PERSISTENT") != "YES":
                    vm.snapshots.pop(int(text_of(one, "DISK_ID")), None)
            if vm.backup_config:
                vm.backup_config["LAST_INCREMENT_ID"] = vm.backup_config["INCREMENTAL_BACKUP_ID"] = "-1"
        return self.operate(f"restore {vm.id}", work, vm)

    def restore_image(self, image: Image, datastore: Datastore, increment: int = -1) -> list[Image]:
        """`oneimage restore`: each disk of a backup as a new image, whose size is what the VM's document says."""
        store = self.datastores[image.datastore_id]
        chain = [one for one in image.increments or [(0, image.source)] if increment in (-1,) or one[0] <= increment]
        name = (image.increments or [(0, image.source)])[-1][1]
        directory = Path(store.base_path) / str(image.vm_ids[0]) / name
        document = ElementTree.fromstring(base64.b64decode((directory / "vm.xml").read_text()))
        sizes = {one.findtext("DISK_ID"): int(one.findtext("SIZE") or 0) for one in document.iterfind("TEMPLATE/DISK")}
        url = f"rsync://{store.id}//{','.join(f'{number}:{source}' for number, source in chain)}"
        made = []
        for path in sorted(directory.glob("disk.*")):
            disk = path.name.split(".")[1]
            made.append(self.create_image(f"{image.vm_ids[0]}-{name}-disk-{disk}", f"{url}{path}", datastore,
                                          size_mb=sizes[disk], template={"FROM_BACKUP_DS": str(store.id)}))
            self.operations[-1].checked()
        return made

