"""The xl configuration of a domain: frozen records and their rendering (xl.cfg(5) and the pages it names).

Whatever a VM document holds, a value stays one value: strings are quoted for xl's lexer, the words of disk and vif
specifications have a grammar of their own.
"""

from .devices import disk_specification, nic_specification, pci_specification
from .raw import check_raw, raw_settings
from .records import DiskConfig, Display, DomainConfig, GuestType, NicConfig, PciConfig
from .syntax import quote
from .text import render
from .vdevs import Target, assign_vdevs, check_vdevs, disk_index, vdev_for

__all__ = [
    "DiskConfig", "Display", "DomainConfig", "GuestType", "NicConfig", "PciConfig", "Target", "assign_vdevs",
    "check_raw", "check_vdevs", "disk_index", "disk_specification", "nic_specification", "pci_specification", "quote",
    "raw_settings", "render", "vdev_for",
]
