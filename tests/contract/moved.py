"""The post-migration hook as those call it who moved a domain, and domains moved behind OpenNebula's back."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from simulated import SimStage

from oned import VirtualMachine
from sim.farm import Done


class Hook:
    """dnc-moved of the installed suite on the frontend, with this Python, since it has pyone."""

    def __init__(self, stage: SimStage) -> None:
        self.stage = stage
        self.path = stage.cloud.remotes / "hooks" / "dnc-moved"
        self.home = Path(stage.cloud.environment["HOME"]) / ".one"
        self.auth = self.home / "dnc_hook_auth"
        self.queue = self.home / "dnc_moves"

    def start(self, *words: str, path: Path | None = None, **environment: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", str(path or self.path), *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**self.stage.cloud.environment, **environment},
        )

    def __call__(self, *words: str, path: Path | None = None, **environment: str) -> Done:
        return ended(self.start(*words, path=path, **environment))

    def moved(self, vm: VirtualMachine, source: str = "node1", destination: str = "node2") -> Done:
        return self(f"one-{vm.id}", source, destination)

    @property
    def waiting(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.queue.glob("*.move"))]

    def make_due(self) -> None:
        """As if time had passed."""
        for path in self.queue.glob("*.move"):
            path.write_text(json.dumps({**json.loads(path.read_text()), "due": 0.0}))

    def forget(self) -> None:
        """Credentials and queue away; the user stays."""
        for path in (self.auth, *self.queue.glob("*")):
            path.unlink(missing_ok=True)


def ended(process: subprocess.Popen[bytes]) -> Done:
    out, err = process.communicate(timeout=120)
    return Done(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


def move_by_hand(stage: SimStage, vm: VirtualMachine, source: str = "node1", destination: str = "node2") -> None:
    """What an administrator or a cluster manager does: both ends Primary, `xl migrate`; nobody tells oned."""
    done = stage.migration(vm, "premigrate", source, destination)
    assert done.status == 0, done.stderr
    receiver = f"ssh {destination} sudo -n xl migrate-receive"
    done = stage.farm.run(source, ["xl", "migrate", "-s", "", f"one-{vm.id}", receiver])
    assert done.status == 0, done.stderr
    assert stage.domain_hosts(vm) == [destination]


def xl_changes(stage: SimStage, since: float) -> list[str]:
    """What was done to domains since a time: everything but questions."""
    questions = ("list", "block-list", "network-list", "vcpu-list", "info", "dmesg", "domid", "domname")
    return [" ".join(one["argv"]) for one in stage.farm.commands
            if one["argv"][0] == "xl" and one["argv"][1] not in questions and one["started"] > since]


def now() -> float:
    return time.time()
