"""Debian trees from the mirror of this machine's own apt: the hosts' root file system and the builder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .cache import work_dir
from .command import capture, run_logged
from .errors import LabError

SUITE = "trixie"
COMPONENTS = "main contrib"
# Part of the trees' hash: raise the number when a change below makes other trees from the same package lists.
RECIPE = f"{SUITE} {COMPONENTS} 1"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*")
# Name spaces of its own, and death with this process: a kill -9 of a build leaves neither a mount nor a process.
ALONE = ("setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--pid", "--fork", "--kill-child")
BOOTSTRAP_SECONDS = 3600.0
DKMS_SECONDS = 3600.0


def mirror() -> str:
    """Address of the Debian main archive that this machine's apt uses.

    Raises LabError when apt knows none (source: apt-get indextargets).
    """
    form = "$(REPO_URI)|$(ORIGIN)|$(CODENAME)|$(COMPONENT)"
    for line in capture(["apt-get", "indextargets", "--format", form]).splitlines():
        address, origin, codename, component = line.split("|")
        if origin == "Debian" and component == "main" and "-" not in codename:
            return address
    raise LabError(
        "this machine's apt has no Debian main archive", "run `apt-get update` and check /etc/apt/sources.list"
    )


def package_names(path: Path) -> list[str]:
    """Names in a package list: one a line, `#` starts a comment."""
    lines = (line.split("#", 1)[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def proxy_settings() -> list[str]:
    """The machine's apt proxy settings, to be used inside the trees too."""
    pattern = re.compile(r'^Acquire::(https?|ftp)::[Pp]roxy\S* "[^"]+";$')
    return [line for line in capture(["apt-config", "dump"]).splitlines() if pattern.match(line)]


def bootstrap(target: Path, packages: list[str], *, variant: str, log: Path) -> None:
    """Create a Debian tree at `target` (it appears only when complete)."""
    if not KEYRING.exists():
        raise LabError(f"{KEYRING} is missing", "run `apt-get install debian-archive-keyring`")
    with work_dir(target.name) as work:
        tree = work / "tree"
        argv = [*ALONE, "--mount-proc", "mmdebstrap", "--mode=root", f"--variant={variant}"]
        argv += [f"--components={COMPONENTS}", f"--keyring={KEYRING}", "--include=" + ",".join(packages)]
        argv += ['--aptopt=APT::Install-Recommends "false"', "--dpkgopt=force-unsafe-io"]
        argv += [f"--aptopt={setting}" for setting in proxy_settings()]
        argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
        run_logged(
            [*argv, SUITE, str(tree), mirror()], log, step=f"bootstrap of {target.name}", timeout=BOOTSTRAP_SECONDS
        )
        tree.rename(target)


def chrooted(tree: Path, *argv: str) -> list[str]:
    """argv that runs a command inside a tree, in name spaces of its own: a kill leaves no mount behind."""
    return [
        *ALONE,
        f"--root={tree}",
        "--mount-proc",
        "/usr/bin/env",
        "-i",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL=C",
        "HOME=/root",
        *argv,
    ]


def kernel_version(tree: Path) -> str:
    """Version of the one kernel (or kernel headers) installed in a tree."""
    modules = tree / "usr/lib/modules"
    names = sorted(os.listdir(modules)) if modules.is_dir() else []
    if len(names) != 1:
        raise LabError(f"{tree} holds {len(names)} kernel versions, not one", "run `lab/lab build --fresh`")
    return names[0]


def build_zfs(builder: Path, modules: Path, log: Path) -> None:
    """Make the ZFS modules natively in the builder tree and copy them to `modules` (a directory of .ko files)."""
    version = kernel_version(builder)
    built = builder / "usr/lib/modules" / version / "updates/dkms"
    if not list(built.glob("zfs.ko*")):
        argv = chrooted(builder, "dkms", "autoinstall", "-k", version)
        run_logged(argv, log, step="ZFS module", timeout=DKMS_SECONDS)
    found = sorted(built.glob("*.ko*"))
    if not any(path.name.startswith("zfs.ko") for path in found):
        raise LabError(f"the ZFS module was not built for kernel {version}", f"see {log}")
    with work_dir("zfs") as work:
        for path in found:
            (work / path.name).write_bytes(path.read_bytes())
        done = work.parent / f"{work.name}-done"
        work.rename(done)
        done.rename(modules)
