"""What every fake tool does around its own work: find its host, obey injected faults, log, answer."""

from __future__ import annotations

import os
import sys
import time

from sim.world import LIVE, Refused, World, log_command

MODULES = {
    "zfs": "sim.zfs", "zpool": "sim.zfs",
    "lvs": "sim.lvm", "lvcreate": "sim.lvm", "lvremove": "sim.lvm", "lvchange": "sim.lvm", "lvextend": "sim.lvm",
    "lvrename": "sim.lvm", "vgs": "sim.lvm", "pvs": "sim.lvm",
    "drbdadm": "sim.drbdadm", "drbdsetup": "sim.drbdsetup", "drbdmeta": "sim.drbdmeta",
    "xl": "sim.xl", "sudo": "sim.small", "udevadm": "sim.small", "modprobe": "sim.small", "runuser": "sim.small",
    "xenstore-read": "sim.small", "xenstore-watch": "sim.xenstore",
}  # fmt: skip
PRIVILEGED = "DNC_SIM_PRIVILEGED"


def main(tool: str) -> None:
    """Run one fake tool; never returns."""
    with open("/proc/sys/kernel/hostname") as file:
        world = World(LIVE, file.read().strip())
    os.umask(0)
    argv = [tool, *sys.argv[1:]]
    module = __import__(MODULES[tool], fromlist=["run"])
    if tool in ("sudo", "runuser"):
        getattr(module, tool)(world, argv)
    started = time.time()
    faults = _faults(world, argv)
    _obey(world, faults, "before")
    try:
        status, out, err = _refusal(faults) or module.run(world, argv)
    except Refused as refusal:
        status, out, err = refusal.status, refusal.out, refusal.text
    with world.open():
        _event(world, tool in ("xl", "drbdadm"))
    if err and not err.endswith("\n"):
        err += "\n"
    log_command(LIVE, {
        "host": world.host, "argv": argv, "status": status, "err": err, "started": started,
        "seconds": time.time() - started,
        "pid": os.getpid(), "privileged": is_privileged(),
    })  # fmt: skip
    _obey(world, faults, "after")
    try:
        sys.stdout.write(out)
        sys.stdout.flush()
        sys.stderr.write(err)
        sys.stderr.flush()
    except BrokenPipeError:
        os._exit(141)
    os._exit(status)


def _event(world: World, guests_go_on: bool) -> None:
    """Time passes: writes are replicated, ends connect, guests count, and the rules are checked."""
    from sim import drbd_link

    drbd_link.settle(world)
    if guests_go_on and any(host["xen"]["domains"] for host in world.state["hosts"].values()):
        from sim import guest

        guest.tick(world)
        drbd_link.settle(world)
    from sim import checks

    checks.check(world)


def is_privileged() -> bool:
    return os.geteuid() == 0 or os.environ.get(PRIVILEGED) == "1"


def _faults(world: World, argv: list[str]) -> list[dict]:
    """Faults that the test planned for this very command; each is used up by it unless it is meant to stay."""
    with world.open():
        _event(world, False)
        here = world.of()
        here["count"] += 1
        text = " ".join(argv)
        due = []
        for fault in list(here["inject"]):
            if fault["pattern"] not in text or argv[0] in fault.get("except", ()):
                continue
            fault["wait"] -= 1
            if fault["wait"] <= 0:
                due.append(fault)
                if not fault.get("stays"):
                    here["inject"].remove(fault)
    return due


def _refusal(faults: list[dict]) -> tuple[int, str, str] | None:
    for fault in faults:
        if fault["kind"] == "fail":
            return fault["status"], "", fault["stderr"]
    return None


def _obey(world: World, faults: list[dict], when: str) -> None:
    for fault in faults:
        if fault.get("when", "before") != when:
            continue
        if fault["kind"] == "delay":
            time.sleep(fault["seconds"])
        elif fault["kind"] == "crash":
            from sim import injection

            injection.crash(world, fault["target"])
        elif fault["kind"] == "power":
            from sim import injection

            injection.power_cut_from_inside(world, fault["victim"])
