"""From VM documents to xl configurations: golden files for whole ones, single rules one by one.

Run with DNC_WRITE_GOLDEN=1 to write the golden files anew, then read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dnc import config as configuration
from dnc.errors import BadInput
from dnc.opennebula.vm import VmDocument, parse_vm
from dnc.tools.xl_config import GuestType, render
from dnc.vmm.guest import domain_config, domain_uuid, guest_type
from vmm.documents import disk, leaf, nic, sample, vector, vm

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "golden" / "xl"
CONFIG = configuration.parse("")
DIRECTORY = "/var/lib/one/datastores/100/901"


def device_of(name: str) -> str:
    return f"/dev/drbd/by-res/{name}/0"


def rendered(document: VmDocument, text: str = "") -> str:
    directory = f"/var/lib/one/datastores/100/{document.id}"
    return render(domain_config(document, directory, configuration.parse(text), device_of))


KERNEL = vector("OS", KERNEL="/boot/vmlinuz", INITRD="/boot/initrd", KERNEL_CMD="console=hvc0 quiet", ROOT="xvda1")
CASES = {
    "pvh-sample": lambda: (parse_vm(sample("vm-deploy")), ""),
    "pvh-many-disks": lambda: (parse_vm(sample("vm-multi-disk-swap-context-cdrom")), ""),
    "pvh-persistent": lambda: (parse_vm(sample("vm-persistent")), ""),
    "pvh-extras": lambda: (parse_vm(sample("vm-extras-not-in-xsd")), ""),
    "pvh-kernel": lambda: (vm(disk(0), KERNEL), ""),
    "pv-kernel": lambda: (vm(disk(0), KERNEL, nic(0), user=leaf("XEN_TYPE", "pv")), ""),
    "pv-pygrub": lambda: (vm(disk(0), user=leaf("XEN_TYPE", "pv")), ""),
    "pv-pvgrub": lambda: (vm(disk(0), vector("OS", MACHINE="pv", BOOTLOADER="pvgrub")), ""),
    "pv-screen": lambda: (vm(
        disk(0), vector("OS", MACHINE="pv"),
        vector("GRAPHICS", TYPE="VNC", LISTEN="0.0.0.0", PORT="5902", PASSWD="se(ret", KEYMAP="fr"),
    ), ""),
    "hvm-own-loader": lambda: (vm(
        disk(0, "hda"), disk(1, "hdb", TYPE="CDROM", READONLY="YES"),
        vector("OS", MACHINE="hvm", BOOT="disk1,disk0,nic0", FIRMWARE="UEFI"),
        vector("CONTEXT", DISK_ID="2", TARGET="hdc"),
        vector("FEATURES", ACPI="yes", PAE="no", HYPERV="yes", LOCALTIME="no"),
        vector("GRAPHICS", TYPE="vnc", PORT="5901"), nic(0),
    ), ""),
    "openvswitch-and-rate": lambda: (vm(
        disk(0), nic(0, BRIDGE_TYPE="openvswitch", OUTBOUND_AVG_BW="500"), nic(1, VN_MAD="ovswitch_vxlan"),
    ), ""),
    "raw": lambda: (vm(
        disk(0), vector("RAW", TYPE="dnc", DATA="tsc_mode = 'native'"), vector("RAW", TYPE="kvm", DATA="<x/>"),
        vector("RAW", TYPE="my_mad", DATA="nestedhvm = 0\n"), mad="my_mad",
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


@pytest.mark.parametrize("parts, user, said", [
    ((disk(0, "xvda"), disk(1, "sda")), "", "both be xvda"),
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
