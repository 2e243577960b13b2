"""Every kind of domain boots on real Xen: PVH and PV by kernel and by their own boot loader, HVM by its disk's; and
what a template says arrives at xl, libxl and the device model."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from vmm.hostile import hostile_configurations
from vmm.xl_reader import read

pytestmark = pytest.mark.lablong

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "golden" / "xl"
DESKTOP = {
    "XEN_TYPE": "hvm", "OS": {"BOOT": "disk0,nic0"}, "MEMORY": "192", "XEN_RTC_OFFSET": "3600",
    "NIC": {"NETWORK": "guests", "MODEL": "e1000"}, "VIDEO": {"TYPE": "vga", "VRAM": "16384"},
    "INPUT": {"TYPE": "tablet", "BUS": "usb"},
    "FEATURES": {"ACPI": "yes", "PAE": "yes", "APIC": "yes", "HYPERV": "yes"},
    # No PASSWD: the device model of Debian 13 has no DES and would not start.
    "GRAPHICS": {"TYPE": "VNC", "LISTEN": "127.0.0.1", "KEYMAP": "de"},
}
KINDS = {
    "pvh-own-loader": {"XEN_TYPE": "pvh", "OS": {}},
    "pv-kernel": {"XEN_TYPE": "pv"},
    "pv-pygrub": {"XEN_TYPE": "pv", "OS": {"BOOTLOADER": "pygrub"}},
    "pv-pvgrub": {"XEN_TYPE": "pv", "OS": {"BOOTLOADER": "pvgrub"}},
    "hvm-kernel": {"XEN_TYPE": "hvm", "MEMORY": "192"},
    "hvm-own-loader": DESKTOP,
}


@pytest.mark.parametrize("kind", KINDS)
def test_boots_and_writes(stage, kind_image, kind):
    vm = stage.instantiate(kind_image, "node1", **KINDS[kind])
    try:
        if KINDS[kind] is DESKTOP:
            see_the_desktop(stage, vm)
        first = stage.wait_for_tick(vm, 0)
        assert stage.wait_for_tick(vm, first) > first
        assert stage.domain_hosts(vm) == ["node1"]
    finally:
        stage.cloud.terminate(vm, hard=True).checked()
    assert [line for line in stage.leftovers() if f"-{vm.id}-" in line or "domain" in line] == []


def see_the_desktop(stage, vm):
    """Screen, mouse, emulated interface and serial line, in libxl's records and at the device model."""
    config = described(stage, vm)
    hvm = config["b_info"]["type.hvm"]
    assert (hvm["vga"]["kind"], hvm["vnc"]["enable"], hvm["keymap"], hvm["serial"]) == ("std", "True", "de", "pty")
    assert hvm["usbdevice_list"] == ["tablet"] and hvm["hdtype"] == "ahci"
    assert config["b_info"]["rtc_timeoffset"] == 3600
    (nic,) = config["nics"]
    assert (nic["nictype"], nic["model"], nic["ifname"]) == ("vif_ioemu", "e1000", f"one-{vm.id}-0")
    links = stage.lab.root("node1", ["ls", "/sys/class/net"]).stdout.split()
    assert {f"one-{vm.id}-0", f"one-{vm.id}-0-emu"} <= set(links)
    port = int(vm.template["GRAPHICS"]["PORT"])
    listening = stage.lab.root("node1", ["cat", "/proc/net/tcp"]).stdout
    assert f"0100007F:{port:04X} 00000000:0000 0A" in listening


def described(stage, vm):
    """A domain's configuration as libxl keeps it."""
    domains = json.loads(stage.lab.root("node1", ["xl", "list", "-l", f"one-{vm.id}"]).stdout)
    (config,) = [domain["config"] for domain in domains if domain["config"]["c_info"]["name"] == f"one-{vm.id}"]
    return config


def test_what_a_template_says_is_what_the_guest_gets(stage, kind_image):
    vm = stage.instantiate(
        kind_image, "node1", XEN_TYPE="pvh", XEN_CPU_CAP="yes", MEMORY_MAX="256",
        DISK=[{"IMAGE": kind_image.name, "TARGET": "xvda", "DISCARD": "ignore"},
              {"TYPE": "fs", "SIZE": "16", "TARGET": "sda"},
              {"TYPE": "swap", "SIZE": "16", "TARGET": "vdb", "READONLY": "YES"}],
        NIC={"NETWORK": "guests", "OUTBOUND_AVG_BW": "500", "OUTBOUND_PEAK_KB": "100", "MTU": "1400"},
        CPU_MODEL={"MODEL": "host-passthrough", "FEATURES": "cx16,lahf_lm"},
        FEATURES={"ACPI": "yes", "LOCALTIME": "no"},
        TOPOLOGY={"PIN_POLICY": "CORE"}, NUMA_NODE={"CPUS": "0", "TOTAL_CPUS": "1", "MEMORY": "163840"},
    )
    try:
        stage.wait_for_tick(vm, 0)
        config = described(stage, vm)
        disks = {disk["vdev"]: disk for disk in config["disks"]}
        # disk 1 wants to be xvda too: it stands apart. The context is hda, which a PVH guest has not.
        assert set(disks) == {"xvda", "xvdaa", "xvdb", "xvdm"}
        assert disks["xvda"]["discard_enable"] == "False" and disks["xvdaa"]["readwrite"] == 1
        assert "readwrite" not in disks["xvdb"] or disks["xvdb"]["readwrite"] == 0
        states = stage.lab.root("node1", ["xl", "block-list", f"one-{vm.id}"]).stdout.splitlines()[1:]
        assert {line.split()[0]: line.split()[3] for line in states} == {
            "51712": "4", str(1 << 28 | 26 << 8): "4", "51728": "4", "51904": "4"}
        number = stage.lab.root("node1", ["xl", "domid", f"one-{vm.id}"]).stdout.strip()
        backend = f"/local/domain/0/backend/vif/{number}/0"
        assert stage.lab.root("node1", ["xenstore-read", f"{backend}/rate"]).stdout.strip() == "100000,200000"
        assert stage.lab.root("node1", ["xenstore-read", f"{backend}/mtu"]).stdout.strip() == "1400"
        assert config["b_info"]["max_memkb"] == 256 * 1024
        shares = stage.lab.root("node1", ["xl", "sched-credit2", "-d", f"one-{vm.id}"]).stdout.split()
        assert shares[-2:] == ["128", "50"]
        assert config["b_info"]["vcpu_hard_affinity"] == [[0]]
    finally:
        stage.cloud.terminate(vm, hard=True).checked()


def test_what_xen_cannot_do_is_refused_with_its_name(stage, kind_image):
    refused = stage.cloud.instantiate(
        stage.template(kind_image, DISK={"IMAGE": kind_image.name, "TOTAL_IOPS_SEC": "100"}), host="node1")
    operation = stage.cloud.operations[-1]
    try:
        assert not operation.ok and "TOTAL_IOPS_SEC" in operation.error
        assert stage.domain_hosts(refused) == []
    finally:
        stage.cloud.terminate(refused, hard=True).checked()


def test_xl_itself_reads_every_golden_configuration(stage):
    """Its parser is the judge of ours: `xl create -n` reads a configuration, shows it as JSON and makes nothing."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in sorted(GOLDEN.glob("*.cfg")):
            archive.add(path, path.name)
    stage.lab.root("node1", ["mkdir", "-p", "/root/golden"])
    stage.lab.root("node1", ["tar", "-C", "/root/golden", "-xf", "-"], input=packed.getvalue())
    script = 'cd /root/golden; for f in *.cfg; do xl create -n "$f" >"$f.json" 2>"$f.err"; echo "$f $?"; done'
    answers = stage.lab.root("node1", ["sh", "-c", script], timeout=600).stdout.splitlines()
    failed = [name for name, status in (line.split() for line in answers) if status != "0"]
    texts = stage.lab.root("node1", ["sh", "-c", "cd /root/golden; tail -n 3 *.err"]).stdout
    assert failed == [], texts
    assert len(answers) == len(list(GOLDEN.glob("*.cfg")))


def test_the_parser_of_xl_understands_what_was_meant(stage):
    """libxlutil on the host against the strict reader here: golden configurations, and hostile documents'."""
    golden = [(text, read(text, again=True)) for text in (path.read_text() for path in sorted(GOLDEN.glob("*.cfg")))]
    asked = [*golden, *hostile_configurations(1000, seed=20)]
    script = (Path(__file__).parent / "libxlutil.py").read_text()
    answer = stage.lab.root("node1", ["python3", "-c", script], input=json.dumps(asked), timeout=300).stdout
    assert answer.split() == [str(sum(len(values) for _text, values in asked))], answer


@pytest.fixture(scope="module")
def kind_image(stage):
    """One image for all kinds; how a guest boots does not depend on the backend."""
    image = stage.import_guest("thin", "guest-of-all-kinds")
    yield image
    stage.cloud.delete_image(image).checked()
