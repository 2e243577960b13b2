"""What the stand-in needs to know of hosts: their names, how ssh reaches them, and as whom drivers run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Protocol


class Farm(Protocol):
    """Hosts to drive.

    ssh_directory holds an executable `ssh` (and may hold others) that comes first in the drivers' PATH, as OpenNebula's
    own wrapper does; rsync works over it. user is whom drivers run as when the stand-in is root (None: the present
    one). private_key is loaded into the agent that `migrate` forwards (None: no agent).
    """

    hosts: tuple[str, ...]
    ssh_directory: Path
    user: str | None
    private_key: Path | None
    environment: Dict[str, str]


@dataclass(frozen=True)
class SshFarm:
    """Hosts that an ssh configuration file describes, such as those of a lab."""

    hosts: tuple[str, ...]
    ssh_directory: Path
    user: str | None = "nobody"
    private_key: Path | None = None
    environment: Dict[str, str] = field(default_factory=dict)


def lab_farm(lab_directory: Path, hosts: tuple[str, ...], location: Path, user: str | None = "nobody") -> SshFarm:
    """The farm of a running lab: its ssh_config for the frontend, and the key that oneadmin's agent holds."""
    directory = location / "lab-ssh"
    directory.mkdir(parents=True, exist_ok=True)
    wrapper = directory / "ssh"
    wrapper.write_text(f"#!/bin/sh\nexec /usr/bin/ssh -F '{lab_directory / 'ssh_config'}' \"$@\"\n")
    wrapper.chmod(0o755)
    return SshFarm(hosts, directory, user, lab_directory / "keys" / "frontend")
