"""From VM documents to xl configurations: golden files for whole ones, single rules one by one.

Run with DNC_WRITE_GOLDEN=1 to write the golden files anew, then read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dnc import config as configuration
from dnc.errors import BadInput
from dnc.opennebula.vm import parse_vm
from dnc.tools.xl_config import GuestType, render
from dnc.vmm.guest import context_vdev, disk_config, disk_configs, domain_config, domain_uuid, guest_type
from vmm.documents import HVM, PV, device_of, disk, inner, leaf, nic, recorded, rendered, sample, vector, vm

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "golden" / "xl"
CONFIG = configuration.parse("")
DIRECTORY = "/var/lib/one/datastores/100/901"


def as_hvm(document: str) -> str:
    """That sample asks for a PCI device, which Xen gives no pvh guest."""
    with pytest.raises(BadInput, match="PCI of VM 43: a pvh guest"):
        rendered(parse_vm(document))
    return document.replace("<XEN_TYPE><![CDATA[pvh]]>", "<XEN_TYPE><![CDATA[hvm]]>")


KERNEL = vector("OS", KERNEL="/boot/vmlinuz", INITRD="/boot/initrd", KERNEL_CMD="console=hvc0 quiet", ROOT="xvda1")
VNC = vector("GRAPHICS", TYPE="VNC", LISTEN="0.0.0.0", PORT="5902", PASSWD="se(ret", KEYMAP="fr")
OPEN_GROUP = "".join(
    vector("SECURITY_GROUP_RULE", SECURITY_GROUP_ID="0", PROTOCOL="ALL", RULE_TYPE=way)
    for way in ("INBOUND", "OUTBOUND")
)
# name: (document, dncrc). Samples and recorded documents first; a recorded one says nothing of Xen, so dncrc does.
CASES = {
    "pvh-sample": lambda: (parse_vm(sample("vm-deploy")), ""),
    "hvm-many-disks": lambda: (parse_vm(as_hvm(sample("vm-multi-disk-swap-context-cdrom"))), ""),
    "pvh-persistent": lambda: (parse_vm(sample("vm-persistent")), ""),
    "pvh-extras": lambda: (parse_vm(sample("vm-extras-not-in-xsd")), ""),
    "pvh-snapshots": lambda: (parse_vm(sample("vm-snapshots")), ""),
    "pvh-attaching": lambda: (parse_vm(inner("vmm-action-attach_disk")), ""),
    "pvh-migrating": lambda: (parse_vm(inner("vmm-action-migrate")), ""),
    "pvh-in-a-hook": lambda: (parse_vm(inner("hook-message-state-vm")), ""),
    "recorded-deploy": lambda: (parse_vm(recorded("extra/205", "deploy")), ""),
    "recorded-deploy-again-hvm": lambda: (parse_vm(recorded("extra/209", "deploy")), "GUEST_TYPE=hvm"),
    "recorded-life": lambda: (parse_vm(recorded("self/021")), ""),
    "recorded-resized": lambda: (parse_vm(recorded("self/147")), ""),
    "recorded-grown-cdrom-no-context-hvm": lambda: (parse_vm(recorded("self/142")), "GUEST_TYPE=hvm"),
    "recorded-snapshots-pv": lambda: (parse_vm(recorded("self/098")), "GUEST_TYPE=pv"),
    "recorded-disk-attach": lambda: (parse_vm(recorded("extra/206", "attach_disk")), ""),
    "recorded-cdrom-attach-hvm": lambda: (parse_vm(recorded("self/092", "attach_disk")), "GUEST_TYPE=hvm"),
    "recorded-nic-attach": lambda: (parse_vm(recorded("self/052", "attach_nic")), ""),
    "recorded-restore": lambda: (parse_vm(recorded("self/031", "restore")), ""),
    "recorded-plain": lambda: (parse_vm(recorded("extra/163")), ""),
    "recorded-two-prefixes": lambda: (parse_vm(recorded("extra/166")), ""),
    "recorded-driver-phy": lambda: (parse_vm(recorded("extra/169")), ""),
    "recorded-readonly": lambda: (parse_vm(recorded("extra/172")), ""),
    "recorded-cdrom-hvm": lambda: (parse_vm(recorded("extra/175")), "GUEST_TYPE=hvm"),
    "recorded-kernel-pv": lambda: (parse_vm(recorded("extra/178")), "GUEST_TYPE=pv"),
    "recorded-pygrub-pv": lambda: (parse_vm(recorded("extra/181")), "GUEST_TYPE=pv"),
    "recorded-nics-hvm": lambda: (parse_vm(recorded("extra/184")), "GUEST_TYPE=hvm"),
    "recorded-no-disk": lambda: (parse_vm(recorded("extra/187")), ""),
    "recorded-features-hvm": lambda: (parse_vm(recorded("extra/193")), "GUEST_TYPE=hvm"),
    "recorded-volatile": lambda: (parse_vm(recorded("extra/196")), ""),
    "recorded-context-files": lambda: (parse_vm(recorded("extra/199")), ""),
    "pvh-kernel": lambda: (vm(disk(0), KERNEL), ""),
    "pvh-kernel-of-a-datastore": lambda: (vm(disk(0), vector("OS", KERNEL_DS="$FILE[IMAGE_ID=3]", ROOT="xvda")), ""),
    "pv-kernel": lambda: (vm(disk(0), KERNEL, nic(0), user=PV), ""),
    "pv-pygrub": lambda: (vm(disk(0), user=PV), ""),
    "pv-pygrub-second-disk": lambda: (vm(
        disk(0), disk(1, "xvdb"), vector("OS", BOOT="disk1,disk0"), vector("CONTEXT", DISK_ID="2", TARGET="hda"),
        user=PV,
    ), ""),
    "pv-pvgrub": lambda: (vm(disk(0), vector("OS", MACHINE="pv", BOOTLOADER="pvgrub")), ""),
    "pv-screen": lambda: (vm(disk(0), vector("OS", MACHINE="pv"), VNC), ""),
    "hvm-own-loader": lambda: (vm(
        disk(0, "hda"), disk(1, "hdb", TYPE="CDROM", READONLY="YES", SOURCE="one-7", TM_MAD="dnc"),
        vector("OS", MACHINE="hvm", BOOT="disk1,disk0,nic0"),
        vector("CONTEXT", DISK_ID="2", TARGET="hdc"),
        vector("FEATURES", ACPI="yes", PAE="no", HYPERV="yes", LOCALTIME="no"),
        vector("GRAPHICS", TYPE="vnc", PORT="5901"), nic(0, MODEL="e1000", VN_MAD="bridge"),
    ), ""),
    "hvm-uefi": lambda: (vm(disk(0), vector("OS", FIRMWARE="UEFI", BOOT="disk0"), user=HVM), ""),
    "hvm-uefi-file": lambda: (vm(disk(0), vector("OS", FIRMWARE="UEFI"), user=HVM), "UEFI_FIRMWARE=/usr/share/OVMF"),
    "hvm-kernel": lambda: (vm(disk(0, "vda"), KERNEL, user=HVM), ""),
    "hvm-network-boot": lambda: (vm(
        disk(0), vector("OS", BOOT="nic0,disk0"), OPEN_GROUP,
        nic(0, VN_MAD="802.1Q", SECURITY_GROUPS="0"), nic(1, MODEL="virtio"), user=HVM,
    ), "HVM_NIC=rtl8139"),
    "hvm-spice-and-desktop": lambda: (vm(
        disk(0), vector("GRAPHICS", TYPE="SPICE", PORT="5930", PASSWD="x"), vector("VIDEO", TYPE="vga", VRAM="32768"),
        vector("INPUT", TYPE="tablet", BUS="usb"), vector("INPUT", TYPE="mouse", BUS="ps2"),
        vector("FEATURES", LOCALTIME="yes", GUEST_AGENT="yes"), user=HVM + leaf("XEN_RTC_OFFSET", "-3600"),
    ), "KEYMAP=de\nGRAPHICS_LISTEN=192.0.2.1"),
    "hvm-passthrough-and-vtpm": lambda: (vm(
        disk(0), vector("PCI", DOMAIN="0000", BUS="3b", SLOT="00", FUNCTION="1", VM_BUS="0x01", VM_SLOT="0x01"),
        vector("PCI", SHORT_ADDRESS="5e:1f.0"), vector("TPM", MODEL="xen"), user=HVM,
    ), "PCI_SEIZE=yes\nVTPM_BACKEND=vtpmmgr"),
    "hvm-empty-drive-and-many-disks": lambda: (vm(
        *(disk(number, f"sd{chr(97 + number)}") for number in range(7)),
        disk(7, "sdh", READONLY="YES"), disk(8, "sdi", TYPE="CDROM", SOURCE=""),
        disk(9, "hda", TYPE="CDROM", SOURCE="/x"),
        vector("CONTEXT", DISK_ID="10", TARGET="hda"), user=HVM,
    ), ""),
    "disks-of-every-prefix": lambda: (vm(
        disk(0, "xvda"), disk(1, "sda"), disk(2, "vda"), disk(3, "hda"), disk(4, "vdb", DISCARD="ignore"),
        disk(5, "vdzz", DISCARD="unmap", CACHE="none", IO="native"), vector("CONTEXT", DISK_ID="6", TARGET="hda"),
    ), ""),
    "files-of-another-driver": lambda: (vm(
        disk(0), disk(1, "xvdb", TYPE="FILE", SOURCE="/x/1", DRIVER="qcow2", CLONE="YES"),
        disk(2, "xvdc", TYPE="FILE", SOURCE="/x/2", DRIVER="raw", READONLY="YES"),
    ), "DISCARD=ignore"),
    "pinned-and-capped": lambda: (vm(
        disk(0), leaf("VCPU", "4"), leaf("VCPU_MAX", "8"),
        vector("TOPOLOGY", PIN_POLICY="CORE", SOCKETS="1", CORES="4"),
        vector("NUMA_NODE", CPUS="2,3,6,7", TOTAL_CPUS="4", MEMORY="131072", MEMORY_NODE_ID="0"),
        vector("CPU_MODEL", MODEL="host-passthrough", FEATURES="sse4.2,aes,lahf_lm,avx512_vnni"),
        user=leaf("XEN_CPU_CAP", "yes"),
    ), ""),
    "pinned-to-a-node": lambda: (vm(
        disk(0), leaf("VCPU", "2"), vector("TOPOLOGY", NODE_AFFINITY="1"),
        vector("NUMA_NODE", CPUS="8,9,10", TOTAL_CPUS="2"),
    ), "CPU_CAP=yes"),
    "openvswitch-and-rate": lambda: (vm(
        disk(0), nic(0, BRIDGE_TYPE="openvswitch", OUTBOUND_AVG_BW="500"),
        nic(1, VN_MAD="ovswitch_vxlan", OUTBOUND_AVG_BW="1000", OUTBOUND_PEAK_BW="2000", OUTBOUND_PEAK_KB="400",
            MTU="9000"),
    ), ""),
    "raw": lambda: (vm(
        disk(0), vector("RAW", TYPE="dnc", DATA="tsc_mode = 'native'"), vector("RAW", TYPE="kvm", DATA="<x/>"),
        vector("RAW", TYPE="my_mad", DATA="nestedhvm = 0\n"), mad="my_mad",
    ), ""),
    "raw-hvm-over-the-defaults": lambda: (vm(
        disk(0), vector("RAW", TYPE="QEMU", DATA='hdtype = "ide"; serial = [ "pty", "null" ]\nboot = "n"'),
        mad="qemu", user=HVM,
    ), ""),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str):
    document, text = CASES[name]()
    got = rendered(document, text)
    path = GOLDEN / f"{name}.cfg"
    if os.environ.get("DNC_WRITE_GOLDEN"):
        path.write_text(got)
    assert got == path.read_text()


def test_every_golden_file_is_checked():
    assert {path.stem for path in GOLDEN.glob("*.cfg")} == set(CASES)


@pytest.mark.parametrize("parts, user, text, expected", [
    ((), "", "", GuestType.PVH),
    ((), "", "GUEST_TYPE=hvm", GuestType.HVM),
    ((vector("OS", MACHINE="pv"),), "", "GUEST_TYPE=hvm", GuestType.PV),
    ((vector("OS", MACHINE="q35"),), "", "", GuestType.PVH),
    ((vector("OS", MACHINE="pv"),), leaf("XEN_TYPE", "HVM"), "", GuestType.HVM),
])
def test_guest_type(parts: tuple[str, ...], user: str, text: str, expected: GuestType):
    assert guest_type(vm(*parts, user=user), configuration.parse(text)) is expected


def test_uuid_is_stable_and_the_templates_own_wins():
    plain = vm()
    assert domain_uuid(plain) == domain_uuid(vm(disk(0))) == "af90aeba-1470-59b4-b990-22be109f850b"
    assert domain_uuid(parse_vm(sample("vm-extras-not-in-xsd"))) == "3f0c8d8e-7c41-4c3f-9f7a-2a2f4b0b1f45"
    assert domain_uuid(vm(vector("OS", UUID="' x"))) == domain_uuid(plain)


def test_single_replica_uses_the_device_it_is_told():
    document = vm(disk(0))
    text = render(domain_config(document, DIRECTORY, CONFIG, lambda name: f"/dev/vg0/{name}"))
    assert "target=/dev/vg0/one-sys-901-0" in text


def test_disk_of_another_driver_is_a_file_in_the_vms_directory():
    foreign = disk(3, "xvdd", TYPE="FILE", SOURCE="/var/lib/one/datastores/1/abc", CLONE="YES")
    assert f"access=rw,script=block,target={DIRECTORY}/disk.3" in rendered(vm(foreign))


def test_sda_and_a_context_on_hda_do_not_collide():
    text = rendered(vm(disk(0, "sda"), vector("CONTEXT", DISK_ID="1", TARGET="hda")))
    assert "vdev=xvda,access=rw" in text and "vdev=xvdm,access=ro" in text


def test_what_has_no_meaning_is_left_out_and_told():
    document = vm(
        disk(0, IO="native"), nic(0, MODEL="e1000", VIRTIO_QUEUES="4"), vector("OS", BOOT="disk0,nic0"), VNC,
        vector("TOPOLOGY", SOCKETS="2", CORES="1"), vector("FEATURES", GUEST_AGENT="yes", ACPI="yes"),
        vector("VIDEO", TYPE="vga"), vector("INPUT", TYPE="tablet", BUS="usb"),
    )
    notes = "\n".join(domain_config(document, DIRECTORY, CONFIG, device_of).notes)
    for name in ("DISK/IO", "NIC/VIRTIO_QUEUES", "NIC/MODEL", "TOPOLOGY/SOCKETS", "FEATURES/GUEST_AGENT", "VIDEO",
                 "INPUT", "OS/BOOT nic0 is not tried", "GRAPHICS is left out"):
        assert name in notes
    assert "FEATURES/ACPI" not in notes
    assert domain_config(vm(disk(0)), DIRECTORY, CONFIG, device_of).notes == ()


@pytest.mark.parametrize("setting, groups, refused", [
    ("always", "7", False), ("never", "", True), ("unfiltered", "", False), ("unfiltered", "0", False),
    ("unfiltered", "0,7", False), ("unfiltered", "7", True),
])
def test_an_emulated_interface_does_not_pass_filters_by(setting: str, groups: str, refused: bool):
    document = vm(OPEN_GROUP, nic(0, MODEL="rtl8139", VN_MAD="vxlan", SECURITY_GROUPS=groups), user=HVM)
    if refused:
        with pytest.raises(BadInput, match="MODEL rtl8139 in NIC 0"):
            rendered(document, f"EMULATED_NICS={setting}")
    else:
        assert "type=ioemu,model=rtl8139" in rendered(document, f"EMULATED_NICS={setting}")


@pytest.mark.parametrize("mad, kind, taken", [
    ("vmm_dnc", "vmm_dnc", True), ("vmm_dnc", "dnc", True), ("vmm_dnc", "XEN", True), ("vmm_dnc", "qemu", False),
    ("qemu", "qemu", True), ("qemu", "xen", True), ("qemu", "kvm", False), ("kvm", "kvm", True), ("", "dnc", True),
])
def test_raw_follows_the_name_of_the_vm_mad(mad: str, kind: str, taken: bool):
    document = vm(disk(0), vector("RAW", TYPE=kind, DATA="nestedhvm = 1"), mad=mad)
    assert rendered(document).endswith("# RAW of the VM template\nnestedhvm = 1\n") is taken


def test_nothing_else_depends_on_the_name_of_the_vm_mad():
    for name in ("vm-deploy", "vm-persistent"):
        text = sample(name)
        other = text.replace("<VM_MAD><![CDATA[dnc]]>", "<VM_MAD><![CDATA[qemu]]>")
        assert other != text and rendered(parse_vm(other)) == rendered(parse_vm(text))


def test_a_disk_that_comes_later_moves_none_that_is_there():
    first = vm(disk(0, "sda"), disk(1, "xvda"), vector("CONTEXT", DISK_ID="2", TARGET="hda"))
    later = vm(
        disk(0, "sda"), disk(1, "xvda"), vector("CONTEXT", DISK_ID="2", TARGET="hda"), disk(3, "vda"), disk(4, "hda"),
    )
    for kind in GuestType:
        before, after = (
            {disk.path: disk.vdev for disk in disk_configs(document, DIRECTORY, kind, device_of)}
            for document in (first, later)
        )
        assert {path: after[path] for path in before} == before
        assert len(set(after.values())) == 5
        attached = disk_config(later, later.disk(3), DIRECTORY, kind, device_of)
        assert attached.vdev == after[attached.path]
        assert context_vdev(later, kind) == before[f"{DIRECTORY}/disk.2"]
