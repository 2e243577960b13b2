"""The two real hosts, once for all lab tests; pytest -m lab."""

from __future__ import annotations

import os

import pytest
from looks import LAB


@pytest.fixture(scope="session")
def stage():
    """A lab (DNC_LAB, else `tests`) at its saved state, the suite installed, the stand-in for oned in front."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root: it boots machines and mounts images")
    from stage import Stage

    with Stage(LAB) as running:
        yield running


@pytest.fixture(scope="session", params=["zfs", "thin"])
def backend(request):
    """Each backend in turn."""
    return request.param


@pytest.fixture(scope="session")
def image(stage, backend):
    """The guest's image in that backend's datastore."""
    imported = stage.import_guest(backend, f"guest-{backend}")
    yield imported
    stage.cloud.delete_image(imported).checked()


@pytest.fixture(scope="session")
def vm(stage, image):
    """A VM of it, running on node1 at first; the tests of a backend lead it through its life, one after the other."""
    machine = stage.instantiate(image, "node1")
    stage.wait_for_tick(machine, 1)
    yield machine
    if machine.status != "DONE":
        stage.cloud.terminate(machine, hard=True).checked()
    assert [line for line in stage.leftovers() if f"-{machine.id}-" in line or "domain" in line] == []
