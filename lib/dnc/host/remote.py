"""Commands on another host, by OpenSSH: only for a live migration, where the source has to look at the destination.

ssh hands the far shell one line, so each word is quoted for it; words come from the grammar or from constants.
"""

from __future__ import annotations

import os
import pwd
import shlex
from typing import Optional, Sequence, Tuple

from ..command import Result, Runner, find_tool
from ..errors import BadInput, Unreachable
from ..grammar import parse_path
from ..log import Log

SSH_FAILED = 255
REMOTE_XL = "/usr/sbin/xl"


def ssh_options(connect_timeout: int) -> Tuple[str, ...]:
    """Never ask, never share a master connection (a migration outlives it), notice a dead peer in 30 s."""
    settings = (
        "BatchMode=yes", "ControlMaster=no", "ControlPath=none", f"ConnectTimeout={connect_timeout}",
        "ServerAliveInterval=10", "ServerAliveCountMax=3",
    )
    return ("-T", *(word for setting in settings for word in ("-o", setting)))


class RemoteRunner(Runner):
    """A runner whose commands run on `host`."""

    def __init__(self, host: str, connect_timeout: int, log: Log, *, dry_run: bool = False) -> None:
        super().__init__(log, dry_run=dry_run)
        self.host = host
        self._options = ssh_options(connect_timeout)

    def resolve(self, argv: Sequence[str], *, privileged: bool = False) -> Tuple[str, ...]:
        """The ssh command that runs `argv` there, as root if it is privileged."""
        words = ["sudo", "-n", *argv] if privileged else list(argv)
        words = [REMOTE_XL if word == "xl" else word for word in words]
        return (find_tool("ssh"), *self._options, "--", self.host, shlex.join(words))

    def run(
        self, argv: Sequence[str], *, privileged: bool = False, changes: bool = True, stdin: Optional[bytes] = None,
        ok: Tuple[int, ...] = (0,), timeout: float = 120.0,
    ) -> Result:
        """Runner.run on the other host. Raises Unreachable when ssh itself fails."""
        result = super().run(
            argv, privileged=privileged, changes=changes, stdin=stdin, ok=(*ok, SSH_FAILED), timeout=timeout
        )
        if result.status == SSH_FAILED and SSH_FAILED not in ok:
            said = result.stderr.strip().splitlines()
            raise Unreachable(
                f"ssh to {self.host} failed: {said[-1][:200] if said else 'no answer'}",
                hint="live migration needs ssh from host to host with the forwarded agent (ssh -A)",
            )
        return result


def migration_receiver(host: str, connect_timeout: int) -> str:
    """The command line that xl, as root, runs to reach `xl migrate-receive` on `host`.

    It goes back to our own user first, since the forwarded agent and the known hosts are that user's. Raises
    BadInput for an agent socket that is no clean path.
    """
    words = [find_tool("ssh"), *ssh_options(connect_timeout), "--", host, "sudo", "-n", REMOTE_XL, "migrate-receive"]
    socket = os.environ.get("SSH_AUTH_SOCK", "")
    if socket:
        try:
            words = [find_tool("env"), f"SSH_AUTH_SOCK={parse_path(socket)}", *words]
        except BadInput:
            raise BadInput("SSH_AUTH_SOCK is not a clean path") from None
    if os.geteuid() != 0:
        user = pwd.getpwuid(os.geteuid()).pw_name
        words = [find_tool("runuser"), "-u", user, "--", *words]
    return shlex.join(words)
