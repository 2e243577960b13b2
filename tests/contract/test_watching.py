"""dnc-watch on the hosts: a domain that is moved by hand is noticed at both ends, and written down where it arrived."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from marks import THOROUGH
from moved import move_by_hand
from simulated import SimStage

pytestmark = [pytest.mark.sim, THOROUGH]

QUEUE = "/var/lib/dnc/moves"
WATCH = "echo $$ > /tmp/watch.pid; exec /usr/bin/python3 -I /var/tmp/one/hooks/dnc-watch"


@pytest.fixture
def watched(stage: SimStage) -> Iterator[SimStage]:
    """Both hosts watch. They have no credentials, so that what they notice stays in their queues."""
    stage.configure(HOOK_QUEUE=QUEUE, HOOK_AUTH="/var/lib/dnc/none")
    ssh = f"{stage.farm.directory}/bin/ssh"
    services = [subprocess.Popen([ssh, host, WATCH], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT) for host in stage.hosts]
    yield stage
    for host in stage.hosts:
        stage.farm.run(host, ["sh", "-c", f"kill $(cat /tmp/watch.pid); rm -rf {QUEUE} /tmp/watch.pid"])
    for service in services:
        assert service.communicate(timeout=30)[0] is not None
    stage.configure()


def waiting(stage: SimStage, host: str) -> dict[int, dict[str, Any]]:
    """What a host's queue holds, by VM."""
    found = {}
    for path in Path(stage.farm.path(host, QUEUE)).glob("*.move"):
        record = json.loads(path.read_text())
        found[record["vm"]] = record
    return found


def await_move(stage: SimStage, host: str, vm: int, source: str, destination: str) -> None:
    end = time.monotonic() + 60
    while True:
        record = waiting(stage, host).get(vm, {})
        if (record.get("source"), record.get("destination")) == (source, destination):
            return
        assert time.monotonic() < end, waiting(stage, host)
        time.sleep(0.1)


def test_both_ends_of_a_move_are_noticed(watched: SimStage) -> None:
    stage = watched
    vm = stage.bare(stage.import_image("zfs"))
    await_move(stage, "node1", vm.id, "", "node1")  # oned is asked of every arrival: here it would say that it knows
    assert waiting(stage, "node2") == {}
    move_by_hand(stage, vm)
    await_move(stage, "node2", vm.id, "", "node2")
    await_move(stage, "node1", vm.id, "node1", "node2")
    looks = [one for one in stage.farm.commands if one["argv"][:2] == ["xl", "list"]]
    time.sleep(2)
    assert [one for one in stage.farm.commands if one["argv"][:2] == ["xl", "list"]] == looks
    stage.migration(vm, "postmigrate", "node1", "node2")
    vm.current.host, vm.current.host_id = "node2", stage.cloud.host("node2").id
    stage.cloud.terminate(vm, hard=True).checked()
