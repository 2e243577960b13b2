"""Every kind of domain boots on real Xen: PVH and PV by kernel and by their own boot loader, HVM by its disk's."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.lablong

KINDS = {
    "pvh-own-loader": {"XEN_TYPE": "pvh", "OS": {}},
    "pv-kernel": {"XEN_TYPE": "pv"},
    "pv-pygrub": {"XEN_TYPE": "pv", "OS": {"BOOTLOADER": "pygrub"}},
    "hvm-own-loader": {"XEN_TYPE": "hvm", "OS": {"BOOT": "disk0"}, "MEMORY": "192"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_boots_and_writes(stage, kind_image, kind):
    vm = stage.instantiate(kind_image, "node1", **KINDS[kind])
    try:
        first = stage.wait_for_tick(vm, 0)
        assert stage.wait_for_tick(vm, first) > first
        assert stage.domain_hosts(vm) == ["node1"]
    finally:
        stage.cloud.terminate(vm, hard=True).checked()
    assert [line for line in stage.leftovers() if f"-{vm.id}-" in line or "domain" in line] == []


@pytest.fixture(scope="module")
def kind_image(stage):
    """One image for all kinds; how a guest boots does not depend on the backend."""
    image = stage.import_guest("thin", "guest-of-all-kinds")
    yield image
    stage.cloud.delete_image(image).checked()
