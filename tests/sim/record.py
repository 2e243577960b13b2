"""Record on a running lab what the scenario observes: `python -m sim.record` in tests/, with lab/ on PYTHONPATH."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from sim import scenario

RECORDING = Path(__file__).resolve().parents[1] / "data" / "lab-observations.json"


class Done(NamedTuple):
    """How a command ended."""

    status: int
    stdout: str
    stderr: str


class LabFarm:
    """The lab's hosts, as the scenario wants a farm."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab

    def run(self, host: str, argv: Sequence[str]) -> Done:
        done = self.lab.root(host, list(argv), check=False)
        return Done(done.returncode, done.stdout, done.stderr)


def main() -> None:
    from dnclab import Lab

    found: dict[str, Any] = json.loads(RECORDING.read_text()) if RECORDING.exists() else {}
    for backend in (scenario.ZFS, scenario.LVM):
        farm = LabFarm(Lab(*sys.argv[1:]))
        found = {name: value for name, value in found.items() if not name.startswith(f"{backend.kind},")}
        found.update(scenario.Scenario(farm, backend, lambda text: print(text, flush=True)).run())
        RECORDING.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
