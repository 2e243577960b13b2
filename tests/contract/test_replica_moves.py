"""MISSING_REPLICA=move: a VM that is off goes to a host without a replica, and one of its disks' replicas comes too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lines import HeldVm, complaint, succeeds
from marks import THOROUGH, ZFS_FIRST
from simulated import MIB, SimStage
from test_copies import on_two, record, requires
from test_places import last_call

from sim.farm import Done

pytestmark = pytest.mark.sim


@pytest.fixture
def stage(three: SimStage) -> Iterator[SimStage]:
    """Three hosts that move replicas."""
    three.configure(MISSING_REPLICA="move")
    yield three
    three.configure()


def replicas(stage: SimStage, name: str) -> set[str]:
    """The hosts that hold it, all of whose files agree on that, and say that it is finished."""
    where = stage.holders(name)
    for host in where:
        found = record(stage, host, name)
        assert found["state"] == "ready" and "leaving" not in found
        assert {member[0] for member in found["members"] if member[2]} == where, f"{name} on {host}"
    return where


def settled(stage: SimStage, name: str, host: str) -> set[str]:
    """As `replicas`, `host` among them, equal, and up everywhere (DRBD) with nobody Primary."""
    where = replicas(stage, name)
    assert host in where
    if len(where) > 1:
        assert stage.replicas_equal(name, 2 * MIB)
        assert {stage.roles(name)[one] for one in where} == {"Secondary"}
    return where


@pytest.fixture
def held(stage: SimStage) -> Iterator[Any]:
    """Makes a disk of a VM that never starts: moved by single lines of a transfer file; removed after the test."""
    made: list[HeldVm] = []

    def make(image: Any, host: str = "node1") -> tuple[HeldVm, str]:
        one = HeldVm(stage, image, host=host)
        made.append(one)
        succeeds(one.make())
        return one, image.source if image.persistent else f"{image.source}-{one.vm.id}-0"

    yield make
    stage.farm.clear_faults()
    for one in made:
        succeeds(one.delete())
        succeeds(one.delete_directory())
        one.forget()


def data(stage: SimStage, host: str, name: str) -> bytes:
    return stage.farm.volume_data(host, name, 2 * MIB)


def test_a_vm_that_is_off_takes_a_replica_with_it(stage: SimStage, backend: str) -> None:
    """Two disks stay together; what was written is there; the scheduler knows; it moves live among the new hosts."""
    images = [on_two(stage, backend), on_two(stage, backend, path=stage.raw_file(seed=2))]
    vm = stage.bare(*images, host="node1")
    names = [f"{image.source}-{vm.id}-{number}" for number, image in enumerate(images)]
    stage.cloud.poweroff(vm, hard=True).checked()
    before = [data(stage, "node1", name) for name in names]
    stage.cloud.migrate(vm, "node3").checked()
    places = {frozenset(settled(stage, name, "node3")) for name in names}
    assert len(places) == 1 and len(next(iter(places))) == 2
    assert [data(stage, "node3", name) for name in names] == before
    resyncs = [one["target"] for name in names for one in stage.resyncs_of(name)]
    assert resyncs == ([] if stage.drbd == "8.4" else ["node3"] * len(resyncs))
    other, = next(iter(places)) - {"node3"}
    assert requires(vm) == {0: tuple(sorted(("node3", other))), 1: tuple(sorted(("node3", other)))}
    assert "MiB usable there, the least of" in last_call(stage, "mv").stderr + "".join(
        call.stderr for call in stage.cloud.calls if call.action == "mv")
    stage.cloud.resume(vm).checked()
    assert stage.domain_hosts(vm) == ["node3"]
    stage.cloud.migrate(vm, other, live=True).checked()
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(*images) == []
