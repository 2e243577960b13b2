"""Faults that tests plan: crashes, failures, delays, power, and hosts that lack something."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sim.farm import SimFarm

pytestmark = pytest.mark.sim

# A driver action on the frontend that runs an agent on node1, which runs two tools and then says so.
AGENT = (
    "import subprocess, sys\n"
    "for name in ('a', 'b'):\n"
    "    subprocess.run(['sudo', '-n', 'zfs', 'create', 'tank/' + name], check=True)\n"
    "print('agent done', flush=True)\n"
)
ACTION = (
    "import subprocess, sys\n"
    "agent = subprocess.run([sys.argv[1] + '/bin/ssh', 'node1', '/usr/bin/python3 -I /tmp/agent.py'], "
    "stdout=subprocess.PIPE, text=True)\n"
    "print(agent.stdout, end='')\n"
    "print('action saw', agent.returncode)\n"
)


def act(farm: SimFarm, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run the action as oned's driver would: its path says what it is."""
    Path(farm.path("node1", "/tmp/agent.py")).write_text(AGENT)
    script = tmp_path / "remotes" / "tm" / "dnc" / "clone"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(ACTION)
    words = [sys.executable, str(script), farm.directory]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def made(farm: SimFarm) -> list[str]:
    return [name[-1] for name in ("tank/a", "tank/b") if name in farm.state["hosts"]["node1"]["zfs"]["datasets"]]


def test_no_fault(farm: SimFarm, tmp_path: Path) -> None:
    done = act(farm, tmp_path)
    assert (done.stdout, made(farm)) == ("agent done\naction saw 0\n", ["a", "b"])
    assert farm.command_count("node1") == 2


@pytest.mark.parametrize(("when", "there"), [("before", ["a"]), ("after", ["a", "b"])])
def test_crash_of_the_agent(farm: SimFarm, tmp_path: Path, when: str, there: list[str]) -> None:
    farm.crash_at("node1", 2, when=when, target="agent")
    done = act(farm, tmp_path)
    assert done.stdout.startswith("action saw"), "the agent said nothing more, the action lives"
    assert "saw 0" not in done.stdout
    assert made(farm) == there


def test_crash_of_the_action(farm: SimFarm, tmp_path: Path) -> None:
    farm.crash_at("node1", 1, target="action")
    done = act(farm, tmp_path)
    assert (done.returncode, done.stdout) == (-9, "")
    end = time.monotonic() + 20
    while made(farm) != ["a", "b"]:
        assert time.monotonic() < end, "the agent was not killed: it goes on to its end"
        time.sleep(0.05)


def test_crash_of_both(farm: SimFarm, tmp_path: Path) -> None:
    farm.crash_at("node1", 2, target="both", pattern="zfs create")
    done = act(farm, tmp_path)
    assert (done.returncode, made(farm)) == (-9, ["a"])


def test_failure_once_and_for_good(farm: SimFarm) -> None:
    farm.fail_at("node1", "zfs create", status=7, stderr="injected\n")
    assert farm.run("node1", ["zfs", "create", "tank/a"])[::2] == (7, "injected\n")
    assert farm.run("node1", ["zfs", "create", "tank/a"]).status == 0
    farm.fail_at("node1", "zfs create", stays=True)
    assert [farm.run("node1", ["zfs", "create", "tank/b"]).status for _ in range(2)] == [1, 1]
    farm.clear_faults()
    assert farm.run("node1", ["zfs", "create", "tank/b"]).status == 0


def test_delay(farm: SimFarm) -> None:
    farm.delay("node1", "zfs list", 0.5)
    begun = time.monotonic()
    assert farm.run("node1", ["zfs", "list"]).status == 0
    assert time.monotonic() - begun >= 0.5


def test_power_cut_kills_what_runs_and_forgets_the_kernel(lab: SimFarm) -> None:
    waiting = subprocess.Popen([f"{lab.directory}/bin/ssh", "node1", "echo > /tmp/started; sleep 60"],
        stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 20
    while not os.path.exists(lab.path("node1", "/tmp/started")):
        assert time.monotonic() < end
        time.sleep(0.02)
    lab.power_cut("node1")
    assert waiting.wait(20) == 255
    assert waiting.stderr and "closed by remote host" in waiting.stderr.read()
    assert lab.ssh("node1", "true").stderr == "ssh: connect to host node1 port 22: No route to host\r\n"
    survivor = lab.kernel("node2", "cl1")
    assert survivor and survivor["conn"] == "WFConnection"
    lab.power_on("node1")
    assert lab.kernel("node1", "cl1") is None
    assert lab.domains("node1") == {}


def test_power_cut_empties_files_that_were_not_synced(farm: SimFarm) -> None:
    lines = "import os; f = open('/etc/drbd.d/synced.res', 'w'); f.write('x'); f.flush(); os.fsync(f.fileno())"
    assert farm.run("node1", ["/usr/bin/python3", "-I", "-c", lines]).status == 0
    assert farm.run("node1", ["sh", "-c", "echo x > /etc/drbd.d/lost.res"]).status == 0
    farm.power_cut("node1")
    assert Path(farm.path("node1", "/etc/drbd.d/synced.res")).read_text() == "x"
    assert Path(farm.path("node1", "/etc/drbd.d/lost.res")).read_text() == ""


def test_power_cut_at_a_command(farm: SimFarm) -> None:
    farm.power_cut_at("node1", 2)
    assert farm.run("node1", ["zfs", "create", "tank/a"]).status == 0
    assert farm.run("node1", ["zfs", "create", "tank/b"]).status == 255
    assert made(farm) == ["a"]


def test_tool_missing_and_back(farm: SimFarm) -> None:
    farm.remove_tool("node1", "zfs")
    assert farm.run("node1", ["zfs", "list"]).status == 127
    farm.restore_tool("node1", "zfs")
    assert farm.run("node1", ["zfs", "list"]).status == 0


def test_privilege(farm: SimFarm) -> None:
    assert "permission denied" in farm.ssh("node1", "/usr/sbin/zfs create tank/a").stderr
    assert farm.ssh("node1", "sudo -n zfs create tank/a").status == 0
    farm.deny_sudo("node1")
    assert farm.ssh("node1", "sudo -n zfs list")[::2] == (1, "sudo: a password is required\n")


def test_drbd_not_loaded(lab: SimFarm) -> None:
    lab.unload_drbd("node2")
    assert lab.run("node2", ["cat", "/proc/drbd"]).status == 1
    assert "generic netlink" in lab.run("node2", ["drbdadm", "up", "tl"]).stderr
    assert lab.run("node2", ["modprobe", "drbd"]).status == 1


@pytest.mark.parametrize(("pool", "command"), [
    ("tank", "zfs create -s -V 8M tank/x"), ("vg0/pool", "lvcreate -y -V 8M -T vg0/pool -n x"),
])  # fmt: skip
def test_full_pool(farm: SimFarm, pool: str, command: str) -> None:
    farm.fill_pool("node1", pool)
    assert farm.run("node1", command.split()).status != 0
    farm.empty_pool("node1", pool)
    assert farm.run("node1", command.split()).status == 0


@pytest.mark.parametrize(("reason", "text"), [
    ("Connection refused", "Connection refused"), ("key", "REMOTE HOST IDENTIFICATION HAS CHANGED"),
        ("denied", "Permission denied"),
])  # fmt: skip
def test_ssh_refuses(farm: SimFarm, reason: str, text: str) -> None:
    farm.ssh_refuses("node1", reason)
    done = farm.ssh("node1", "true")
    assert done.status == 255
    assert text in done.stderr
    farm.ssh_refuses("node1")
    assert farm.ssh("node1", "true").status == 0


def test_ssh_passes_streams_status_and_options(farm: SimFarm) -> None:
    done = farm.ssh("node1", "cat; echo err >&2; exit 3", stdin=b"in\0out")
    assert done == (3, "in\0out", "err\n")
    words = [f"{farm.directory}/bin/ssh", "-o", "BatchMode=yes", "-A", "-p", "22", "-l", "root", "node2", "--", "id",
        "-un"]
    assert subprocess.run(words, capture_output=True, text=True, check=False).stdout == "root\n"
    unknown = "ssh: Could not resolve hostname nowhere: Name or service not known\r\n"
    assert farm.ssh("nowhere", "true").stderr == unknown
    assert farm.ssh("10.99.0.2", "uname -n").stdout == "node2\n"
    assert farm.run("node1", ["ssh", "node2", "uname -n"]).stdout == "node2\n"


def test_rsync_and_scp(farm: SimFarm, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("text")
    (tmp_path / "tree" / "link").symlink_to("file")
    words = ["rsync", "-LRaz", "--delete", "-e", f"{farm.directory}/bin/ssh", ".", "node1:/var/tmp/one"]
    done = subprocess.run(words, cwd=tmp_path / "tree", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert farm.run("node1", ["cat", "/var/tmp/one/link"]).stdout == "text"
    words = [f"{farm.directory}/bin/scp", "-q", str(tmp_path / "tree" / "file"), "node2:/tmp/copied"]
    assert subprocess.run(words, check=False).returncode == 0
    assert farm.run("node2", ["cat", "/tmp/copied"]).stdout == "text"
