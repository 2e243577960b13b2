"""Bad input to every executable: one clear line, exit 1, nothing half-made, nothing executed (issue section 5)."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from lines import complaint
from simulated import SimStage

pytestmark = pytest.mark.sim
CANARY = "dnc-canary"
WORDS = (
    "a b", "it's", 'say "x"', f"$(touch /tmp/{CANARY})", f"`touch /tmp/{CANARY}`", "two\nlines", "-rf", "--help", "",
    "../../../etc/passwd", "node1:/etc/passwd", "é\u202e", f";touch /tmp/{CANARY};", "*", "x" * 5000, "-1",
    "1e9", "\x1b[31m",
)
DISK = "node1:/var/lib/one//datastores/100/999/disk.0"
DIRECTORY = "/var/lib/one//datastores/100/999"
# What OpenNebula would pass for VM 999, which does not exist.
TM = {
    "clone": ("frontend:one-1", DISK, "999", "101"), "ln": ("frontend:one-1", DISK, "999", "101"),
    "mkimage": ("8", "raw", DISK, "999", "100"), "mkswap": ("8", DISK, "999", "100"),
    "mv": (DISK, DISK.replace("node1", "node2"), "999", "101"), "mvds": (DISK, "one-1", "999", "101"),
    "delete": (DISK, "999", "101"), "context": ("/nowhere/context.sh", DISK, "999", "100"),
    **dict.fromkeys(("premigrate", "postmigrate", "failmigrate"), ("node1", "node2", DIRECTORY, "999", "100")),
}
VMM = {
    "deploy": (f"{DIRECTORY}/deployment.0", "node1", "999", "node1"), "shutdown": ("one-999", "node1", "999", "node1"),
    "cancel": ("one-999", "node1", "999", "node1"),
    "save": ("one-999", f"{DIRECTORY}/checkpoint", "node1", "999", "node1"),
    "restore": (f"{DIRECTORY}/checkpoint", "node1", "one-999", "999", "node1"),
    "migrate": ("one-999", "node2", "node1", "999", "node1"), "reboot": ("one-999", "node1", "999", "node1"),
    "reset": ("one-999", "node1", "999", "node1"),
}
DATASTORE = ("cp", "mkfs", "clone", "rm", "stat", "monitor")


def nesting(root: str) -> bytes:
    return f"<{root}>{'<A>' * 100_000}{'</A>' * 100_000}</{root}>".encode()


def documents(root: str) -> dict[str, bytes]:
    """Documents that no action may accept, as they are before any encoding."""
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    return {
        "empty": b"", "blank": b" \n", "not XML": b"hello", "binary": os.urandom(2000),
        "truncated": f"<{root}><ID>1".encode(),
        "another root": b"<HOST><ID>1</ID></HOST>", "only a root": f"<{root}/>".encode(),
        "entities": f'<!DOCTYPE x [<!ENTITY e0 "x">{bomb}]><{root}><ID>&e11;</ID></{root}>'.encode(),
        "external": f'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/shadow">]><{root}><ID>&f;</ID></{root}>'.encode(),
        "nested": nesting(root),
        "wrong numbers": f"<{root}><ID>-1</ID><VM><ID>x</ID></VM><DATASTORE><ID>x</ID></DATASTORE></{root}>".encode(),
        "two roots": f"<{root}/><{root}/>".encode(),
    }


def no_canary(stage: SimStage) -> None:
    """No text was ever executed, here or there."""
    places = [Path("/tmp", CANARY), *(Path(stage.farm.path(host, f"/tmp/{CANARY}")) for host in stage.hosts)]
    assert [place for place in places if place.exists()] == []


def on_host(stage: SimStage, action: str, *argv: str, stdin: bytes = b"") -> str:
    """A virtualisation action on node1; the line that it failed with."""
    return complaint(stage.farm.ssh("node1", [f"/var/tmp/one/vmm/dnc/{action}", *argv], stdin=stdin))


def test_executables_without_arguments(stage: SimStage) -> None:
    for family in ("tm", "vmm", "datastore"):
        for path in sorted((stage.cloud.remotes / family / "dnc").iterdir()):
            line = complaint(stage.run(family, path.name))
            assert path.name in line or "arguments given" in line[:60] or "not" in line[:60], f"{path.name}: {line}"


def test_too_many_arguments(stage: SimStage) -> None:
    for action, argv in TM.items():
        if action != "context":
            assert "arguments given" in complaint(stage.run("tm", action, *argv, "1", "2", "3"))[:60]
    for action, argv in VMM.items():
        assert "arguments given" in on_host(stage, action, *argv, "1", "2", "3")[:60]


@pytest.mark.parametrize("action", list(TM))
def test_hostile_words_on_the_frontend(stage: SimStage, action: str) -> None:
    """Every position gets some of the words; all words come up over all actions."""
    start = sorted(TM).index(action)
    for position in range(len(TM[action])):
        for word in (WORDS * 3)[start + 3 * position:start + 3 * position + 3]:
            argv = list(TM[action])
            argv[position] = word
            done = stage.run("tm", action, *argv)
            if (action, position, done.status) == ("mvds", 3, 0):
                continue  # nobody has that image: nothing to give back, whatever the datastore is called
            line = complaint(done)
            assert "\x1b" not in line and len(line) < 1000, line
    no_canary(stage)


def test_hostile_words_on_hosts(stage: SimStage) -> None:
    for number, (action, argv) in enumerate(VMM.items()):
        for position in range(len(argv)):
            words = list(argv)
            words[position] = WORDS[(3 * number + position) % len(WORDS)]
            on_host(stage, action, *words, stdin=b"<VMM_DRIVER_ACTION_DATA/>")
    no_canary(stage)


@pytest.mark.parametrize("what", list(documents("x")))
def test_documents(stage: SimStage, what: str) -> None:
    """Each kind of wrong document at each way in; the other actions of a family share the way in, and take turns."""
    kinds = list(documents("x"))
    turn = kinds.index(what)
    encoded = base64.b64encode(documents("DS_DRIVER_ACTION_DATA")[what])
    for action in {"cp", DATASTORE[turn % len(DATASTORE)]}:
        complaint(stage.run("datastore", action, "1", stdin=encoded))
    encoded = base64.b64encode(documents("VM")[what])
    for action in {"premigrate", ("postmigrate", "failmigrate")[turn % 2]}:
        complaint(stage.run("tm", action, *TM[action], stdin=encoded))
    on_host(stage, "deploy", *VMM["deploy"], stdin=documents("VM")[what])
    others = [name for name in VMM if name != "deploy"]
    action = others[turn % len(others)]
    line = on_host(stage, action, *VMM[action], stdin=documents("VMM_DRIVER_ACTION_DATA")[what])
    assert "root:" not in line


def test_what_is_not_base64(stage: SimStage) -> None:
    for stdin in (b"<VM>", b"\xff\xfe", b"QQ", base64.b64encode(b"<DS_DRIVER_ACTION_DATA/>")[:-5]):
        assert "stdin" in complaint(stage.run("datastore", "stat", "1", stdin=stdin))[:60]


def test_a_hundred_megabytes(stage: SimStage) -> None:
    huge = b"<VM>" + b"<A>x</A>" * (100 * (1 << 20) // 8) + b"</VM>"
    assert "larger than" in on_host(stage, "deploy", *VMM["deploy"], stdin=huge)
    assert complaint(stage.run("datastore", "cp", "1", stdin=base64.b64encode(huge)))


def test_names_in_documents(stage: SimStage) -> None:
    """Hostile text where a document holds a name: it is refused, never executed, and never reaches a file."""
    vm = stage.bare(stage.import_image("zfs"))
    stage.cloud.poweroff(vm, hard=True).checked()
    before = stage.leftovers()
    good = vm.xml()
    evil = f"$(touch /tmp/{CANARY})"
    attacks = [("TARGET", vm.disks[0]["TARGET"]), ("KERNEL", "/tmp/guest-kernel")]
    deploy = (f"/var/lib/one/datastores/100/{vm.id}/deployment.9", "node1", str(vm.id), "node1")
    for name, value in attacks:
        for word in (evil, "a'b", 'a"b', "x\ny", "../x"):
            wrong = good.replace(f"<{name}><![CDATA[{value}]]></{name}>", f"<{name}><![CDATA[{word}]]></{name}>")
            assert wrong != good, f"the document has no {name} {value}"
            on_host(stage, "deploy", *deploy, stdin=wrong.encode())
    assert stage.domain_hosts(vm) == []
    assert [line for line in stage.leftovers() if "deployment" not in line and ".cfg" not in line] == [
        line for line in before if "deployment" not in line and ".cfg" not in line]
    no_canary(stage)
    stage.cloud.resume(vm).checked()
    stage.cloud.terminate(vm, hard=True).checked()
