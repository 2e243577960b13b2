"""Whether KVM really boots Xen here: many nested machines offer /dev/kvm and then fail at the first odd instruction."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

PROBE_SECONDS = 6.0


def probe_accelerator(build: Path) -> str:
    """ "kvm" when Xen starts under it within a few seconds, else "tcg"."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    serial = build / "probe.serial"
    argv = [
        "qemu-system-x86_64",
        "-M",
        "pc",
        "-accel",
        "kvm",
        "-cpu",
        "host",
        "-m",
        "512",
        "-nodefaults",
        "-no-user-config",
    ]
    argv += ["-display", "none", "-serial", f"file:{serial}", "-no-reboot", "-kernel", str(build / "xen")]
    argv += ["-append", "com1=115200,8n1 console=com1 loglvl=info", "-initrd", str(build / "vmlinux")]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PROBE_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            # "Dom0 has maximum" comes late in Xen's start, after all that nested machines trip over
            if serial.exists() and "Dom0 has maximum" in serial.read_text(errors="replace"):
                return "kvm"
            time.sleep(0.1)
        return "tcg"
    finally:
        process.kill()
        process.wait()
        serial.unlink(missing_ok=True)
