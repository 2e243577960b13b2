"""Three real hosts, MISSING_REPLICA=move: a VM that is off goes to the third one, and a replica of its disk with it."""

from __future__ import annotations

import os

import pytest
from looks import began_resync

pytestmark = pytest.mark.lablong


@pytest.fixture(scope="module")
def farm():
    """A lab of its own, with three hosts; images go to the first two."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root: it boots machines and mounts images")
    from stage import Stage

    with Stage(os.environ.get("DNC_LAB", "tests3"), hosts=3) as running:
        running.configure(MISSING_REPLICA="move")
        yield running


def test_cold_to_the_third_host(farm, backend):
    """The guest's counter has no hole, the new pair is in sync without a resync, the old replica is gone."""
    cloud = farm.cloud
    image = farm.import_guest(backend, f"moving-{backend}")
    vm = farm.instantiate(image, "node1")
    disk = f"{image.source}-{vm.id}-0"
    tick = farm.wait_for_tick(vm, 1)
    cloud.poweroff(vm, hard=True).checked()
    before = farm.counter(backend, disk, "node1")
    assert before.last >= tick
    cloud.migrate(vm, "node3").checked()
    said = next(call.stderr for call in reversed(cloud.calls) if call.action == "mv" and "sha256" in call.stderr)
    assert "the copy on node3 is equal, sha256 " in said and "moves to node3: " in said
    size = farm.lab.guest_image.stat().st_size
    digests = farm.digests(backend, disk, size)
    assert len(digests) == 2 and "node3" in digests and len(set(digests.values())) == 1
    seen = farm.wait_until_synced("node3", disk)
    assert (seen["cs"], seen["ds"], seen["oos"]) == ("Connected", "UpToDate/UpToDate", "0")
    assert began_resync(farm, disk) == []
    gone, = {"node1", "node2"} - set(digests)
    assert [line for line in farm.leftovers() if line.startswith(gone) and disk in line] == []
    after = farm.counter(backend, disk, "node3")
    assert (after.last, after.holes, after.torn) == (before.last, before.holes, before.torn)
    other, = set(digests) - {"node3"}
    assert f'| NAME = "{other}" | NAME = "node3"' in vm.user_template["SCHED_REQUIREMENTS"]
    cloud.resume(vm).checked()
    assert farm.domain_hosts(vm) == ["node3"]
    tick = farm.wait_for_tick(vm, before.last)
    cloud.migrate(vm, other, live=True).checked()
    tick = farm.wait_for_tick(vm, tick)
    cloud.poweroff(vm, hard=True).checked()
    ended = farm.counter(backend, disk, other)
    assert ended.last >= tick and not ended.torn
    assert len(set(farm.digests(backend, disk, size).values())) == 1
    cloud.terminate(vm, hard=True).checked()
    cloud.delete_image(image).checked()
    assert [line for line in farm.leftovers() if image.source in line] == []
