"""What a domain has of CPUs and memory, and what its host's CPU can, as recorded on Xen 4.20."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dnc.errors import DncError
from dnc.tools import cpu_features, xl, xl_capacity
from dnc.tools.xl_capacity import Capacity

RECORDED = Path(__file__).resolve().parents[1] / "data" / "xl"


def recorded(name: str) -> tuple[str, str]:
    """(stdout, stderr) of a recorded command."""
    out, err = (RECORDED / f"{name}.txt").read_text().split("#@ --- stderr\n")
    return out.partition("#@ --- stdout\n")[2], err


def test_capacity():
    (guest,) = xl.parse_details(recorded("xl-list-l-pvh")[0])
    assert guest.capacity == Capacity(1, 2, 131072, 196608, "credit2", 256)
    assert (guest.capacity.memory_mib, guest.capacity.memory_max_mib, guest.capacity.weighed) == (128, 192, True)
    assert not guest.cpu_masked


@pytest.mark.parametrize("name, vcpus, mib, weight", [
    ("xl-mem-set-up", 1, 176, 256), ("xl-mem-set-down", 1, 112, 256), ("xl-mem-set-too-low", 1, 24, 256),
    ("xl-mem-set-beyond", 1, 176, 256), ("xl-vcpu-set-up", 2, 128, 256), ("xl-vcpu-set-beyond", 2, 128, 256),
    ("xl-vcpu-set-down", 1, 128, 512), ("xl-sched-weight", 2, 128, 512),
])
def test_what_each_command_led_to(name: str, vcpus: int, mib: int, weight: int):
    """xl list -l tells what was asked for; what the guest has given, `xl list` tells."""
    line = next(line for line in recorded(name)[0].splitlines() if line.startswith('{"max_vcpus"'))
    found = xl_capacity.parse_capacity(json.loads(line))
    assert (found.vcpus, found.memory_mib, found.weight) == (vcpus, mib, weight)


def test_a_guest_gives_no_more_than_it_can():
    shown = [int(number) for number in re.findall(r"^g +\d+ +(\d+) ", recorded("xl-mem-set-too-low")[0], re.MULTILINE)]
    assert shown == [98, 76, 76], "asked for 24 MiB, and xl reported success"


def test_pauses_add_up_and_one_too_many_is_no_failure():
    """What freezing.py relies on."""
    out, err = recorded("xl-pause-adds-up")
    flags = re.findall(r"^g +\d+ +\d+ +\d+ +(\S+) ", out, re.MULTILINE)
    assert ["p" in one for one in flags] == [True, True, False, False]
    assert "rc=0" in out and "Unpausing domain: Invalid argument" in err


def test_a_scheduler_without_weights_and_missing_fields():
    found = xl_capacity.parse_capacity({"max_vcpus": 2, "sched_params": {"sched": "rtds"}})
    assert found == Capacity(2, 2, 0, 0, "rtds", -1) and not found.weighed
    assert not xl_capacity.parse_capacity({}).weighed


def test_the_commands():
    assert xl_capacity.set_memory("one-1", 64) == ["xl", "mem-set", "one-1", "64m"]
    assert xl_capacity.set_vcpus("one-1", 2) == ["xl", "vcpu-set", "--ignore-host", "one-1", "2"]
    assert xl_capacity.set_weight("one-1", "credit", 512) == ["xl", "sched-credit", "-d", "one-1", "-w", "512"]


def test_info():
    found = cpu_features.parse_hypervisor(recorded("xl-info-features")[0])
    assert found.version == (4, 20) and found.free_mib > 0
    assert found.features == ("sse3", "cx16", "nx", "lm", "lahf")


def test_features_that_are_lacking():
    plain, better = "80002001:20100800:00000005:00000000:00000000:", "92982203:2c100800:00000021:00000001:00000128:"
    rich = cpu_features.parse_hypervisor(recorded("xl-info-features")[0].replace(plain, better))
    poor = cpu_features.parse_hypervisor(recorded("xl-info-features")[0])
    assert cpu_features.lacking(rich.features, poor.features) == (
        "pclmulqdq", "ssse3", "sse4.1", "sse4.2", "popcnt", "aes", "avx", "page1gb", "rdtscp", "abm", "xsaveopt",
        "bmi1", "avx2", "bmi2")
    assert cpu_features.lacking(poor.features, rich.features) == ()


@pytest.mark.parametrize("text", ["", "hw_caps : zz\nxen_major : 4\nxen_minor : 2\nfree_memory : 3\n"])
def test_info_that_is_none(text: str):
    with pytest.raises(DncError, match="xl info: not understood"):
        cpu_features.parse_hypervisor(text)
