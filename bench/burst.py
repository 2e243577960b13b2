"""A burst of clones on the simulated farm: as many at a time as OpenNebula's driver runs, none may fail or collide."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .counts import KERNEL, REPLICAS, fill, simulated
from .results import Row, not_run
from .timing import CannotMeasure

GROUP = "burst"
CLONES = 100
AT_A_TIME = 15
_MINOR = re.compile(r"device minor (\d+);")


def measure(_repeat: int, progress: Callable[[str], None], _stand: object = None) -> list[Row]:
    """CLONES transfer lines, AT_A_TIME at a time; then all of them removed the same way. Raises CannotMeasure."""
    with simulated() as (cloud, counting):
        cloud.log.progress = None  # counts of single calls mean nothing here
        source = cloud.location / "image.raw"
        fill(source)
        store = cloud.create_datastore("images", template={"DNC_POOL": "zfs:tank/dnc", "SAFE_DIRS": str(source.parent)})
        cloud.create_datastore("system", type="SYSTEM")
        image = cloud.create_image("image", str(source), store)
        if image.template.get("ERROR"):
            raise CannotMeasure(str(image.template["ERROR"]))
        lines = [clone_line(cloud, image) for _ in range(CLONES)]
        before = len(counting.frontend.read_text().splitlines())
        progress(f"{CLONES} clones, {AT_A_TIME} at a time")
        seconds, failed = run(cloud, [line for line, _delete in lines])
        sessions = len(counting.frontend.read_text().splitlines()) - before
        doubles = double_minors(counting.hosts)
        progress("and all of them removed")
        removal, left = run(cloud, [delete for _line, delete in lines])
        if failed:
            return [not_run(GROUP, f"{CLONES} clones", failed[0])]
        return [
            Row(GROUP, f"{CLONES} clones, {AT_A_TIME} at a time: that failed", "", len(failed), 0),
            Row(GROUP, f"{CLONES} clones: minors used twice", "", doubles, 0),
            Row(GROUP, f"{CLONES} clones: ssh sessions", "sessions", sessions, REPLICAS * CLONES),
            Row(GROUP, f"{CLONES} clones: time", "s", seconds, None, f"{seconds / CLONES:.2f} s a clone"),
            Row(GROUP, f"{CLONES} removals: that failed", "", len(left), 0, left[0] if left else ""),
            Row(GROUP, f"{CLONES} removals: time", "s", removal, None),
        ]


def clone_line(cloud: Any, image: Any) -> tuple[str, str]:
    """A VM that is held, as (CLONE line, DELETE line), on a host with a replica."""
    template = {"CPU": 1, "MEMORY": 64, "DISK": [{"IMAGE": image.name}], "OS": {"KERNEL": KERNEL}}
    vm = cloud.instantiate(template, hold=True)
    system = next(one for one in cloud.datastores.values() if one.is_system)
    place = f"node1:{cloud.vm_directory(system.id, vm.id)}/disk.0"
    return (f"CLONE {cloud.tm_mad} {cloud.frontend}:{image.source} {place} {vm.id} {image.datastore_id}",
            f"DELETE {cloud.tm_mad} {place} {vm.id} {image.datastore_id}")


def run(cloud: Any, lines: list[str]) -> tuple[float, list[str]]:
    """(seconds, last words of those that failed)."""
    began = time.monotonic()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        done = list(pool.map(cloud.transfer.run_line, lines))
    failed = [(one.stderr.strip().splitlines() or ["no message"])[-1] for one in done if one.rc != 0]
    return time.monotonic() - began, failed


def double_minors(logs: Sequence[Path]) -> int:
    """How many resources share their minor with another one of the same host; `logs` lie in each host's /tmp."""
    doubles = 0
    for log in logs:
        files = (log.parents[1] / "etc/drbd.d").glob("one-*.res")
        minors = [set(_MINOR.findall(file.read_text())) for file in files]
        doubles += sum(map(len, minors)) - len(set().union(*minors))
    return doubles
