"""What OpenNebula says of backups: recorded documents, datastore.conf, addresses of backups."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dnc.errors import BadConfig, BadInput
from dnc.farm.backup_stream import check_url, is_backup
from dnc.opennebula.backups import BackupConfig, FsFreeze, base_path, parse_backup

RECORDED = Path(__file__).resolve().parents[1] / "data" / "recorded" / "self"


def document(name: str) -> bytes:
    calls = json.loads((RECORDED / f"{name}.json").read_text())["calls"]
    return next(one["stdin"] for one in calls if one["action"].startswith("prebackup")).encode()


def test_recorded_documents() -> None:
    vm, config = parse_backup(document("165-backup-live-full"))
    assert vm.id == 13
    assert config == BackupConfig(False, -1, FsFreeze.NONE, False, None)
    assert parse_backup(document("172-backup-live-incremental-first"))[1][:2] == (True, -1)
    assert parse_backup(document("173-backup-live-incremental-second"))[1][:2] == (True, 0)


@pytest.mark.parametrize(("given", "expected"), [
    ("", BackupConfig(False, -1, FsFreeze.NONE, False, None)),
    ("<FS_FREEZE>agent</FS_FREEZE><INTERACTIVE>YES</INTERACTIVE>", BackupConfig(
        False, -1, FsFreeze.AGENT, True, None)),
    ("<FS_FREEZE>SUSPEND</FS_FREEZE><MODE>INCREMENT</MODE><LAST_INCREMENT_ID>12</LAST_INCREMENT_ID>"
     "<LAST_BRIDGE>xen2</LAST_BRIDGE>", BackupConfig(True, 12, FsFreeze.SUSPEND, False, "xen2")),
])
def test_configurations(given: str, expected: BackupConfig) -> None:
    text = f"<VM><ID>1</ID><TEMPLATE/><BACKUPS><BACKUP_CONFIG>{given}</BACKUP_CONFIG></BACKUPS></VM>"
    assert parse_backup(text.encode())[1] == expected


@pytest.mark.parametrize("given", [
    "<LAST_INCREMENT_ID>1; rm</LAST_INCREMENT_ID>", "<LAST_BRIDGE>-oProxyCommand=x</LAST_BRIDGE>",
])
def test_strange_configurations(given: str) -> None:
    text = f"<VM><ID>1</ID><TEMPLATE/><BACKUPS><BACKUP_CONFIG>{given}</BACKUP_CONFIG></BACKUPS></VM>"
    with pytest.raises(BadInput):
        parse_backup(text.encode())


@pytest.mark.parametrize(("text", "expected"), [
    (None, "/system"), ("SUPPORTED_FS=ext4\n#BACKUP_BASE_PATH=/no\n", "/system"), ("BACKUP_BASE_PATH=/a\n", "/a"),
    ('BACKUP_BASE_PATH="/a//b/"\n', "/a/b"), ("export BACKUP_BASE_PATH=/a\nBACKUP_BASE_PATH=/b\n", "/b"),
    ('BACKUP_BASE_PATH=""\n', "/system"),
])
def test_base_path(tmp_path: Path, text: str | None, expected: str) -> None:
    if text is not None:
        (tmp_path / "etc/datastore").mkdir(parents=True)
        (tmp_path / "etc/datastore/datastore.conf").write_text(text)
    assert base_path(str(tmp_path), "/system") == expected


def test_a_base_path_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "etc/datastore").mkdir(parents=True)
    (tmp_path / "etc/datastore/datastore.conf").write_text("BACKUP_BASE_PATH=backups\n")
    with pytest.raises(BadConfig):
        base_path(str(tmp_path), "/system")


@pytest.mark.parametrize("url", [
    "rsync://100/3/0:8a3454,1:f6e63e//var/lib/one/datastores/100/6/8a3454/disk.0.0",
    "rsync://102//0:0e6658/var/lib/one/datastores/102/21/0e6658/disk.0.0",
    "restic://101/12/0:25f4b298/var/lib/one/datastores/0/9/backup/disk.1.0",
])
def test_addresses_of_backups(url: str) -> None:
    assert is_backup(url)
    check_url(url)


@pytest.mark.parametrize("url", [
    "rsync://100//0:ab/x'/disk.0.0", "rsync://100//0:ab/$(id)/disk.0.0", "rsync://100//0:ab/../disk.0.0",
    "rsync://100/disk.0.0", "rsync+rbd://100//0:ab/x/disk.0.rbd2", "restic://100//0:ab/x/disk 0",
    "rsync://-x//0:ab/x/disk.0.0", "rsync://1//0:ab/x\n/disk.0.0",
])
def test_addresses_that_no_shell_may_see(url: str) -> None:
    assert is_backup(url)
    with pytest.raises(BadInput):
        check_url(url)


def test_what_is_no_backup() -> None:
    assert not any(map(is_backup, ("/var/tmp/x", "http://x/rsync://", "ssh://x", "rsyncx://1//0:a/x")))
