"""The main job on real Xen, DRBD, ZFS and LVM; the guest's own data are the witness."""

from __future__ import annotations

import hashlib

import pytest
from looks import began_resync, equal_replicas, no_two_primaries

pytestmark = pytest.mark.lab


def test_imported_image_is_the_file_on_both_hosts_and_at_rest(stage, backend, image):
    content = stage.lab.guest_image.read_bytes()
    assert equal_replicas(stage, backend, image.source, len(content)) == hashlib.sha256(content).hexdigest()
    for host in ("node1", "node2"):
        assert stage.proc_drbd(host, image.source) == {}, "an image at rest is down"


def test_clone_is_instant_and_proven(stage, backend, image, vm):
    disk = f"{image.source}-{vm.id}-0"
    seen = stage.proc_drbd("node1", disk)
    assert (seen["cs"], seen["ds"], seen["oos"]) == ("Connected", "UpToDate/UpToDate", "0")
    assert began_resync(stage, disk) == []
    files = [stage.lab.root(host, ["cat", f"/etc/drbd.d/{disk}.res"]).stdout for host in ("node1", "node2")]
    assert files[0] == files[1]
    assert '"proof": "gi:' in files[0].splitlines()[0] and '"state": "ready"' in files[0].splitlines()[0]


def test_live_migration_there_and_back(stage, backend, image, vm):
    disk = f"{image.source}-{vm.id}-0"
    tick = stage.last_tick(vm)
    for target in ("node2", "node1"):
        stage.cloud.migrate(vm, target, live=True).checked()
        assert stage.domain_hosts(vm) == [target] and vm.host == target
        after = stage.wait_for_tick(vm, tick)
        assert after > tick, "the counter went back"
        tick = after
        no_two_primaries(stage, disk)
        roles = {host: stage.proc_drbd(host, disk)["ro"].split("/")[0] for host in ("node1", "node2")}
        assert roles == {"node1": "Secondary", "node2": "Secondary", target: "Primary"}
        intents = stage.lab.root(target, ["ls", "/var/lib/dnc/intents"]).stdout.split()
        assert intents == []


def test_what_the_guest_wrote_is_whole_on_both_replicas(stage, backend, image, vm):
    disk = f"{image.source}-{vm.id}-0"
    tick = stage.last_tick(vm)
    stage.cloud.poweroff(vm, hard=True).checked()
    equal_replicas(stage, backend, disk, stage.lab.guest_image.stat().st_size)
    for host in ("node1", "node2"):
        counter = stage.counter(backend, disk, host)
        assert counter.last >= tick
        assert (counter.holes, counter.torn) == ((), ()), f"{host}: lost or torn writes"


def test_terminated_without_a_trace(stage, vm):
    stage.cloud.terminate(vm).checked()
    assert [line for line in stage.leftovers() if f"-{vm.id}-" in line or "domain" in line] == []
