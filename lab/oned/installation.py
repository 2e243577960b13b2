"""The stand-in's ONE_LOCATION: directories, the suite put there by `make install`, copies on hosts (contract 7.1)."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Dict

from .backend import user_arguments
from .farm import Farm
from .settings import Settings

SESSION = "oneadmin:opennebula"
_AGENT_DEADLINE_S = 10.0


class InstallationError(Exception):
    """The installation could not be made; the text says which step failed and how."""


class Installation:
    """One ONE_LOCATION; must lie where the drivers' user can read."""

    def __init__(self, location: Path, settings: Settings, farm: Farm) -> None:
        self.location = location
        self.settings = settings
        self.farm = farm
        self.remotes = location / "var/remotes"
        self._agent: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """The agent's socket; short, for a socket's path has 108 bytes at most."""
        return self.location / "var/agent"

    def environment(self, url: str) -> Dict[str, str]:
        """What oned hands to drivers, and nothing of this process (contract 7.2)."""
        home = str(self.location / "var")
        given = {
            "ONE_LOCATION": str(self.location), "ONE_XMLRPC": url, "ONE_AUTH": f"{home}/.one/one_auth", "HOME": home,
            "USER": self.farm.user or "root", "LANG": "C.UTF-8", "PWD": home,
            "PATH": f"{self.location}/sh/override:/usr/bin:/bin:/usr/sbin:/sbin",
        }
        if self.farm.private_key is not None:
            given["SSH_AUTH_SOCK"] = str(self.socket)
        return {**given, **self.farm.environment}

    def lay_out(self) -> None:
        """Directories, oned.conf, the session file, the ssh wrapper."""
        owned = ("var", "var/.one", "var/vms", "var/datastores", "var/run")
        for name in ("etc", "sh/override", "lib", *owned, "var/remotes"):
            (self.location / name).mkdir(parents=True, exist_ok=True)
            (self.location / name).chmod(0o755)
        text = (f'HOSTNAME = "{self.settings.frontend}"\nDATASTORE_LOCATION = "{self.settings.datastore_location}"\n'
                + "".join(f'INHERIT_DATASTORE_ATTR = "{one}"\n' for one in self.settings.inherit_datastore_attributes))
        (self.location / "etc/oned.conf").write_text(text)
        (self.location / "var/config").write_text(text.replace(" = ", "=").replace('"', ""))
        auth = self.location / "var/.one/one_auth"
        auth.write_text(f"{SESSION}\n")
        auth.chmod(0o600)
        for name in (*owned, "var/.one/one_auth"):
            self._give(self.location / name)
        self._lay_out_remotes()
        for tool in self.farm.ssh_directory.iterdir():
            link = self.location / "sh/override" / tool.name
            if link.is_symlink() or link.exists():
                link.unlink()
            link.symlink_to(tool)

    def _lay_out_remotes(self) -> None:
        """What OpenNebula's own packages have there and drivers link to; nobody here runs the Ruby client."""
        common = self.remotes / "im/common.d"
        common.mkdir(parents=True, exist_ok=True)
        for name in ("monitord-client.rb", "monitord-client_control.sh"):
            (common / name).write_text("# stands for OpenNebula's own\n")
        (self.remotes / "VERSION").write_text(f"{self.settings.version}\n")

    def _give(self, path: Path) -> None:
        if self.farm.user is not None and os.geteuid() == 0:
            shutil.chown(path, self.farm.user)

    def install(self, checkout: Path) -> None:
        """`make install ONE_LOCATION=...` from a checkout, as a user of the suite does it."""
        self._step(["make", "-s", "-C", str(checkout), "install", f"ONE_LOCATION={self.location}"], None, None)

    def sync_hosts(self, environment: Dict[str, str], hosts: tuple[str, ...]) -> None:
        """Copy remotes to hosts as HostSyncManager does: symlinks dereferenced, --delete; all hosts at once."""
        errors: list[str] = []

        def copy(host: str) -> None:
            argv = ["rsync", "-LRaz", "--delete", ".", f"{host}:{self.settings.remotes_on_host}"]
            try:
                self._step(argv, environment, self.remotes)
            except InstallationError as error:
                errors.append(str(error))
        threads = [threading.Thread(target=copy, args=(host,)) for host in hosts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise InstallationError("; ".join(errors))

    def _step(self, argv: list[str], environment: Dict[str, str] | None, directory: Path | None) -> None:
        user = user_arguments(self.farm.user) if environment is not None else {}
        done = subprocess.run(argv, env=environment, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=300, check=False, **user)
        if done.returncode != 0:
            raise InstallationError(f"{' '.join(argv)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")

    def start_agent(self, environment: Dict[str, str]) -> None:
        """An ssh agent of the drivers' user with the farm's key, for `migrate` (contract 7.3)."""
        key = self.farm.private_key
        if key is None:
            return
        if self.socket.exists():
            self.socket.unlink()
        user = user_arguments(self.farm.user)
        self._agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(self.socket)], env=environment,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user)
        deadline = time.monotonic() + _AGENT_DEADLINE_S
        while not self.socket.exists():
            if self._agent.poll() is not None or time.monotonic() > deadline:
                raise InstallationError(f"ssh-agent made no socket {self.socket} within {_AGENT_DEADLINE_S:g} s")
            time.sleep(0.01)
        added = subprocess.run(["ssh-add", "-q", "-"], input=key.read_bytes(), env=environment, capture_output=True,
                               check=False, timeout=30, **user)
        if added.returncode != 0:
            raise InstallationError(f"ssh-add of {key}: {added.stderr.decode(errors='replace').strip()}")

    def stop(self) -> None:
        """End the agent."""
        if self._agent is not None:
            self._agent.terminate()
            self._agent.wait()
            self._agent = None
