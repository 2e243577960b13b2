"""Three real hosts: OpenNebula picks the one without a replica, whose copy of the image is the members' to the byte."""

from __future__ import annotations

import os
import re

import pytest
from looks import LAB, began_resync

pytestmark = pytest.mark.lablong


@pytest.fixture(scope="module")
def farm():
    """A lab of its own, with three hosts; images go to the first two."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root: it boots machines and mounts images")
    from stage import Stage

    with Stage(f"{LAB}3", hosts=3) as running:
        yield running


def test_copied_once_cloned_and_migrated(farm, backend):
    cloud = farm.cloud
    image = farm.import_guest(backend, f"copied-{backend}")
    vm = farm.instantiate(image, "node3")
    disk = f"{image.source}-{vm.id}-0"
    said = next(call.stderr for call in reversed(cloud.calls) if call.action == "clone")
    assert "the copy on node3 is equal, sha256 " in said
    size = int(farm.lab.root("node1", ["blockdev", "--getsize64", farm.volume(backend, image.source)]).stdout)
    whole = farm.digests(backend, image.source, size)
    source = re.search(r"copying \d+ MiB from (\w+), once", said).group(1)
    assert sorted(whole) == ["node1", "node2", "node3"] and whole[source] == whole["node3"], "metadata is copied too"
    data = farm.digests(backend, image.source, farm.lab.guest_image.stat().st_size)
    assert sorted(data) == ["node1", "node2", "node3"] and len(set(data.values())) == 1
    seen = farm.proc_drbd("node3", disk)
    assert (seen["cs"], seen["ds"], seen["oos"]) == ("Connected", "UpToDate/UpToDate", "0")
    assert began_resync(farm, disk) == []
    other, = set(farm.digests(backend, disk, 4096)) - {"node3"}
    assert f'| NAME = "{other}"' in vm.user_template["SCHED_REQUIREMENTS"]
    tick = farm.wait_for_tick(vm, 1)
    cloud.migrate(vm, other, live=True).checked()
    tick = farm.wait_for_tick(vm, tick)
    cloud.poweroff(vm, hard=True).checked()
    assert len(set(farm.digests(backend, disk, farm.lab.guest_image.stat().st_size).values())) == 1
    cloud.terminate(vm).checked()
    again = farm.instantiate(image, "node3")
    said = next(call.stderr for call in reversed(cloud.calls) if call.action == "clone")
    assert "copying" not in said, "the second clone is instant"
    cloud.terminate(again, hard=True).checked()
    cloud.delete_image(image).checked()
    assert [line for line in farm.leftovers() if image.source in line] == []
