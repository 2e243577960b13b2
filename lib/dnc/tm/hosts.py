"""Which host an argv means: one with storage, or the frontend, where stopped and undeployed VMs are said to be."""

from __future__ import annotations

import os
from typing import Optional

from ..farm.files import LocalDirectory
from ..opennebula.driver import Call


def is_frontend(call: Call, host: str) -> bool:
    """Whether `host` is no storage host: oned's own name is set in oned.conf and need not be this machine's."""
    hosts = call.config.hosts
    return host not in hosts if hosts else host == os.uname().nodename


def storage_host(call: Call, host: str) -> Optional[str]:
    """The host, None for the frontend."""
    return None if is_frontend(call, host) else host


def frontend_directory(call: Call, path: str) -> LocalDirectory:
    """A VM's directory here on the frontend. Raises BadInput for a path outside of the datastores.

    With ONE_LOCATION set, the frontend's own datastores lie below it, whatever the hosts call theirs (contract 7.1).
    """
    root, base = call.config.datastore_location, os.environ.get("ONE_LOCATION", "").rstrip("/")
    if base and not root.startswith(f"{base}/") and path.startswith(f"{root}/"):
        here = f"{base}/var/datastores"
        root, path = here, here + path[len(root) :]
    return LocalDirectory(path, root, call.log if call.runner.dry_run else None)
