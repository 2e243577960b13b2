"""DS cp of raw and qcow2 on the two real hosts, against dd of the same data into the same kind of replicated volume: on
the host itself, and over ssh as the usual drivers pipe it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .results import Row, median, not_run
from .stand import HOST, Stand, each_backend, image_of
from .timing import CannotMeasure

SMALL_MIB = 8
LARGE_MIB = 136
DATA_MIB = LARGE_MIB - SMALL_MIB  # what the difference of two imports has carried
PATIENCE_S = 60.0


def measure(repeat: int, progress: Callable[[str], None], stand: Stand) -> list[Row]:
    """Rates of both, on each backend. Raises CannotMeasure."""
    stage = stand.stage
    files = {mib: random_file(stage.lab.directory / f"random-{mib}.raw", mib) for mib in (SMALL_MIB, LARGE_MIB)}
    try:
        return each_backend(
            "import", "DS cp against dd", lambda backend: _measure(stage, backend, files, repeat, progress)
        )
    finally:
        for path in files.values():
            path.unlink(missing_ok=True)


def random_file(path: Path, mib: int) -> Path:
    """A file of data that no pool can compress and no reader can skip."""
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(1 << 20))
    path.chmod(0o644)
    return path


def _measure(
    stage: Any, backend: str, files: dict[int, Path], repeat: int, progress: Callable[[str], None],
) -> list[Row]:
    stage.datastores[backend].template["SAFE_DIRS"] = str(stage.lab.directory)
    target = image_of(stage, backend, f"dd-{backend}", size_mb=LARGE_MIB)
    taken: dict[int, list[float]] = {mib: [] for mib in files}
    plain: list[float] = []
    local: list[float] = []
    packed: list[float] = []
    qcow2 = qcow2_of(files[LARGE_MIB])
    with_resource_up(stage, target.source)
    try:
        for turn in range(repeat):
            for mib, path in files.items():
                progress(f"{backend}: import of {mib} MiB, {turn + 1} of {repeat}")
                taken[mib].append(cp_seconds(stage, backend, path, f"import-{mib}-{backend}-{turn}"))
            progress(f"{backend}: import of {LARGE_MIB} MiB of qcow2, {turn + 1} of {repeat}")
            packed.append(cp_seconds(stage, backend, qcow2, f"import-qcow2-{backend}-{turn}"))
            progress(f"{backend}: dd of {LARGE_MIB} MiB, {turn + 1} of {repeat}")
            plain.append(dd_seconds(stage, files[LARGE_MIB], into_device(target.source)))
            local.append(local_dd_seconds(stage, files[LARGE_MIB], target.source))
    finally:
        resource_down(stage, target.source)
        qcow2.unlink(missing_ok=True)
    of_qcow2 = Row("import", f"DS cp of {LARGE_MIB} MiB of qcow2, whole action, {backend}", "s", median(packed), None,
                   "qemu-img makes it a sparse raw file first", tuple(packed))
    of_local = Row("import", f"dd on the host, {backend}", "MiB/s", LARGE_MIB / median(local), None,
                   "from its memory, fsync at the end", tuple(LARGE_MIB / seconds for seconds in local))
    return [*rows_of(backend, taken, plain), of_local, of_qcow2]


def qcow2_of(raw: Path) -> Path:
    """The same content as qcow2, beside the raw file. Raises CannotMeasure."""
    path = raw.with_suffix(".qcow2")
    done = subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(path)], capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        raise CannotMeasure(f"qemu-img: {done.stderr.strip()}")
    path.chmod(0o644)
    return path


def rows_of(backend: str, taken: dict[int, list[float]], plain: list[float]) -> list[Row]:
    """Rates in MiB/s from seconds."""
    small, large, dd = median(taken[SMALL_MIB]), median(taken[LARGE_MIB]), LARGE_MIB / median(plain)
    rows = [
        Row("import", f"DS cp of {LARGE_MIB} MiB, whole action, {backend}", "s", large, None,
            f"of {SMALL_MIB} MiB: {small:.1f} s; makes the resource, streams, checks, puts it to rest",
            tuple(taken[LARGE_MIB])),
        Row("import", f"dd over ssh, {backend}", "MiB/s", dd, None, "same data, same kind of volume, fsync at the end",
            tuple(LARGE_MIB / seconds for seconds in plain)),
    ]
    what = f"DS cp, data alone, {backend}"
    if large <= small:
        why = f"{LARGE_MIB} MiB took no longer than {SMALL_MIB} MiB: the machine is too busy to tell"
        return [*rows, not_run("import", what, why)]
    stream = DATA_MIB / (large - small)
    return [
        *rows,
        Row("import", what, "MiB/s", stream, None, f"from the difference of {LARGE_MIB} and {SMALL_MIB} MiB"),
        Row("import", f"dd rate / DS cp rate, {backend}", "times", dd / stream, None, "above 1: slower than dd"),
    ]


def cp_seconds(stage: Any, backend: str, path: Path, name: str) -> float:
    """Seconds of the DS cp that imports a file; the image is removed after. Raises CannotMeasure."""
    image = image_of(stage, backend, name, path=str(path))
    call = next(one for one in reversed(stage.cloud.calls) if (one.mad, one.action) == ("ds", "cp"))
    removed = stage.cloud.delete_image(image)
    if not removed.ok:
        raise CannotMeasure(f"image {name}: {removed.error}")
    return float(call.seconds)


def into_device(resource: str) -> list[str]:
    """dd of its standard input into a replicated volume, until it is on stable storage on both hosts."""
    return ["dd", f"of=/dev/drbd/by-res/{resource}/0", "bs=1M", "iflag=fullblock", "conv=fsync,notrunc"]


def local_dd_seconds(stage: Any, source: Path, resource: str) -> float:
    """The same from the host's own memory. Raises CannotMeasure."""
    place = "/dev/shm/bench.raw"
    dd_seconds(stage, source, ["dd", f"of={place}", "bs=1M", "iflag=fullblock"])
    try:
        return dd_seconds(stage, Path("/dev/null"), [*into_device(resource), f"if={place}"])
    finally:
        stage.lab.root(HOST, ["rm", "-f", place])


def dd_seconds(stage: Any, source: Path, dd: list[str]) -> float:
    """Seconds of a dd on the host over one ssh, which brings the data. Raises CannotMeasure."""
    from dnclab.access import ssh_argv

    with source.open("rb") as data:
        begun = time.perf_counter()
        done = subprocess.run(
            ssh_argv(stage.lab.ssh_config, HOST, dd), stdin=data, capture_output=True, text=True, check=False,
        )
        seconds = time.perf_counter() - begun
    if done.returncode != 0:
        raise CannotMeasure(f"{HOST}: dd: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    return seconds


def with_resource_up(stage: Any, resource: str) -> None:
    """An image's resource up on all hosts, Primary where dd writes. Raises CannotMeasure after a minute."""
    for host in stage.lab.hosts:
        stage.lab.root(host, ["drbdadm", "up", resource])
    deadline = time.monotonic() + PATIENCE_S
    while not stage.proc_drbd(HOST, resource).get("ds", "").startswith("UpToDate/UpToDate"):
        if time.monotonic() > deadline:
            raise CannotMeasure(f"{resource} is not UpToDate on both hosts after {PATIENCE_S:.0f} s")
        time.sleep(0.1)
    stage.lab.root(HOST, ["drbdadm", "primary", resource])


def resource_down(stage: Any, resource: str) -> None:
    """Put it to rest again."""
    stage.lab.root(HOST, ["drbdadm", "secondary", resource])
    for host in stage.lab.hosts:
        stage.lab.root(host, ["drbdadm", "down", resource])
