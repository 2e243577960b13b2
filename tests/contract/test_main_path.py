"""The main job: a VM with disks of every kind lives its life on both hosts, and nothing is left of it."""

from __future__ import annotations

import pytest
import scenarios
from simulated import MIB, POOLS, SimStage

pytestmark = pytest.mark.sim


def test_life_of_a_vm(stage: SimStage, backend: str) -> None:
    clone = stage.import_image(backend)
    kept = stage.import_image(backend, stage.raw_file(seed=2), persistent=True)
    cdrom = stage.import_image(backend, stage.raw_file(MIB, seed=3), type="CDROM")
    pool = {"DNC_POOL": POOLS[backend]}
    story = scenarios.life(stage, backend, [
        clone, kept, cdrom, {"TYPE": "fs", "FS": "ext4", "SIZE": "8", "FORMAT": "raw", **pool},
        {"TYPE": "swap", "SIZE": "4", **pool},
    ])
    for name in story.resources:
        assert stage.replicas_equal(name, MIB), name
    story.note("terminate", stage.cloud.terminate(story.vm))
    assert story.observed[-1].domains == []
