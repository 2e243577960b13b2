"""A burst of clones, as many at a time as OpenNebula runs: none may fail or collide; simulated and on the lab."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .counts import KERNEL, REPLICAS, fill, simulated
from .results import Row, not_run
from .stand import Stand, clone_lines, each_backend, image_of
from .timing import CannotMeasure

GROUP = "burst"
CLONES = 100
CLONES_ON_LAB = 20
AT_A_TIME = 15
IMAGE_MIB = 8
_MINOR = re.compile(r"device minor (\d+);")
_HEADER = "# dnc "  # how each of our resource files begins


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
        texts = [[file.read_text() for file in (log.parents[1] / "etc/drbd.d").glob("one-*.res")]
                 for log in counting.hosts]  # the logs lie in each host's /tmp
        doubles = sum(map(double_minors, texts))
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


def double_minors(files: Sequence[str]) -> int:
    """How many resources share their minor with another one of the same host; the host's resource files."""
    minors = [set(_MINOR.findall(text)) for text in files]
    return sum(map(len, minors)) - len(set().union(*minors))


def on_lab(_repeat: int, progress: Callable[[str], None], stand: Stand) -> list[Row]:
    """The same with CLONES_ON_LAB clones on the two real hosts, on each backend. Raises CannotMeasure."""
    stage = stand.stage
    return each_backend(GROUP, f"{CLONES_ON_LAB} clones", lambda backend: _on_lab(stage, backend, progress))


def _on_lab(stage: Any, backend: str, progress: Callable[[str], None]) -> list[Row]:
    image = image_of(stage, backend, f"burst-{backend}", size_mb=IMAGE_MIB)
    lines = [clone_lines(stage, image) for _ in range(CLONES_ON_LAB)]
    progress(f"{backend}: {CLONES_ON_LAB} clones, {AT_A_TIME} at a time")
    seconds, failed = run(stage.cloud, [clone for _name, clone, _delete in lines])
    doubles = 0
    for host in stage.lab.hosts:
        text = stage.lab.root(host, ["cat", *(f"/etc/drbd.d/{name}.res" for name, _clone, _delete in lines)]).stdout
        doubles += double_minors(text.split(_HEADER)[1:])
    progress(f"{backend}: and all of them removed")
    removal, left = run(stage.cloud, [delete for _name, _clone, delete in lines])
    if failed or left:
        return [not_run(GROUP, f"{CLONES_ON_LAB} clones, {backend}", (failed + left)[0])]
    stage.cloud.delete_image(image)
    what = f"{CLONES_ON_LAB} clones, {AT_A_TIME} at a time, {backend}"
    return [
        Row(GROUP, f"{what}: minors used twice", "", doubles, 0),
        Row(GROUP, f"{what}: time", "s", seconds, None, f"{seconds / CLONES_ON_LAB:.2f} s a clone"),
        Row(GROUP, f"{CLONES_ON_LAB} removals, {backend}: time", "s", removal, None),
    ]
