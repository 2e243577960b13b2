"""Imports of files on the frontend: which go when their file is gone."""

from __future__ import annotations

import pytest
from caller import TestCaller
from fake_hosts import FakeFarm, spec

from dnc.errors import Unreachable
from dnc.farm import imports
from dnc.farm.sessions import Sessions

GONE = {"path": "/nowhere/image.raw", "mtime_ns": 1, "size": 1}


@pytest.fixture
def hosts():
    """An import on node1 and node2 that was copied to node3, its file gone; node1 is the host of this action."""
    hosts = FakeFarm("node1", "node2", "node3")
    for name in ("node1", "node2"):
        hosts[name].have(spec("one-9"), content=GONE, copies={"node3": True})
    hosts["node3"].have(spec("one-9", ("node3",), minor=None, port=None, secret="", slots=0, state="copy",
                             image_hosts=["node1", "node2"]))
    return hosts


@pytest.fixture
def farm(hosts):
    with Sessions(TestCaller('HOSTS="node1 node2 node3"\n'), hosts.connect) as sessions:
        sessions.open(["node1"])
        yield sessions


def removals(hosts):
    return [name for name in ("node1", "node2", "node3") if hosts[name].ops("remove_volume")]


def test_an_import_that_nobody_needs_goes_with_its_copies(farm, hosts):
    imports.reclaim(farm)
    assert removals(hosts) == ["node1", "node2", "node3"]


def test_an_import_stays_while_a_disk_hangs_on_its_copy(farm, hosts):
    hosts["node3"].have(spec("one-9-42-0", ("node3",), minor=None, port=None, secret="", slots=0, kind="clone", vm=42,
                             origin="one-9"))
    imports.reclaim(farm)
    assert removals(hosts) == []


def test_an_import_stays_while_nobody_can_tell(farm, hosts):
    hosts["node3"].down = Unreachable("no route to host", host="node3")
    imports.reclaim(farm)
    assert removals(hosts) == []
