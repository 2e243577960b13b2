"""dncrc: defaults, every setting documented, wrong values refused with file, line and what is allowed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dnc import config
from dnc.errors import BadConfig
from dnc.grammar import PoolKind

SHIPPED = Path(__file__).resolve().parents[2] / "remotes" / "dncrc"


def test_shipped_file_shows_each_setting_with_its_default():
    shown = dict(re.findall(r'^([A-Z_]+)="(.*)"$', SHIPPED.read_text(), re.MULTILINE))
    assert shown == {key: default for key, (default, _parser) in config.SETTINGS.items()}


def test_settings_and_fields_go_together():
    assert [key.lower() for key in config.SETTINGS] == list(config.Config._fields)


def test_every_setting_has_a_comment_above():
    lines = SHIPPED.read_text().splitlines()
    for number, line in enumerate(lines):
        if line and not line.startswith("#"):
            above = lines[number - 1]
            assert above.startswith("#") or re.match("[A-Z_]+=", above), line


def test_values_are_parsed():
    text = "HOSTS='a b'  # two\nPOOL=lvm:vg0/pool\n REPLICAS = \"1\"\nREPLICATION_NETWORK=10.99.0.7/24\n"
    got = config.parse(text)
    assert got.hosts == ("a", "b")
    assert got.pool.kind is PoolKind.THIN and got.pool.name == "vg0/pool"
    assert got.replicas == 1
    assert got.replication_network == "10.99.0.0/24"


def test_survives_the_session():
    got = config.parse('HOSTS="a b"\nSAFE_DIRS="/var/tmp /srv"')
    assert config.from_json(json.loads(json.dumps(got.to_json()))) == got


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('\nREPLICAS="4"', "dncrc:2: REPLICAS='4': takes a number from 1 to 3"),
        ('GUEST_TYPE="kvm"', "dncrc:1: GUEST_TYPE='kvm': takes one of pvh, pv, hvm"),
        ('POOL="tank"', "write zfs:<dataset> or lvm:<volume group>/<thin pool>"),
        ('HOSTS="a $(reboot)"', "HOSTS: '$(reboot)' is not a host name"),
        ('HOSTS="a a"', "names each host once"),
        ("HOSTS=a b", 'not of the form KEY="value"'),
        ("REPLICA=2", "did you mean REPLICAS?"),
        ("REPLICAS=1\nREPLICAS=2", "dncrc:2: REPLICAS is set twice; it is set in line 1 already"),
        ('REPLICATION_NETWORK="10.0.0.0/33"', "dncrc:1: REPLICATION_NETWORK"),
        ('SAFE_DIRS="/a/../b"', "not a clean absolute path"),
        ("PORT_BASE=60000\nMINOR_COUNT=9000", "exceeds port 65535"),
        ("rm -rf /", 'dncrc:1: not of the form KEY="value"'),
    ],
)
def test_wrong_values_are_refused(text, expected):
    with pytest.raises(BadConfig) as caught:
        config.parse(text)
    assert expected in caught.value.line()


def test_absent_file_means_defaults_unreadable_is_told(tmp_path):
    assert config.load(str(tmp_path / "none")) == config.parse("")
    (tmp_path / "dncrc").write_bytes(b'HOSTS="\xff"')
    with pytest.raises(BadConfig, match="cannot be read"):
        config.load(str(tmp_path / "dncrc"))
