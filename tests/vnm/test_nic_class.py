"""The Ruby class by which OpenNebula's network drivers find a guest's interface; needs ruby.

With DNC_OPENNEBULA set to a checkout of OpenNebula, its own drivers are run on the class too, every command that they
would give to root noted instead of run.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
CLASS = CHECKOUT / "remotes/vnm/vnmmad-load.d/nic-dnc.rb"
OPENNEBULA = os.environ.get("DNC_OPENNEBULA", "")

pytestmark = pytest.mark.skipif(shutil.which("ruby") is None, reason="no ruby here")

# What the class finds when it is loaded: 6.10 has hashes only, later versions a class with questions about VLANs.
BASE = {
    "6.10": "class NicKVM < Hash\n def initialize\n super(nil)\n end\nend",
    "7.4": "class Nic < Hash\n def vlan_trunk?\n false\n end\nend\nclass NicKVM < Nic\nend",
}
PRELUDE = """
module VNMMAD
  module VNMNetwork
    HYPERVISORS = {}
    BASE
    HYPERVISORS['kvm'] = NicKVM
    HYPERVISORS['lxc'] = Hash
  end
end
XEN = ENV['XEN'] == 'yes'
class << File
  alias really exist?
  def exist?(path)
    path == '/proc/xen/capabilities' ? XEN : really(path)
  end
end
load ENV['CLASS']
include VNMMAD
def class_of(name)
  VNMNetwork::HYPERVISORS[name] || VNMNetwork::NicKVM
end
def tap(name, target)
  nic = class_of(name).new
  nic[:nic_id] = '1'
  nic[:target] = target if target
  nic.get_info(nil)
  nic.get_tap({ 'ID' => '42' })[:tap]
end
"""


def ruby(version: str, script: str, *, xen: bool = True) -> str:
    text = PRELUDE.replace("BASE", BASE[version], 1) + script
    environment = {**os.environ, "XEN": "yes" if xen else "no", "CLASS": str(CLASS)}
    done = subprocess.run(["ruby", "-w", "-e", text], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nic-dnc.rb" not in done.stderr, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("version", sorted(BASE))
@pytest.mark.parametrize("name", ["vmm_dnc", "dnc", "qemu", "kvm", "anything"])
def test_the_interface_is_called_as_oned_chose(version, name):
    assert ruby(version, f"print tap('{name}', 'one-42-1')") == "one-42-1"
    assert ruby(version, f"print tap('{name}', 'uplink0')") == "uplink0"
    assert ruby(version, f"print tap('{name}', nil)") == "one-42-1"
    assert ruby(version, f"print class_of('{name}').new.set_qos('one-42').inspect") == "nil"


def test_it_answers_what_later_versions_ask_of_vlans():
    assert ruby("7.4", "print class_of('vmm_dnc').new.vlan_trunk?") == "false"


@pytest.mark.parametrize("version", sorted(BASE))
def test_other_hypervisors_keep_theirs(version):
    assert ruby(version, "print class_of('lxc')") == "Hash"
    assert ruby(version, "print class_of('kvm')", xen=False) == "VNMMAD::VNMNetwork::NicKVM"
    assert ruby(version, "print class_of('qemu')", xen=False) == "VNMMAD::VNMNetwork::NicKVM"
    assert ruby(version, "print class_of('vmm_dnc')", xen=False) == "VNMMAD::VNMNetwork::NicDnc"


# ---- OpenNebula's own drivers

VM = """<VM><ID>42</ID><DEPLOY_ID>one-42</DEPLOY_ID><HISTORY_RECORDS><HISTORY><HOSTNAME>xen1</HOSTNAME><HID>1</HID>
<DS_ID>100</DS_ID><VM_MAD>{name}</VM_MAD></HISTORY></HISTORY_RECORDS><TEMPLATE><NIC><NIC_ID>0</NIC_ID>
<MAC>02:00:0a:00:00:0a</MAC><IP>10.0.0.10</IP><BRIDGE>br0</BRIDGE><VN_MAD>{driver}</VN_MAD><PHYDEV>eth0</PHYDEV>
<VLAN_ID>7</VLAN_ID><VLAN_TAGGED_ID>5,6</VLAN_TAGGED_ID><CVLANS>3</CVLANS><TARGET>one-42-0</TARGET>
<SECURITY_GROUPS>100</SECURITY_GROUPS><FILTER_IP_SPOOFING>YES</FILTER_IP_SPOOFING>
<FILTER_MAC_SPOOFING>YES</FILTER_MAC_SPOOFING><NETWORK_ID>0</NETWORK_ID></NIC><SECURITY_GROUP_RULE>
<SECURITY_GROUP_ID>100</SECURITY_GROUP_ID><SECURITY_GROUP_NAME>x</SECURITY_GROUP_NAME><PROTOCOL>TCP</PROTOCOL>
<RULE_TYPE>inbound</RULE_TYPE><RANGE>22</RANGE></SECURITY_GROUP_RULE></TEMPLATE></VM>"""


def driver_commands(place: Path, driver: str, action: str, name: str = "vmm_dnc") -> list[str]:
    """What a driver would have root do; the interface exists in a network of its own."""
    source, vnm, library = Path(OPENNEBULA) / "src", place / "vnm", place / "one/lib/ruby"
    shutil.copytree(source / "vnm_mad/remotes", vnm)
    shutil.copytree(source / "vnm_mad/remotes/lib", vnm, dirs_exist_ok=True)
    shutil.copytree(source / "mad/ruby", library)
    (library / "load_opennebula_paths.rb").touch()  # their installer writes it
    (vnm / "vnmmad-load.d").mkdir(exist_ok=True)
    shutil.copy(CLASS, vnm / "vnmmad-load.d")
    sudo = place / "bin/sudo"
    sudo.parent.mkdir()
    sudo.write_text(f'#!/bin/sh\necho "$*" >> {place}/log\n')
    sudo.chmod(0o755)
    script = ("mount -t sysfs sys /sys && ip link add br0 type bridge && ip link add one-42-0 type bridge && "
              f"exec ruby {vnm}/{driver}/{action} one-42 0")
    environment = {**os.environ, "PATH": f"{place}/bin:{os.environ['PATH']}", "ONE_LOCATION": f"{place}/one",
                   "RUBYLIB": str(library)}
    document = base64.b64encode(VM.format(name=name, driver=driver).encode())
    done = subprocess.run(["unshare", "-n", "-m", "sh", "-c", script], input=document, env=environment,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    log = place / "log"
    return log.read_text().splitlines() if log.exists() else []


@pytest.mark.skipif(not OPENNEBULA or os.geteuid() != 0, reason="needs DNC_OPENNEBULA and root")
@pytest.mark.parametrize("driver", ["bridge", "fw", "802.1Q", "vxlan", "ovswitch"])
def test_opennebulas_drivers_work_on_it(tmp_path, driver):
    driver_commands(tmp_path / "pre", driver, "pre")
    after = "\n".join(driver_commands(tmp_path / "post", driver, "post"))
    if driver in ("fw", "802.1Q", "vxlan"):
        for way, chain in (("out", "i"), ("in", "o")):
            rule = f"-m physdev --physdev-is-bridged --physdev-{way} one-42-0 -j one-42-0-{chain}"
            assert f"iptables -w 3 -I opennebula {rule}" in after
        assert "-A one-42-0-o -m mac ! --mac-source 02:00:0a:00:00:0a -j DROP" in after
        assert "ipset add -exist one-42-0-ip-spoofing 10.0.0.10" in after
    elif driver == "ovswitch":
        assert "ovs-vsctl set Port one-42-0 " in after
