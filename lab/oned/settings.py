"""What an installation of OpenNebula would have in oned.conf, as far as it changes what drivers are asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict

_TM_MAD_CONF = {
    "LN_TARGET": "NONE", "CLONE_TARGET": "SELF", "SHARED": "YES", "DRIVER": "raw", "DISK_TYPE": "BLOCK",
    "ALLOW_ORPHANS": "YES", "DS_MIGRATE": "YES", "DS_LIVE_MIGRATE": "NO", "DS_MIGRATE_SNAP": "NO",
}
_PERIODS = {"BEACON_HOST": 30, "EXEC_VM": 5, "MONITOR_HOST": 120, "MONITOR_VM": 30, "STATE_VM": 5,
            "SYNC_STATE_VM": 180, "SYSTEM_HOST": 600}


@dataclass(frozen=True)
class Settings:
    """Names, paths and switches; the defaults are this suite's recommendation (design D3)."""

    version: str = "7.4.0"
    frontend: str = "frontend"
    vm_mad: str = "vmm_dnc"
    vm_mad_type: str = "xml"
    vmm_directory: str = "dnc"
    tm_mad: str = "dnc"
    ds_mad: str = "dnc"
    im_mad: str = "dnc"
    # oned writes the double slash; every driver must cope with it (contract, placeholders).
    datastore_location: str = "/var/lib/one//datastores"
    vms_location: str = ""
    remotes_on_host: str = "/var/tmp/one"
    tm_mad_conf: Dict[str, str] = field(default_factory=lambda: dict(_TM_MAD_CONF))
    inherit_datastore_attributes: tuple[str, ...] = ("DNC_POOL", "DNC_REPLICAS")
    live_disk_snapshots: tuple[str, ...] = ("vmm_dnc-dnc",)
    device_prefix: str = "xvd"
    # The directory below remotes/im, which is the last word of IM_MAD's ARGUMENTS; im_mad is its NAME.
    im_directory: str = "dnc"
    periods: Dict[str, int] = field(default_factory=lambda: dict(_PERIODS))
    # 7.2 and later ignore reports of a state for 30 s after a change; 0 spares tests the wait.
    state_guard_s: int = 0

    @property
    def major(self) -> tuple[int, int]:
        """Version as numbers: (7, 4)."""
        first, second = self.version.split(".")[:2]
        return int(first), int(second)

    def frontend_vm_directory(self, location: Path, vm_id: int) -> Path:
        """Where oned keeps transfer files and context.sh of a machine."""
        return Path(self.vms_location) / str(vm_id) if self.vms_location else location / "var/vms" / str(vm_id)
