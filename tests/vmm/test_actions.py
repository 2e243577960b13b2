"""VMM actions on a host in memory: what must be true of domain and disks after each, however it goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnc.errors import BadInput, DncError, GivenUp, NotFound, TimedOut, ToolFailed, Unsafe
from dnc.tools import xl
from vmm.documents import disk, leaf, message, nic, vector, vm_text
from vmm.machine import Guest, Machine

NAME = "one-901"
DISKS = ("one-sys-901-0", "one-sys-901-1")
DOCUMENT = vm_text(disk(0, "sda"), disk(1, "sdb"), vector("CONTEXT", DISK_ID="7", TARGET="hda"), nic(0))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch):
    made = Machine(tmp_path / "node1", monkeypatch)
    for name in DISKS:
        made.add_disk(name)
    made.do = lambda action, *argv, stdin=None: made.act(
        monkeypatch, action, *argv, stdin=stdin or (DOCUMENT if action == "deploy" else message(DOCUMENT))
    )
    made.directory = tmp_path / "node1" / "ds" / "100" / "901"
    made.deploy = lambda **more: made.do(
        "deploy", f"{made.directory}/deployment.0", "node1", "901", "node1", **more
    )
    return made


def roles(machine: Machine) -> list[str]:
    return [machine.disks[name].role for name in DISKS]


def assert_clean(machine: Machine) -> None:
    """Nothing runs, no disk is Primary, no lock is left."""
    assert machine.guests == {}
    assert roles(machine) == ["Secondary", "Secondary"]
    assert list((machine.root / "state" / "locks").iterdir()) == []


def test_deploy_prints_the_id_and_leaves_both_files(machine):
    assert machine.deploy() == NAME
    assert roles(machine) == ["Primary", "Primary"]
    assert machine.guests[NAME].disks["xvda"] == machine.device(DISKS[0])
    assert (machine.directory / "deployment.0").read_text() == DOCUMENT
    assert 'name = "one-901"' in (machine.directory / "one-901.cfg").read_text()


def test_all_disks_are_primary_before_anything_starts(machine):
    machine.deploy()
    primary = [machine.commands.index(f"drbdadm primary {name}") for name in DISKS]
    assert max(primary) < next(i for i, c in enumerate(machine.commands) if c.startswith("xl create"))


def test_deploy_again_finds_it_running(machine):
    machine.deploy()
    machine.commands.clear()
    assert machine.deploy() == NAME
    assert not [command for command in machine.commands if "create" in command or "drbdadm" in command]


def test_a_domain_of_that_name_without_our_disks_is_not_ours(machine):
    machine.guests[NAME] = Guest(NAME, 1)
    with pytest.raises(Unsafe, match="without its disk xvda"):
        machine.deploy()
    assert NAME in machine.guests


def test_remains_of_a_crashed_domain_are_replaced(machine):
    machine.deploy()
    machine.guests[NAME].state = "crashed"
    assert machine.deploy() == NAME
    assert machine.guests[NAME].state == "blocked" and machine.guests[NAME].number == 2


@pytest.mark.parametrize("change, said", [
    (lambda d: setattr(d, "disk", "Inconsistent"), "is Inconsistent here"),
    (lambda d: setattr(d, "disk", "Outdated"), "is Outdated here"),
    (lambda d: setattr(d, "peer_role", "Primary"), "is Primary on node2"),
    (lambda d: setattr(d, "connection", "StandAlone"), "split brain"),
])
def test_no_start_on_a_disk_that_is_not_fit(machine, change, said):
    change(machine.disks[DISKS[1]])
    machine.kernel()
    with pytest.raises(Unsafe, match=said):
        machine.deploy()
    assert_clean(machine)
    assert not [command for command in machine.commands if "primary" in command]


def test_a_stale_intent_does_not_let_a_second_primary_start(machine):
    host = machine.host(machine, machine.config, machine.log)
    host.journal.note_intent(DISKS[0], 901, "node2", "node1")
    machine.disks[DISKS[0]].peer_role = "Primary"
    machine.kernel()
    with pytest.raises(Unsafe, match="is Primary on node2"):
        machine.deploy()
    assert_clean(machine)


def test_a_silent_peer_is_passed_over_but_one_that_answers_is_not(machine, monkeypatch):
    for each in machine.disks.values():
        each.connection = "WFConnection"
    machine.kernel()

    def answers(*_arguments):
        raise ConnectionRefusedError

    def silent(*_arguments):
        raise TimeoutError("timed out")

    monkeypatch.setattr("socket.create_connection", answers)
    with pytest.raises(Unsafe, match="node2 answers but is not connected"):
        machine.deploy()
    assert_clean(machine)
    monkeypatch.setattr("socket.create_connection", silent)
    assert machine.deploy() == NAME
    assert "does not answer" in machine.messages.getvalue()


def test_half_made_or_missing_disks_are_refused(machine):
    machine.add_disk("one-sys-901-2", state="making")
    with pytest.raises(Unsafe, match="half made"):
        machine.deploy(stdin=vm_text(disk(2)))
    with pytest.raises(NotFound, match="no replica on this host"):
        machine.deploy(stdin=vm_text(disk(3)))
    assert_clean(machine)


@pytest.mark.parametrize("fault, error, said", [
    (f"primary {DISKS[1]}", DncError, DISKS[1]),
    ("xl create", ToolFailed, "one-901 cannot be started: no luck"),
    ("dead disk", Unsafe, "dead backend"),
])
def test_a_start_that_fails_leaves_nothing(machine, fault, error, said):
    machine.faults.add(fault)
    with pytest.raises(error, match=said):
        machine.deploy()
    assert_clean(machine)


def test_a_disk_that_lost_its_role_during_the_start_is_seen(machine):
    machine.on_create = lambda: setattr(machine.disks[DISKS[1]], "disk", "Failed") or machine.kernel()
    with pytest.raises(Unsafe, match="not usable after the start"):
        machine.deploy()
    assert_clean(machine)


def test_given_up_while_it_starts(machine):
    host = machine.host(machine, machine.config, machine.log)
    machine.on_create = lambda: host.journal.give_up(DISKS[1], 5.0)
    with pytest.raises(GivenUp):
        machine.deploy()
    assert_clean(machine)


def test_given_up_before_it_starts(machine):
    machine.host(machine, machine.config, machine.log).journal.give_up(DISKS[0], 5.0)
    with pytest.raises(GivenUp):
        machine.deploy()
    assert not [command for command in machine.commands if "create" in command]
    assert_clean(machine)


def test_a_locked_disk_is_busy(machine):
    other = machine.host(machine, machine.config, machine.log)
    other.locks.acquire([DISKS[0]], 0, "delete of disk 0")
    with pytest.raises(DncError, match="locked by delete of disk 0"):
        machine.deploy()
    assert machine.guests == {}


@pytest.mark.parametrize("cut", [0, 10, 200, len(DOCUMENT) - 3])
def test_a_truncated_document_is_refused(machine, cut):
    with pytest.raises(BadInput):
        machine.deploy(stdin=DOCUMENT[:cut] or " ")
    assert machine.commands == []


def test_shutdown_waits_and_demotes(machine):
    machine.deploy()
    machine.do("shutdown", NAME, "node1", "901", "node1")
    assert_clean(machine)
    machine.do("shutdown", NAME, "node1", "901", "node1")


def test_a_guest_that_still_boots_is_asked_again(machine):
    machine.deploy()
    machine.boots_for = 3
    machine.do("shutdown", NAME, "node1", "901", "node1")
    assert_clean(machine)
    machine.deploy()
    machine.boots_for = 10 ** 6
    with pytest.raises(ToolFailed, match="cannot be shut down: guest didn't acknowledge"):
        machine.do("shutdown", NAME, "node1", "901", "node1")
    assert NAME in machine.guests and roles(machine) == ["Primary", "Primary"]


def test_a_guest_that_does_not_listen_runs_on(machine):
    machine.deploy()
    machine.faults.add("deaf guest")
    with pytest.raises(TimedOut, match="did not shut down within 30 s"):
        machine.do("shutdown", NAME, "node1", "901", "node1")
    assert NAME in machine.guests and roles(machine) == ["Primary", "Primary"]


def test_a_domain_that_nobody_reaps_is_reaped(machine):
    machine.config = machine.config._replace(shutdown_timeout=100)
    machine.deploy()
    machine.faults.add("deaf guest")
    machine.guests[NAME].state = "shutdown"
    machine.do("shutdown", NAME, "node1", "901", "node1")
    assert_clean(machine)


def test_cancel_ends_all_halves(machine):
    machine.deploy()
    machine.guests[NAME + "--migratedaway"] = Guest(NAME + "--migratedaway", 9, "paused")
    machine.do("cancel", NAME, "node1", "901", "node1")
    assert_clean(machine)
    machine.do("cancel", NAME, "node1", "901", "node1")


def test_save_and_restore(machine):
    machine.deploy()
    checkpoint = machine.directory / "checkpoint"
    machine.do("save", NAME, str(checkpoint), "node1", "901", "node1")
    assert_clean(machine)
    assert checkpoint.stat().st_mode & 0o777 == 0o600
    machine.do("restore", str(checkpoint), "node1", NAME, "901", "node1")
    assert machine.guests[NAME].disks["xvdb"] == machine.device(DISKS[1])
    assert roles(machine) == ["Primary", "Primary"]
    assert not checkpoint.exists()


def test_save_rotates_and_a_failed_save_keeps_the_old(machine):
    machine.deploy()
    checkpoint = machine.directory / "checkpoint"
    checkpoint.write_text("memory of yesterday")
    machine.faults.add("xl save")
    with pytest.raises(ToolFailed, match="cannot be saved"):
        machine.do("save", NAME, str(checkpoint), "node1", "901", "node1")
    assert checkpoint.read_text() == "memory of yesterday" and NAME in machine.guests
    assert not (machine.directory / "checkpoint.new").exists()
    machine.faults.clear()
    machine.do("save", NAME, str(checkpoint), "node1", "901", "node1")
    assert checkpoint.read_text() == f"memory of {NAME}"
    assert (machine.directory / "checkpoint.old").read_text() == "memory of yesterday"


def test_a_failed_restore_keeps_the_checkpoint(machine):
    machine.deploy()
    checkpoint = machine.directory / "checkpoint"
    machine.do("save", NAME, str(checkpoint), "node1", "901", "node1")
    machine.faults.add("xl restore")
    with pytest.raises(ToolFailed, match="cannot be restored"):
        machine.do("restore", str(checkpoint), "node1", NAME, "901", "node1")
    assert checkpoint.exists()
    assert_clean(machine)


def test_restore_uses_the_paths_of_argv(machine, tmp_path):
    elsewhere = tmp_path / "node1" / "ds" / "104" / "901"
    elsewhere.mkdir(parents=True)
    (elsewhere / "checkpoint").write_text("memory of it")
    machine.do("restore", f"{elsewhere}/checkpoint", "node1", NAME, "901", "node1")
    assert machine.guests[NAME].disks["xvdm"] == f"{elsewhere}/disk.7"


def test_reset_keeps_the_disks(machine):
    machine.deploy()
    machine.commands.clear()
    machine.do("reset", NAME, "node1", "901", "node1")
    assert machine.guests[NAME].number == 2 and roles(machine) == ["Primary", "Primary"]
    assert not [command for command in machine.commands if "drbdadm" in command]


def test_reboot_and_poll(machine):
    with pytest.raises(NotFound):
        machine.do("reboot", NAME, "node1", "901", "node1")
    assert machine.do("poll", NAME, "node1", "901", "node1") == "STATE=d"
    machine.deploy()
    machine.do("reboot", NAME, "node1", "901", "node1")
    assert "xl reboot -F one-901" in machine.commands
    assert machine.do("poll", NAME, "node1", "901", "node1") == "STATE=a USEDCPU=0.0 USEDMEMORY=131072"


@pytest.mark.parametrize("action, argv", [
    ("shutdown", ("one-1;reboot", "node1", "901", "node1")), ("cancel", ("--all", "node1", "901", "node1")),
    ("save", ("one-902", "/ds/checkpoint", "node1", "901", "node1")),
    ("save", (NAME, "/ds/../etc/passwd", "node1", "901", "node1")),
    ("migrate", (NAME, "-oProxyCommand=x", "node1", "901", "node1")), ("poll", ("Domain-0", "node1", "901", "node1")),
    ("reset", ("0", "node1", "901", "node1")),
])
def test_hostile_arguments_reach_no_command(machine, action, argv):
    with pytest.raises(BadInput):
        machine.do(action, *argv)
    assert machine.commands == []


@pytest.mark.parametrize("action, said", [
    ("snapshot_create", "no snapshots of whole VMs: .*disk-snapshot-create"), ("snapshot_revert", "no snapshots"),
    ("snapshot_delete", "no snapshots"), ("exec", "no guest agent"), ("exec_cancel", "no guest agent"),
    ("migrate_local", "from the source host, .*oned.conf"),
])
def test_what_is_not_offered_says_why_and_what_to_do(machine, action, said):
    with pytest.raises(DncError, match=said):
        machine.do(action, NAME, "901", "node1")
    assert machine.commands == []


def grown(machine, mib: int) -> None:
    with open(machine.device("one-sys-901-0"), "r+b") as device:
        device.truncate(mib << 20)


def resize_disk(machine, disk_id: str, size: str):
    return machine.do("resize_disk", NAME, disk_id, size, "bWVzc2FnZQ==", "node1", "901", "node1")


def test_a_running_guest_is_told_of_its_grown_disk(machine):
    machine.deploy()
    grown(machine, 96)
    resize_disk(machine, "0", "96")
    assert machine.commands[-1] == f"xenstore-read /local/domain/0/backend/vbd/1/{xl.vdev_number('xvda')}/sectors"
    with pytest.raises(Unsafe, match="has 96 MiB, not 97"):
        resize_disk(machine, "0", "97")
    machine.faults.add("deaf backend")
    with pytest.raises(TimedOut, match="the backend of xvda did not see 100663296 bytes"):
        resize_disk(machine, "0", "96")


def test_resize_disk_of_what_is_not_there(machine):
    for number, size in (("7", "96"), ("0", "0"), ("-1", "96"), ("0", "1e3")):
        with pytest.raises(BadInput):
            resize_disk(machine, number, size)
    with pytest.raises(NotFound, match="does not run here"):
        resize_disk(machine, "0", "96")
    machine.deploy()
    grown(machine, 96)
    machine.guests[NAME].disks.pop("xvda")
    with pytest.raises(NotFound, match="has no disk 0 plugged"):
        resize_disk(machine, "0", "96")


def test_plugging_a_disk(machine):
    machine.deploy()
    machine.add_disk("one-sys-901-2")
    text = message(vm_text(disk(0, "sda"), disk(1, "sdb"), disk(2, "sdc", ATTACH="YES")))
    path = f"{machine.directory}/disk.2"
    for _again in range(2):
        machine.do("attach_disk", NAME, path, "sdc", "2", "bWVzc2FnZQ==", "901", "node1", stdin=text)
    assert machine.guests[NAME].disks["xvdc"] == machine.device("one-sys-901-2")
    assert [command for command in machine.commands if "block-attach" in command].__len__() == 1
    for _again in range(2):
        machine.do("detach_disk", NAME, path, "sdc", "2", "901", "node1", stdin=text)
    assert "xvdc" not in machine.guests[NAME].disks
    assert machine.disks["one-sys-901-2"].role == "Secondary" and roles(machine) == ["Primary", "Primary"]


def test_a_disk_that_does_not_come_alive_is_unplugged(machine):
    machine.deploy()
    machine.add_disk("one-sys-901-2")
    machine.faults.add("dead disk")
    text = message(vm_text(disk(0, "sda"), disk(1, "sdb"), disk(2, "sdc")))
    with pytest.raises(Unsafe, match="no living backend"):
        machine.do("attach_disk", NAME, f"{machine.directory}/disk.2", "sdc", "2", "x", "901", "node1", stdin=text)
    assert "xvdc" not in machine.guests[NAME].disks
    assert machine.disks["one-sys-901-2"].role == "Secondary"


def test_a_missing_bridge_is_found_before_xl_is_asked(machine):
    machine.deploy()
    text = message(vm_text(disk(0, "sda"), disk(1, "sdb"), nic(0), nic(1, BRIDGE="nosuchbr")))
    with pytest.raises(NotFound, match="bridge nosuchbr is not on this host"):
        machine.do(
            "attach_nic", NAME, "02:00:00:00:00:01", "nosuchbr", "-", "bridge", "one-901-1", "901", "node1", stdin=text
        )
    assert not [command for command in machine.commands if "network-attach" in command]


def test_a_dry_run_changes_nothing(machine, monkeypatch):
    machine.dry_run = True
    original = Machine.run

    def only_questions(self, argv, **more):
        if more.get("changes", True):
            return type(self).__mro__[1].run(self, argv, **more)
        return original(self, argv, **more)

    monkeypatch.setattr(Machine, "run", only_questions)
    assert machine.deploy() == NAME
    assert_clean(machine)
    assert "would run: xl create" in machine.messages.getvalue()
    assert not (machine.directory / "one-901.cfg").exists()


def test_a_template_with_another_guest_type_is_followed(machine):
    text = vm_text(disk(0, "sda"), vector("OS", KERNEL="/boot/vmlinuz"), user=leaf("XEN_TYPE", "pv"))
    machine.deploy(stdin=text)
    assert 'type = "pv"' in (machine.directory / "one-901.cfg").read_text()
