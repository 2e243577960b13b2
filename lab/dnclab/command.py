"""Running the machine's programs: argv lists, output kept in a log, one clear line when one fails."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from .errors import LabError

# The Debian package that brings a program, for the hint when it is missing.
PACKAGE_OF = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "modinfo": "kmod",
    "zstd": "zstd",
    "xz": "xz-utils",
}


def missing_tool(name: str) -> LabError:
    """The error for a program that is not on the machine."""
    package = PACKAGE_OF.get(name, name)
    return LabError(f"{name} is not installed on this machine", f"run `apt-get install {package}` or `make setup`")


def run_logged(argv: Sequence[str], log: Path, *, step: str, timeout: float) -> None:
    """Run a build command with its output appended to `log`; LabError names the step and the last line if it fails.

    `timeout` is in seconds.
    """
    with log.open("ab") as out:
        out.write(("\n$ " + " ".join(argv) + "\n").encode())
        out.flush()
        start = out.tell()
        try:
            status = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=timeout).returncode
        except FileNotFoundError:
            raise missing_tool(argv[0]) from None
        except subprocess.TimeoutExpired:
            raise LabError(f"{step}: {argv[0]} did not end in {timeout:.0f} s", f"see {log}") from None
    if status != 0:
        raise explain_failure(step, argv[0], status, log, start)


def explain_failure(step: str, tool: str, status: int, log: Path, start: int) -> LabError:
    """Turn the output of a failed build command into one line with the next step."""
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "No space left on device" in text:
        return LabError(
            f"{step}: no space left on the device", "free 10 GiB or set DNC_LAB_DIR to a larger file system"
        )
    for line in lines:
        if "Unable to locate package" in line or "has no installation candidate" in line:
            return LabError(
                f"{step}: {line}", "the mirror of this machine's apt does not offer it; check `apt-get indextargets`"
            )
        if "Failed to fetch" in line or "Could not resolve" in line or "404  Not Found" in line:
            return LabError(
                f"{step}: a package cannot be fetched: {line}", "check the network and `apt-get update`, then repeat"
            )
    last = next(
        (line for line in reversed(lines) if line.startswith(("E:", "error", "Error"))), lines[-1] if lines else ""
    )
    return LabError(f"{step}: {tool} ended with status {status}: {last}", f"see {log}")


def capture(argv: Sequence[str], *, timeout: float = 60, text_in: str | None = None) -> str:
    """Standard output of a command; LabError with its error text if it fails. `timeout` in seconds."""
    try:
        done = subprocess.run(argv, input=text_in, capture_output=True, text=True, timeout=timeout)
    except FileNotFoundError:
        raise missing_tool(argv[0]) from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{argv[0]} did not end in {timeout:.0f} s") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise LabError(f"{' '.join(argv[:3])} ended with status {done.returncode}: {lines[-1]}")
    return done.stdout
