"""What the simulated farm shows is what the real hosts show: the same stories are played on both and compared."""

from __future__ import annotations

import json

import pytest
import scenarios
from simulated import SimStage

from sim.record import RECORDING, LabFarm
from sim.scenario import Scenario
from sim.scenario_tools import LVM, ZFS

TOOLS = {"zfs": ZFS, "thin": LVM}
pytestmark = pytest.mark.lablong


def test_a_vm_lives_the_same_life(stage, backend, tmp_path):
    """The suite's executables: states, places, roles and calls after each user operation."""
    real = scenarios.compared(scenarios.short_life(scenarios.LabPlace(stage), backend))
    with SimStage(tmp_path) as simulated:
        assert real == scenarios.compared(scenarios.short_life(simulated, backend))


def test_the_tools_answer_as_recorded(stage, backend):
    """zfs, LVM, DRBD and xl by hand; the simulated farm is compared with the same recording (tests/sim_self)."""
    tools = TOOLS[backend]
    recorded = json.loads(RECORDING.read_text())
    observed = json.loads(json.dumps(Scenario(LabFarm(stage.lab), tools).run()))
    assert observed == {name: value for name, value in recorded.items() if name.startswith(f"{tools.kind},")}
