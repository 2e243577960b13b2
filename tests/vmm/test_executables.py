"""Every VMM action of the contract has its executable, and takes the argv that OpenNebula gives it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dnc.errors import BadInput
from dnc.opennebula.driver import load_action, match_arguments

REMOTES = Path(__file__).resolve().parents[2] / "remotes"
# Contract 2.4: how many words each action gets, the appended VM id and host included.
ARGV = {
    "deploy": 4, "shutdown": 4, "cancel": 4, "save": 5, "restore": 5, "migrate": 5, "reboot": 4, "reset": 4,
    "attach_disk": 7, "detach_disk": 6, "attach_nic": 8, "detach_nic": 4, "prereconfigure": 4, "reconfigure": 5,
    "resize_disk": 7, "resize": 3, "snapshot_create": 4, "snapshot_revert": 4, "snapshot_delete": 4, "poll": 4,
    "exec": 4, "exec_cancel": 4, "migrate_local": 5,
}


def test_exactly_these_executables():
    assert {path.name for path in (REMOTES / "vmm" / "dnc").iterdir()} == set(ARGV)


@pytest.mark.parametrize("action", ARGV)
def test_executable_and_arguments(action: str):
    path = REMOTES / "vmm" / "dnc" / action
    assert path.resolve().name == "dnc-action" and path.stat().st_mode & 0o111
    names = load_action("vmm", action).ARGUMENTS
    assert match_arguments(names, ["x"] * ARGV[action])
    if "arguments..." not in names:
        with pytest.raises(BadInput):
            match_arguments(names, ["x"] * (ARGV[action] + 1))


def test_a_failure_is_one_bare_line_and_status_1():
    done = subprocess.run(
        [sys.executable, "-I", str(REMOTES / "vmm" / "dnc" / "deploy"), "/ds/100/42/deployment.0", "h", "42", "h"],
        input="<VM><ID>42</ID><TEMPLATE>", capture_output=True, text=True, timeout=60, check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("the VM document is not well-formed") and line.endswith(". ")
