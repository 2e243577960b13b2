"""From the VM document to the domain's configuration: pure, so that golden files show every case.

`attributes` has the table of what Xen cannot do; docs/templates.md tells users what becomes of each attribute.
"""

from .disks import DeviceOf, context_config, context_vdev, disk_config, disk_configs
from .domain import domain_config
from .kinds import domain_uuid, guest_type
from .nics import nic_config

__all__ = [
    "DeviceOf", "context_config", "context_vdev", "disk_config", "disk_configs", "domain_config", "domain_uuid",
    "guest_type", "nic_config",
]
