"""Calling an action as the driver's frame does, and VM documents to call it with."""

from __future__ import annotations

import base64
from typing import Any

from caller import TestCaller

from dnc.opennebula.driver import Call, load_action, match_arguments
from dnc.opennebula.vm import parse_vm
from dnc.tm import mkimage

HOSTS = 'HOSTS="node1 node2"\nSAFE_DIRS="/tmp /var/tmp"\n'
DIRECTORY = "/var/lib/one//datastores/100/42"
DISKS = {
    "clone": "<SOURCE>one-7</SOURCE><CLONE>YES</CLONE><SAVE>NO</SAVE><TYPE>BLOCK</TYPE><SIZE>64</SIZE>",
    "larger": "<SOURCE>one-7</SOURCE><CLONE>YES</CLONE><SIZE>200</SIZE><ORIGINAL_SIZE>64</ORIGINAL_SIZE>",
    "persistent": "<SOURCE>one-8</SOURCE><CLONE>NO</CLONE><SAVE>YES</SAVE><PERSISTENT>YES</PERSISTENT><SIZE>64</SIZE>",
    "cdrom": "<SOURCE>one-7</SOURCE><CLONE>NO</CLONE><SAVE>NO</SAVE><READONLY>YES</READONLY><TYPE>CDROM</TYPE>",
    "swap": "<TYPE>swap</TYPE><SIZE>16</SIZE>",
    "fs": "<TYPE>fs</TYPE><SIZE>16</SIZE><FS>ext4</FS>",
    "foreign": "<SOURCE>/var/lib/one/datastores/1/x</SOURCE><CLONE>YES</CLONE>",
}


def document(*kinds: str, lcm: int = 3, state: int = 3) -> str:
    """A VM 42 with disks of these kinds, numbered from 0."""
    disks = "".join(f"<DISK><DISK_ID>{n}</DISK_ID>{DISKS[kind]}</DISK>" for n, kind in enumerate(kinds))
    return (f"<VM><ID>42</ID><NAME>x</NAME><STATE>{state}</STATE><LCM_STATE>{lcm}</LCM_STATE>"
            f"<TEMPLATE><CPU>1</CPU><MEMORY>64</MEMORY>{disks}</TEMPLATE></VM>")


def run(
    monkeypatch: Any, family: str, action: str, *argv: str, vm: str = "", stdin: str = ""
) -> tuple[Any, TestCaller]:
    """Run an action; what it prints, and the caller with its log."""
    caller = TestCaller(HOSTS)
    module = load_action(family, action)
    values = match_arguments(module.ARGUMENTS, argv)
    call = Call("/nowhere", family, action, values, caller.config, caller.log, caller.runner, caller.started)
    call._stdin = base64.b64encode(stdin.encode()) if stdin else b""
    for asker in (module, mkimage):
        if hasattr(asker, "vm_info"):
            monkeypatch.setattr(asker, "vm_info", lambda _number: parse_vm(vm))
    return module.run(call), caller
