"""The model of DRBD 9 against what real hosts said: the commands of a capture are run again, one after the other."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Iterator

import pytest

from sim.farm import SimFarm

CAPTURES = Path(__file__).resolve().parents[1] / "data" / "captures-drbd9"
NODES = ("node1", "node2", "node3")
pytestmark = pytest.mark.sim
# What a capture says of roles, connections, disks, exit statuses, errors; the rest is of other tools, or is chance.
TOLD = re.compile(
    r"^\S+ role:|^  (disk|node\d)|^    (peer-disk|replication):|\brc=\d+$|Failure|State change failed|No such resource"
    r"|^(Command|additional info|No valid meta|Probably|Not enough|No bitmap|Not a valid|there a primaries)|^set GI"
    r"|^open\("
    r"|of \d+ nodes visible|ambiguous node id|^[0-9A-F]{16}:|allow-two-primaries"
)
HIDDEN = re.compile(r" --rr-conflict.*(?=' terminated)| opened by .*| (done|blocked):\S+")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimFarm]:
    if os.geteuid() != 0:
        pytest.skip("the simulated farm needs root")
    with SimFarm(tmp_path_factory.mktemp("farm"), NODES, pool_bytes=3 << 30, drbd="9") as farm:
        yield farm


@pytest.fixture
def farm(made: SimFarm) -> SimFarm:
    """Three empty hosts with DRBD 9."""
    made.reset()
    return made


def resource_file(name: str, minor: int, disks: tuple[str, ...], quorum: str = "majority", ids: tuple[int, ...] = (),
                  rr: str = "disconnect") -> str:
    """As those of the captures (a-res); a disk is "", "none" or left out."""
    hosts = [f"node{number}" for number, disk in enumerate(disks, 1) if disk]
    ons = "".join(
        f"  on node{number} {{ node-id {ids[number - 1] if ids else number - 1}; "
        f"address 10.99.0.{number}:{7000 + minor}; volume 0 {{ disk {disk}; }} }}\n"
        for number, disk in enumerate(disks, 1) if disk
    )
    return (
        f"resource {name} {{\n  options {{ auto-promote no; quorum {quorum}; on-no-quorum suspend-io; "
        "on-no-data-accessible io-error; on-suspended-primary-outdated force-secondary; }\n"
        f"  net {{ protocol C; cram-hmac-alg sha256; shared-secret \"s3cret-{name}\"; after-sb-0pri disconnect; "
        f"after-sb-1pri disconnect; after-sb-2pri disconnect; verify-alg md5; rr-conflict {rr}; }}\n"
        f"  disk {{ rs-discard-granularity 65536; }}\n  volume 0 {{ device minor {minor}; meta-disk internal; }}\n"
        f"{ons}  connection-mesh {{ hosts {' '.join(hosts)}; }}\n}}\n"
    )


def put(farm: SimFarm, name: str, text: str, *hosts: str) -> None:
    for host in hosts or NODES:
        Path(farm.path(host, f"/etc/drbd.d/{name}.res")).write_text(text)


def ok(farm: SimFarm, host: str, *lines: str) -> str:
    done = farm.run(host, ["sh", "-c", "\n".join(("set -e", *lines))])
    assert done.status == 0, done.stderr
    return done.stdout


def make(farm: SimFarm, name: str, minor: int, disks: tuple[str, ...], day0: str = "", size: int = 128, slots: int = 7,
         **more: object) -> None:
    """Legs where there is a disk, up everywhere, equal."""
    put(farm, name, resource_file(name, minor, disks, **more))  # type: ignore[arg-type]
    for number, disk in enumerate(disks, 1):
        if disk and disk != "none":
            leg(farm, f"node{number}", name, minor, day0, size, slots)
            ok(farm, f"node{number}", f"drbdadm up {name}")
    for number, disk in enumerate(disks, 1):
        if disk == "none":
            ok(farm, f"node{number}", f"drbdadm up {name}")
    if not day0:
        ok(farm, "node1", f"drbdadm new-current-uuid --clear-bitmap {name}/0")


def leg(farm: SimFarm, host: str, name: str, minor: int, day0: str, size: int = 128, slots: int = 7) -> None:
    lines = [f"lvcreate -q -y -V {size}M -T vg0/pool -n {name}",
             f"drbdadm create-md --force --max-peers {slots} {name}"]
    if day0:
        lines.append(f"drbdmeta --force {minor} v09 /dev/vg0/{name} internal set-gi --node-id 0 {day0}:0:0:0:1:1")
    ok(farm, host, *lines)


def blocks(name: str) -> list[tuple[str, str, list[str]]]:
    """(host, command, what it told) of each block of a capture."""
    text = (CAPTURES / f"{name}.txt").read_text()
    found = re.findall(r"^#@ (node\d)\$ (.*?)\n#@ rc=\d+.*?\n(.*?)(?=^#@ node|\Z)", text, re.M | re.S)
    return [(host, command, told(text)) for host, command, text in found]


def told(text: str) -> list[str]:
    # Words of drbdmeta that went through `tail -1` in the capture go the same way here.
    lines = [line for line in text.splitlines() if TOLD.search(line) and not re.search(r"^\[ *\d|# default", line)]
    return [re.sub(r"^\d+: *", "", HIDDEN.sub("", line)).rstrip() for line in lines]


def replay(farm: SimFarm, host: str, command: str) -> list[str]:
    """The same command here; sleeps and dmesg are left out, a write is a write of the same blocks."""
    command = re.sub(r"(sleep [\d.]+|dmesg[^;]*|pgrep[^;]*|cat /root/[^;]*|legsum [^;]*);?", "", command)
    command = re.sub(r"timeout \d+ ", "", command)
    done = farm.run(host, ["bash", "-c", f"exec 2>&1; {command}"])
    return told(done.stdout)


def compare(farm: SimFarm, name: str, *wanted: int) -> None:
    """Run the blocks of a capture (all, or those numbered) and compare each."""
    for number, (host, command, words) in enumerate(blocks(name)):
        if not wanted or number in wanted:
            assert replay(farm, host, command) == words, f"{name}, block {number}: {host}$ {command}"


def disks(name: str, *places: str) -> tuple[str, ...]:
    return tuple(f"/dev/vg0/{name}" if place == "leg" else place for place in places)


def test_a_member_retires_while_a_primary_writes(farm: SimFarm) -> None:
    make(farm, "c1", 102, disks("c1", "leg", "leg", "leg"))
    ok(farm, "node1", "drbdadm primary c1")
    put(farm, "c1", resource_file("c1", 102, disks("c1", "leg", "", "leg")), "node1", "node3")
    compare(farm, "d-retire")
    assert farm.violations() == []


def test_a_client_becomes_a_replica(farm: SimFarm) -> None:
    """First the others hear of it, then the host itself; the other way round it is refused (c-maxpeers1)."""
    make(farm, "c1", 102, disks("c1", "leg", "leg", "none"))
    put(farm, "c1", resource_file("c1", 102, disks("c1", "leg", "leg", "leg")))
    ok(farm, "node1", "drbdadm primary c1")
    compare(farm, "d-add", 1, 2, 3)
    ok(farm, "node3", "drbdadm adjust c1")
    compare(farm, "d-add", 5)
    assert [(one["target"], one["kib"]) for one in farm.resyncs] == [("node3", 131008)]
    assert farm.violations() == []


def test_a_replica_becomes_a_client(farm: SimFarm) -> None:
    make(farm, "c1", 102, disks("c1", "leg", "leg", "leg"))
    ok(farm, "node1", "drbdadm primary c1")
    put(farm, "c1", resource_file("c1", 102, disks("c1", "leg", "leg", "none")))
    compare(farm, "d-undisk", 0, 1, 2, 3)
    assert farm.violations() == []


def test_day_0_syncs_what_was_written_since(farm: SimFarm) -> None:
    put(farm, "d0", resource_file("d0", 115, disks("d0", "leg", "leg")))
    compare(farm, "d-day0", 0, 1)
    text = ok(farm, "node1", "drbdadm primary d0; dd if=/dev/urandom of=/dev/drbd115 bs=1M count=8 seek=20 "
              "conv=notrunc 2>/dev/null; drbdadm get-gi d0/0")
    wanted = [words for _h, _c, words in blocks("d-day0")][2][-1]
    assert re.sub("^[0-9A-F]{16}", "", text.strip()) == re.sub("^[0-9A-F]{16}", "", wanted)
    put(farm, "d0", resource_file("d0", 115, disks("d0", "leg", "leg", "leg")))
    compare(farm, "d-day0", 3, 4, 5)
    assert [(one["target"], one["kib"]) for one in farm.resyncs] == [("node3", 8192)]
    assert farm.violations() == []


def test_two_primaries(farm: SimFarm) -> None:
    make(farm, "c1", 102, disks("c1", "leg", "leg", "none"))
    told_all = [n for n, (_h, command, _w) in enumerate(blocks("e-dualprimary")) if "net-options" in command]
    compare(farm, "e-dualprimary", *range(max(n for n in told_all if n < 21)))


def test_what_is_allowed_to_all_breaks_who_was_away(farm: SimFarm) -> None:
    make(farm, "c1", 102, disks("c1", "leg", "leg", "none"))
    ok(farm, "node1", "drbdadm primary c1")
    ok(farm, "node3", "drbdadm down c1")
    for host in ("node1", "node2"):
        ok(farm, host, "drbdadm net-options --protocol=C --allow-two-primaries=yes c1")
    ok(farm, "node3", "drbdadm up c1")
    text = ok(farm, "node3", "drbdadm status c1")
    assert told(text) == [words for _h, command, words in blocks("e-dualprimary") if "up c1; sleep 3" in command][0][:4]
    assert "node3 connection:StandAlone" in ok(farm, "node1", "drbdadm status c1")
    for host in NODES:
        ok(farm, host, "drbdadm net-options --protocol=C --allow-two-primaries=no c1; drbdadm adjust c1")
    assert "peer-client:yes" in ok(farm, "node1", "drbdadm status c1")


def test_a_client_is_the_second_primary(farm: SimFarm) -> None:
    make(farm, "c1", 102, disks("c1", "leg", "leg", "none"))
    compare(farm, "e-dualprimary-diskless")
    assert "c1 is Primary on node2 and node3 without an intent" in farm.violations()


def test_errors(farm: SimFarm) -> None:
    put(farm, "h1", resource_file("h1", 112, disks("h1", "leg", "leg", "none")))
    compare(farm, "h-errors2", 0)
    ok(farm, "node2", "lvcreate -q -y -V 64M -T vg0/pool -n h1; drbdadm create-md --force --max-peers 3 h1")
    compare(farm, "h-errors2", 1, 2, 3)


def test_states(farm: SimFarm) -> None:
    """h-states: JSON with keys and values of real hosts, where a client is among them and where all are away."""
    make(farm, "h1", 112, disks("h1", "leg", "leg", "none"), size=64, slots=3, rr="retry-connect")
    ok(farm, "node2", "drbdadm primary h1")
    recorded = [json.loads(text) for text in re.findall(
        r"^\[\n\{\n  \"name\".*?^\]$", (CAPTURES / "h-states.txt").read_text(), re.M | re.S)]
    same_states(json.loads(ok(farm, "node2", "drbdsetup status h1 --json")), recorded[0])
    same_states(json.loads(ok(farm, "node3", "drbdsetup status h1 --json")), recorded[1])
    ok(farm, "node2", "drbdadm secondary h1")
    ok(farm, "node1", "drbdadm disconnect h1")
    same_states(json.loads(ok(farm, "node1", "drbdsetup status h1 --json")), recorded[2])
    done = farm.run("node1", ["drbdadm", "primary", "h1"])
    assert done.status == 11
    assert "(-25) No quorum" in done.stderr and "1 of 2 nodes visible, need 2" in done.stderr


def same_states(ours: list, real: list) -> None:
    """Every key of the real one, and every value that is a word; numbers are those of another life."""
    if isinstance(real, dict):
        assert list(ours) == list(real)
        for key, value in real.items():
            same_states(ours[key], value)
    elif isinstance(real, list):
        assert len(ours) == len(real)
        for one, other in zip(ours, real):
            same_states(one, other)
    elif isinstance(real, (str, bool)):
        assert ours == real


def test_node_ids_are_in_the_metadata(farm: SimFarm) -> None:
    """c-nodeids: a leg keeps its number, and `up` leaves half a resource behind."""
    make(farm, "r1", 101, disks("r1", "leg", "leg", "none"))
    for host in NODES:
        ok(farm, host, "drbdadm down r1")
    put(farm, "c2", resource_file("c2", 103, disks("c2", "leg", "leg", "none"), ids=(1, 0, 2)))
    compare(farm, "c-nodeids", 0)
    put(farm, "c2", resource_file("c2", 103, disks("c2", "leg", "leg", "none"), ids=(0, 1, 19)))
    ok(farm, "node2", "lvcreate -q -y -kn -s -n c2 vg0/r1")
    for host in NODES:
        ok(farm, host, "drbdadm up c2")
    assert "node3 role:Secondary" in ok(farm, "node1", "drbdadm status c2")
    assert farm.resyncs == []


def test_slots(farm: SimFarm) -> None:
    put(farm, "m2", resource_file("m2", 119, disks("m2", "leg", "leg", "none")))
    compare(farm, "c-maxpeers1", 0, 1)
    ok(farm, "node3", "drbdadm up m2")
    put(farm, "m2", resource_file("m2", 119, disks("m2", "leg", "leg", "leg")))
    compare(farm, "c-maxpeers1", 3, 4)


def test_clone_trick(farm: SimFarm) -> None:
    """c-uniform: any leg, any node id: new metadata with one UUID on all; c-clone: kept metadata."""
    make(farm, "r1", 101, disks("r1", "leg", "leg", "none"))
    ok(farm, "node3", "drbdadm primary r1; dd if=/dev/urandom of=/dev/drbd101 bs=1M count=2 conv=notrunc 2>/dev/null",
       "drbdadm secondary r1; drbdadm down r1")
    for host in ("node1", "node2"):
        ok(farm, host, "drbdadm down r1")
    put(farm, "c1", resource_file("c1", 102, disks("c1", "leg", "leg", "none")))
    put(farm, "c3", resource_file("c3", 104, disks("c3", "leg", "leg", "none")))
    compare(farm, "c-clone", *[n for n, (_h, command, _w) in enumerate(blocks("c-clone")) if "up c1" in command])
    compare(farm, "c-uniform", 0, 1, 2)
    assert told(ok(farm, "node3", "drbdadm status c3")) == blocks("c-uniform")[5][2]
    assert farm.resyncs == []
    assert farm.violations() == []


def test_split_brain_and_its_cure(farm: SimFarm) -> None:
    make(farm, "h1", 112, disks("h1", "leg", "leg", "none"), size=64, slots=3)
    commands = [command for _h, command, _w in blocks("h-splitbrain")]
    compare(farm, "h-splitbrain", *[n for n, command in enumerate(commands) if "legsum" not in command])
    assert farm.violations() == []


def test_an_isolated_primary_freezes_and_heals_by_itself(farm: SimFarm) -> None:
    """j-quorum, j-quorum2: the survivor and the client outvote it; when it is back it steps down and is resynced."""
    make(farm, "c1", 102, disks("c1", "leg", "leg", "none"), rr="retry-connect")
    ok(farm, "node1", "drbdadm primary c1")
    farm.disconnect("node1")
    text = ok(farm, "node1", "drbdadm status c1")
    assert told(text) == ["c1 role:Primary suspended:quorum", "  disk:UpToDate quorum:no",
                          "  node2 connection:Connecting", "  node3 connection:Connecting"]
    ok(farm, "node1", "printf lost | dd of=/dev/drbd102 bs=4096 seek=700 conv=notrunc 2>/dev/null")
    ok(farm, "node2", "drbdadm primary c1",
       "printf kept | dd of=/dev/drbd102 bs=4096 seek=512 conv=notrunc 2>/dev/null", "drbdadm status c1")
    farm.reconnect("node1")
    report = json.loads(ok(farm, "node1", "drbdsetup status c1 --json"))[0]
    assert (report["role"], report["devices"][0]["disk-state"], report["suspended"]) == ("Secondary", "UpToDate", False)
    assert [(one["source"], one["target"]) for one in farm.resyncs] == [("node2", "node1")]
    assert farm.volume_data("node1", "c1", 4 << 20)[512 * 4096:][:4] == b"kept"
    assert farm.volume_data("node2", "c1", 4 << 20)[700 * 4096:][:4] == bytes(4)
    assert farm.violations() == []


def test_power_cut_with_and_without_a_third(farm: SimFarm) -> None:
    """j-powercut: with a client the survivor goes on; alone with a majority to ask for it does not."""
    make(farm, "c1", 102, disks("c1", "leg", "leg", "none"), rr="retry-connect")
    make(farm, "q1", 111, disks("q1", "leg", "leg", ""), size=64, slots=3)
    ok(farm, "node1", "drbdadm primary c1 q1", "printf x | dd of=/dev/drbd102 conv=notrunc 2>/dev/null")
    farm.power_cut("node1")
    ok(farm, "node2", "drbdadm primary c1; drbdadm secondary c1")
    done = farm.run("node2", ["drbdadm", "primary", "q1"])
    assert done.status == 11 and "need 2 for quorum" in done.stderr
    ok(farm, "node2", "drbdadm primary --force q1; drbdadm secondary q1")
    farm.power_on("node1")
    put(farm, "c1", resource_file("c1", 102, disks("c1", "leg", "leg", "none"), rr="retry-connect"), "node1")
    ok(farm, "node1", "drbdadm up c1")
    assert [(one["resource"], one["target"]) for one in farm.resyncs] == [("c1", "node1")]
    assert farm.violations() == []


def test_suspended_writes_wait(farm: SimFarm) -> None:
    make(farm, "c1", 102, disks("c1", "leg", "leg", "none"))
    ok(farm, "node1", "drbdadm primary c1")
    (suspended,) = [words for _h, command, words in blocks("i-suspend") if "suspend-io c1; echo suspend rc" in command]
    assert replay(farm, "node1", "drbdadm suspend-io c1; echo suspend rc=$?; drbdadm status c1") == suspended[:7]
    ok(farm, "node1", "printf late | dd of=/dev/drbd102 conv=notrunc 2>/dev/null")
    assert farm.volume_data("node1", "c1", 4) == farm.volume_data("node2", "c1", 4) == bytes(4)
    ok(farm, "node1", "drbdadm resume-io c1")
    assert farm.volume_data("node2", "c1", 4) == b"late"
    ok(farm, "node1", "drbdadm secondary c1")
    compare(farm, "i-suspend-secondary")


def test_one_leg_grown_and_the_note_that_spoils_it(farm: SimFarm) -> None:
    """g-resize: resize says rc 0, grows nothing, and the next `up` finds no metadata; g-recover heals it."""
    make(farm, "h1", 112, disks("h1", "leg", "leg", "none"), size=128, slots=3)
    ok(farm, "node1", "lvextend -q -L 160M vg0/h1; drbdadm resize h1")
    assert "size:" not in ok(farm, "node1", "drbdadm status h1")
    assert ok(farm, "node1", "cat /sys/class/block/drbd112/size") == "262048\n"
    note = Path(farm.path("node1", "/var/lib/drbd/drbd-minor-112.lkbd"))
    assert note.read_text().startswith("167772160\t/dev/vg0/h1\n")
    ok(farm, "node1", "drbdadm down h1")
    done = farm.run("node1", ["drbdadm", "up", "h1"])
    assert (done.status, done.stderr) == (1, "No valid meta data found\n")
    ok(farm, "node1", "drbdadm down h1")
    note.write_text("134217728\t/dev/vg0/h1\n")
    done = farm.run("node1", ["drbdadm", "up", "h1"])
    assert (done.status, "successfully moved" in done.stderr) == (0, True)
    assert farm.violations() == []


def test_sizes_follow_the_number_of_slots(farm: SimFarm) -> None:
    """b-createmd, c-maxpeers: a leg with room for more peers is smaller, and a larger one refuses it."""
    for slots, kib in ((1, 131032), (7, 131008), (31, 130912)):
        put(farm, "s1", resource_file("s1", 130, disks("s1", "leg", "leg"), quorum="off"))
        leg(farm, "node1", "s1", 130, "", slots=slots)
        ok(farm, "node1", "drbdadm up s1")
        assert ok(farm, "node1", "cat /sys/class/block/drbd130/size") == f"{kib * 2}\n"
        ok(farm, "node1", "drbdadm down s1; lvremove -q -y vg0/s1")
    leg(farm, "node1", "s1", 130, "00DDAA0000112230", slots=7)
    leg(farm, "node2", "s1", 130, "00DDAA0000112230", slots=31)
    ok(farm, "node1", "drbdadm up s1")
    ok(farm, "node2", "drbdadm up s1")
    assert "node2 connection:StandAlone" in ok(farm, "node1", "drbdadm status s1")
    assert "node1 connection:Connecting" in ok(farm, "node2", "drbdadm status s1")


def test_the_file_that_is_refused(farm: SimFarm) -> None:
    """a-options9: a disk outside of its volume stops every command, also those on other resources."""
    make(farm, "c1", 102, disks("c1", "leg", "leg", "none"))
    bad = resource_file("t1", 90, disks("t1", "leg", "leg", "none")).replace("volume 0 { disk none; }", "disk none;")
    put(farm, "t1", bad, "node1")
    done = farm.run("node1", ["drbdadm", "status", "c1"])
    assert done.status == 10 and "volume 0 must not be implicit on one but not the other" in done.stderr


def test_the_module_says_its_version(farm: SimFarm) -> None:
    assert ok(farm, "node1", "head -1 /proc/drbd").startswith("version: 9.3.3 (api:2/")
