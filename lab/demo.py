"""The main job on two real Xen hosts, watched: import, clone, run, live-migrate, snapshot, power cut, terminate.

`make demo` runs it. Exit status 0 means that every step and every check of the data held.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import click
from rich.console import Console
from rich.table import Table

from dnclab.errors import LabError
from oned import Call, VirtualMachine
from stage import Stage

console = Console(highlight=False)


class Snapshot(NamedTuple):
    """A disk's snapshot: its number, and the guest's last tick before it and right after it."""

    number: int
    before: int
    after: int


class Checks:
    """What was found out on the way: timings of steps, and checks that failed."""

    def __init__(self) -> None:
        self.timings: list[tuple[str, str, float]] = []
        self.failed: list[str] = []

    @contextmanager
    def step(self, backend: str, what: str) -> Iterator[None]:
        """Show and time one step."""
        console.print(f"[bold]{backend:5}[/] {what} …")
        began = time.monotonic()
        yield
        self.timings.append((backend, what, time.monotonic() - began))
        console.print(f"      [dim]{what}: {time.monotonic() - began:.1f} s[/]")

    def check(self, what: str, holds: bool, seen: object = "") -> None:
        """Note whether something that must hold does."""
        shown = f" ({seen})" if seen != "" else ""
        if holds:
            console.print(f"      [green]ok[/]  {what}{shown}")
        else:
            self.failed.append(f"{what}{shown}")
            console.print(f"      [red]NOT[/] {what}{shown}")


def show_call(call: Call) -> None:
    """One line a driver call, when it ends."""
    if call.rc is None or call.skipped:
        return
    mark = "[green]0[/]" if call.rc == 0 else f"[red]{call.rc}[/]"
    console.print(f"      [dim]{call.mad:3} {call.action:12} on {call.where:9}[/] {mark} [dim]{call.seconds:5.1f} s[/]")
    if call.rc:
        console.print(f"      [red]{call.stderr.strip()}[/]", markup=True)


def show_backend(stage: Stage, checks: Checks, backend: str) -> None:
    """The whole life of one VM on one backend."""
    cloud = stage.cloud
    with checks.step(backend, "image imported and replicated"):
        image = stage.import_guest(backend, f"guest on {backend}".replace(" ", "-"))
    size = stage.lab.guest_image.stat().st_size
    digests = stage.digests(backend, image.source, size)
    checks.check("both replicas of the image are byte-identical", len(set(digests.values())) == 1 == len(digests) - 1)
    with checks.step(backend, "VM cloned and running on node1"):
        vm = stage.instantiate(image, "node1")
    disk = f"{image.source}-{vm.id}-0"
    checks.check("nothing was resynced for the clone", resyncs(stage, disk) == 0)
    with checks.step(backend, "guest writes"):
        tick = stage.wait_for_tick(vm, 2)
    for target in ("node2", "node1"):
        with checks.step(backend, f"live migration to {target}"):
            cloud.migrate(vm, target, live=True).checked()
        after = stage.wait_for_tick(vm, tick)
        checks.check("the guest went on writing", after > tick, f"tick {tick} → {after}")
        checks.check(f"it runs on {target} only", stage.domain_hosts(vm) == [target])
        checks.check("one primary again", primaries(stage, disk) == [target], f"Primary: {primaries(stage, disk)}")
        tick = after
    snapshot = show_snapshot(stage, checks, backend, vm, tick)
    with checks.step(backend, "power off"):
        cloud.poweroff(vm).checked()
    checks.check("replicas equal while it is off", equal(stage, backend, disk, size))
    with checks.step(backend, "resume"):
        cloud.resume(vm).checked()
    tick = stage.wait_for_tick(vm, snapshot.after)
    show_power_cut(stage, checks, backend, vm, disk, tick)
    check_counter(stage, checks, backend, vm, disk)
    show_revert(stage, checks, backend, vm, disk, snapshot)
    with checks.step(backend, "terminate"):
        cloud.terminate(vm).checked()
    with checks.step(backend, "image deleted"):
        cloud.delete_image(image).checked()


def show_snapshot(stage: Stage, checks: Checks, backend: str, vm: VirtualMachine, tick: int) -> Snapshot:
    """A snapshot on both hosts at one moment, while the guest writes."""
    with checks.step(backend, "snapshot while the guest writes"):
        done = stage.cloud.snapshot_disk(vm, 0, "demo").checked()
    after = stage.wait_for_tick(vm, stage.last_tick(vm))
    held = re.findall(r"frozen for (\d+) ms", "".join(call.stderr for call in done.calls))
    checks.check("the guest went on after it", after > tick, f"held for {' '.join(held)} ms")
    return Snapshot(int(vm.snapshots[0].snapshots[-1]["ID"]), tick, after)


def show_revert(
    stage: Stage, checks: Checks, backend: str, vm: VirtualMachine, disk: str, snapshot: Snapshot
) -> None:
    """The disk as it was then, on both hosts, with nothing resynced; the guest counts on from there."""
    before = resyncs(stage, disk)
    with checks.step(backend, "disk reverted to the snapshot"):
        stage.cloud.revert_disk(vm, 0, snapshot.number).checked()
    for host in ("node1", "node2"):
        counter = stage.counter(backend, disk, host)
        whole = not counter.holes and not counter.torn and snapshot.before <= counter.last <= snapshot.after
        checks.check(f"{host}'s replica ends when the snapshot was taken", whole, f"tick {counter.last}")
    checks.check("both replicas are byte-identical", equal(stage, backend, disk, stage.lab.guest_image.stat().st_size))
    checks.check("nothing was resynced for it", resyncs(stage, disk) == before)
    with checks.step(backend, "resume from there"):
        stage.cloud.resume(vm).checked()
        end = time.monotonic() + 300
        while stage.counter(backend, disk, "node2").last <= counter.last and time.monotonic() < end:
            time.sleep(1)
    last = stage.counter(backend, disk, "node2").last
    checks.check("the guest counts on from the snapshot", counter.last < last, f"tick {counter.last} → {last}")


def show_power_cut(stage: Stage, checks: Checks, backend: str, vm: VirtualMachine, disk: str, tick: int) -> None:
    """node2 loses its power while the guest writes on node1, comes back and is brought up to date."""
    with checks.step(backend, "node2 loses power; the guest goes on"):
        stage.lab.power_off("node2")
        tick = stage.wait_for_tick(vm, tick + 30, seconds=180)
    with checks.step(backend, "node2 boots"):
        stage.lab.power_on("node2")
    with checks.step(backend, "its replica is resynced"):
        seen = stage.wait_until_synced("node1", disk)
    checks.check("resynced, nothing out of sync", seen.get("ds") == "UpToDate/UpToDate", seen.get("ds"))
    checks.check("the guest never stopped", stage.wait_for_tick(vm, tick) > tick)


def check_counter(stage: Stage, checks: Checks, backend: str, vm: VirtualMachine, disk: str) -> None:
    """Power off, then read what the guest wrote from both replicas."""
    printed = stage.last_tick(vm)
    stage.cloud.poweroff(vm, hard=True).checked()
    for host in ("node1", "node2"):
        counter = stage.counter(backend, disk, host)
        seen = f"ticks {counter.first} to {counter.last}"
        whole = not counter.holes and not counter.torn and counter.last >= printed
        checks.check(f"no lost, no torn write on {host}'s replica", whole, seen)
    size = stage.lab.guest_image.stat().st_size
    checks.check("both replicas are byte-identical", equal(stage, backend, disk, size))


def equal(stage: Stage, backend: str, resource: str, size: int) -> bool:
    """Whether both hosts hold the same bytes."""
    digests = stage.digests(backend, resource, size)
    return len(digests) == 2 and len(set(digests.values())) == 1


def primaries(stage: Stage, resource: str) -> list[str]:
    """Hosts where a resource is Primary."""
    return [host for host in stage.lab.running() if stage.proc_drbd(host, resource).get("ro", "").startswith("Primary")]


def resyncs(stage: Stage, resource: str) -> int:
    """How many resyncs the kernels of both hosts began for a resource."""
    return sum(
        stage.lab.root(host, ["sh", "-c", 'dmesg | grep "drbd.*$1[ /]" | grep -c "Began resync"', "sh", resource],
                       check=False).stdout.strip() not in ("", "0")
        for host in stage.lab.running()
    )


def show_timings(checks: Checks) -> None:
    """The table at the end."""
    table = Table(title="Timings")
    table.add_column("backend")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    for backend, what, seconds in checks.timings:
        table.add_row(backend, what, f"{seconds:.1f}")
    console.print(table)


@click.command()
@click.option("--name", default="demo", help="Name of the lab to use.")
@click.option("--backend", "backends", multiple=True, type=click.Choice(["zfs", "thin"]), default=("zfs", "thin"))
@click.option("--calls/--no-calls", default=True, help="Show every driver call.")
def main(name: str, backends: tuple[str, ...], calls: bool) -> None:
    """Show the main job on two real hosts."""
    checks = Checks()
    stage = Stage(name, progress=show_call if calls else None)
    try:
        with checks.step("lab", "two Xen hosts up, suite installed"):
            stage.start()
        for backend in backends:
            show_backend(stage, checks, backend)
        left = stage.leftovers()
        checks.check("nothing is left on any host", not left, ", ".join(left))
    except (LabError, RuntimeError, TimeoutError) as error:
        console.print(f"[red]{error}[/]")
        checks.failed.append(str(error))
    finally:
        stage.stop()
    show_timings(checks)
    if checks.failed:
        console.print(f"[red]{len(checks.failed)} checks failed:[/]", *checks.failed, sep="\n  ")
        sys.exit(1)
    console.print("[green]Every step and every check held.[/]")


if __name__ == "__main__":
    main()
