"""The golden state: all hosts frozen (disks and memory) right after the first boot, shared by all labs of a build."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from . import qemu
from .cache import remove_tree
from .command import capture
from .errors import LabError


def path(build: Path, hosts: int) -> Path:
    """Where the golden state of that many hosts belongs; another QEMU or machine gives another place."""
    accelerator = (build / "accelerator").read_text().strip()
    return build / f"golden-{hosts}-{qemu.machine_key(accelerator)}"


def exists(saved: Path) -> bool:
    """Whether a golden state is there, whole."""
    return saved.is_dir()


def save(saved: Path, plans: Sequence[qemu.HostPlan], lab: str) -> None:
    """Freeze running hosts, all stopped before the first is saved, and move their disks to the golden state.

    `lab` keeps two labs apart that save at the same time: the first one to end wins.
    """
    for plan in plans:
        with qemu.Monitor(plan.directory) as monitor:
            monitor.execute("stop")
    for plan in plans:
        with qemu.Monitor(plan.directory, timeout=300) as monitor:
            monitor.human(f"savevm {qemu.SNAPSHOT}")
            monitor.execute("quit")
        qemu.await_end(plan.directory, 30)
    partial = saved.with_name(f"{saved.name}.{lab}.partial")
    remove_tree(partial)
    for plan in plans:
        (partial / plan.name).mkdir(parents=True, mode=0o755)
        for kind in qemu.DISKS:
            plan.disk(kind).rename(partial / plan.name / plan.disk(kind).name)
    if exists(saved):
        remove_tree(partial)
    else:
        partial.rename(saved)


def restore(saved: Path, plans: Sequence[qemu.HostPlan]) -> None:
    """Copy the golden disks into a lab's hosts."""
    for plan in plans:
        qemu.kill(plan.directory)
        remove_tree(plan.directory)
        plan.directory.mkdir(mode=0o755, parents=True)
        for kind in qemu.DISKS:
            source = saved / plan.name / plan.disk(kind).name
            if not source.exists():
                raise LabError(f"the golden state {saved} is not whole", f"remove it, then repeat: rm -r {saved}")
            capture(["cp", "--reflink=auto", "--sparse=always", str(source), str(plan.disk(kind))], timeout=120)
