"""DS actions: messages in, SOURCE out, and what reaches the hosts (contract 4)."""

from __future__ import annotations

import gzip
import hashlib
import os
import pathlib

import pytest
from actions import run
from fake_hosts import spec, status

from dnc.errors import BadConfig, BadInput, Busy, DncError, NotFound, Unsafe

CHECKOUT = pathlib.Path(__file__).parents[2]
MIB = 1 << 20


def message(store: str = "", /, **image: str) -> str:
    template = "".join(f"<{key}>{image.pop(key)}</{key}>" for key in ("MD5", "SHA1") if key in image)
    leaves = "".join(f"<{key}>{value}</{key}>" for key, value in image.items())
    whole = f"<IMAGE><ID>9</ID><TYPE>0</TYPE>{leaves}<TEMPLATE>{template}</TEMPLATE></IMAGE>"
    return (f"<DS_DRIVER_ACTION_DATA>{whole if image else ''}<DATASTORE><ID>101</ID><NAME>x</NAME>"
            f"<TEMPLATE>{store}</TEMPLATE></DATASTORE></DS_DRIVER_ACTION_DATA>")


@pytest.fixture
def act(monkeypatch, hosts):
    """Run a DS action on image 9."""
    def call(action: str, stdin: str, number: str = "9"):
        return run(monkeypatch, "datastore", action, number, stdin=stdin)

    return call


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "image"
    with open(path, "wb") as stream:
        stream.truncate(3 * MIB)
        stream.seek(MIB)
        stream.write(os.urandom(100_000))
    return path


def test_cp_streams_to_one_member_and_puts_the_image_to_rest(act, hosts, raw):
    printed, _ = act("cp", message(PATH=str(raw), SIZE="3"))
    assert printed == "one-9 raw"
    writer = next(name for name in ("node1", "node2") if "write" in hosts[name].ops())
    other = "node2" if writer == "node1" else "node1"
    assert "write" not in hosts[other].ops(), "DRBD carries it to the other"
    order = ["declare_equal", "promote", "flush", "demote", "await_ready", "take_down", "mark_ready", "commit"]
    seen = hosts[writer].ops(*order)
    assert seen[:1] + seen[2:] == order
    assert sum(one["length"] for one in hosts[writer].args("write")) < 300_000, "zeros are not sent"
    assert hosts.sessions == 2


@pytest.mark.parametrize("packed", [False, True])
def test_cp_with_a_wrong_checksum_commits_nothing(act, hosts, raw, packed):
    if packed:
        raw.write_bytes(gzip.compress(raw.read_bytes()))
    with pytest.raises(BadInput, match="MD5 of"):
        act("cp", message(PATH=str(raw), SIZE="3", MD5="0" * 32))
    assert not hosts["node1"].committed
    assert "mark_ready" not in hosts["node1"].ops()
    printed, _ = act("cp", message(PATH=str(raw), SIZE="3", MD5=hashlib.md5(raw.read_bytes()).hexdigest()))
    assert printed == "one-9 raw"


def test_cp_grows_with_what_it_finds_and_refuses_what_it_cannot_measure(act, hosts, raw):
    act("cp", message(PATH=str(raw), SIZE="1"))
    assert hosts["node1"].args("write_resource")[0]["spec"]["data_bytes"] == 3 * MIB
    raw.write_bytes(gzip.compress(raw.read_bytes()))
    with pytest.raises(BadInput, match="larger than the image's SIZE"):
        act("cp", message(PATH=str(raw), SIZE="1"))


def test_cp_obeys_bridge_list_pool_and_directories(act, hosts, raw):
    with pytest.raises(DncError):
        act("cp", message("<BRIDGE_LIST>node1</BRIDGE_LIST>", PATH=str(raw), SIZE="3"))
    act("cp", message("<DNC_POOL>lvm:vg0/pool</DNC_POOL>", PATH=str(raw), SIZE="3"))
    assert hosts["node1"].args("create_volume")[0]["pool"] == "lvm:vg0/pool"
    with pytest.raises(Unsafe, match="not below a directory for images"):
        act("cp", message(PATH="/etc/passwd", SIZE="3"))
    with pytest.raises(BadConfig, match="DNC_POOL"):
        act("cp", message("<DNC_POOL>nonsense</DNC_POOL>", PATH=str(raw), SIZE="3"))


@pytest.mark.parametrize("stdin", [
    "", "<X/>", "<DS_DRIVER_ACTION_DATA/>", '<!DOCTYPE x [<!ENTITY a "b">]><DS_DRIVER_ACTION_DATA/>',
    message(PATH="", SIZE="1"), message(PATH="/a\nb", SIZE="1"), message(PATH="/x", SIZE="-1"),
])
def test_bad_messages_stop_before_any_host_is_asked(act, hosts, stdin):
    with pytest.raises(DncError):
        act("cp", stdin)
    assert hosts.sessions == 0


def test_stat_measures_content(act, raw):
    assert act("stat", message(PATH=str(raw)))[0] == "3"
    raw.write_bytes(gzip.compress(raw.read_bytes() + b"x"))
    assert act("stat", message(PATH=str(raw)))[0] == "4"
    with pytest.raises(NotFound, match="does not exist on the frontend"):
        act("stat", message(PATH=f"{raw}.absent"))


def test_mkfs_prints_the_source_alone(act, hosts):
    assert act("mkfs", message(SIZE="16", FS="ext4"))[0] == "one-9"
    assert hosts["node1"].ops("promote", "format", "demote", "take_down", "mark_ready") == [
        "promote", "format", "demote", "take_down", "mark_ready"
    ]


def test_mkfs_for_saveas_is_empty_and_other_formats_are_refused(act, hosts):
    assert act("mkfs", message(SIZE="16", FORMAT="save_as", FS="ext4"))[0] == "one-9"
    assert "format" not in hosts["node1"].ops()
    for wrong in (message(SIZE="16", FORMAT="qcow2"), message(SIZE="0"), message(FORMAT="raw")):
        with pytest.raises(BadInput):
            act("mkfs", wrong)


def test_clone_is_a_snapshot_on_every_member(act, hosts):
    printed, _ = act("clone", message(PATH="one-7", SIZE="64"))
    assert printed == "one-9 raw"
    for name in ("node1", "node2"):
        assert hosts[name].args("clone_volume")[0]["tags"] == {"kind": "image", "origin": "one-7"}
        assert hosts[name].ops("bring_up", "take_down", "mark_ready")[-2:] == ["take_down", "mark_ready"]
    with pytest.raises(BadInput):
        act("clone", message(PATH="/var/tmp/x", SIZE="64"))


def test_rm_is_idempotent_and_knows_images_without_source(act, hosts):
    act("rm", message(SOURCE="one-7"))
    assert hosts["node1"].args("remove_resource") == [{"resource": "one-7"}]
    act("rm", message(SOURCE="", NAME="failed"))
    assert hosts["node1"].args("remove_resource")[-1] == {"resource": "one-9"}
    with pytest.raises(BadInput):
        act("rm", message(SOURCE="one-7-42-0"))


def test_rm_of_an_image_that_clones_need_keeps_its_file(act, hosts):
    for name in ("node1", "node2"):
        hosts[name].answers["remove_volume"] = Busy("one-7 is the origin of one-9", hint="remove these clones first")
    with pytest.raises(Busy, match="one-7 is the origin of one-9"):
        act("rm", message(SOURCE="one-7"))
    assert "remove_resource" not in hosts["node1"].ops()
    hosts["node1"].have(spec("one-8", vm=3), status("one-8", role="Primary"))
    with pytest.raises(Busy, match="image one-8 is Primary on node1"):
        act("rm", message(SOURCE="one-8"))


def test_monitor_counts_pairs(act, hosts):
    hosts["node1"].free = 40 << 30
    printed, _ = act("monitor", message())
    assert printed == f"USED_MB={60 << 10}\nFREE_MB={35 << 10}\nTOTAL_MB={95 << 10}"
    hosts.fail("node2")
    printed, caller = act("monitor", message())
    assert "FREE_MB=0" in printed, "one host alone can hold no pair"
    assert "node2: no route to host" in caller.logged


@pytest.mark.parametrize("action", ["snap_delete", "snap_revert", "snap_flatten"])
def test_a_snapshot_without_a_number(act, action):
    with pytest.raises(DncError, match="is not a valid TARGET_SNAPSHOT"):
        act(action, message())


CONTRACT = "cp mkfs clone rm stat monitor snap_delete snap_revert snap_flatten export"


@pytest.mark.parametrize("action", CONTRACT.split())
def test_every_action_of_the_contract_is_an_executable(action):
    assert os.path.islink(CHECKOUT / "remotes" / "datastore" / "dnc" / action)
    assert (CHECKOUT / "lib" / "dnc" / "datastore" / f"{action}.py").exists()
