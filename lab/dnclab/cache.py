"""Where the lab keeps things: DNC_LAB_DIR (default /var/cache/dnc-lab), readable by the unprivileged frontend."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .command import capture
from .errors import LabError
from .progress import console

LAB_SOURCE = Path(__file__).resolve().parent.parent
REPOSITORY = LAB_SOURCE.parent


def cache_dir() -> Path:
    """The top directory of all lab state, made when absent (mode 755: user nobody must pass)."""
    top = Path(os.environ.get("DNC_LAB_DIR", "/var/cache/dnc-lab"))
    if not top.is_absolute():
        raise LabError(f"DNC_LAB_DIR={top} is not an absolute path", "give an absolute path")
    for sub in ("", "stage", "build", "labs", "work"):
        directory = top / sub
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        directory.chmod(0o755)
    return top


@contextmanager
def locked(name: str, doing: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the cache's lock `name`. If it is held: with `wait` say so and wait, else LabError; both name the holder."""
    path = cache_dir() / f"{name}.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            if not wait:
                raise LabError(f"{doing} is already under way ({holder})", "wait for it to end, then repeat") from None
            console.print(f"  {doing} is already under way ({holder}): waiting for it", style="yellow")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def mounts_below(directory: Path) -> list[str]:
    """Mount points at or below a directory, deepest first."""
    found = []
    top = str(directory)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point == top or point.startswith(top + "/"):
            found.append(point)
    return sorted(found, key=len, reverse=True)


def remove_tree(directory: Path) -> None:
    """Delete a directory tree; whatever is mounted below is unmounted first, never deleted through."""
    if not directory.exists() and not directory.is_symlink():
        return
    for point in mounts_below(directory):
        capture(["umount", "--lazy", point])
    if mounts_below(directory):
        raise LabError(f"{directory} has something mounted below it", f"unmount {mounts_below(directory)[0]} by hand")
    if directory.is_dir() and not directory.is_symlink():
        shutil.rmtree(directory)
    else:
        directory.unlink()


def clear_work() -> int:
    """Remove what an interrupted build left; returns how many directories there were. Needs the build lock."""
    left = list((cache_dir() / "work").iterdir())
    for directory in left:
        remove_tree(directory)
    return len(left)


@contextmanager
def work_dir(name: str) -> Iterator[Path]:
    """A work directory on the cache's file system, removed at the end; finished things are renamed out of it."""
    path = Path(tempfile.mkdtemp(prefix=name + "-", dir=cache_dir() / "work"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        remove_tree(path)
