"""zfs and LVM: argv as proven on the lab, parsers and error texts against what the real tools printed."""

from __future__ import annotations

import pytest

from dnc.errors import Busy, Conflict, NoSpace, NotFound, ToolFailed
from dnc.tools import lvm, zfs
from tools import captured


@pytest.mark.parametrize(("capture", "kind"), [
    ("zfs-create-exists", Conflict), ("zfs-clone-exists", Conflict), ("zfs-snap-exists", Conflict),
    ("zfs-clone-nosnap", NotFound), ("zfs-destroy-nosuch", NotFound), ("zfs-nosuch", NotFound),
    ("zfs-no-pool", NotFound),
    ("zfs-destroy-busy", Busy), ("zfs-destroy-snap-with-clone", Busy), ("zfs-nospace", NoSpace),
])
def test_zfs_says(capture, kind):
    error = zfs.explain(captured.failed(capture, "zfs"), "one-7")
    assert type(error) is kind
    assert error.what.startswith("one-7") and len(error.what) < 60


def test_zfs_names_the_clones_that_need_an_origin():
    error = zfs.explain(captured.failed("zfs-destroy-snap-with-clone", "zfs"), "tz")
    assert error.what == "tz is the origin of cz1"


def test_zfs_snapshots_are_no_clones():
    error = captured.failed("zfs-destroy-has-snapshots", "zfs")
    assert zfs.explain(error, "tz") is error, "the pool decides what to do about snapshots"
    assert zfs.dependents(error.stderr) == ("tank/tz@c1",)


def test_zfs_listing_and_tags():
    text = (
        "tank/dnc\tfilesystem\t-\t-\t98304\t100\n"
        "tank/dnc/one-7-42-0\tvolume\t134217728\ttank/dnc/one-7@one-7-42-0\t1\t2\n"
    )
    assert zfs.parse_listing(text) == {
        "tank/dnc/one-7-42-0": zfs.Zvol("tank/dnc/one-7-42-0", 134217728, "tank/dnc/one-7@one-7-42-0")
    }
    assert zfs.parse_space("21921792\t3870392320\n") == (21921792, 3870392320)
    assert zfs.parse_tags("type\tvolume\ndnc:kind\tclone\ndnc:vm\t42\n") == {"kind": "clone", "vm": "42"}


def test_zfs_argv():
    assert zfs.create("tank/dnc/one-7", 1 << 20, {"kind": "image"}) == (
        "zfs", "create", "-s", "-V", "1048576", "-b", "16k", "-o", "volmode=dev", "-o", "dnc:kind=image",
        "tank/dnc/one-7",
    )
    assert zfs.clone("tank/dnc/one-7", "one-7-1-0", "tank/dnc/one-7-1-0", {}) == (
        "zfs", "clone", "-o", "volmode=dev", "tank/dnc/one-7@one-7-1-0", "tank/dnc/one-7-1-0"
    )


@pytest.mark.parametrize(("capture", "kind"), [
    ("lvcreate-exists", Conflict), ("lvcreate-noorigin", NotFound), ("lvcreate-novg", NotFound),
    ("lvcreate-thick-nospace", NoSpace), ("lvremove-busy", Busy), ("lvremove-held", Busy),
    ("lvremove-nosuch", NotFound),
])
def test_lvm_says(capture, kind):
    error = lvm.explain(captured.failed(capture, "lvcreate"), "one-7")
    assert type(error) is kind
    assert error.what.startswith("one-7") and len(error.what) < 60


def test_lvm_leaves_unknown_words_alone():
    error = ToolFailed("lvcreate failed: something new")
    assert lvm.explain(error, "one-7") is error


def test_lvm_listing():
    volumes = lvm.parse_listing(captured.stdout("lvs-json"), "pool")
    assert volumes["cl1"] == lvm.ThinVolume("cl1", 134217728, "tl", {})
    assert set(volumes) == {"cl1", "tl"}, "neither the pool itself nor its hidden parts"


def test_lvm_tags():
    row = (
        '{"lv_name":"one-7","lv_size":"4","pool_lv":"pool","origin":"","lv_attr":"V",'
        '"lv_tags":"dnc.kind=image,other,dnc.vm=4"}'
    )
    volumes = lvm.parse_listing('{"report":[{"lv":[' + row + "]}]}", "pool")
    assert volumes["one-7"].tags == {"kind": "image", "vm": "4"}


def test_lvm_pool_state():
    def report(attributes: str) -> str:
        return (
            '{"report":[{"lv":[{"lv_name":"pool","lv_size":"3221225472","data_percent":"0.99",'
            f'"metadata_percent":"11.72","lv_attr":"{attributes}","zero":"zero"' + "}]}]}"
        )

    assert lvm.parse_pool(report("twi-aotz--")) == lvm.ThinPoolState(3221225472, 0.99, 11.72, True)
    assert not lvm.parse_pool(report("twi-aot---")).zeroing
    with pytest.raises(NotFound, match="no thin pool"):
        lvm.parse_pool(report("Vwi-aotz--"))


def test_lvm_argv():
    assert lvm.snapshot("vg0", "one-7", "one-7-42-0", {"kind": "clone", "vm": "42"}) == (
        "lvcreate", "-q", "-y", "-kn", "--addtag", "dnc.kind=clone", "--addtag", "dnc.vm=42", "-s", "-n", "one-7-42-0",
        "vg0/one-7",
    )
    assert "-kn" in lvm.create("vg0", "pool", "one-7", 5 << 20, {}), "without it there is no device node"


def test_zfs_tree_of_a_reverted_disk():
    """As `zfs list` showed it on the lab after a revert, with a snapshot that waits for its clone's end."""
    d = "tank/dnc/one-1-2-0"
    zvols, snapshots = zfs.parse_tree(
        "tank/dnc/one-1\tvolume\t67108864\t-\t1114112\t-\t-\n"
        "tank/dnc/one-1@one-1-2-0\tsnapshot\t67108864\t-\t0\toff\t-\n"
        f"{d}.branch-1\tvolume\t67108864\t{d}@one-1-2-0.snap-0\t0\t-\t-\n"
        f"{d}@one-1-2-0.snap-0\tsnapshot\t67108864\t-\t0\ton\tbarrier:abc\n"
        f"{d}.branch-1@one-1-2-0.snap-1\tsnapshot\t67108864\t-\t4096\toff\t-\n"
        f"{d}\tvolume\t67108864\ttank/dnc/one-1@one-1-2-0\t8192\t-\t-\n"
    )
    assert zvols[f"{d}.branch-1"].origin == f"{d}@one-1-2-0.snap-0"
    assert [(one.full, one.used, one.deferred, one.tags) for one in snapshots[1:]] == [
        (f"{d}@one-1-2-0.snap-0", 0, True, {"proof": "barrier:abc"}),
        (f"{d}.branch-1@one-1-2-0.snap-1", 4096, False, {}),
    ]
