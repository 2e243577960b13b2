"""The credentials file: used only when it is one line that nobody else can read."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from dnc import config
from dnc.errors import BadConfig, DncError
from dnc.host.files import Files
from dnc.log import Log
from dnc.opennebula.credentials import hook_auth_path, read_session, write_session


def test_what_is_written_is_read_and_nobody_else_can(tmp_path: Path) -> None:
    path = tmp_path / "new" / "auth"
    write_session(Files(Log("test", stream=io.StringIO()), False), str(path), "dnc-hook", "pass:word")
    assert read_session(str(path)) == "dnc-hook:pass:word"
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("text", "mode", "said"), [
    ("me:word\n", 0o644, "can be used by others"), ("me:word\n", 0o620, "can be used by others"),
    ("s3cret\n", 0o600, "not one line user:password"), ("", 0o600, "not one line"), (":b\n", 0o600, "not one line"),
    ("me:word\nyou:word\n", 0o600, "not one line"),
])
def test_others_are_refused(tmp_path: Path, text: str, mode: int, said: str) -> None:
    path = tmp_path / "auth"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(BadConfig, match=said) as caught:
        read_session(str(path))
    assert "me:word" not in caught.value.what and "s3cret " not in caught.value.what


def test_places_that_are_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "auth")
    (tmp_path / "auth").write_text("a:b\n")
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("absent", "link", "pipe", "."):
        with pytest.raises(DncError):
            read_session(str(tmp_path / name))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "auth"
    path.write_text("a:b\n")
    path.chmod(0o600)
    os.chown(path, 12345, 12345)
    with pytest.raises(BadConfig, match="belongs to user 12345"):
        read_session(str(path))


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/var/lib/one")
    assert hook_auth_path(config.parse("")) == "/var/lib/one/.one/dnc_hook_auth"
    assert hook_auth_path(config.parse('HOOK_AUTH="/etc/dnc/auth"')) == "/etc/dnc/auth"
    for text in ('ONE_XMLRPC="ftp://x"', 'ONE_XMLRPC="http://user:word@x"', 'HOOK_AUTH="x"', 'HOOK_EXPIRY="1"'):
        with pytest.raises(BadConfig):
            config.parse(text)
    assert config.parse('ONE_XMLRPC="https://[::1]:2633/RPC2"').one_xmlrpc == "https://[::1]:2633/RPC2"
