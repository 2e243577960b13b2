"""Driver processes are run as OpenNebula runs them: environment, user, stdin, ssh sessions, missing scripts."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

from oned import Oned, Settings, SshFarm
from oned.backend import user_arguments

# Stands for ssh: runs the command here; HOST "dead" cannot be reached.
SSH = """#!/bin/sh
forward=no
while [ "${1#-}" != "$1" ]; do
    case $2 in ForwardAgent=yes) forward=yes ;; esac
    shift 2
done
host=$1; shift
[ "$host" = dead ] && { echo "ssh: connect to host dead port 22: No route to host" >&2; exit 255; }
FAKE_HOST=$host FORWARD=$forward exec sh -c "$*"
"""
# A driver that notes how it was called; a file "fail" beside it makes it fail with that text.
RECORDER = """#!/usr/bin/python3 -I
import json, os, sys
here = os.path.dirname(os.path.abspath(__file__))
name = os.path.basename(sys.argv[0])
note = {"action": name, "argv": sys.argv[1:], "stdin": sys.stdin.read(), "env": dict(os.environ), "cwd": os.getcwd(),
        "uid": os.getuid()}
with open(NOTES, "a") as notes:
    notes.write(json.dumps(note) + "\\n")
if os.path.exists(os.path.join(here, "fail." + name)):
    sys.stderr.write(open(os.path.join(here, "fail." + name)).read())
    sys.exit(3)
print({"deploy": "one-0", "stat": "64", "cp": "vol-0 raw"}.get(name, ""))
"""
ACTIONS = {"tm": "clone context delete premigrate postmigrate failmigrate mv", "datastore": "stat cp rm monitor",
           "vmm": "deploy migrate shutdown cancel resize"}


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the unprivileged user can reach; pytest's own is root's."""
    path = Path("/var/tmp") / f"oned-test-{os.getpid()}"
    path.mkdir(mode=0o755)
    yield path
    shutil.rmtree(path)


def write_executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def cloud(place: Path) -> Iterator[Oned]:
    write_executable(place / "ssh/ssh", SSH)
    notes = place / "notes"
    notes.touch()
    notes.chmod(0o666)
    settings = Settings(remotes_on_host=str(place / "on-host"), datastore_location=str(place / "datastores"))
    (place / "datastores").mkdir()
    user = "nobody" if os.geteuid() == 0 else None
    for directory in ("datastores",):
        (place / directory).chmod(0o777)
    (place / "on-host").mkdir(mode=0o777)
    if user:
        shutil.chown(place / "on-host", user)
    with Oned(place / "one", SshFarm(("node1", "node2"), place / "ssh", user), settings) as cloud:
        for family, actions in ACTIONS.items():
            for action in actions.split():
                text = RECORDER.replace("NOTES", repr(str(notes)))
                write_executable(cloud.remotes / family / "dnc" / action, text)
        cloud.create_datastore("images")
        cloud.create_datastore("system", type="SYSTEM")
        yield cloud


def notes_of(place: Path) -> list[Dict[str, Any]]:
    return [json.loads(line) for line in (place / "notes").read_text().splitlines()]


def deployed(cloud: Oned) -> Any:
    if not cloud.images:
        cloud.create_image("os", path="/img")
    template = {"DISK": [{"IMAGE": "os"}], "CONTEXT": {"NAME": "it's"}, "MEMORY": 64, "CPU": 1}
    return cloud.instantiate(template, host="node1")


def test_a_machine_runs_migrates_and_goes(cloud: Oned, place: Path) -> None:
    cloud.sync_hosts("node1")
    vm = deployed(cloud)
    assert cloud.operations[-1].checked().vm is vm and vm.status == "RUNNING" and vm.deploy_id == "one-0"
    cloud.migrate(vm, "node2", live=True).checked()
    cloud.terminate(vm).checked()
    noted = {one["action"]: one for one in notes_of(place)}
    assert [one["action"] for one in notes_of(place)] == [
        "stat", "cp", "clone", "context", "deploy", "premigrate", "migrate", "postmigrate", "shutdown", "delete",
        "delete"]
    assert noted["clone"]["stdin"] == "" and noted["deploy"]["stdin"].startswith("<VM><ID>0</ID>")
    assert noted["migrate"]["stdin"].startswith("<VMM_DRIVER_ACTION_DATA>")
    assert noted["premigrate"]["stdin"].startswith("PFZNPj")  # base64 of <VM>
    assert noted["migrate"]["env"]["FORWARD"] == "yes" and noted["deploy"]["env"]["FORWARD"] == "no"
    assert noted["migrate"]["env"]["FAKE_HOST"] == "node1"
    directory = place / "datastores/101/0"
    assert (directory / "vm.xml").read_text().startswith("<VM>")
    assert (directory / "ds.xml").read_text().startswith("<DATASTORE>")
    assert "NAME='it'\\''s'" in (cloud.location / "var/vms/0/context.sh").read_text()


def test_environment_and_user_are_those_of_drivers(cloud: Oned, place: Path) -> None:
    cloud.create_image("os", path="/img")
    first = notes_of(place)[0]
    assert {"ONE_LOCATION", "ONE_XMLRPC", "ONE_AUTH", "HOME", "PATH"} <= set(first["env"])
    assert first["env"]["PATH"].split(":")[0] == str(cloud.location / "sh/override")
    assert first["cwd"] == first["env"]["HOME"] and "PYTEST_CURRENT_TEST" not in first["env"]
    if os.geteuid() == 0:
        assert first["uid"] != 0
    auth = Path(first["env"]["ONE_AUTH"]).stat()
    assert stat.S_IMODE(auth.st_mode) == 0o600


def test_missing_script_on_the_host_is_copied_there(cloud: Oned, place: Path) -> None:
    vm = deployed(cloud)  # no sync_hosts before
    assert vm.status == "RUNNING" and (place / "on-host/vmm/dnc/deploy").exists()
    (place / "on-host/vmm/dnc/stale").touch()
    cloud.sync_hosts("node1")
    assert not (place / "on-host/vmm/dnc/stale").exists()


def test_failure_texts_of_real_processes(cloud: Oned, place: Path) -> None:
    (cloud.remotes / "vmm/dnc/fail.deploy").write_text("INFO: looked\nxl said no.\n")
    text = "no host answers, and this text is so long that oned will cut it off at its end, surely"
    (cloud.remotes / "tm/dnc/fail.delete").write_text(f"{text}\n")
    cloud.sync_hosts("node1")
    vm = deployed(cloud)
    assert vm.status == "BOOT_FAILURE" and vm.error.endswith(": DEPLOY: xl said no.ExitCode: 3")
    assert "looked" in vm.log
    cloud.recover_success(vm)
    cloud.terminate(vm, hard=True)
    assert vm.status == "EPILOG_FAILURE"
    cut = f"Error executing image transfer script: {text}"[:100]
    assert vm.error[26:] == f"{cut}... see more details in VM log"


def test_unreachable_host(cloud: Oned) -> None:
    cloud.create_host("dead")
    cloud.create_image("os", path="/img")
    vm = cloud.instantiate({"DISK": [{"IMAGE": "os"}], "MEMORY": 64, "CPU": 1}, host="dead")
    assert vm.status == "BOOT_FAILURE" and "No route to host" in vm.error and "Error connecting to dead" in vm.error


def test_plain_ssh_action(cloud: Oned, place: Path) -> None:
    cloud.sync_hosts("node1")
    vm = deployed(cloud)
    cloud.resize_vm(vm, memory_mb=128).checked()
    last = notes_of(place)[-1]
    assert last["action"] == "resize" and last["argv"] == ["one-0", "0", "node1"]
    assert "<RESIZE>" in last["stdin"] and not last["stdin"].endswith("\n")


@pytest.mark.skipif(shutil.which("ssh-keygen") is None or shutil.which("ssh-agent") is None, reason="no OpenSSH client")
def test_agent_holds_the_farms_key_for_the_drivers_user(place: Path) -> None:
    write_executable(place / "ssh/ssh", SSH)
    make_key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "oned-test", "-f", str(place / "key")]
    subprocess.run(make_key, check=True)
    user = "nobody" if os.geteuid() == 0 else None
    with Oned(place / "one", SshFarm(("node1",), place / "ssh", user, place / "key")) as cloud:
        listed = subprocess.run(["ssh-add", "-l"], env=cloud.environment, capture_output=True, text=True, check=True,
                                **user_arguments(user))
        socket = Path(cloud.environment["SSH_AUTH_SOCK"])
        assert "oned-test" in listed.stdout
    assert not socket.exists()


def test_install_puts_the_suite_under_one_location(cloud: Oned) -> None:
    cloud.install(Path(__file__).resolve().parents[2])
    assert (cloud.remotes / "dncrc").is_file() and (cloud.remotes / "lib/dnc/__init__.py").is_file()
    assert cloud.backend.has_script("tm", "dnc", "clone") and cloud.backend.has_script("vmm", "dnc", "deploy")
