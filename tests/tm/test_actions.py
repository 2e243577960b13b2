"""TM actions: what each does with argv and the VM document (contract 1.2 to 1.5, observations 1 to 8)."""

from __future__ import annotations

import os
import pathlib

import pytest
from actions import DIRECTORY, document, run
from fake_hosts import spec, status

from dnc.errors import BadInput, DncError, NotFound, Unreachable, Unsafe
from dnc.tm import mkimage
from dnc.tools import drbd

CHECKOUT = pathlib.Path(__file__).parents[2]
MIB = 1 << 20


def disk(number: int, host: str = "node1") -> str:
    return f"{host}:{DIRECTORY}/disk.{number}"


@pytest.fixture
def act(monkeypatch, hosts):
    """Run a TM action on the hosts in memory."""
    def call(action: str, *argv: str, vm: str = "", stdin: str = ""):
        return run(monkeypatch, "tm", action, *argv, vm=vm, stdin=stdin)

    return call


def committed(hosts, *names: str) -> bool:
    return all(hosts[name].committed for name in names)


def test_clone_links_on_the_chosen_host_only(act, hosts):
    act("clone", "frontend:one-7", disk(0, "node2"), "42", "101", vm=document("clone"))
    path = {"path": "/var/lib/one/datastores/100/42/disk.0", "resource": "one-7-42-0"}
    assert hosts["node2"].args("ensure_link") == [path]
    assert hosts["node1"].args("ensure_link") == []
    assert committed(hosts, "node1", "node2")
    assert hosts.sessions == 2


def test_clone_reads_a_larger_size_from_the_document(act, hosts):
    act("clone", "frontend:one-7", disk(0), "42", "101", vm=document("larger"))
    assert hosts["node1"].args("clone_volume")[0]["bytes"] == drbd.volume_size(200 * MIB, 1)


@pytest.mark.parametrize("source", ["frontend:/var/lib/one/datastores/1/abc", "/var/lib/one/datastores/1/abc"])
def test_clone_of_a_file_says_what_to_do(act, source):
    with pytest.raises(DncError, match="is a file, and disk 0 is not its copy; file-based images need TM_MAD=dnc"):
        act("clone", source, disk(0), "42", "1", vm=document("foreign"))


@pytest.mark.parametrize("argv", [
    ("frontend:one-7;rm -rf /", disk(0), "42", "1"), ("frontend:one-7", "node1:relative/disk.0", "42", "1"),
    ("frontend:one-7", "no de:/a/disk.0", "42", "1"), ("frontend:one-7", "-oProxyCommand=x:/a/disk.0", "42", "1"),
    ("frontend:one-7", disk(0), "4 2", "1"), ("frontend:one-7-1-0", disk(0), "42", "1"),
    ("frontend:one-7\n", disk(0), "42", "1"), ("frontend:one-7", disk(0) + "$(id)", "42", "1"), ("one",),
])
def test_hostile_argv_stops_before_anything_is_asked(act, hosts, argv):
    with pytest.raises(BadInput):
        act("clone", *argv, vm=document("clone"))
    assert hosts.sessions == 0


def test_ln_brings_the_persistent_image_itself(act, hosts):
    act("ln", "frontend:one-8", disk(0), "42", "101", vm=document("persistent"))
    assert hosts["node1"].args("ensure_link")[0]["resource"] == "one-8"
    assert "clone_volume" not in hosts["node1"].ops()


def test_ln_of_a_cdrom_is_a_copy_of_its_own(act, hosts):
    act("ln", "frontend:one-7", disk(0), "42", "101", vm=document("cdrom"))
    assert hosts["node1"].args("ensure_link")[0]["resource"] == "one-7-42-0"
    assert hosts["node1"].args("clone_volume")[0]["origin"] == "one-7"


@pytest.mark.parametrize(("kind", "resource"), [
    ("clone", "one-7-42-0"), ("cdrom", "one-7-42-0"), ("swap", "one-sys-42-0"), ("fs", "one-sys-42-0"),
])
def test_delete_removes_what_dies_with_the_vm(act, hosts, kind, resource):
    for name in ("node1", "node2"):
        hosts[name].have(spec(resource, kind="clone" if "7" in resource else "volatile", vm=42), status(resource))
    act("delete", disk(0), "42", "101", vm=document(kind, lcm=11))
    for name in ("node1", "node2"):
        assert hosts[name].args("remove_volume") == [{"pool": "zfs:tank/dnc", "name": resource}]
        assert hosts[name].args("remove_resource") == [{"resource": resource}]


@pytest.mark.parametrize("lcm", [11, 15, 23, 3])
def test_delete_never_removes_a_persistent_image(act, hosts, lcm):
    for name in ("node1", "node2"):
        hosts[name].have(spec("one-8", vm=42), status("one-8"))
    act("delete", disk(0), "42", "101", vm=document("persistent", lcm=lcm))
    for name in ("node1", "node2"):
        assert not {"remove_volume", "remove_resource"} & set(hosts[name].ops())
        assert hosts[name].ops("demote", "take_down") == ["demote", "take_down"]
    assert hosts["node1"].args("remove_link")[0]["path"].endswith("/42/disk.0")


def test_delete_of_a_disk_that_never_was_is_success(act, hosts):
    act("delete", disk(0), "42", "101", vm=document("clone", lcm=23))
    act("delete", disk(5), "42", "101", vm=document("clone", lcm=23))
    act("delete", disk(0), "42", "101", vm=document("foreign", lcm=23))
    assert "write_resource" not in hosts["node1"].ops()


def test_delete_of_a_disk_the_document_has_lost_takes_only_its_own(act, hosts):
    for name in ("node1", "node2"):
        hosts[name].have(spec("one-7-42-5", kind="clone", vm=42))
        hosts[name].have(spec("one-7-43-5", kind="clone", vm=43))
        hosts[name].have(spec("one-7-42-4", kind="clone", vm=42))
    act("delete", disk(5), "42", "101", vm=document("clone"))
    assert hosts["node1"].args("remove_resource") == [{"resource": "one-7-42-5"}]


@pytest.mark.parametrize("host", ["frontend", "node1"])
def test_delete_needs_no_living_host_in_argv(act, hosts, host):
    hosts.fail("node1")
    hosts["node2"].have(spec("one-7-42-0", kind="clone", vm=42), status("one-7-42-0"))
    act("delete", disk(0, host), "42", "101", vm=document("clone", lcm=11))
    assert "remove_volume" in hosts["node2"].ops()
    assert hosts["node2"].args("note_unfinished") == [{"resource": "one-7-42-0", "hosts": ["node1"]}]


def test_delete_of_a_directory(act, hosts, monkeypatch, tmp_path):
    act("delete", f"node1:{DIRECTORY}", "42", "100")
    assert hosts["node1"].args("remove_directory") == [{"path": "/var/lib/one/datastores/100/42"}]
    hosts.fail("node2")
    _, caller = act("delete", f"node2:{DIRECTORY}", "42", "100")
    assert "node2:/var/lib/one/datastores/100/42 is left there" in caller.logged
    act("delete", f"frontend:{DIRECTORY}", "42", "100")
    with pytest.raises(BadInput, match="lies outside"):
        act("delete", "frontend:/etc", "42", "100")


def test_mvds_gives_the_image_back(act, hosts):
    for name in ("node1", "node2"):
        hosts[name].have(spec("one-8", vm=42), status("one-8"))
    act("mvds", disk(0), "one-8", "42", "101")
    assert hosts["node2"].ops("take_down") == ["take_down"]
    assert hosts["node1"].args("remove_link")
    assert committed(hosts, "node1", "node2")


def test_mvds_of_a_stopped_vm_comes_with_the_frontend(act, hosts):
    for name in ("node1", "node2"):
        hosts[name].have(spec("one-8", vm=42), status("one-8"))
    act("mvds", disk(0, "frontend"), "one-8", "42", "101")
    assert hosts.sessions == 2
    assert hosts["node1"].ops("take_down", "remove_link") == ["take_down"]


def test_mv_to_the_same_place_asks_nobody(act, hosts):
    act("mv", disk(0), disk(0), "42", "101", vm=document("clone"))
    act("mv", f"node1:{DIRECTORY}", f"node1:{DIRECTORY}", "42", "100")
    assert hosts.sessions == 0


@pytest.fixture
def running(hosts):
    """Disk 0 of VM 42 is up, Primary on node1."""
    for name, role in (("node1", "Primary"), ("node2", "Secondary")):
        hosts[name].have(spec("one-7-42-0", kind="clone", vm=42), status("one-7-42-0", role=role))

    def demote(_args):
        hosts["node1"].have(spec("one-7-42-0", kind="clone", vm=42), status("one-7-42-0"))
        return {}

    hosts["node1"].answers["demote"] = demote
    return hosts


def test_mv_stop_demotes_and_unlinks(act, running):
    act("mv", disk(0), disk(0, "frontend"), "42", "101", vm=document("clone", lcm=10))
    assert running["node1"].ops("demote", "remove_link", "take_down") == ["demote", "remove_link"]
    assert not running["node2"].args("ensure_link")


def test_mv_resume_makes_available_and_links(act, running):
    running["node1"].answers["demote"]({})
    act("mv", disk(0, "frontend"), disk(0, "node2"), "42", "101", vm=document("clone", lcm=9))
    assert running["node2"].ops("bring_up", "await_ready", "ensure_link") == ["bring_up", "await_ready", "ensure_link"]


def test_mv_between_hosts_and_from_a_dead_one(act, running):
    act("mv", disk(0), disk(0, "node2"), "42", "101", vm=document("clone", lcm=8))
    assert running["node1"].ops("demote", "remove_link") == ["demote", "remove_link"]
    assert running["node2"].args("ensure_link")
    running.fail("node1")
    running["node2"].have(
        spec("one-7-42-0", kind="clone", vm=42), status("one-7-42-0", connection="Connecting")
    )
    _, caller = act("mv", disk(0), disk(0, "node2"), "42", "101", vm=document("clone", lcm=60))
    assert "one-7-42-0: on node2 without node1" in caller.logged


def test_mv_to_a_dead_or_foreign_host_fails(act, running):
    running.fail("node2")
    with pytest.raises(Unreachable):
        act("mv", disk(0), disk(0, "node2"), "42", "101", vm=document("clone"))


def test_mv_of_an_unknown_disk(act, hosts):
    with pytest.raises(NotFound, match="one-7-42-0 is on no host"):
        act("mv", disk(0), disk(0, "node2"), "42", "101", vm=document("clone"))


def test_mv_of_the_directory_from_a_dead_host(act, hosts):
    hosts.fail("node1")
    paths = (f"node1:{DIRECTORY}", f"node2:{DIRECTORY}", "42", "100")
    _, caller = act("mv", *paths, vm=document("clone", lcm=60))
    assert "stay behind" in caller.logged
    assert hosts["node2"].args("ensure_directory")
    # A suspended VM's memory is there and nowhere else: going on would lose it without a word.
    for lcm in (8, 10, 45):
        with pytest.raises(Unreachable, match="the saved memory of VM 42 is here"):
            act("mv", *paths, vm=document("clone", lcm=lcm))


def test_mv_between_system_datastores_of_one_host_copies_nothing(act, running):
    hosts = running
    hosts["node1"].files = {"vm.xml": 5, "checkpoint": 1 << 30}
    hosts["node1"].answers["rename_file"] = {"renamed": True}
    other = DIRECTORY.replace("100", "104")
    act("mv", disk(0), f"node1:{other}/disk.0", "42", "101", vm=document("clone"))
    assert "demote" not in hosts["node1"].ops()
    assert hosts["node1"].args("remove_link") and hosts["node1"].args("ensure_link")
    hosts["node1"].answers["list_files"] = lambda args: {
        "files": {"vm.xml": 5} if "/100/" in args["path"] else {}, "links": {}, "exists": True}
    act("mv", f"node1:{DIRECTORY}", f"node1:{other}", "42", "104", vm=document("clone"))
    assert [args["path"].rpartition("/")[2] for args in hosts["node1"].args("rename_file")] == ["vm.xml"]
    assert "read_file" not in hosts["node1"].ops()
    assert hosts["node1"].args("remove_directory")[-1]["path"].endswith("/100/42")


def test_mkimage_formats_while_the_disk_is_being_made(act, hosts):
    act("mkimage", "16", "raw", disk(1), "42", "100", vm=document("clone", "fs"))
    ops = hosts["node1"].ops("declare_equal", "promote", "format", "demote", "mark_ready", "ensure_link")
    assert ops == ["declare_equal", "promote", "format", "demote", "mark_ready", "ensure_link"]
    assert hosts["node1"].args("format") == [{"resource": "one-sys-42-1", "filesystem": "ext4"}]
    assert hosts["node1"].args("create_volume")[0]["tags"] == {"kind": "volatile", "vm": 42}


def test_mkswap_and_a_disk_without_file_system(act, hosts):
    act("mkswap", "16", disk(0), "42", "100", vm=document("swap"))
    assert hosts["node1"].args("format")[0]["filesystem"] == "swap"
    assert mkimage._filesystem("") is None
    assert mkimage._filesystem("RAW") is None


@pytest.mark.parametrize(("argv", "said"), [
    (("16", "qcow2", disk(0), "42", "100"), "volatile disks are raw, not 'qcow2'"),
    (("0", "raw", disk(0), "42", "100"), "not a valid size"),
    (("1e3", "raw", disk(0), "42", "100"), "not a valid size"),
])
def test_mkimage_refuses(act, hosts, argv, said):
    with pytest.raises(BadInput, match=said):
        act("mkimage", *argv, vm=document("fs"))
    assert hosts.sessions == 0


def test_context_replaces_the_iso_in_one_step(act, hosts, tmp_path):
    script = tmp_path / "context.sh"
    script.write_text("A=1\n")
    act("context", str(script), disk(3), "42", "100")
    written = hosts["node1"].args("write_file")
    assert written[-1]["path"] == "/var/lib/one/datastores/100/42/disk.3"
    assert [one["last"] for one in written] == [False] * (len(written) - 1) + [True]
    assert hosts["node1"].committed
    assert hosts.sessions == 1


@pytest.mark.parametrize("action", ["premigrate", "postmigrate", "failmigrate"])
def test_migration_refuses_documents_of_other_vms_and_nonsense(act, hosts, action):
    with pytest.raises(BadInput, match="that of VM 42, not 43"):
        act(action, "node1", "node2", DIRECTORY, "43", "100", stdin=document("clone"))
    with pytest.raises(BadInput):
        act(action, "node1", "node2", DIRECTORY, "42", "100", stdin=document("clone")[:60])
    assert hosts.sessions == 0


def test_premigrate_refuses_what_cannot_move_and_the_others_have_nothing_to_do(act, hosts):
    with pytest.raises(DncError, match="no move between datastores of one host"):
        act("premigrate", "node1", "node1", DIRECTORY, "42", "100", stdin=document("clone"))
    with pytest.raises(DncError, match="disk 0 of VM 42 is not dnc's"):
        act("premigrate", "node1", "node2", DIRECTORY, "42", "100", stdin=document("foreign"))
    act("postmigrate", "node1", "node1", DIRECTORY, "42", "100", stdin=document("clone"))
    assert hosts.sessions == 0


def test_premigrate_then_postmigrate(act, running):
    running["node1"].domains["one-42"] = "running"
    act("premigrate", "node1", "node2", DIRECTORY, "42", "100", stdin=document("clone", lcm=4))
    assert committed(running, "node1", "node2")
    running["node2"].domains["one-42"] = running["node1"].domains.pop("one-42")
    act("postmigrate", "node1", "node2", DIRECTORY, "42", "100", stdin=document("clone", lcm=4))
    assert running["node2"].args("settle")[0]["role_here"] is True
    assert running.sessions == 4


def test_a_premigrate_that_fails_commits_nothing(act, running):
    running["node2"].answers["promote"] = Unsafe("one-7-42-0 is Primary on a peer")
    running["node1"].domains["one-42"] = "running"
    with pytest.raises(Unsafe):
        act("premigrate", "node1", "node2", DIRECTORY, "42", "100", stdin=document("clone", lcm=4))
    assert not running["node1"].committed
    assert not running["node2"].committed


CONTRACT = """clone ln mv mvds cpds delete context mkimage mkswap premigrate postmigrate failmigrate resize snap_create
    snap_create_live snap_delete snap_revert monitor prebackup prebackup_live postbackup postbackup_live restore"""


@pytest.mark.parametrize("action", CONTRACT.split())
def test_every_action_of_the_contract_is_an_executable(action):
    path = CHECKOUT / "remotes" / "tm" / "dnc" / action
    assert os.readlink(path) == "../../lib/dnc-action"
    assert (CHECKOUT / "lib" / "dnc" / "tm" / f"{action}.py").exists()


def test_a_stopped_vms_files_come_to_the_frontend_and_go_back(act, hosts, monkeypatch, tmp_path):
    monkeypatch.setenv("ONE_LOCATION", str(tmp_path))
    here = tmp_path / "var" / "datastores" / "100" / "42"
    hosts["node1"].files = {"checkpoint": 5}
    hosts["node1"].answers["read_file"] = {"length": 5, "size": 5}
    act("mv", f"node1:{DIRECTORY}", f"frontend:{DIRECTORY}", "42", "100")
    assert (here / "checkpoint").read_bytes() == bytes(5)
    assert hosts["node1"].ops("remove_directory") == ["remove_directory"]
    act("mv", f"frontend:{DIRECTORY}", f"node2:{DIRECTORY}", "42", "100")
    assert hosts["node2"].args("write_file")[-1]["path"] == "/var/lib/one/datastores/100/42/checkpoint"
    assert not here.exists()
    act("delete", f"frontend:{DIRECTORY}", "42", "100")
