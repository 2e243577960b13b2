"""What dom0's kernel shows of domains' devices below /sys/bus/xen-backend: directories with counters."""

from __future__ import annotations

import os
import shutil

from sim import xl_text
from sim.world import World

# A device that was just made has done this much; a test may write other numbers.
DISK = {"rd_req": 27, "rd_sect": 216, "wr_req": 13, "wr_sect": 104, "f_req": 1, "oo_req": 0}
INTERFACE = {"rx_bytes": 4096, "tx_bytes": 8192, "rx_packets": 40, "tx_packets": 80}


def reflect(world: World) -> None:
    """Bring this host's tree to what its domains have."""
    top = f"{world.live}/hosts/{world.host}/sysbus/xen-backend/devices"
    wanted: dict[str, dict[str, int]] = {}
    for domain in world.of()["xen"]["domains"].values():
        for disk in domain["disks"]:
            if disk["path"]:
                name = f"vbd-{domain['id']}-{xl_text.vdev_number(disk['vdev'])}"
                wanted[f"{name}/statistics"] = DISK
        for nic in domain["nics"]:
            interface = nic["ifname"] or f"vif{domain['id']}.{nic['devid']}"
            wanted[f"vif-{domain['id']}-{nic['devid']}/net/{interface}/statistics"] = INTERFACE
    devices = {path.split("/")[0] for path in wanted}
    for name in set(os.listdir(top)) - devices:
        shutil.rmtree(f"{top}/{name}", ignore_errors=True)
    for path, counters in wanted.items():
        if not os.path.isdir(f"{top}/{path}"):
            os.makedirs(f"{top}/{path}")
            for key, value in counters.items():
                with open(f"{top}/{path}/{key}", "w") as file:
                    file.write(f"{value}\n")
