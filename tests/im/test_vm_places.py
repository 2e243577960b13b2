"""What the disks of a VM without a domain say of where it can be."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dnc.errors import BadInput, ToolFailed
from dnc.host.vm_places import Place, disks_of, places, vm_directories
from dnc.tools.drbd import DiskState, PeerStatus, ResourceStatus, Role

P, S, U = Role.PRIMARY, Role.SECONDARY, Role.UNKNOWN


def status(role: Role, *peers: tuple[Role, str]) -> ResourceStatus:
    seen = tuple(
        PeerStatus(f"node{number}", connection, peer, DiskState.UP_TO_DATE, "Established", 0)
        for number, (peer, connection) in enumerate(peers, 2))
    return ResourceStatus("one-1-7-0", 1000, role, DiskState.UP_TO_DATE, False, peers=seen)


class Host(SimpleNamespace):
    """A host that knows these resources: name -> status, None for down, "single" without DRBD, an error to raise."""

    def __init__(self, known, locked=(), broken=False):
        self.known, self.broken, self.said = known, broken, []
        super().__init__(
            resource_files=SimpleNamespace(find=self.find), resources=SimpleNamespace(statuses=self.statuses),
            locks=SimpleNamespace(taken=lambda name: name in locked), log=SimpleNamespace(warn=self.said.append))

    def find(self, name):
        found = self.known.get(name, "absent")
        if isinstance(found, Exception):
            raise found
        return None if found == "absent" else SimpleNamespace(replicated=found != "single")

    def statuses(self, specs):
        if self.broken:
            raise ToolFailed("drbdsetup failed")
        return {name: self.known[name] for name in specs if self.known[name] is not None}


@pytest.mark.parametrize(("known", "place"), [
    (status(P, (S, "Connected")), Place.AT_REST), (status(S, (S, "Connected")), Place.AT_REST),
    (status(P, (U, "Connecting")), Place.AT_REST), (status(S, (U, "Connecting")), Place.MAYBE_ELSEWHERE),
    (status(S, (P, "Connected")), Place.MAYBE_ELSEWHERE), (status(P, (P, "Connected")), Place.MAYBE_ELSEWHERE),
    (status(S, (S, "Connected"), (U, "Connecting")), Place.MAYBE_ELSEWHERE), (None, Place.MAYBE_ELSEWHERE),
    ("absent", Place.MAYBE_ELSEWHERE), ("single", Place.AT_REST), (BadInput("damaged"), Place.MAYBE_ELSEWHERE)])
def test_one_disk(known, place):
    host = Host({"one-1-7-0": known})
    assert places(host, {7: ["one-1-7-0"]}) == {7: place}


def test_all_disks_have_to_agree():
    host = Host({"one-1-7-0": status(S, (S, "Connected")), "one-1-7-1": status(S, (P, "Connected"))})
    assert places(host, {7: ["one-1-7-0"], 8: ["one-1-7-0", "one-1-7-1"], 9: []}) == {
        7: Place.AT_REST, 8: Place.MAYBE_ELSEWHERE, 9: Place.AT_REST}


def test_an_action_at_work_goes_first():
    host = Host({"one-1-7-0": status(S, (P, "Connected"))}, locked={"one-1-7-0"})
    assert places(host, {7: ["one-1-7-0"]}) == {7: Place.BUSY}


def test_when_drbd_says_nothing_nobody_is_off():
    host = Host({"one-1-7-0": status(P), "one-2-8-0": "single"}, broken=True)
    assert places(host, {7: ["one-1-7-0"], 8: ["one-2-8-0"]}) == {7: Place.MAYBE_ELSEWHERE, 8: Place.AT_REST}
    assert host.said


def test_directories_and_their_disks(tmp_path):
    for path in ("100/7", "104/7", "100/8", "100/x", "junk/9"):
        (tmp_path / path).mkdir(parents=True)
    targets = {"disk.0": "/dev/drbd/by-res/one-1-7-0/0", "disk.1": "/dev/zvol/tank/dnc/one-sys-7-1",
               "disk.2": "/dev/vg0/one-5", "disk.3": "/srv/file", "disk.4.old": "/dev/vg0/one-6",
               "checkpoint": "/dev/one-9"}
    for name, target in targets.items():
        (tmp_path / "100/7" / name).symlink_to(target)
    (tmp_path / "100/7/disk.5").write_text("a context image")
    found = vm_directories(str(tmp_path))
    assert set(found) == {7, 8} and len(found[7]) == 2
    assert disks_of(found[7]) == {0: "one-1-7-0", 1: "one-sys-7-1", 2: "one-5"}
    assert disks_of(found[8]) == {} == vm_directories(str(tmp_path / "none"))
