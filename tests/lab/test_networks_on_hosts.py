"""A rule for one-<vm>-<nic> filters a guest's traffic, before and after a live migration; pytest -m lablong.

The rules are those that OpenNebula's security groups give to iptables for a group that lets ssh in and nothing else
(tests/vnm runs its own drivers to see them).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from oned import VirtualMachine
from stage import Stage

pytestmark = pytest.mark.lablong
TRIES, WAIT_S = 3, 5


@pytest.fixture(scope="module")
def guest(stage: Stage) -> Iterator[VirtualMachine]:
    """A guest on node1, in the hosts' bridge with them."""
    image = stage.import_guest("zfs", "networked")
    vm = stage.instantiate(image, "node1")
    stage.wait_for_tick(vm, 1)
    addresses(stage, "add")
    yield vm
    addresses(stage, "del")
    stage.cloud.terminate(vm, hard=True).checked()
    stage.cloud.delete_image(image).checked()


def addresses(stage: Stage, verb: str) -> None:
    """An address in the guest's network for each host."""
    for number, host in enumerate(stage.lab.hosts[:2], 201):
        stage.lab.root(host, ["ip", "addr", verb, f"10.0.0.{number}/24", "dev", "br0"])


def interface(vm: VirtualMachine) -> str:
    return f"one-{vm.id}-0"


def ports(stage: Stage, host: str) -> list[str]:
    """Interfaces in the bridge of a host."""
    return stage.lab.root(host, ["ls", "/sys/class/net/br0/brif"]).stdout.split()


def reached(stage: Stage, host: str, vm: VirtualMachine) -> bool:
    """Whether pings from a host come back from the guest."""
    address = str(vm.nics[0]["IP"])
    done = stage.lab.root(host, ["ping", "-c", str(TRIES), "-W", str(WAIT_S), address], check=False)
    return done.returncode == 0


def iptables(stage: Stage, host: str, *words: str) -> str:
    return stage.lab.root(host, ["iptables", "-w", "3", *words]).stdout


def close(stage: Stage, host: str, vm: VirtualMachine) -> None:
    """What OpenNebula's `post` does on a host: only ssh may come in, and only from its own address the guest speaks."""
    tap = interface(vm)
    bridged = ("-m", "physdev", "--physdev-is-bridged")
    for chain in ("opennebula", f"{tap}-i", f"{tap}-o"):
        iptables(stage, host, "-N", chain)
    iptables(stage, host, "-A", "FORWARD", *bridged, "-j", "opennebula")
    iptables(stage, host, "-A", "opennebula", "-j", "ACCEPT")
    iptables(stage, host, "-I", "opennebula", *bridged, "--physdev-out", tap, "-j", f"{tap}-i")
    iptables(stage, host, "-I", "opennebula", *bridged, "--physdev-in", tap, "-j", f"{tap}-o")
    iptables(stage, host, "-A", f"{tap}-o", "-m", "mac", "!", "--mac-source", str(vm.nics[0]["MAC"]), "-j", "DROP")
    for chain in (f"{tap}-i", f"{tap}-o"):
        iptables(stage, host, "-A", chain, "-m", "state", "--state", "ESTABLISHED,RELATED", "-j", "RETURN")
    iptables(stage, host, "-A", f"{tap}-i", "-p", "tcp", "-m", "multiport", "--dports", "22", "-j", "RETURN")
    iptables(stage, host, "-A", f"{tap}-i", "-j", "DROP")
    iptables(stage, host, "-A", f"{tap}-o", "-j", "DROP")


def let_pings_in(stage: Stage, host: str, vm: VirtualMachine) -> None:
    """The group gets a rule more."""
    iptables(stage, host, "-I", f"{interface(vm)}-i", "-p", "icmp", "-j", "RETURN")


def dropped(stage: Stage, host: str, chain: str) -> int:
    """Packets that the last rule of a chain has dropped."""
    lines = iptables(stage, host, "-L", chain, "-v", "-x", "-n").splitlines()
    last = [line.split() for line in lines if " DROP " in line][-1]
    return int(last[0])


def passed(stage: Stage, host: str, chain: str) -> int:
    """Packets that a chain has seen and let go."""
    lines = iptables(stage, host, "-L", chain, "-v", "-x", "-n").splitlines()
    return sum(int(line.split()[0]) for line in lines if " RETURN " in line)


def look(stage: Stage, here: str, there: str, vm: VirtualMachine) -> None:
    """The guest is on `here`; traffic from `there` crosses the bridge of `here`."""
    tap = interface(vm)
    assert tap in ports(stage, here)
    assert tap not in ports(stage, there)
    assert reached(stage, there, vm)
    close(stage, here, vm)
    assert not reached(stage, there, vm)
    assert dropped(stage, here, f"{tap}-i") >= TRIES
    let_pings_in(stage, here, vm)
    assert reached(stage, there, vm)
    # the answers went out through the interface's other chain
    assert passed(stage, here, f"{tap}-o") >= 1


def test_a_rule_filters_a_guest_before_and_after_its_migration(stage: Stage, guest: VirtualMachine) -> None:
    look(stage, "node1", "node2", guest)
    stage.cloud.migrate(guest, "node2", live=True).checked()
    stage.wait_for_tick(guest, stage.last_tick(guest))
    look(stage, "node2", "node1", guest)


def test_the_kernel_filters_bridges(stage: Stage, guest: VirtualMachine) -> None:
    """Without br_netfilter rules would be there and filter nothing: the first rule of that kind loads it."""
    for host in stage.lab.hosts[:2]:
        switch = "/proc/sys/net/bridge/bridge-nf-call-iptables"
        assert stage.lab.root(host, ["cat", switch]).stdout.strip() == "1"
