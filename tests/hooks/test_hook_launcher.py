"""Hooks as they are called: by their place, through a link of another name, with the system's Python."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def call(path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(path), *words], capture_output=True, text=True, check=False, timeout=60,
                          env={"PATH": "/usr/bin:/bin", **environment})


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The remotes of a frontend, as `make install` leaves them."""
    remotes = tmp_path / "remotes"
    done = subprocess.run([str(CHECKOUT / "share/install"), str(remotes), str(tmp_path / "share")],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return remotes


def test_it_is_installed_called_and_removed(installed: Path, tmp_path: Path) -> None:
    hook = installed / "hooks" / "dnc-moved"
    assert hook.is_symlink() and (installed / "hooks" / "dnc-watch").exists()
    for name in ("one-migrate", "far"):
        link = tmp_path / name
        link.symlink_to(hook if name == "one-migrate" else tmp_path / "one-migrate")
        done = call(link, "Domain-0", "a", "b", HOME=str(tmp_path))
        assert (done.returncode, done.stdout, done.stderr) == (
            0, "Domain-0 is no domain of OpenNebula: nothing to do\n", "")
    units = tmp_path / "share" / "host"
    assert {"dnc-watch.service", "dnc-moved.service", "dnc-moved.timer", "rc.dnc-watch"} <= set(os.listdir(units))
    removed = subprocess.run([str(CHECKOUT / "share/install"), "--remove", str(installed), str(tmp_path / "share")],
                             capture_output=True, text=True, check=False)
    assert removed.returncode == 0 and not (installed / "hooks").exists()


def test_a_copy_as_on_hosts_works_too(installed: Path, tmp_path: Path) -> None:
    """OpenNebula follows links when it copies the remotes."""
    there = tmp_path / "one"
    there.mkdir()
    subprocess.run(["cp", "-rL", str(installed / "hooks"), str(installed / "lib"), str(there)], check=True)
    done = call(there / "hooks" / "dnc-moved", "one-x", "a", "b", HOME=str(tmp_path))
    assert done.returncode == 0 and "no domain of OpenNebula" in done.stdout
    done = call(there / "hooks" / "dnc-moved", HOME=str(tmp_path))
    assert done.returncode == 1 and done.stderr.startswith("dnc-moved takes NAME SOURCE DESTINATION")
    assert done.stderr.count("\n") == 1


def test_without_credentials_or_pyone_there_is_one_line_and_the_move_waits(installed: Path, tmp_path: Path) -> None:
    done = call(installed / "hooks" / "dnc-moved", "one-42", "a", "b", HOME=str(tmp_path))
    assert done.returncode == 1 and "no oned credentials in" in done.stderr
    auth = tmp_path / ".one" / "dnc_hook_auth"
    auth.write_text("dnc-hook:word\n")
    auth.chmod(0o600)
    done = call(installed / "hooks" / "dnc-moved", "one-42", "a", "b", HOME=str(tmp_path),
                ONE_XMLRPC="http://127.0.0.1:9/RPC2")
    assert "oned does not answer" in done.stdout if done.returncode == 0 else "pyone cannot be used" in done.stderr
    assert "Traceback" not in done.stderr and (tmp_path / ".one/dnc_moves/42.move").exists()
    listed = call(installed / "hooks" / "dnc-moved", "--list", HOME=str(tmp_path))
    assert listed.stdout.startswith("one-42 a b: since ")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_called_by_root_it_goes_on_as_the_owner(installed: Path, tmp_path: Path) -> None:
    """nobody stands for oneadmin; its home is / and cannot be written: what counts is that root's was not used."""
    import pwd

    nobody = pwd.getpwnam("nobody")
    for path in (tmp_path, *tmp_path.parents):
        if path != Path("/") and str(path).startswith("/tmp/pytest"):
            path.chmod(0o755)
    os.chown(installed, nobody.pw_uid, nobody.pw_gid)
    moves = tmp_path / "moves"
    (installed / "dncrc").write_text(f'HOOK_QUEUE="{moves}"\n')
    moves.mkdir()
    os.chown(moves, nobody.pw_uid, nobody.pw_gid)
    done = call(installed / "hooks" / "dnc-moved", "one-42", "a", "b", HOME="/root")
    assert done.returncode == 1 and "/root" not in done.stderr, done.stderr
    assert (moves / "42.move").stat().st_uid == nobody.pw_uid
