"""A guest that two real hosts moved while OpenNebula had given that up: noticed by xenstore, told by the hook."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from looks import no_two_primaries

from oned.backend import user_arguments

pytestmark = pytest.mark.lablong

QUEUE = "/var/lib/dnc/moves"
WATCH = ("nohup python3 -I /var/tmp/one/hooks/dnc-watch >/tmp/watch.log 2>&1 </dev/null & echo $! > /tmp/watch.pid")


def hook(stage, *words):
    """dnc-moved on the frontend, as its user; this Python has pyone."""
    cloud = stage.cloud
    argv = [sys.executable, "-I", str(cloud.remotes / "hooks" / "dnc-moved"), *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300, env=cloud.environment,
                          cwd=cloud.environment["PWD"], **user_arguments(cloud.farm.user))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def watching(stage):
    """dnc-watch on node2; without credentials there, so that what it notices stays in its queue."""
    stage.configure(HOOK_QUEUE=QUEUE, HOOK_AUTH="/var/lib/dnc/none")
    stage.lab.oneadmin("node2", ["sh", "-c", WATCH])
    yield
    stage.lab.oneadmin("node2", ["sh", "-c", f"kill $(cat /tmp/watch.pid); rm -rf {QUEUE}"])
    stage.configure()


def await_noticed(stage, vm, seconds=60):
    end = time.monotonic() + seconds
    while True:
        text = stage.lab.root("node2", ["sh", "-c", f"cat {QUEUE}/{vm.id}.move 2>/dev/null || :"]).stdout
        if text.strip():
            return json.loads(text)
        assert time.monotonic() < end, stage.lab.root("node2", ["cat", "/tmp/watch.log"]).stdout
        time.sleep(1)


def test_a_migration_that_goes_on_after_recover_failure(stage, vm, watching):
    cloud = stage.cloud
    if vm.host != "node1":
        cloud.migrate(vm, "node1", live=True).checked()
    tick = stage.wait_for_tick(vm, stage.last_tick(vm))
    operation = cloud.migrate(vm, "node2", live=True, background=True)
    while "node2" not in stage.domain_hosts(vm):
        assert operation.running
    cloud.recover_failure(vm)
    assert vm.status == "RUNNING" and vm.host == "node1"
    operation.wait()
    assert stage.domain_hosts(vm) == ["node2"]
    noticed = await_noticed(stage, vm)
    assert (noticed["vm"], noticed["destination"]) == (vm.id, "node2")
    stage.configure()
    hook(stage, "--setup-user")
    assert "OpenNebula has it on node2 now, RUNNING" in hook(stage, f"one-{vm.id}", "node1", "node2")
    assert vm.status == "RUNNING" and vm.host == "node2" and stage.domain_hosts(vm) == ["node2"]
    no_two_primaries(stage, f"{vm.disks[0]['SOURCE']}-{vm.id}-0")
    assert stage.wait_for_tick(vm, tick) > tick
    assert "nothing to do" in hook(stage, f"one-{vm.id}", "node1", "node2")
