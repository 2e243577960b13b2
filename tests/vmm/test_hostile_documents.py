"""No value of a document breaks the xl configuration: what is not refused is read back as the one value it was."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc.errors import BadInput
from dnc.opennebula.vm import parse_vm
from vmm.documents import HVM, PV, disk, leaf, nic, rendered, vector, vm_text
from vmm.xl_reader import NotXl, check, read

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
# Documents in which every rendered attribute stands somewhere.
DOCUMENTS = {
    "pvh": vm_text(*PARTS, OS, user=leaf("XEN_TYPE", "pvh") + OWN), "pv": vm_text(*PARTS, LOADER, user=PV + OWN),
    "hvm": vm_text(*PARTS, LOADED, user=HVM + OWN), "hvm-kernel": vm_text(*PARTS, OS, user=HVM + OWN),
}
VALUE = re.compile(r"<([A-Z0-9_]+)><!\[CDATA\[(.*?)\]\]></\1>", re.DOTALL)
# What a document can hold, with a taste for what means something to xl, to a shell, or to a path.
MARKS = st.sampled_from(
    ['"', "'", "\\", "\n", "]", "[", ",", "=", ";", "#", "x", "/", "..", "name", " ", "0", "é", "$("]
)
TEXT = st.one_of(
    st.lists(MARKS, max_size=8).map("".join),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), include_characters="\n\t"), max_size=20),
)


def cdata(text: str) -> str:
    return text.replace("]]>", "]]]]><![CDATA[>")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_documents_are_good(name: str):
    values = check(rendered(parse_vm(DOCUMENTS[name])))
    assert values["name"] == "one-901" and values["type"] == name.split("-")[0]


@pytest.mark.parametrize("name", DOCUMENTS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_one_attribute_holds(name: str, data: st.DataObject):
    text = DOCUMENTS[name]
    places = [match.span(2) for match in VALUE.finditer(text)]
    start, end = data.draw(st.sampled_from(places))
    hostile = data.draw(st.one_of(TEXT, TEXT.map(lambda more: text[start:end] + more)))
    document = text[:start] + cdata(hostile) + text[end:]
    try:
        configuration = rendered(parse_vm(document))
    except BadInput:
        return
    values = check(configuration)
    assert values["name"] == "one-901" and values["on_poweroff"] == "destroy"


@settings(max_examples=80, deadline=None)
@given(TEXT)
def test_a_command_line_arrives_as_it_was(text: str):
    document = DOCUMENTS["pvh"].replace("[quiet]", f"[{cdata(text)}]")
    try:
        values = check(rendered(parse_vm(document)))
    except BadInput:
        return
    assert values["cmdline"] == f"root=/dev/xvda1 {text.strip()}".strip()


WORDS = st.sampled_from(
    ["a", "disk", "=", " = ", "'x'", '"y"', "[", "]", ",", ";", "\n", "#", "1", "0x1f", "+=", "'", '"', "\\", "name"]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, max_size=10).map("".join))
def test_raw_that_is_accepted_is_read_and_sets_nothing_of_ours(raw: str):
    document = vm_text(disk(0), vector("RAW", TYPE="dnc", DATA=raw))
    try:
        text = rendered(parse_vm(document))
    except BadInput:
        return
    before, mark, after = text.partition("# RAW of the VM template\n")
    check(before)
    if mark and "+=" not in after:
        try:
            added = read(after)
        except NotXl as error:
            assert "set twice" in str(error)
        else:
            assert not {"name", "disk", "vif", "uuid", "type", "builder"} & set(added)
