"""What changes a running guest: capacity, disks, interfaces, context; and memory that outlived its disks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dnc.errors import BadInput, DncError, NoSpace, NotFound, TimedOut, ToolFailed, Unsafe
from vmm.documents import disk, leaf, message, nic, vector, vm_text
from vmm.machine import Guest, Machine

NAME = "one-901"
DISKS = ("one-sys-901-0", "one-sys-901-1")
PARTS = (disk(0, "sda"), disk(1, "sdb"), vector("CONTEXT", DISK_ID="7", TARGET="hda"), nic(0))
ROOMY = (*PARTS, leaf("VCPU", "1"), leaf("VCPU_MAX", "4"), leaf("MEMORY_MAX", "256"))
HALVES = (f"{NAME}--incoming", f"{NAME}--migratedaway")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch):
    """A host with a running VM."""
    made = Machine(tmp_path / "node1", monkeypatch)
    for name in (*DISKS, "one-sys-901-2"):
        made.add_disk(name)
    made.directory = tmp_path / "node1" / "ds" / "100" / "901"
    made.do = lambda action, *argv, text: made.act(monkeypatch, action, *argv, stdin=text)
    made.do("deploy", f"{made.directory}/deployment.0", "node1", "901", "node1", text=vm_text(*ROOMY))
    made.commands.clear()
    return made


def changed(machine: Machine) -> list[str]:
    """The commands that were no questions."""
    asks = ("xl list", "xl block-list", "xl network-list", "xl info", "drbdadm get-gi")
    return [command for command in machine.commands if not command.startswith(asks)]


# Capacity.


def resize(machine, *parts: str, memory: str = "128", cpu: str = "1") -> None:
    old = vector("RESIZE", VCPU="1", MEMORY="128", CPU="1")
    text = vm_text(*PARTS, *parts, old, memory=memory).replace(leaf("CPU", "1"), leaf("CPU", cpu), 1)
    machine.do("resize", NAME, "901", "node1", text=message(text))


def test_resize_within_the_maxima_and_again(machine):
    for _again in range(2):
        resize(machine, leaf("VCPU", "3"), memory="200", cpu="2")
    guest = machine.guests[NAME]
    assert (guest.memory, guest.vcpus, guest.weight) == (200, 3, 512)
    assert changed(machine) == [
        f"xl sched-credit2 -d {NAME} -w 512", f"xl vcpu-set --ignore-host {NAME} 3", f"xl mem-set {NAME} 200m",
    ]


@pytest.mark.parametrize("parts, memory, error, said", [
    ((leaf("VCPU", "5"), leaf("VCPU_MAX", "8")), "128", Unsafe, "VCPU 5 is beyond the 4 .*VCPU_MAX"),
    ((leaf("VCPU", "1"), leaf("MEMORY_MAX", "512")), "300", Unsafe, "MEMORY 300 is beyond the 256"),
    ((leaf("VCPU", "1"),), "240", NoSpace, "112 MiB more, this host has 100 free"),
    ((leaf("VCPU", "0"),), "128", BadInput, "at least 1"),
])
def test_what_cannot_be_resized_is_refused_before_anything_changes(machine, parts, memory, error, said):
    with pytest.raises(error, match=said):
        resize(machine, *parts, memory=memory)
    assert changed(machine) == []


@pytest.mark.parametrize("fault, memory, error", [
    ("xl mem-set", "200", ToolFailed), ("vcpu-set does nothing", "200", Unsafe), ("", "64", TimedOut),
])
def test_a_partly_failed_resize_is_taken_back(machine, fault, memory, error):
    if fault:
        machine.faults.add(fault)
    machine.guests[NAME].needs = 100
    with pytest.raises(error):
        resize(machine, leaf("VCPU", "2"), memory=memory, cpu="3")
    guest = machine.guests[NAME]
    assert (guest.memory, guest.vcpus, guest.weight) == (128, 1, 256)


# What a domain that cannot be changed answers to all of it.

ACTIONS = {
    "resize": (NAME, "901", "node1"), "reboot": (NAME, "node1", "901", "node1"),
    "save": (NAME, "DIR/checkpoint", "node1", "901", "node1"),
    "attach_disk": (NAME, "DIR/disk.2", "sdc", "2", "x", "901", "node1"),
    "attach_nic": (NAME, "02:00:00:00:00:00", "lo", "-", "bridge", "one-901-0", "901", "node1"),
    "resize_disk": (NAME, "0", "64", "x", "node1", "901", "node1"),
}


def act(machine, action: str, lcm: str = "3") -> None:
    text = message(vm_text(*ROOMY, disk(2, "sdc"))).replace("<LCM_STATE>2<", f"<LCM_STATE>{lcm}<")
    machine.do(action, *(word.replace("DIR", str(machine.directory)) for word in ACTIONS[action]), text=text)


@pytest.mark.parametrize("action", ACTIONS)
def test_an_absent_or_half_migrated_domain_is_told_apart(machine, action):
    guest = machine.guests.pop(NAME)
    with pytest.raises(NotFound, match="does not run here"):
        act(machine, action)
    for half in HALVES:
        machine.guests = {half: Guest(half, guest.number, "paused")}
        with pytest.raises(Unsafe, match=f"half migrated: {half} is here"):
            act(machine, action)
    assert changed(machine) == []


@pytest.mark.parametrize("state", ["paused", "crashed", "shutdown"])
@pytest.mark.parametrize("action", [action for action in ACTIONS if action != "resize_disk"])
def test_a_domain_that_cannot_answer_is_not_changed(machine, action, state):
    machine.guests[NAME].state = state
    with pytest.raises(Unsafe, match="cannot be changed"):
        act(machine, action)
    assert changed(machine) == []


@pytest.mark.parametrize("half", HALVES)
def test_shutdown_and_poll_of_a_half(machine, half):
    machine.guests = {half: Guest(half, 1, "paused")}
    with pytest.raises(Unsafe, match="half migrated"):
        machine.do("shutdown", NAME, "node1", "901", "node1", text=message(vm_text(*ROOMY)))
    assert machine.do("poll", NAME, "node1", "901", "node1", text="") == "STATE=-"
    machine.do("cancel", NAME, "node1", "901", "node1", text=message(vm_text(*ROOMY)))
    assert machine.guests == {}


@pytest.mark.parametrize("half, started", [(HALVES[0], True), (HALVES[1], False)])
def test_a_start_beside_a_half(machine, half, started):
    """An empty shell is removed; a guest that stayed half-way may be the only one."""
    machine.guests = {half: Guest(half, 1, "paused")}
    deploy = ("deploy", f"{machine.directory}/deployment.0", "node1", "901", "node1")
    if started:
        machine.do(*deploy, text=vm_text(*ROOMY))
        assert list(machine.guests) == [NAME]
    else:
        with pytest.raises(Unsafe, match="half migrated"):
            machine.do(*deploy, text=vm_text(*ROOMY))
        assert list(machine.guests) == [half]


def test_a_disk_that_another_domain_here_has_is_refused_before_xl_is_called(machine):
    machine.guests["other"] = machine.guests.pop(NAME)
    machine.guests["other"].name = "other"
    with pytest.raises(Unsafe, match=f"other on this host has .*{DISKS[0]}"):
        machine.do("deploy", f"{machine.directory}/deployment.0", "node1", "901", "node1", text=vm_text(*ROOMY))
    assert changed(machine) == [] and machine.disks[DISKS[0]].role == "Primary"


# Shutdown.


def shut_down(machine) -> None:
    machine.do("shutdown", NAME, "node1", "901", "node1", text=message(vm_text(*ROOMY)))


def test_a_guest_that_was_paused_twice_hears_its_shutdown(machine):
    guest = machine.guests[NAME]
    guest.state, guest.pauses = "paused", 2
    shut_down(machine)
    assert machine.guests == {} and machine.commands.count(f"xl unpause {NAME}") == 2


def test_a_pause_of_ours_is_not_ended_by_a_shutdown(machine):
    """Who holds a guest still holds its disks' locks: what it does there is only right while the guest stands still."""
    machine.host(machine, machine.config, machine.log).locks.acquire([DISKS[0]], 0, "resize of disk 0")
    machine.guests[NAME].state = "paused"
    with pytest.raises(DncError, match="locked by resize of disk 0"):
        shut_down(machine)
    assert machine.guests[NAME].state == "paused"


def test_on_shutdown_timeout_destroy(machine):
    machine.config = machine.config._replace(on_shutdown_timeout="destroy")
    machine.faults.add("deaf guest")
    shut_down(machine)
    assert machine.guests == {} and machine.disks[DISKS[0]].role == "Secondary"


# Disks and interfaces.


def plug(machine, action: str) -> None:
    argv = ["sdc", "2", "x"] if action == "attach_disk" else ["sdc", "2"]
    text = message(vm_text(*ROOMY, disk(2, "sdc", ATTACH="YES")))
    machine.do(action, NAME, f"{machine.directory}/disk.2", *argv, "901", "node1", text=text)


def test_a_disk_that_the_guest_does_not_take_leaves_no_trace(machine):
    machine.faults.add("guest still boots")
    with pytest.raises(TimedOut, match="the guest did not take disk xvdc"):
        plug(machine, "attach_disk")
    assert "xvdc" not in machine.guests[NAME].disks
    assert f"xl block-detach --force {NAME} xvdc" in machine.commands
    assert machine.disks["one-sys-901-2"].role == "Secondary"


def test_a_disk_that_the_guest_holds_is_not_torn_out(machine):
    plug(machine, "attach_disk")
    machine.guests[NAME].held.add("xvdc")
    with pytest.raises(TimedOut, match="does not release xvdc"):
        plug(machine, "detach_disk")
    assert machine.disks["one-sys-901-2"].role == "Primary"
    assert not [command for command in machine.commands if "--force" in command]
    machine.guests[NAME].held.clear()
    for _again in range(2):
        plug(machine, "detach_disk")
    assert machine.disks["one-sys-901-2"].role == "Secondary"


def test_a_paused_guest_cannot_let_go(machine):
    plug(machine, "attach_disk")
    machine.guests[NAME].state = "paused"
    with pytest.raises(Unsafe, match="is paused"):
        plug(machine, "detach_disk")
    assert "xvdc" in machine.guests[NAME].disks


def test_detaching_from_what_is_gone_and_from_a_half(machine):
    machine.guests.clear()
    plug(machine, "detach_disk")
    machine.guests = {HALVES[1]: Guest(HALVES[1], 1, "paused")}
    with pytest.raises(Unsafe, match="half migrated"):
        plug(machine, "detach_disk")


def plug_nic(machine, action: str = "attach_nic") -> None:
    text = message(vm_text(*ROOMY, nic(1, BRIDGE="lo", ATTACH="YES")))
    more = ["lo", "-", "bridge", "one-901-1"] if action == "attach_nic" else []
    machine.do(action, NAME, "02:00:00:00:00:01", *more, "901", "node1", text=text)


def test_an_interface_comes_and_goes(machine):
    for _again in range(2):
        plug_nic(machine)
    assert list(machine.guests[NAME].nics) == ["02:00:00:00:00:00", "02:00:00:00:00:01"]
    for _again in range(2):
        plug_nic(machine, "detach_nic")
    assert list(machine.guests[NAME].nics) == ["02:00:00:00:00:00"]
    assert [command.split()[1] for command in changed(machine)] == ["network-attach", "network-detach"]


@pytest.mark.parametrize("fault, error", [("vif script", ToolFailed), ("guest still boots", TimedOut)])
def test_a_failed_interface_leaves_no_trace(machine, fault, error):
    """What xl keeps of it would end the guest at its next reboot."""
    machine.faults.add(fault)
    with pytest.raises(error):
        plug_nic(machine)
    assert list(machine.guests[NAME].nics) == ["02:00:00:00:00:00"]


def test_an_interface_that_a_killed_attempt_left_is_made_anew(machine):
    machine.guests[NAME].nics["02:00:00:00:00:01"] = ""
    machine.faults.add("guest still boots")
    with pytest.raises(TimedOut):
        plug_nic(machine)
    assert changed(machine)[0] == f"xl network-detach {NAME} 1"


# The context.


def reconfigure(machine, lcm: str = "17", kind: str = "pvh") -> None:
    text = message(vm_text(*ROOMY, user=leaf("XEN_TYPE", kind))).replace("<LCM_STATE>2<", f"<LCM_STATE>{lcm}<")
    machine.do("prereconfigure", NAME, "hda", "901", "node1", text=text)
    machine.do("reconfigure", NAME, "hda", f"{machine.directory}/disk.7", "901", "node1", text=text)


def test_the_context_is_plugged_anew_each_time(machine):
    for _again in range(2):
        reconfigure(machine)
    assert [command.split()[1] for command in changed(machine)] == ["block-detach", "block-attach"] * 2
    assert machine.guests[NAME].disks["xvdm"] == f"{machine.directory}/disk.7"


def test_the_drive_of_an_hvm_guest_is_emptied_and_filled(machine):
    machine.guests[NAME].disks["hda"] = f"{machine.directory}/disk.7"
    for _again in range(2):
        reconfigure(machine, kind="hvm")
    assert [command.split()[1] for command in changed(machine)] == ["cd-eject", "cd-insert"] * 2


def test_a_context_that_the_guest_has_mounted(machine):
    """After updateconf the user is told; after an interface was plugged OpenNebula must not forget it."""
    machine.guests[NAME].held.add("xvdm")
    with pytest.raises(TimedOut, match="does not release xvdm"):
        reconfigure(machine)
    reconfigure(machine, lcm="25")
    assert "keeps its old context" in machine.messages.getvalue()


def test_without_a_context_nothing_is_done(machine):
    text = message(vm_text(*ROOMY))
    machine.do("prereconfigure", NAME, "", "901", "node1", text=text)
    machine.do("reconfigure", NAME, "", "", "901", "node1", text=text)
    assert machine.commands == []


# Memory that was saved.


def save(machine) -> None:
    machine.do("save", NAME, f"{machine.directory}/checkpoint", "node1", "901", "node1", text=message(vm_text(*ROOMY)))


def restore(machine, user: str = "") -> None:
    text = message(vm_text(*ROOMY, user=user))
    machine.do("restore", f"{machine.directory}/checkpoint", "node1", NAME, "901", "node1", text=text)


def files(machine) -> list[str]:
    return sorted(path.name for path in machine.directory.glob("checkpoint*"))


def test_saved_twice_and_restored_twice(machine):
    for _again in range(2):
        save(machine)
        assert machine.guests == {} and files(machine) == ["checkpoint", "checkpoint.disks"]
    for _again in range(2):
        restore(machine)
        assert NAME in machine.guests and files(machine) == []


def test_memory_that_is_whole_is_never_lost(machine, monkeypatch):
    """The domain does not go away in time, or the action is killed: saving again, or restoring, finds it."""
    monkeypatch.setattr("dnc.host.domains.Domains.await_saved", lambda self, name: (_ for _ in ()).throw(TimedOut("x")))
    for go_on in (save, restore):
        with pytest.raises(TimedOut):
            save(machine)
        assert files(machine) == ["checkpoint.disks", "checkpoint.whole"]
        go_on(machine)
        if go_on is save:
            assert files(machine) == ["checkpoint", "checkpoint.disks"]
            restore(machine)
        assert NAME in machine.guests and files(machine) == []


def moved_on(machine, how: str) -> None:
    each = machine.disks[DISKS[1]]
    if how == "generation":
        each.generation = "AAAAAAAAAAAAAAA0"
    elif how == "written":
        each.written += 4
    machine.kernel()


@pytest.mark.parametrize("how", ["generation", "written"])
def test_memory_is_refused_when_a_disk_has_moved_on(machine, how):
    save(machine)
    moved_on(machine, how)
    with pytest.raises(Unsafe, match=f"{DISKS[1]} was written to since one-901 was saved; .*DNC_RESTORE"):
        restore(machine)
    assert machine.guests == {} and machine.disks[DISKS[0]].role == "Secondary"
    assert files(machine) == ["checkpoint", "checkpoint.disks"]
    machine.commands.clear()
    restore(machine, user=leaf("DNC_RESTORE", "boot"))
    assert [command.split()[1] for command in changed(machine) if command.startswith("xl")] == ["create"]
    assert files(machine) == []


def test_a_primary_bit_and_a_count_that_began_anew_are_no_writes(machine):
    machine.disks[DISKS[0]].written = 100
    machine.kernel()
    save(machine)
    machine.disks[DISKS[0]].generation = "2DABAB9FAB1A1037"
    machine.disks[DISKS[0]].written = 0
    machine.kernel()
    restore(machine)
    assert NAME in machine.guests


def test_memory_that_may_have_run_is_refused(machine):
    """Killed between the start and the removal of the checkpoint, then the host crashed: nobody counted the writes."""
    for each in machine.disks.values():
        each.written = 100
    machine.kernel()
    save(machine)
    note = machine.directory / "checkpoint.disks"
    note.write_text(json.dumps({**json.loads(note.read_text()), "spent": True}))
    restore(machine)
    save(machine)
    note.write_text(json.dumps({**json.loads(note.read_text()), "spent": True}))
    machine.disks[DISKS[0]].written = 0
    machine.kernel()
    with pytest.raises(Unsafe, match="its memory was used"):
        restore(machine)


def test_a_restore_that_failed_may_be_tried_again_also_when_promoting_began_a_generation(machine):
    save(machine)
    machine.faults.add("xl restore")
    with pytest.raises(ToolFailed):
        restore(machine)
    note = json.loads((machine.directory / "checkpoint.disks").read_text())
    assert note["spent"] is False
    machine.faults.clear()
    restore(machine)
    assert NAME in machine.guests


def test_a_checkpoint_of_an_older_version_is_taken_on_trust(machine):
    save(machine)
    (machine.directory / "checkpoint.disks").unlink()
    restore(machine)
    assert "whether the disks have moved on is not known" in machine.messages.getvalue()


def test_another_set_of_disks_does_not_fit(machine):
    save(machine)
    text = message(vm_text(*ROOMY, disk(2, "sdc")))
    with pytest.raises(Unsafe, match="one-sys-901-2 came or went"):
        machine.do("restore", f"{machine.directory}/checkpoint", "node1", NAME, "901", "node1", text=text)


def test_booting_anew_throws_saved_memory_away(machine):
    save(machine)
    machine.do("deploy", f"{machine.directory}/deployment.1", "node1", "901", "node1", text=vm_text(*ROOMY))
    assert files(machine) == [] and NAME in machine.guests


def test_a_lost_checkpoint(machine):
    save(machine)
    (machine.directory / "checkpoint").unlink()
    with pytest.raises(NotFound, match="does not exist; was the VM saved here"):
        restore(machine)
    restore(machine, user=leaf("DNC_RESTORE", "boot"))
    assert NAME in machine.guests
