"""The build: from the mirror to the artifacts in build/<hash>/, cached under a hash of its inputs."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from . import bootstrap as debian
from .accelerator import probe_accelerator
from .cache import LAB_SOURCE, cache_dir, clear_work, locked, remove_tree, work_dir
from .command import missing_tool
from .errors import LabError
from .guest_image import build_guest
from .progress import Steps, console
from .rootfs import HOST_SOURCE, build_rootfs
from .state import load as load_state

SPACE_BYTES = 8 << 30
TOOLS = (
    "qemu-system-x86_64",
    "qemu-img",
    "mmdebstrap",
    "mke2fs",
    "ssh",
    "ssh-keygen",
    "unshare",
    "setpriv",
    "zstd",
    "xz",
    "modinfo",
)
# Inputs of the two bootstraps; the rest of host/, guest/ and these modules only matter to the last, quick step.
TREE_INPUTS = ("host/packages.txt", "host/builder-packages.txt")
IMAGE_INPUTS = ("host", "guest", "dnclab/bootstrap.py", "dnclab/kernel.py", "dnclab/rootfs.py", "dnclab/guest_image.py")


def hash_of(inputs: tuple[str, ...]) -> str:
    """A short hash over the suite and files (or all files of directories) below lab/, with their names."""
    digest = hashlib.sha256(debian.RECIPE.encode())
    for name in inputs:
        top = LAB_SOURCE / name
        paths = sorted(path for path in top.rglob("*") if path.is_file()) if top.is_dir() else [top]
        for path in paths:
            digest.update(f"{path.relative_to(LAB_SOURCE)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def build_path() -> Path:
    """Where the artifacts of the present inputs are, or would be."""
    return cache_dir() / "build" / hash_of(IMAGE_INPUTS)


def is_built() -> bool:
    """Whether the artifacts of the present inputs exist."""
    return (build_path() / "complete").exists()


def check_machine() -> None:
    """Raise LabError for what would make a build fail late: user, tools, space."""
    if os.geteuid() != 0:
        raise LabError("the lab must be built by root", "run it with sudo")
    for tool in TOOLS:
        if shutil.which(tool) is None:
            raise missing_tool(tool)
    free = shutil.disk_usage(cache_dir()).free
    if free < SPACE_BYTES:
        raise LabError(
            f"{cache_dir()} has {free / 2**30:.1f} GiB free, a build needs {SPACE_BYTES >> 30} GiB",
            "free some space or set DNC_LAB_DIR to a larger file system",
        )


def build(*, fresh: bool = False, quiet: bool = False) -> Path:
    """Build what is missing and return the directory of artifacts; `fresh` starts again from the mirror."""
    if is_built() and not fresh:
        return build_path()
    check_machine()
    with locked("build", "a build of the lab", wait=True):
        if is_built() and not fresh:
            return build_path()
        left = clear_work()
        if left and not quiet:
            console.print(f"  an interrupted build left {left} work directories: removed", style="yellow")
        final = build_path()  # named before the work: what is edited meanwhile belongs to the next build
        with Steps(quiet) as steps:
            trees, zfs = _trees(steps, fresh)
            _images(steps, trees, zfs, final)
        return final


def _trees(steps: Steps, fresh: bool) -> tuple[tuple[Path, Path], Path]:
    """The two Debian trees and the ZFS modules, made side by side; older ones go when new ones are needed."""
    stage, key = cache_dir() / "stage", hash_of(TREE_INPUTS)
    rootfs, builder, zfs = (stage / f"{name}-{key}" for name in ("rootfs", "builder", "zfs"))
    log = cache_dir() / "build.log"
    for path in stage.iterdir():
        if fresh or not path.name.endswith(key):
            remove_tree(path)

    def make_rootfs() -> None:
        if not rootfs.exists():
            with steps.step("hosts: Debian tree"):
                packages = debian.package_names(HOST_SOURCE / "packages.txt")
                debian.bootstrap(rootfs, packages, variant="minbase", log=log.with_name("build-rootfs.log"))

    def make_builder() -> None:
        if not builder.exists():
            with steps.step("builder: Debian tree"):
                packages = debian.package_names(HOST_SOURCE / "builder-packages.txt")
                debian.bootstrap(builder, packages, variant="apt", log=log.with_name("build-builder.log"))
        if not zfs.exists():
            with steps.step("builder: ZFS module"):
                debian.build_zfs(builder, zfs, log.with_name("build-builder.log"))

    side_by_side(make_builder, make_rootfs)
    versions = debian.kernel_version(rootfs), debian.kernel_version(builder)
    if versions[0] != versions[1]:
        for path in (rootfs, builder, zfs):
            remove_tree(path)
        raise LabError(
            f"the mirror changed its kernel during the build ({versions[0]}, {versions[1]})", "repeat `lab/lab build`"
        )
    return (rootfs, builder), zfs


def _images(steps: Steps, trees: tuple[Path, Path], zfs: Path, final: Path) -> None:
    """The artifacts, from the trees: quick; they appear under their final name only when complete."""
    log = cache_dir() / "build-images.log"
    with work_dir("images") as work:
        result, guest = work / "result", work / "guest"
        result.mkdir(mode=0o755)
        guest.mkdir(mode=0o755)
        with steps.step("guest image"):
            build_guest(trees[0], trees[1], guest, work, log)
        with steps.step("hosts: root image"):
            build_rootfs(trees[0], zfs, guest, result, work, log)
        for path in guest.iterdir():
            path.rename(result / path.name)
        with steps.step("accelerator"):
            (result / "accelerator").write_text(probe_accelerator(result) + "\n")
        (result / "complete").write_text("")
        remove_tree(final)
        result.rename(final)
    remove_unused_builds(final)


def remove_unused_builds(present: Path) -> None:
    """Remove builds, with their saved states, that are neither the present one nor a lab's."""
    used = {present.name}
    for path in (cache_dir() / "labs").glob("*/state.json"):
        state = load_state(path.parent)
        used |= {state.build} if state else set()
    for path in (cache_dir() / "build").iterdir():
        if path.name not in used:
            remove_tree(path)


def side_by_side(*jobs: Callable[[], None]) -> None:
    """Run jobs in threads of their own and raise the first failure when all have ended."""
    failures: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # handed to the caller below
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
