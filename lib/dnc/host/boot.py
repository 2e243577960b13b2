"""After a reboot: the disks of VMs come up Secondary, so that they resync before anybody needs them."""

from __future__ import annotations

import os
from typing import List

from ..command import Runner
from ..config import load
from ..errors import DncError
from ..log import Log
from ..tools.resource import ResourceSpec
from .machine import Host


def disks_in_use(host: Host) -> List[ResourceSpec]:
    """Finished resources that belong to a VM; images at rest stay down, half-made ones are for the next action."""
    specs = host.resource_files.all().values()
    return [spec for spec in specs if spec.replicated and spec.state == "ready" and spec.vm is not None]


def bring_up_disks(host: Host) -> int:
    """Bring up every disk of a VM; one that fails does not keep the others down. Returns how many failed."""
    failed = 0
    for spec in disks_in_use(host):
        try:
            host.resources.ensure_up(spec.name)
        except DncError as error:
            failed += 1
            host.log.error(error.on(host.name).line())
        else:
            host.log.info(f"{spec.name} is up")
    return failed


def main(remotes: str) -> int:
    """Run at boot as oneadmin (share/host/prepare installs the unit); 1 if any disk stayed down."""
    log = Log("boot", debug=os.environ.get("DNC_DEBUG") == "1")
    runner = Runner(log, dry_run=os.environ.get("DNC_DRY_RUN") == "1")
    try:
        return 1 if bring_up_disks(Host(runner, load(os.path.join(remotes, "dncrc")), log)) else 0
    except DncError as error:
        log.error(error.line())
        return 1
