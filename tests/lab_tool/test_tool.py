"""Errors, state, command lines and archives of the lab's tool."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from dnclab import Lab, LabError, access, bootstrap, build, cli, guest_image, kernel, qemu, state, switch
from dnclab import command as commands
from dnclab import lab as lab_module


def plan(directory: Path, accelerator: str = "tcg", number: int = 1) -> qemu.HostPlan:
    links = (directory / "own", directory / "peer")
    return qemu.HostPlan(number, directory / f"node{number}", directory / "build", 40001, links, accelerator)


def test_name_of_a_lab_is_checked(cache: Path) -> None:
    for name in ("", "../x", "A", "a b", "-a", "x" * 22):
        with pytest.raises(LabError, match="no name for a lab"):
            state.lab_dir(name)
    assert state.lab_dir("demo-2").parent.parent == cache


def test_too_long_a_directory_is_told_before_qemu_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNC_LAB_DIR", str(tmp_path / ("d" * 80)))
    with pytest.raises(LabError, match="DNC_LAB_DIR"):
        state.lab_dir("default")


def test_state_round_trip_and_damage(cache: Path) -> None:
    directory = state.lab_dir("a")
    directory.mkdir(parents=True)
    assert state.load(directory) is None
    wanted = state.State("abc", 3, {"node1": 4001})
    state.save(directory, wanted)
    assert state.load(directory) == wanted
    (directory / "state.json").write_text('{"build": 1')
    with pytest.raises(LabError, match="damaged.*destroy"):
        state.load(directory)


def test_lab_that_was_never_up_says_so(cache: Path) -> None:
    with pytest.raises(LabError, match="never up.*lab up"):
        Lab("fresh").root("node1", ["true"])


def test_host_count_is_checked(cache: Path) -> None:
    for hosts in (1, 4):
        with pytest.raises(LabError, match="--hosts"):
            Lab("fresh").up(hosts=hosts)


def test_taken_port_is_replaced() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        assert access.free_port(taken) != taken
    port = access.free_port()
    assert access.free_port(port) == port


def test_memory_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_module, "MEMORY_PER_HOST_MIB", 1 << 30)
    with pytest.raises(LabError, match="MiB of memory are free"):
        lab_module.check_memory(2)


def test_space_is_checked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SPACE_BYTES", 1 << 60)
    monkeypatch.setattr(build.os, "geteuid", lambda: 0)
    monkeypatch.setattr(build.shutil, "which", lambda tool: tool)
    with pytest.raises(LabError, match="GiB free.*DNC_LAB_DIR"):
        build.check_machine()


def test_only_root_may_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match="by root"):
        build.check_machine()


def test_missing_tool_names_its_package(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.os, "geteuid", lambda: 0)
    monkeypatch.setattr(build.shutil, "which", lambda tool: None if tool == "qemu-img" else tool)
    with pytest.raises(LabError, match="apt-get install qemu-utils"):
        build.check_machine()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("E: Unable to locate package drbd-utils", "Unable to locate package drbd-utils"),
        ("Err:1 http://x\nE: Failed to fetch http://x/y.deb  404  Not Found", "cannot be fetched"),
        ("cp: error writing: No space left on device", "no space left"),
        ("something odd", "status 3: something odd"),
    ],
)
def test_failed_build_step_is_one_line(tmp_path: Path, output: str, expected: str) -> None:
    log = tmp_path / "log"
    log.write_text("E: Failed to fetch of an earlier step\n")
    script = "import sys; print(sys.argv[1]); sys.exit(3)"
    with pytest.raises(LabError) as caught:
        commands.run_logged(["python3", "-c", script, output], log, step="bootstrap", timeout=30)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_second_build_is_refused_while_one_runs(cache: Path) -> None:
    from dnclab.cache import locked

    with (
        locked("build", "a build"),
        pytest.raises(LabError, match=f"process {os.getpid()}"),
        locked("build", "a build"),
    ):
        pass


def test_interrupted_build_is_cleared(cache: Path) -> None:
    left = cache / "work/rootfs-x1/tree/etc"
    left.mkdir(parents=True)
    (left / "passwd").write_text("root")
    from dnclab.cache import clear_work

    assert clear_work() == 1
    assert list((cache / "work").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_nothing_is_deleted_through_a_mount(cache: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("keep")
    inside = cache / "work/builder-x/tree/dev"
    inside.mkdir(parents=True)
    mounted = subprocess.run(["mount", "--bind", str(precious), str(inside)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let us mount")
    from dnclab.cache import clear_work

    clear_work()
    assert (precious / "file").read_text() == "keep"
    assert not inside.exists()


def test_hash_changes_with_content_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "LAB_SOURCE", tmp_path)
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_text("1")
    first = build.hash_of(("d",))
    assert build.hash_of(("d",)) == first
    (tmp_path / "d/a").write_text("2")
    second = build.hash_of(("d",))
    (tmp_path / "d/a").rename(tmp_path / "d/b")
    assert len({first, second, build.hash_of(("d",))}) == 3


def test_disks_are_honest_about_power_cuts_and_traffic_stays_local(tmp_path: Path) -> None:
    argv = qemu.host_argv(plan(tmp_path), resume=False)
    drives = [word for word in argv if word.startswith("file=")]
    assert len(drives) == len(qemu.DISKS) and all("cache=writeback" in word for word in drives)
    forwards = [word for word in argv if "hostfwd" in word]
    assert forwards == ["user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:40001-:22"]
    assert "-loadvm" not in argv and "-loadvm" in qemu.host_argv(plan(tmp_path), resume=True)


def test_kvm_only_where_the_build_found_it(tmp_path: Path) -> None:
    assert "tcg,thread=multi,tb-size=256" in qemu.host_argv(plan(tmp_path), resume=False)
    assert "kvm" in qemu.host_argv(plan(tmp_path, "kvm"), resume=False)


def test_ssh_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners: dict[str, str] = {}
    monkeypatch.setattr(access.shutil, "chown", lambda path, owner: owners.update({path.name: owner}))
    keys = tmp_path / "build/keys"
    keys.mkdir(parents=True)
    for name in ("root", "frontend"):
        (keys / name).write_text(name)
    access.write_ssh_configs(tmp_path, tmp_path / "build", {"node1": 4001, "node2": 4002})
    frontend, equipment = (tmp_path / "ssh_config").read_text(), (tmp_path / "ssh_config.root").read_text()
    assert frontend.count("User oneadmin") == 2 and equipment.count("User root") == 2
    assert "HostKeyAlias node2" in frontend and frontend.count("StrictHostKeyChecking yes") == 2
    assert owners == {"frontend": "nobody", "root": "root"}
    assert (tmp_path / "keys/frontend").stat().st_mode & 0o777 == 0o600


def test_words_reach_the_remote_shell_unchanged() -> None:
    words = ["printf", "%s", "a b", "it's", "$(id)", "-x", ""]
    argv = access.ssh_argv(Path("config"), "node1", words)
    line = " ".join(argv[argv.index("--") + 1 :])
    done = subprocess.run(
        ["sh", "-c", line.replace("'printf'", "printf", 1).replace("'%s'", "'%s|'", 1)], capture_output=True, text=True
    )
    assert done.stdout == "a b|it's|$(id)|-x||"


def test_archive_belongs_to_root(tmp_path: Path) -> None:
    (tmp_path / "prepare").write_text("#!/bin/sh\n")
    (tmp_path / "prepare").chmod(0o755)
    with tarfile.open(fileobj=io.BytesIO(access.archive(tmp_path))) as tar:
        entry = tar.getmember("./prepare")
    assert (entry.uid, entry.uname, entry.mode & 0o777) == (0, "root", 0o755)


def test_initramfs_archive_is_what_cpio_reads(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tool").write_bytes(b"odd")
    (tmp_path / "sh").symlink_to("bin/tool")
    data = kernel.cpio(tmp_path)
    assert data.startswith(b"070701") and len(data) % 4 == 0
    assert data.count(b"070701") == 4 and b"TRAILER!!!\0" in data and b"sh\0" in data


def test_modules_are_loaded_in_order(tmp_path: Path) -> None:
    directory = tmp_path / "usr/lib/modules/6.1"
    directory.mkdir(parents=True)
    (directory / "modules.dep").write_text(
        "kernel/a-b.ko.xz: kernel/c.ko.xz kernel/d.ko.xz\nkernel/c.ko.xz: kernel/d.ko.xz\nkernel/d.ko.xz:\n"
    )
    names = [path.name for path in kernel.Modules(tmp_path, "6.1").closure(["a_b", "built-in", "c"])]
    assert names == ["d.ko.xz", "c.ko.xz", "a-b.ko.xz"]


def test_guest_partitions_follow_each_other() -> None:
    sector = guest_image.partition_table(b"\xeb" * 512)
    assert len(sector) == 512 and sector[510:] == b"\x55\xaa" and sector[446] == 0x80
    assert guest_image.IMAGE_BYTES <= 200 << 20


def test_package_lists_have_one_name_a_line() -> None:
    for path in sorted((build.LAB_SOURCE / "host").glob("*packages.txt")) + [build.LAB_SOURCE / "packages.txt"]:
        names = bootstrap.package_names(path)
        assert names and all(name and " " not in name for name in names) and len(names) == len(set(names)), path


def test_mirror_comes_from_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = "http://s/|Other|x|main\nhttp://u/|Debian|bookworm-updates|main\nhttp://m/debian/|Debian|bookworm|main\n"
    monkeypatch.setattr(bootstrap, "capture", lambda argv: listed)
    assert bootstrap.mirror() == "http://m/debian/"
    monkeypatch.setattr(bootstrap, "capture", lambda argv: "")
    with pytest.raises(LabError, match="apt-get update"):
        bootstrap.mirror()


def test_switch_learns_and_floods(tmp_path: Path) -> None:
    bridge = switch.Switch(tmp_path, ["node1", "node2", "node3"])
    one, two, everyone = b"\x52\0\0\0\0\x01", b"\x52\0\0\0\0\x02", b"\xff" * 6
    assert bridge.targets("node1", everyone + one + b"ab") == ["node2", "node3"]
    assert bridge.targets("node2", one + two + b"ab") == ["node1"]
    assert bridge.targets("node1", two + one + b"ab") == ["node2"]
    assert bridge.targets("node3", one + two + b"ab") == ["node1"]
    for port in bridge.ports.values():
        port.close()


def test_counter_command(cache: Path, tmp_path: Path) -> None:
    from dnclab.counter import Record, make_sector

    image = tmp_path / "ring"
    image.write_bytes(
        make_sector(Record(4, 5, "aa")) + make_sector(Record(1, 5, "aa")) + bytes(512) + make_sector(Record(3, 5, "aa"))
    )
    done = CliRunner().invoke(cli.cli, ["counter", str(image)])
    assert done.exit_code == 1 and "ticks 1..4" in done.output and "missing ticks: 2" in done.output


def test_builds_that_nothing_uses_are_removed(cache: Path) -> None:
    for name in ("present", "used", "old"):
        (cache / "build" / name / "golden-2-x").mkdir(parents=True)
    directory = state.lab_dir("a")
    directory.mkdir(parents=True)
    state.save(directory, state.State("used", 2, {}))
    build.remove_unused_builds(cache / "build/present")
    assert sorted(path.name for path in (cache / "build").iterdir()) == ["present", "used"]


def test_error_is_one_line_and_exit_status_1(cache: Path) -> None:
    environment = dict(os.environ, DNC_LAB_DIR=str(cache))
    tool = build.LAB_SOURCE / "lab"
    done = subprocess.run([tool, "ssh", "node9", "true"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "never up" in done.stderr and "Traceback" not in done.stderr


def test_process_of_a_host_is_not_taken_for_another(tmp_path: Path) -> None:
    directory = tmp_path / "node1"
    directory.mkdir()
    assert qemu.pid_of(directory) is None
    (directory / "pid").write_text(f"{os.getpid()}\n")
    assert qemu.pid_of(directory) is None
    qemu.kill(directory)
