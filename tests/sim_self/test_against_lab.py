"""One scenario of raw tool commands, observed on simulated hosts and on real ones: both must see the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sim import scenario
from sim.farm import SimFarm
from sim.record import RECORDING

pytestmark = pytest.mark.sim
BACKENDS = {"zfs": scenario.ZFS, "lvm": scenario.LVM}


def recorded(kind: str) -> dict[str, Any]:
    """What real hosts showed (see sim/record.py)."""
    found: dict[str, Any] = json.loads(RECORDING.read_text())
    return {name: value for name, value in found.items() if name.startswith(f"{kind},")}


@pytest.mark.parametrize("kind", sorted(BACKENDS))
def test_the_simulation_observes_what_the_lab_did(farm: SimFarm, kind: str) -> None:
    for host in farm.hosts:
        farm.run(host, ["sh", "-c", f"mkdir -p {scenario.GUEST}; cd {scenario.GUEST}; echo x | tee guest-vmlinuz "
                                    f"guest-initrd"])
    observed = scenario.Scenario(farm, BACKENDS[kind]).run()
    assert json.loads(json.dumps(observed)) == recorded(kind)
    assert farm.leftovers() == []
