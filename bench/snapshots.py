"""Snapshots on the two real hosts: how long the guest waits, and the actions against the raw commands they need."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from . import raw_clone
from .results import Row, median
from .stand import HOST, Stand, each_backend, last_line, transfer
from .timing import CannotMeasure

GROUP = "snapshot"
TICKS = 20  # how many the guest must have written before and after, so that its longest pause is the barrier's
_FROZEN = re.compile(r"frozen for (\d+) ms")


def measure(repeat: int, progress: Callable[[str], None], stand: Stand) -> list[Row]:
    """Rows of both backends. Raises CannotMeasure."""
    stage = stand.stage
    return each_backend(GROUP, "snapshots", lambda backend: _measure(stage, backend, repeat, progress))


def _measure(stage: Any, backend: str, repeat: int, progress: Callable[[str], None]) -> list[Row]:
    progress(f"{backend}: a guest that writes")
    image = stage.import_guest(backend, f"snapshot-{backend}")
    vm = stage.instantiate(image, HOST)
    disk = f"{image.source}-{vm.id}-0"
    stage.wait_for_tick(vm, TICKS)
    frozen: list[float] = []
    missed: list[float] = []
    for turn in range(repeat):
        progress(f"{backend}: snapshot of a running guest, {turn + 1} of {repeat}")
        since = stage.last_tick(vm)
        frozen.append(_live(stage, vm))
        stage.wait_for_tick(vm, stage.last_tick(vm) + TICKS)
        missed.append(float(stage.longest_pause(backend, disk, other_host(stage), since)))
    done = stage.cloud.poweroff(vm, hard=True)
    if not done.ok:
        raise CannotMeasure(f"power off: {done.error}")
    rows = [
        Row(GROUP, f"guest frozen, as the host measures it, {backend}", "ms", median(frozen), None,
            "from before xl pause until xl unpause has ended", tuple(frozen)),
        Row(GROUP, f"longest pause between two ticks of the guest, {backend}", "ms", median(missed), None,
            "by the guest's own clock, around a snapshot", tuple(missed)),
        *_at_rest(stage, backend, vm, disk, repeat, progress),
    ]
    stage.cloud.terminate(vm, hard=True)
    stage.cloud.delete_image(image)
    return rows


def other_host(stage: Any) -> str:
    """A host whose replica is not written through by the guest's own device."""
    return next(str(host) for host in stage.lab.hosts if host != HOST)


def _live(stage: Any, vm: Any) -> float:
    """Milliseconds that the driver says the guest was frozen. Raises CannotMeasure."""
    operation = stage.cloud.snapshot_disk(vm, 0, "bench")
    if not operation.ok:
        raise CannotMeasure(f"snapshot: {operation.error}")
    found = _FROZEN.findall("".join(call.stderr for call in operation.calls))
    if not found:
        raise CannotMeasure("snapshot: the log does not say how long the guest was frozen")
    return float(found[-1])


def _at_rest(
    stage: Any, backend: str, vm: Any, disk: str, repeat: int, progress: Callable[[str], None]
) -> list[Row]:
    """Snapshot, revert and saveas of a VM that is off, in turns with what a person would type."""
    lines = stage.cloud.lines(vm)
    minor = int(stage.lab.root(HOST, ["drbdadm", "sh-minor", disk]).stdout)
    taken: dict[str, tuple[list[float], list[float]]] = {"snapshot": ([], []), "revert": ([], []), "saveas": ([], [])}
    for turn in range(repeat):
        label = 100 + turn
        progress(f"{backend}: snapshot, revert, saveas at rest, {turn + 1} of {repeat}")
        taken["snapshot"][0].append(transfer(stage, lines.snapshot("SNAP_CREATE", vm.disks[0], label)))
        taken["snapshot"][1].append(raw_clone.on_all(stage.lab, [snapshot_step(backend, disk)]))
        taken["revert"][0].append(transfer(stage, lines.snapshot("SNAP_REVERT", vm.disks[0], label)))
        taken["revert"][1].append(raw_clone.on_all(stage.lab, revert_steps(backend, disk), minor))
        raw_clone.on_all(stage.lab, after_revert_steps(backend, disk))
        taken["saveas"][0].append(_save(stage, vm, f"bench-{backend}-{turn}"))
        taken["saveas"][1].append(
            raw_clone.on_all(stage.lab, raw_clone.make_steps(backend, disk, stage.lab.hosts)))
        raw_clone.on_all(stage.lab, raw_clone.remove_steps(backend, disk))
    rows = []
    for what, (driver, raw) in taken.items():
        rows += [
            Row(GROUP, f"{what}, driver, {backend}", "s", median(driver), None, f"least {min(driver):.2f} s",
                tuple(driver)),
            Row(GROUP, f"{what}, raw commands, {backend}", "s", median(raw), None, f"least {min(raw):.2f} s",
                tuple(raw)),
        ]
    return rows


def _save(stage: Any, vm: Any, name: str) -> float:
    """Seconds of the cpds of a disk-saveas; the image is removed after. Raises CannotMeasure."""
    operation = stage.cloud.save_disk_as(vm, 0, name)
    call = next((one for one in operation.calls if one.action == "cpds"), None)
    if not operation.ok or call is None:
        raise CannotMeasure(f"saveas: {last_line(operation.error or '')}")
    stage.cloud.delete_image(next(reversed(stage.cloud.images.values())))
    return float(call.seconds)


def snapshot_step(backend: str, disk: str) -> raw_clone.Step:
    """One snapshot on each host."""
    if backend == "zfs":
        return ["sudo", "-n", "zfs", "snapshot", f"tank/dnc/{disk}@raw"]
    return ["sudo", "-n", "lvcreate", "-q", "-y", "-s", "-n", f"{disk}.raw", f"vg0/{disk}"]


def revert_steps(backend: str, disk: str) -> list[raw_clone.Step]:
    """Back to it: a copy takes the disk's name, metadata and all, since the disk was idle on both hosts."""
    sudo = ["sudo", "-n"]
    if backend == "zfs":
        base = f"tank/dnc/{disk}"
        volume = [
            [*sudo, "zfs", "clone", "-o", "volmode=dev", f"{base}@raw", f"{base}.rawnext"],
            [*sudo, "zfs", "rename", base, f"{base}.rawold"], [*sudo, "zfs", "rename", f"{base}.rawnext", base],
        ]
    else:
        volume = [
            [*sudo, "lvcreate", "-q", "-y", "-kn", "-s", "-n", f"{disk}.rawnext", f"vg0/{disk}.raw"],
            [*sudo, "lvrename", "-q", "vg0", disk, f"{disk}.rawold"],
            [*sudo, "lvrename", "-q", "vg0", f"{disk}.rawnext", disk],
        ]
    return [[*sudo, "drbdadm", "down", disk], *volume, [*sudo, "drbdadm", "up", disk], ["agreed"]]


def after_revert_steps(backend: str, disk: str) -> list[raw_clone.Step]:
    """Away with what the revert by hand left."""
    sudo = ["sudo", "-n"]
    if backend == "zfs":
        base = f"tank/dnc/{disk}"
        return [[*sudo, "zfs", "promote", base], [*sudo, "zfs", "destroy", "-r", f"{base}.rawold"],
                [*sudo, "zfs", "destroy", f"{base}@raw"]]
    return [[*sudo, "lvremove", "-q", "-f", "-y", f"vg0/{disk}.rawold", f"vg0/{disk}.raw"]]
