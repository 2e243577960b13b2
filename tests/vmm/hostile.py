"""Documents in which every rendered attribute stands somewhere, and hostile ones made of them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from dnc.errors import BadInput
from dnc.opennebula.vm import parse_vm
from vmm.documents import HVM, PV, disk, leaf, nic, rendered, vector, vm_text
from vmm.xl_reader import Value, check

PARTS = (
    disk(0, DISCARD="unmap", CACHE="none", DRIVER="raw"), disk(1, "sda", READONLY="NO"),
    disk(2, "xvdh", TYPE="FILE", SOURCE="/x", DRIVER="qcow2", CLONE="YES"),
    nic(0, MODEL="virtio", OUTBOUND_AVG_BW="100", OUTBOUND_PEAK_KB="10", MTU="1400", BRIDGE_TYPE="linux",
        VN_MAD="bridge"),
    vector("CONTEXT", DISK_ID="3", TARGET="hda"), leaf("VCPU", "1"), leaf("VCPU_MAX", "2"), leaf("MEMORY_MAX", "128"),
    vector("CPU_MODEL", MODEL="host-passthrough", FEATURES="aes"), vector("FEATURES", ACPI="yes", LOCALTIME="no"),
    vector("TOPOLOGY", PIN_POLICY="SHARED"), vector("NUMA_NODE", CPUS="0,1", TOTAL_CPUS="1"),
    vector("GRAPHICS", TYPE="VNC", PORT="5901", LISTEN="0.0.0.0", PASSWD="secret", KEYMAP="de"),
)
OS = vector(
    "OS", KERNEL="/boot/k", INITRD="/boot/i", ROOT="xvda1", KERNEL_CMD="quiet", ARCH="x86_64", MACHINE="pc",
    UUID="3f0c8d8e-7c41-4c3f-9f7a-2a2f4b0b1f45",
)
OWN = leaf("XEN_RTC_OFFSET", "60") + leaf("XEN_CPU_CAP", "yes")
DESKTOP = vector("VIDEO", TYPE="vga", VRAM="16384") + vector("INPUT", TYPE="tablet", BUS="usb")
LOADED = vector("OS", BOOT="disk0", FIRMWARE="BIOS") + DESKTOP + vector("PCI", SHORT_ADDRESS="01:00.0")
LOADER = vector("OS", BOOT="disk0", BOOTLOADER="/usr/lib/grub.bin")
DOCUMENTS = {
    "pvh": vm_text(*PARTS, OS, user=leaf("XEN_TYPE", "pvh") + OWN), "pv": vm_text(*PARTS, LOADER, user=PV + OWN),
    "hvm": vm_text(*PARTS, LOADED, user=HVM + OWN), "hvm-kernel": vm_text(*PARTS, OS, user=HVM + OWN),
}
VALUE = re.compile(r"<([A-Z0-9_]+)><!\[CDATA\[(.*?)\]\]></\1>", re.DOTALL)
# What means something to xl, to a shell, or to a path.
MARKS = (
    '"', "'", "\\", "\n", "]", "[", ",", "=", ";", "#", "x", "/", "..", "name", " ", "0", "é", "$(", "\\x41", "%s",
    "\u2028", "\U0001d11e",
)


def cdata(text: str) -> str:
    """As part of a CDATA section."""
    return text.replace("]]>", "]]]]><![CDATA[>")


def hostile_configurations(count: int, seed: int) -> Iterator[tuple[str, dict[str, Value]]]:
    """Configurations of documents with one hostile value each that was not refused, and what they have to mean."""
    dice = random.Random(seed)
    while count:
        text = DOCUMENTS[dice.choice(sorted(DOCUMENTS))]
        place = dice.choice(list(VALUE.finditer(text)))
        marks = "".join(dice.choice(MARKS) for _ in range(dice.randint(1, 6)))
        value = dice.choice(["", place.group(2)]) + marks
        try:
            configuration = rendered(parse_vm(text[:place.start(2)] + cdata(value) + text[place.end(2):]))
        except BadInput:
            continue
        yield configuration, check(configuration)
        count -= 1
