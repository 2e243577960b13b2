"""A farm in the state in which most captures of the lab were taken."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, Iterator

import pytest
from captured_state import COMMON, GUEST, run, write_resource

from sim.farm import SimFarm


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimFarm]:
    """Two empty hosts; tests that change them use `farm` or reset."""
    if os.geteuid() != 0:
        pytest.skip("the simulated farm needs root")
    with SimFarm(tmp_path_factory.mktemp("farm"), ("node1", "node2"), pool_bytes=3 << 30) as made:
        yield made


@pytest.fixture
def farm(bare: SimFarm) -> SimFarm:
    """Two empty hosts."""
    bare.reset()
    return bare


@pytest.fixture
def lab(farm: SimFarm) -> SimFarm:
    """The captures' state, for a test that may change it."""
    return furnish(farm)


def furnish(farm: SimFarm) -> SimFarm:
    """tl and its clone cl1 on LVM, tz and its clone cz1 on ZFS, all up; guest g1 on cl1 at node1."""
    resources = (
        ("tl", 1, "/dev/vg0/tl"), ("tz", 2, "/dev/zvol/tank/tz"), ("cl1", 12, "/dev/vg0/cl1"),
            ("cz1", 13, "/dev/zvol/tank/cz1"),
    )  # fmt: skip
    for host in ("node1", "node2"):
        Path(farm.path(host, "/etc/drbd.d/global_common.conf")).write_text(COMMON)
        for name, minor, disk in resources:
            write_resource(farm, host, name, minor, disk)
        volumes = [
            "lvcreate -q -y -V 128M -T vg0/pool -n tl", "lvcreate -q -y -kn -s -n cl1 vg0/tl",
            "zfs create -s -V 128M tank/tz", "zfs snapshot tank/tz@c1", "zfs clone tank/tz@c1 tank/cz1",
        ]  # fmt: skip
        run(farm, host, [*volumes, *(f"drbdadm create-md --force {name}" for name, _, _ in resources),
            "drbdadm up all"])
    Path(farm.path("node1", "/root/g1.cfg")).write_text(GUEST)
    declared = [f"drbdadm new-current-uuid --clear-bitmap {name}/0" for name, _, _ in resources]
    run(farm, "node1", [*declared, "drbdadm primary cl1", "xl create /root/g1.cfg"])
    return farm


@pytest.fixture(scope="session")
def furnished() -> Callable[[SimFarm], SimFarm]:
    """The function `furnish`."""
    return furnish
