"""The fakes against what the real tools said: the command of a capture is run again, and every word is compared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable

import pytest

from sim.farm import SimFarm

CAPTURES = Path(__file__).resolve().parents[1] / "data" / "captures"
pytestmark = pytest.mark.sim

# Captures whose command is run in the state of the fixture `lab`, after these commands on the same host.
PLAIN = (
    "zfs-clone-exists", "zfs-clone-nosnap", "zfs-create-exists", "zfs-destroy-busy", "zfs-destroy-drbd-attached",
    "zfs-destroy-has-snapshots", "zfs-destroy-nosuch", "zfs-destroy-snap-with-clone", "zfs-no-pool", "zfs-nospace",
    "zfs-nosuch",
    "zfs-snap-exists", "zpool-nosuch", "lvcreate-exists", "lvcreate-noorigin", "lvcreate-novg", "lvremove-busy",
    "lvremove-held",
    "lvremove-nosuch", "lvs-nosuch", "drbdadm-nores", "drbdadm-status", "drbdadm-status-nores", "drbdadm-up-twice",
    "drbdadm-create-md-inuse", "drbdadm-version", "drbdadm-role-cstate-dstate", "drbdadm-sh", "drbdsetup-events2",
    "drbdsetup-status-json", "drbdadm-conf-dup-minor", "drbdadm-conf-dup-port", "drbdadm-nodisk", "xl-destroy-nodom",
    "xl-domid-nodom",
    "xl-list-nodom", "xl-migrate-nodom", "xl-pause-nodom", "xl-create-exists", "xl-create-bad-config",
    "xl-block-attach-nodev", "xl-network-attach-nobridge",
)  # fmt: skip
PREPARED = {
    "drbd-secondary-held-open": ["drbdadm primary cz1", "xl block-attach g1 phy:/dev/drbd13,xvdb,w"],
    "drbd-down-held-open": ["drbdadm primary cz1", "xl block-attach g1 phy:/dev/drbd13,xvdb,w"],
    "xl-block-attach-dup": ["drbdadm primary cz1", "xl block-attach g1 phy:/dev/drbd13,xvdb,w"],
    "drbd-open-secondary": ["xl destroy g1"],
    "drbd-disconnect-connect": ["xl destroy g1", "drbdadm secondary cl1"],
    "drbd-detach-attach": ["xl destroy g1", "drbdadm secondary cl1"],
    "drbdadm-down-notup": ["xl destroy g1"],
}


def parts(text: str) -> tuple[str, str, int, str, str]:
    """(host, command, status, stdout, stderr) of a capture file."""
    head = re.match(r"#@ (\w+)\$ (.*?)\n#@ rc=(\d+) .*?\n#@ --- stdout\n(.*?)#@ --- stderr\n(.*)", text, re.S)
    assert head, "not a capture"
    host, command, status, out, err = head.groups()
    return host, command, int(status), out, err


def common_form(text: str) -> str:
    """What may differ: numbers of domains and processes, times, blanks at line ends."""
    text = re.sub(r"Domain \d+:", "Domain N:", text)
    text = re.sub(r"(block|vif-bridge|block add) \w* ?\[\d+\]", r"\1 [PID]", text)
    # A regular kernel without DRBD has no way to answer EMEDIUMTYPE: the fake device gives ENXIO.
    text = text.replace("No such device or address", "Wrong medium type")
    text = re.sub(r"real.*\nuser.*\nsys.*\n", "", text)
    text = re.sub(r"^(\S+ +)\d+(?= +\d+ +\d+ +\S+ +[\d.]+$)", r"\1ID", text, flags=re.M)
    return "".join(line.rstrip() + "\n" for line in text.splitlines() if line.strip())


def compare(farm: SimFarm, name: str) -> None:
    host, command, status, out, err = parts((CAPTURES / f"{name}.txt").read_text())
    done = farm.ssh(host, re.sub(r"sleep [\d.]+;?", "", command), user="root")
    assert common_form(done.stderr) == common_form(err)
    assert common_form(done.stdout) == common_form(out)
    assert done.status == status


@pytest.fixture(scope="module")
def shared(bare: SimFarm, furnished: Callable[[SimFarm], SimFarm]) -> SimFarm:
    """One farm in the captures' state for all questions that change nothing."""
    bare.reset()
    return furnished(bare)


@pytest.mark.parametrize("name", PLAIN)
def test_says_what_the_real_tool_said(shared: SimFarm, name: str) -> None:
    compare(shared, name)


@pytest.mark.parametrize("name", sorted(PREPARED))
def test_says_so_in_that_state(lab: SimFarm, name: str) -> None:
    host = parts((CAPTURES / f"{name}.txt").read_text())[0]
    for command in PREPARED[name]:
        done = lab.ssh(host, command, user="root")
        assert done.status == 0, done.stderr
    compare(lab, name)
