"""What the renderer refuses: what Xen cannot do, by its name, and values that would say more than a value."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dnc.errors import BadInput
from dnc.vmm.guest.attributes import LEFT_OUT, REFUSED
from vmm.documents import HVM, PV, disk, leaf, nic, rendered, vector, vm

NAMED = [
    # a template's attribute that Xen cannot honour, and the words that name it
    (disk(0, TOTAL_IOPS_SEC="100"), "", "TOTAL_IOPS_SEC '100' in disk 0 of VM 901"),
    (disk(0, READ_BYTES_SEC_MAX_LENGTH="1"), "", "READ_BYTES_SEC_MAX_LENGTH"),
    (disk(0, SIZE_IOPS_SEC="8"), "", "SIZE_IOPS_SEC"),
    (disk(0, SERIAL="abc"), "", "SERIAL"),
    (disk(0, CACHE="writethrough"), "", "CACHE"),
    (disk(0, DISCARD="maybe"), "", "DISCARD"),
    (disk(0, SHAREABLE="YES"), "", "SHAREABLE"),
    (disk(0, DRIVER="qcow2"), "", "DRIVER"),
    (disk(0, DRIVER="vmdk"), "", "DRIVER"),
    (disk(0, LUKS_SECRET="x"), "", "LUKS_SECRET"),
    (disk(0, TYPE="FILESYSTEM", SOURCE="x"), "", "TYPE"),
    (disk(0, TYPE="RBD", SOURCE="x"), "", "TYPE"),
    (disk(0, TYPE="CDROM", SOURCE=""), "", "no medium"),
    (nic(0, SCRIPT="/x"), "", "SCRIPT"),
    (nic(0, FILTER="clean-traffic"), "", "FILTER"),
    (nic(0, INBOUND_AVG_BW="100"), "", "INBOUND_AVG_BW"),
    (nic(0, INBOUND_PEAK_KB="100"), "", "INBOUND_PEAK_KB"),
    (nic(0, OUTBOUND_PEAK_BW="100"), "", "OUTBOUND_PEAK_BW"),
    (nic(0, OUTBOUND_AVG_BW="99999999"), "", "OUTBOUND_AVG_BW"),
    (nic(0, BRIDGE_TYPE="openvswitch_dpdk"), "", "BRIDGE_TYPE"),
    (nic(0, MTU="66000"), "", "MTU"),
    (nic(0, MODEL="infiniband"), HVM, "MODEL 'infiniband' in NIC 0 of VM 901"),
    (nic(0, MODEL="e1000", VN_MAD="fw", SECURITY_GROUPS="7"), HVM, "filters do not see"),
    (nic(0, MODEL="e1000", VN_MAD="802.1Q", FILTER_MAC_SPOOFING="YES"), HVM, "filters do not see"),
    (nic(0, MODEL="e1000", VN_MAD="bridge", TARGET="one-901234567-0"), HVM, "too long"),
    (vector("OS", ARCH="aarch64"), "", "ARCH"),
    (vector("OS", FIRMWARE="UEFI"), "", "FIRMWARE"),
    (vector("OS", FIRMWARE="UEFI", FIRMWARE_SECURE="YES"), HVM, "FIRMWARE_SECURE"),
    (vector("OS", FIRMWARE="relative.fd"), HVM, "path"),
    (vector("OS", BOOT="nic0") + nic(0), "", "OS/BOOT nic0"),
    (vector("OS", BOOT="nic0") + nic(0), HVM, "OS/BOOT nic0"),
    (vector("OS", BOOT="disk1") + disk(0) + disk(1, "xvdb"), "", "OS/BOOT disk1"),
    (vector("OS", BOOT="disk1") + disk(0) + disk(1, "xvdb"), HVM, "OS/BOOT disk1"),
    (vector("OS", BOOT="disk1") + disk(0, "hda", TYPE="CDROM") + disk(1, "hdb", TYPE="CDROM"), HVM, "OS/BOOT disk1"),
    (disk(0, READONLY="YES"), HVM, "READONLY"),
    (disk(0, "hde"), HVM, "TARGET"),
    ("".join(disk(n, "hda", TYPE="CDROM", SOURCE="") for n in range(5)), HVM, "CD-ROM drives"),
    (vector("FEATURES", HYPERV="yes"), "", "FEATURES/HYPERV"),
    (vector("FEATURES", APIC="no"), "", "APIC"),
    (vector("FEATURES", PCIHOLE64="1048576"), "", "PCIHOLE64"),
    (vector("CPU_MODEL", MODEL="Haswell"), "", "MODEL 'Haswell' in CPU_MODEL of VM 901"),
    (vector("CPU_MODEL", FEATURES="warp-drive"), "", "CPU_MODEL/FEATURES"),
    (vector("TOPOLOGY", HUGEPAGE_SIZE="2"), "", "HUGEPAGE_SIZE"),
    (vector("TOPOLOGY", MEMORY_ACCESS="shared"), "", "MEMORY_ACCESS"),
    (vector("TOPOLOGY", PIN_POLICY="CORE"), "", "TOPOLOGY"),
    (vector("TOPOLOGY", PIN_POLICY="ANY"), "", "PIN_POLICY"),
    (vector("NUMA_NODE", TOTAL_CPUS="1") * 2, "", "NUMA_NODE"),
    (vector("NUMA_NODE", DISTANCE="1:20"), "", "DISTANCE"),
    (leaf("VCPU", "129"), HVM, "VCPU"),
    (leaf("VCPU_MAX", "129"), "", "VCPU"),
    (leaf("MEMORY_MAX", "256") + leaf("MEMORY_RESIZE_MODE", "HOTPLUG"), "", "MEMORY_RESIZE_MODE"),
    (leaf("EMULATOR", "/usr/bin/kvm"), "", "EMULATOR"),
    (leaf("HYPERV_OPTIONS", "<relaxed/>"), HVM, "HYPERV_OPTIONS"),
    (vector("MEMORY_ENCRYPTION", TYPE="SEV"), "", "TYPE 'SEV' in MEMORY_ENCRYPTION"),
    (vector("IOMMU", MODE="single"), "", "MODE"),
    (vector("TPM", MODEL="tpm-crb"), "", "MODEL 'tpm-crb' in TPM"),
    (vector("TPM", MODEL="xen"), "", "TPM of VM 901"),
    (vector("PCI", SHORT_ADDRESS="01:00.0"), "", "PCI of VM 901"),
    (vector("PCI", SHORT_ADDRESS="01:00.0", UUID="x"), HVM, "UUID"),
    (vector("PCI", VENDOR="10de"), HVM, "PCI of VM 901 has no device"),
    (vector("PCI", SHORT_ADDRESS="01:00.0") + leaf("MEMORY_MAX", "256"), HVM, "MEMORY_MAX"),
    (vector("GRAPHICS", TYPE="sdl"), "", "TYPE 'sdl' in GRAPHICS"),
    (vector("GRAPHICS", TYPE="SPICE", PORT="5901"), PV, "spice"),
    (vector("GRAPHICS", TYPE="VNC", PORT="5901", PASSWD="ninechars"), HVM, "PASSWD"),
    (vector("GRAPHICS", TYPE="VNC", PORT="5901", RANDOM_PASSWD="YES"), HVM, "RANDOM_PASSWD"),
    (vector("VIDEO", TYPE="virtio"), HVM, "TYPE 'virtio' in VIDEO"),
    (vector("VIDEO", TYPE="vga", RESOLUTION="1024x768"), HVM, "RESOLUTION"),
    (vector("INPUT", TYPE="tablet", BUS="virtio"), HVM, "INPUT"),
    (vector("RAW", TYPE="xen", DATA="<devices/>"), "", "XML"),
    (vector("RAW", TYPE="vmm_dnc", DATA="on_crash = preserve"), "", "on_crash has no whole value"),
    (vector("RAW", TYPE="xen", DATA="vif = []"), "", "RAW sets vif"),
    ("", leaf("XEN_CPU_CAP", "half"), "XEN_CPU_CAP"),
    ("", leaf("XEN_RTC_OFFSET", "1h"), "XEN_RTC_OFFSET"),
]


@pytest.mark.parametrize("part, user, said", NAMED, ids=[f"{n}-{case[2][:20]}" for n, case in enumerate(NAMED)])
def test_what_xen_cannot_do_is_refused_with_its_name(part: str, user: str, said: str):
    with pytest.raises(BadInput, match=re.escape(said)) as caught:
        rendered(vm(part, user=user))
    assert said.split()[0] in caught.value.what[:60]


def with_attribute(scope: str, name: str, value: str) -> str:
    """A part of a TEMPLATE that has the attribute."""
    builders = {"VM": leaf(name, value), "DISK": disk(0, **{name: value}), "NIC": nic(0, **{name: value})}
    return builders.get(scope) or vector(scope, **{name: value})


@pytest.mark.parametrize("scope, name", [(scope, refusal.attribute) for scope in REFUSED for refusal in REFUSED[scope]])
def test_every_refusal_of_the_table_stops_a_deployment(scope: str, name: str):
    with pytest.raises(BadInput, match=f"{name} 'zz9' in "):
        rendered(vm(with_attribute(scope, name, "zz9"), user=HVM))


@pytest.mark.parametrize("parts, user, said", [
    ((disk(0), disk(1), disk(2)), "", "two disks of the VM have the TARGET 'xvda'"),
    ((disk(0, "../etc"),), "", "TARGET"),
    ((), leaf("XEN_TYPE", "kvm"), "XEN_TYPE"),
    ((nic(0, BRIDGE=""),), "", "no BRIDGE"),
    ((nic(0, BRIDGE="br0,script=/tmp/x"),), "", "bridge"),
    ((nic(0, MAC="02:00"),), "", "MAC"),
    ((nic(0, TARGET="a b"),), "", "interface"),
    ((nic(0, NIC_ID="0']"),), "", "NIC_ID"),
    ((vector("OS", KERNEL="vmlinuz"),), "", "path"),
    ((vector("OS", KERNEL="/boot/../etc/x"),), "", "path"),
    ((vector("OS", KERNEL="/boot/k", KERNEL_CMD="a\nname='x'"),), "", "control character"),
    ((vector("OS", MACHINE="hvm", BOOT="disk9"),), "", "no disk 9"),
    ((vector("OS", MACHINE="hvm", BOOT="floppy"),), "", "OS/BOOT"),
    ((vector("RAW", TYPE="xen", DATA="disk = []"),), "", "RAW sets disk"),
    ((vector("GRAPHICS", TYPE="vnc", PORT="80"), vector("OS", MACHINE="hvm")), "", "PORT"),
    ((vector("GRAPHICS", TYPE="vnc", PORT="5900", LISTEN="::1,x"), vector("OS", MACHINE="hvm")), "", "LISTEN"),
    ((vector("CONTEXT", DISK_ID="1"),), "", "no TARGET"),
])
def test_hostile_or_wrong_values_are_refused(parts: tuple[str, ...], user: str, said: str):
    with pytest.raises(BadInput, match=said):
        rendered(vm(*parts, user=user))


def test_no_memory_and_no_loader_are_refused():
    with pytest.raises(BadInput, match="MEMORY"):
        rendered(vm(memory="0"))
    with pytest.raises(BadInput, match="boot loader"):
        rendered(vm(disk(0)), 'PVH_LOADER=""')


def test_the_page_on_templates_names_every_attribute_of_the_table():
    page = (Path(__file__).resolve().parents[2] / "docs" / "templates.md").read_text()
    throttle = re.compile(r"(TOTAL|READ|WRITE)_(BYTES|IOPS)_SEC(_MAX(_LENGTH)?)?\Z")
    names = {refusal.attribute for refusals in REFUSED.values() for refusal in refusals}
    names |= {name for left in LEFT_OUT.values() for name in left}
    assert [name for name in sorted(names) if not throttle.match(name) and not re.search(rf"\b{name}\b", page)] == []
