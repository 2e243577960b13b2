"""VM documents for the tests: the shipped samples, varied, and a builder for hostile ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Sequence

from dnc import config as configuration
from dnc.opennebula.vm import VmDocument, parse_vm
from dnc.tools.xl_config import render
from dnc.vmm.guest import domain_config

DATA = Path(__file__).resolve().parents[1] / "data"
SAMPLES = DATA / "samples"


def sample(name: str) -> str:
    """A sample document, its images named as this suite names them."""
    return (SAMPLES / f"{name}.xml").read_text().replace("dnc/one-", "one-")


def recorded(operation: str, action: str = "") -> str:
    """The VM document of a recorded operation, or the one that its VMM action got, images named as here.

    The driver that was recorded called itself `rec` and its volumes `recvol-<image>`.
    """
    (path,) = (DATA / "recorded").glob(f"{operation}-*.json")
    record = json.loads(path.read_text())
    if not action:
        text = record["vm_after"]
    else:
        (text,) = [call["stdin"] for call in record["calls"] if (call["mad"], call["action"]) == ("vmm", action)]
    found = re.search(r"<VM>.*</VM>", text, re.DOTALL)
    assert found, f"{path.name} has no document"
    return found.group().replace("recvol-", "one-").replace("[rec]", "[dnc]")


def inner(name: str) -> str:
    """The VM document inside a sample message."""
    found = re.search(r"<VM>.*</VM>", sample(name), re.DOTALL)
    assert found
    return found.group()


def leaf(key: str, value: str) -> str:
    """One attribute; CDATA as oned writes it."""
    return f"<{key}><![CDATA[{value}]]></{key}>"


def vector(key: str, **values: str) -> str:
    """A vector attribute."""
    return f"<{key}>" + "".join(leaf(name, value) for name, value in values.items()) + f"</{key}>"


def disk(number: int, target: str = "xvda", **more: str) -> str:
    """A volatile disk unless told otherwise."""
    values = {"DISK_ID": str(number), "TYPE": "fs", "SIZE": "64", "TARGET": target, "TM_MAD": "dnc", **more}
    return vector("DISK", **values)


def nic(number: int, **more: str) -> str:
    """An interface on br0."""
    values = {"NIC_ID": str(number), "MAC": f"02:00:00:00:00:0{number}", "BRIDGE": "br0",
              "TARGET": f"one-901-{number}", **more}
    return vector("NIC", **values)


def vm_text(*parts: str, user: str = "", memory: str = "128", mad: str = "vmm_dnc", number: int = 901) -> str:
    """A VM document with the given parts in its TEMPLATE."""
    history = vector("HISTORY", SEQ="0", HOSTNAME="node1", DS_ID="100", VM_MAD=mad, TM_MAD="dnc")
    return (
        f"<VM><ID>{number}</ID><NAME>t</NAME><STATE>3</STATE><LCM_STATE>2</LCM_STATE><DEPLOY_ID/><TEMPLATE>"
        f"{leaf('CPU', '1')}{leaf('MEMORY', memory)}{''.join(parts)}</TEMPLATE><USER_TEMPLATE>{user}</USER_TEMPLATE>"
        f"<HISTORY_RECORDS>{history}</HISTORY_RECORDS></VM>"
    )


def vm(*parts: str, user: str = "", memory: str = "128", mad: str = "vmm_dnc") -> VmDocument:
    """The parsed document."""
    return parse_vm(vm_text(*parts, user=user, memory=memory, mad=mad))


PV, HVM = leaf("XEN_TYPE", "pv"), leaf("XEN_TYPE", "hvm")


def device_of(name: str) -> str:
    """Where a resource's device would be."""
    return f"/dev/drbd/by-res/{name}/0"


def rendered(document: VmDocument, text: str = "") -> str:
    """The xl configuration, with the dncrc of that text."""
    directory = f"/var/lib/one/datastores/100/{document.id}"
    return render(domain_config(document, directory, configuration.parse(text), device_of))


def message(document: str, deploy_id: str = "one-901") -> str:
    """VMM_DRIVER_ACTION_DATA around a document."""
    return (
        f"<VMM_DRIVER_ACTION_DATA><HOST>node1</HOST><MIGR_HOST>node2</MIGR_HOST><DEPLOY_ID>{deploy_id}</DEPLOY_ID>"
        f"<CHECKPOINT_FILE/>{document}</VMM_DRIVER_ACTION_DATA>"
    )


def names(values: Sequence[object]) -> list[str]:
    """Texts of anything printable, for comparisons."""
    return [str(value) for value in values]
