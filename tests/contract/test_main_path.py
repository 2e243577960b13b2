"""The main job: a VM with disks of every kind lives its life on both hosts, and nothing is left of it."""

from __future__ import annotations

import pytest
import scenarios
from marks import THIN_FIRST, THOROUGH
from simulated import MIB, POOLS, SimStage

pytestmark = pytest.mark.sim


def test_life_of_a_vm(stage: SimStage, backend: str) -> None:
    clone = stage.import_image(backend)
    kept = stage.import_image(backend, stage.raw_file(seed=2), persistent=True)
    volatile = {"TYPE": "fs", "FS": "ext4", "SIZE": "8", "DNC_POOL": POOLS[backend]}
    # Each disk costs a call at every move: the two backends share the kinds between them.
    story = scenarios.life(stage, [clone, kept] if backend == "zfs" else [clone, volatile])
    for name in story.resources:
        assert stage.replicas_equal(name, MIB), name
    story.note("terminate", stage.cloud.terminate(story.vm))
    assert story.observed[-1].domains == []
    assert stage.remains(clone, kept) == []
    for image in (clone, kept):
        assert stage.replicas_equal(image.source, MIB)


@THIN_FIRST
def test_cdrom_swap_and_context(stage: SimStage, backend: str) -> None:
    cdrom = stage.import_image(backend, stage.raw_file(seed=3), type="CDROM")
    swap = {"TYPE": "swap", "SIZE": "4", "DNC_POOL": POOLS[backend]}
    two = [stage.instantiate(stage.import_image(backend), cdrom, swap, host=host) for host in stage.hosts]
    for vm, host in zip(two, stage.hosts):
        disks = stage.farm.domains(host)[f"one-{vm.id}"]["disks"]
        assert [disk["mode"] for disk in disks] == ["w", "r", "w", "r"]
        assert b"SWAPSPACE2" in stage.farm.volume_data(host, f"one-sys-{vm.id}-2", 4096)
        if host == "node1":
            stage.cloud.migrate(vm, "node2", live=True).checked()
        stage.cloud.terminate(vm, hard=True).checked()
    assert stage.replicas_equal(cdrom.source, MIB)


@THOROUGH
def test_both_backends_show_the_same(stage: SimStage) -> None:
    one, other = (scenarios.compared(scenarios.short_life(stage, backend)) for backend in POOLS)
    assert one == other
    assert len(one) > 8
