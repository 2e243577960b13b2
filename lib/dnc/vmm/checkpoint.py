"""A guest's saved memory, and the note beside it of the state that its disks had then (decision 0015).

Memory knows what the guest had read from its disks: continued over disks that have moved on since, it destroys them.
So a checkpoint is good for one start. It is marked as spent before anything starts on the disks; while it is, only the
kernel's word that nothing was written since makes it good again.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Optional

from ..errors import NotFound, Unsafe
from ..host.data_state import DataState, boot_id, data_states, from_json, to_json
from ..host.files import explain, sync_directory
from .start import Vm

NOTE = ".disks"
_ANEW = 'to give the memory up and boot: DNC_RESTORE="boot" in the user template, then resume'


class Checkpoint:
    """The file at `path`. It and its note travel with the VM's directory (TM mv)."""

    def __init__(self, vm: Vm, path: str) -> None:
        self._vm = vm
        self.path = path
        self.passing = f"{path}.new"
        self._whole = f"{path}.whole"
        self._note = f"{path}{NOTE}"

    # Saving.

    def prepare(self) -> None:
        """xl runs as root: a file that exists keeps our owner, and a mode that hides the guest's memory from others."""
        files = self._vm.host.files
        if files.would(f"write {self.passing}"):
            return
        try:
            files.remove(self.passing)
            files.remove(self._whole)
            os.close(os.open(self.passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        except OSError as error:
            raise explain(error, self.passing) from None

    def abandon(self) -> None:
        """Forget what `prepare` began."""
        self._vm.host.files.remove(self.passing)

    def keep(self) -> None:
        """xl has written all of it: from here on it is never lost, wherever the action ends. The note comes first."""
        if self._vm.host.files.would(f"keep {self.passing}"):
            return
        self.note()
        try:
            descriptor = os.open(self.passing, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(self.passing, self._whole)
            sync_directory(os.path.dirname(self.path))
        except OSError as error:
            raise explain(error, self.path) from None

    def note(self) -> None:
        """The disks as they are now are those that the memory fits."""
        if not self._vm.host.files.would(f"write {self._note}"):
            self._write_note(self._now(), spent=False)

    def put_in_place(self) -> bool:
        """Give what was kept its name; False when there is nothing."""
        if not os.path.exists(self._whole) or self._vm.host.files.would(f"rename {self._whole} to {self.path}"):
            return False
        try:
            if os.path.exists(self.path):
                os.replace(self.path, f"{self.path}.old")
            os.replace(self._whole, self.path)
            sync_directory(os.path.dirname(self.path))
        except OSError as error:
            raise explain(error, self.path) from None
        return True

    # Restoring.

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return os.path.exists(self.path)

    def check(self) -> None:
        """That the disks are as they were when it was saved. Raises NotFound, Unsafe.

        One without a note, of an older version, is taken on trust. What a `save` that was cut off has kept is it.
        """
        self.put_in_place()
        if not self.exists:
            raise NotFound(f"{self.path} does not exist", hint=f"was the VM saved here? {_ANEW}")
        note = self._read_note()
        if note is None:
            self._vm.host.log.warn(f"{self.path}{NOTE} does not exist: whether the disks have moved on is not known")
            return
        then, now = from_json(note["disks"]), self._now()
        name = self._vm.document.domain
        if set(then) != set(now):
            other = sorted(set(then) ^ set(now))[0]
            raise Unsafe(f"{name}: its memory does not fit: {other} came or went since it was saved", hint=_ANEW)
        for disk, state in now.items():
            moved = state.since(then[disk], note["boot"] == boot_id(self._vm.host))
            if moved:
                raise Unsafe(f"{disk} was written to since {name} was saved", hint=_ANEW)
            if moved is None and note["spent"]:
                raise Unsafe(f"{name}: its memory was used: {disk} may have been written to", hint=_ANEW)

    def spend(self) -> None:
        """Somebody is about to start the VM on its disks, with this memory or without."""
        note = self._read_note()
        if note is not None and not note["spent"]:
            self._vm.host.files.write_record(self._note, {**note, "spent": True})

    def spare(self, before: Optional[Dict[str, DataState]]) -> None:
        """xl could not start it; if nothing was written since `before`, the memory still fits. Raises NotFound."""
        if self._read_note() is None or before is None or self._vm.host.runner.dry_run:
            return
        now = self._now()
        if all(state.written == before[disk].written for disk, state in now.items()):
            # Promoting without a peer may have begun a new generation: the note says what is true now.
            self._write_note(now, spent=False)

    def states(self) -> Dict[str, DataState]:
        """The disks as they are now. Raises NotFound."""
        return self._now()

    def remove(self) -> None:
        """The guest runs: its memory of then fits no disk any more. The note goes last."""
        for path in (self.path, f"{self.path}.old", self.passing, self._whole, self._note):
            self._vm.host.files.remove(path)

    def _now(self) -> Dict[str, DataState]:
        return data_states(self._vm.host, self._vm.disks.names)

    def _write_note(self, states: Dict[str, DataState], *, spent: bool) -> None:
        note = {"boot": boot_id(self._vm.host), "spent": spent, "disks": to_json(states)}
        self._vm.host.files.write_record(self._note, note)

    def _read_note(self) -> Optional[Dict[str, Any]]:
        note = self._vm.host.files.read_record(self._note)
        if note is None or not {"boot", "spent", "disks"} <= set(note):
            return None
        return note
