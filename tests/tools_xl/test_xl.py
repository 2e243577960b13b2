"""xl's answers, as recorded on Xen 4.20, become records; its complaints become one clear reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnc.errors import DncError
from dnc.tools import xl
from dnc.tools.xl import DomainState

RECORDED = Path(__file__).resolve().parents[1] / "data" / "xl"


def recorded(name: str) -> tuple[str, str]:
    """(stdout, stderr) of a recorded command."""
    out, err = (RECORDED / f"{name}.txt").read_text().split("#@ --- stderr\n")
    return out.partition("#@ --- stdout\n")[2], err


def test_list():
    dom0, guest = xl.parse_list(recorded("xl-list")[0])
    assert dom0 == xl.Domain("Domain-0", 0, 1024, 1, DomainState.RUNNING, 130.2)
    assert guest.name == "g1" and guest.id == 3 and guest.state is DomainState.BLOCKED


def test_list_keeps_a_dying_domain_without_name():
    text = "Name    ID   Mem VCPUs\tState\tTime(s)\n(null)   7     0     1     --psc-d     1.0\n"
    assert xl.parse_list(text)[0].state is DomainState.DYING


@pytest.mark.parametrize("flags, state", [
    ("r-----", DomainState.RUNNING), ("-b----", DomainState.BLOCKED), ("------", DomainState.RUNNING),
    ("--p---", DomainState.PAUSED), ("--ps--", DomainState.SHUTDOWN), ("----c-", DomainState.CRASHED),
    ("-----d", DomainState.DYING),
])
def test_states(flags: str, state: DomainState):
    assert xl.parse_state(flags) is state


def test_list_refuses_what_it_does_not_know():
    with pytest.raises(DncError, match="not understood"):
        xl.parse_list("something else\n")


def test_details():
    (guest,) = xl.parse_details(recorded("xl-list-l-one-json")[0])
    assert (guest.id, guest.name) == (3, "g1")
    assert guest.disks == (xl.LiveDisk("xvda", "/dev/drbd12", False),)
    assert guest.nics == (xl.LiveNic(0, "00:16:3e:00:00:01", ""),)


@pytest.mark.parametrize("text", ["{", '[{"config": {}}]', '["x"]', "3"])
def test_details_refuses_what_it_does_not_know(text: str):
    with pytest.raises(DncError, match="not understood"):
        xl.parse_details(text)


def test_backends_alive_and_dead():
    (alive,) = xl.parse_block_list(recorded("xl-block-list")[0])
    assert alive == xl.Backend(51712, 4) and not alive.dead
    text = "Vdev  BE  handle state evt-ch ring-ref BE-path\n51712 0   9      6     -1     -1       /local/x\n"
    assert text.splitlines()[1].split()[:5] == ["51712", "0", "9", "6", "-1"]
    assert text.split("\n")[1].split()[3] in recorded("xl-drbd-secondary-aftermath")[0]
    assert xl.parse_block_list(text)[0].dead


def test_network_backends():
    assert xl.parse_network_list(recorded("xl-network-list")[0]) == (xl.Backend(0, 4),)


@pytest.mark.parametrize("vdev, number", [
    ("xvda", 51712), ("xvdb", 51728), ("xvdm", 51904), ("xvdp", 51952), ("xvdq", (1 << 28) | (16 << 8)),
    ("hda", 768), ("hdb", 832), ("hdc", 5632), ("hdd", 5696), ("sda", 2048), ("sdb", 2064),
])
def test_device_numbers(vdev: str, number: int):
    assert xl.vdev_number(vdev) == number


@pytest.mark.parametrize("vdev", ["", "vda", "hde", "sdq", "xvd", "xvdA", "xvda1", "../x"])
def test_no_device_number(vdev: str):
    with pytest.raises(DncError):
        xl.vdev_number(vdev)


@pytest.mark.parametrize("name, reason", [
    ("xl-create-nodisk", "Disk vdev=xvda failed to stat: /dev/nodisk: No such file or directory"),
    ("xl-create-nokernel", "failed to open file '/boot/nokernel': No such file or directory"),
    ("xl-create-nomem", "can't allocate low memory for domain: Out of memory"),
    ("xl-create-exists", 'Domain with name "g1" already exists.'),
    ("xl-create-disk-shared", "Device /dev/drbd12 is mounted in a guest domain, and so cannot be mounted now."),
    ("xl-destroy-nodom", "nosuch is an invalid domain identifier (rc=-6)"),
    ("xl-migrate-hostunreach", "ssh: connect to host 10.99.0.77 port 22: No route to host"),
    ("xl-migrate-badcmd", "nouser@10.99.0.2: Permission denied (publickey,password)."),
    ("xl-migrate-pv-stock-xen-logdirty-error", "Failed to enable logdirty: 95,22,0 (22 = Invalid argument)"),
    ("xl-network-attach-nobridge", "Could not find bridge device nobr"),
    ("xl-block-attach-dup", "device already exists in xenstore"),
    ("xl-save-nospace2", "Failed to write page data to stream (28 = No space left on device)"),
])
def test_reason(name: str, reason: str):
    assert xl.reason(recorded(name)[1]) == reason


def test_reason_of_a_bad_configuration_has_file_and_line():
    assert str(xl.reason(recorded("xl-create-bad-config")[1])).startswith("bad.cfg:0: config parsing error")


def test_no_reason_in_silence():
    assert xl.reason("") is None
    assert xl.reason("Parsing config from /x\n") is None


def test_unknown_domain_is_told_from_other_failures():
    assert xl.says_unknown_domain(recorded("xl-destroy-nodom")[1])
    assert not xl.says_unknown_domain(recorded("xl-create-exists")[1])


def test_migration_hands_the_receiver_to_the_shell_as_it_stands():
    assert xl.migrate("one-1", "ssh h xl migrate-receive") == [
        "xl", "migrate", "-s", "", "one-1", "ssh h xl migrate-receive",
    ]
