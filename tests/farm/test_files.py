"""Small files between directories; the context CD-ROM."""

from __future__ import annotations

import os
import subprocess

import pytest
from caller import TestCaller

from dnc.errors import BadInput, NotFound
from dnc.farm import context
from dnc.farm.files import PIECE, LocalDirectory, copy_files, move_files, same_directory


@pytest.fixture
def directories(tmp_path):
    source = tmp_path / "one" / "42"
    source.mkdir(parents=True)
    (source / "vm.xml").write_text("<VM/>")
    (source / "checkpoint").write_bytes(b"c" * (2 * PIECE + 5))
    (source / "empty").touch()
    (source / "disk.0").symlink_to("/dev/null")
    return LocalDirectory(str(source), str(tmp_path)), LocalDirectory(str(tmp_path / "two" / "42"), str(tmp_path))


def test_a_move_takes_files_and_leaves_links_and_nothing_else(directories, tmp_path):
    source, target = directories
    assert move_files(source, target) == 2 * PIECE + 5 + 5
    assert sorted(os.listdir(tmp_path / "two" / "42")) == ["checkpoint", "empty", "vm.xml"]
    assert (tmp_path / "two" / "42" / "checkpoint").stat().st_size == 2 * PIECE + 5
    assert not (tmp_path / "one" / "42").exists()


def test_a_copy_skips_what_it_is_told_and_keeps_the_source(directories, tmp_path):
    source, target = directories
    copy_files(source, target, skip=("checkpoint", "."))
    assert sorted(os.listdir(tmp_path / "two" / "42")) == ["empty", "vm.xml"]
    assert (tmp_path / "one" / "42" / "vm.xml").exists()


def test_a_shared_directory_is_recognised_and_left_alone(directories, tmp_path):
    source, _ = directories
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "42").symlink_to(tmp_path / "one" / "42")
    other = LocalDirectory(str(tmp_path / "two" / "42"), str(tmp_path))
    assert same_directory(source, other)
    assert move_files(source, other) == 0
    assert (tmp_path / "one" / "42" / "vm.xml").exists()
    assert not [name for name in os.listdir(tmp_path / "one" / "42") if name.startswith(".dnc")]


def test_an_absent_source_leaves_an_empty_target(tmp_path):
    source = LocalDirectory(str(tmp_path / "absent"), str(tmp_path))
    target = LocalDirectory(str(tmp_path / "new"), str(tmp_path))
    assert move_files(source, target) == 0
    assert os.listdir(tmp_path / "new") == []


@pytest.mark.parametrize("path", ["/etc", "/var/lib/one/datastores", "/"])
def test_nothing_outside_the_datastores_is_ever_removed(path):
    with pytest.raises(BadInput, match="lies outside"):
        LocalDirectory(path, "/var/lib/one/datastores")


@pytest.mark.parametrize(("source", "path", "name"), [
    ("/var/lib/one/vms/4/context.sh", "/var/lib/one/vms/4/context.sh", "context.sh"),
    ("/var/lib/one/datastores/2/abc:'my file/x'", "/var/lib/one/datastores/2/abc", "my_file_x"),
    ("/a/b:init.sh", "/a/b", "init.sh"),
    ("http://example.org/x/init.sh", "http://example.org/x/init.sh", "init.sh"),
])
def test_names_in_the_context_are_opennebulas(source, path, name):
    assert context.split(source) == (path, name)


@pytest.mark.parametrize("source", ["relative", "/a:..", "http://example.org/", "/a:b\nc"])
def test_names_that_no_context_may_have(source):
    with pytest.raises(BadInput):
        context.split(source)


def test_the_iso_has_its_label_and_files(tmp_path):
    script, more = tmp_path / "context.sh", tmp_path / "more"
    script.write_text("ETH0_IP='10.0.0.1'\n")
    more.mkdir()
    (more / "inner").write_text("x")
    work = tmp_path / "work"
    work.mkdir()
    try:
        image = context.build(TestCaller().runner, [str(script), f"{more}:extra dir"], str(work))
    except context.ToolMissing:
        pytest.skip("needs genisoimage, mkisofs or xorrisofs")
    with open(image, "rb") as stream:
        data = stream.read()
    assert data[32769:32774] == b"CD001"
    assert data[32808:32815] == b"CONTEXT"
    assert b"ETH0_IP='10.0.0.1'" in data
    assert context.require_built(image) == len(data)
    listing = subprocess.run(["isoinfo", "-R", "-f", "-i", image], capture_output=True, text=True, check=False)
    if listing.returncode == 0:
        assert "/extra_dir/inner" in listing.stdout


def test_a_context_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(NotFound, match="context file /nowhere/x does not exist"):
        context.build(TestCaller().runner, ["/nowhere/x"], str(tmp_path))
