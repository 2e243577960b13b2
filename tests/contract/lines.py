"""Single lines of transfer files, for the disks of a held VM: TM actions without a user operation around them."""

from __future__ import annotations

import re
from typing import Any

from simulated import SimStage

from oned import VirtualMachine
from sim.farm import Done

_LOG_LINE = re.compile(r"(ERROR|INFO|WARN|DEBUG):")


class HeldVm:
    """A VM in HOLD whose disks a test makes and removes one action at a time, on node1."""

    def __init__(self, stage: SimStage, *disks: Any, host: str = "node1") -> None:
        self.stage = stage
        cloud = stage.cloud
        self._template = stage.template(*disks, CONTEXT=None, NIC=None)
        self.vm: VirtualMachine = cloud.instantiate(self._template, hold=True)
        self.system = next(one.id for one in cloud.datastores.values() if one.is_system)
        self.directory = cloud.vm_directory(self.system, self.vm.id)
        self.host = host

    def renew(self) -> None:
        """Another VM of the same template in place of this one."""
        self.forget()
        self.vm = self.stage.cloud.instantiate(self._template, hold=True)
        self.directory = self.stage.cloud.vm_directory(self.system, self.vm.id)

    def place(self, number: int, host: str = "") -> str:
        """HOST:PATH of a disk."""
        return f"{host or self.host}:{self.directory}/disk.{number}"

    def _disk(self, number: int) -> tuple[dict[str, str], str]:
        disk = self.vm.disks[number]
        return disk, str(disk.get("DATASTORE_ID", self.system))

    def make(self, number: int = 0) -> Done:
        """CLONE, LN or MKIMAGE, as the disk is."""
        disk, owner = self._disk(number)
        if "IMAGE_ID" not in disk:
            return self.stage.line(f"MKIMAGE dnc {disk['SIZE']} raw {self.place(number)} {self.vm.id} {self.system}")
        verb = "CLONE" if disk["CLONE"] == "YES" else "LN"
        return self.stage.line(f"{verb} dnc frontend:{disk['SOURCE']} {self.place(number)} {self.vm.id} {owner}")

    def delete(self, number: int = 0) -> Done:
        """DELETE of a disk."""
        _disk, owner = self._disk(number)
        return self.stage.line(f"DELETE dnc {self.place(number)} {self.vm.id} {owner}")

    def save(self, number: int) -> Done:
        """MVDS of a persistent disk."""
        disk, owner = self._disk(number)
        return self.stage.line(f"MVDS dnc {self.place(number)} {disk['SOURCE']} {self.vm.id} {owner}")

    def move(self, number: int, target: str) -> Done:
        """MV of a disk to another host, or to the frontend's name."""
        _disk, owner = self._disk(number)
        return self.stage.line(f"MV dnc {self.place(number)} {self.place(number, target)} {self.vm.id} {owner}")

    def delete_directory(self) -> Done:
        """DELETE of the VM's directory."""
        return self.stage.line(f"DELETE dnc {self.host}:{self.directory} {self.vm.id} {self.system}")

    def forget(self) -> None:
        """oned forgets the VM, without any action."""
        self.stage.cloud.release_images(self.vm, self.stage.cloud.images_of(self.vm))
        del self.stage.cloud.vms[self.vm.id]


def succeeds(done: Done) -> None:
    """The action ended well; its last words are shown if not."""
    assert done.status == 0, done.stderr[-1500:]


def complaint(done: Done) -> str:
    """The one bare line that a failed action ends with (contract 7.4); everything before it is for the log."""
    lines = done.stderr.splitlines()
    assert done.status == 1, f"exit {done.status}: {done.stderr[-1500:]}"
    bare = [line for line in lines if not _LOG_LINE.match(line)]
    assert len(bare) == 1 and lines[-1] == bare[0], done.stderr[-1500:]
    assert bare[0].endswith(". ") and not bare[0].startswith("-"), bare[0]
    assert "internal error" not in bare[0] and "Traceback" not in done.stderr, done.stderr[-1500:]
    return bare[0]
