"""What OpenNebula says of a VM's backups: BACKUP_CONFIG, where files are expected, and what a backup image holds."""

from __future__ import annotations

import enum
import json
import os
import re
from typing import Dict, NamedTuple, Optional, Tuple

from ..command import Runner
from ..errors import BadConfig, BadInput, DncError, ToolFailed
from ..grammar import parse_host, parse_id, parse_path, shown
from .oned import ask
from .vm import VmDocument, parse_vm, vm_from_element
from .xml import attributes, parse_document, require_text

_DRIVER = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}\Z")
_BASE_PATH = re.compile(r"\s*(?:export\s+)?BACKUP_BASE_PATH\s*=\s*\"?([^\"#]*)\"?\s*\Z")


class FsFreeze(enum.Enum):
    """BACKUP_CONFIG/FS_FREEZE: how the guest is to be quiet while snapshots are taken."""

    NONE = "NONE"
    AGENT = "AGENT"
    SUSPEND = "SUSPEND"


class BackupConfig(NamedTuple):
    """BACKUP_CONFIG. last_increment: -1 where a chain begins; bridge: the host that the backup datastore names."""

    increments: bool
    last_increment: int
    fs_freeze: FsFreeze
    interactive: bool
    bridge: Optional[str]


def parse_backup(document: bytes) -> Tuple[VmDocument, BackupConfig]:
    """The `<VM>` that pre- and postbackup get on stdin. Raises BadInput."""
    root = parse_document(document, "VM", "the VM document")
    values = attributes(root.find("BACKUPS/BACKUP_CONFIG"))
    last = values.get("LAST_INCREMENT_ID", "").strip() or "-1"
    freeze = values.get("FS_FREEZE", "").strip().upper() or "NONE"
    bridge = values.get("LAST_BRIDGE", "").strip()
    return vm_from_element(root), BackupConfig(
        increments=values.get("MODE", "").strip().upper() == "INCREMENT",
        last_increment=-1 if last == "-1" else parse_id(last, "LAST_INCREMENT_ID"),
        fs_freeze=FsFreeze(freeze) if freeze in FsFreeze.__members__ else FsFreeze.NONE,
        interactive=values.get("INTERACTIVE", "").strip().upper() == "YES",
        bridge=parse_host(bridge) if bridge else None,
    )


def base_path(remotes: str, system: str) -> str:
    """The directory on the hosts below which <vm>/backup is expected: BACKUP_BASE_PATH, else the system datastore's.

    The shipped backup drivers read it from this very file. Raises BadConfig.
    """
    path = os.path.join(remotes, "etc", "datastore", "datastore.conf")
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            lines = stream.read(1 << 20).splitlines()
    except FileNotFoundError:
        return system
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror}") from None
    for line in reversed(lines):
        match = _BASE_PATH.match(line)
        if match and match.group(1).strip():
            try:
                return parse_path(match.group(1).strip())
            except BadInput as error:
                raise BadConfig(f"BACKUP_BASE_PATH: {error.what}", hint=f"correct {path}") from None
    return system


class Contents(NamedTuple):
    """A backup image, and the VM that it is to be restored to. urls: by DISK_ID, as downloader.sh takes them."""

    vm: VmDocument
    urls: Dict[int, str]


def contents(remotes: str, runner: Runner, vm: int, image: int, increment: int) -> Contents:
    """Ask oned, then the backup datastore's driver. increment: -1 for the last one.

    Raises Unreachable, OnedError, BadInput (no backup), BadConfig (its driver is not there), DncError (it failed).
    """
    vm_text, image_text = ask("one.vm.info", vm, False), ask("one.image.info", image, False)
    datastore = parse_id(
        require_text(parse_document(image_text, "IMAGE", "the backup image"), "DATASTORE_ID", "the backup image"),
        "DATASTORE_ID",
    )
    datastore_text = ask("one.datastore.info", datastore, True)
    root = parse_document(datastore_text, "DATASTORE", "the backup datastore")
    driver = require_text(root, "DS_MAD", "the backup datastore").lower()
    if not _DRIVER.match(driver):
        raise BadInput(f"DS_MAD {shown(driver)} of datastore {datastore} is no driver's name")
    script = os.path.join(remotes, "datastore", driver, "ls")
    if not os.access(script, os.X_OK):
        raise BadConfig(f"datastore {datastore} keeps no backups: {driver} has no ls", hint="is the image a backup?")
    message = f"<DS_DRIVER_ACTION_DATA>{datastore_text}{vm_text}{image_text}</DS_DRIVER_ACTION_DATA>"
    try:
        said = runner.run(
            [script, "-i", str(increment)], stdin=message.encode(), changes=False, timeout=600.0).stdout
    except ToolFailed as error:
        last = (error.stderr.splitlines() or ["no reason given"])[0][:160]
        raise DncError(f"backup image {image} cannot be listed: {last}", command=f"{script} -i {increment}") from None
    return Contents(parse_vm(vm_text), _urls(said, image))


def _urls(text: str, image: int) -> Dict[int, str]:
    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError
    except ValueError:
        raise BadInput(f"the list of backup image {image} is not understood: {shown(text)}") from None
    return {int(disk): str(url) for disk, url in found.items() if disk.isascii() and disk.isdigit()}
