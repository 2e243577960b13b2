"""Datastores, images, hosts and networks as oned holds them, with their XML (contract section 8, samples)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from .attributes import Attributes, attributes_xml, cdata, element, identifiers, text_of
from .states import DiskType, ImageState, ImageType

OWNER = "<UID>0</UID><GID>0</GID><UNAME>oneadmin</UNAME><GNAME>oneadmin</GNAME>"


_TYPES = {"IMAGE_DS": 0, "SYSTEM_DS": 1, "BACKUP_DS": 3}


def permissions_xml(group_use: int = 0) -> str:
    """PERMISSIONS of an object of oneadmin; datastores let the group use them."""
    flags = [("OWNER", (1, 1, 0)), ("GROUP", (group_use, 0, 0)), ("OTHER", (0, 0, 0))]
    inner = "".join(f"<{who}_{what}>{on}</{who}_{what}>" for who, bits in flags for what, on in zip("UMA", bits))
    return f"<PERMISSIONS>{inner}</PERMISSIONS>"


@dataclass
class Datastore:
    """A datastore; sizes in MiB."""

    id: int
    name: str
    type: str
    ds_mad: str
    tm_mad: str
    base_path: str
    template: Attributes
    total_mb: int = 0
    free_mb: int = 0
    used_mb: int = 0
    image_ids: list[int] = field(default_factory=list)

    @property
    def is_system(self) -> bool:
        """A system datastore holds the directories of running machines."""
        return self.type == "SYSTEM_DS"

    @property
    def disk_type(self) -> str:
        """DISK_TYPE of the template, FILE if absent."""
        return text_of(self.template, "DISK_TYPE", "FILE")

    def xml(self) -> str:
        """The DATASTORE element."""
        return (
            f"<DATASTORE>{element('ID', self.id)}{OWNER}{element('NAME', self.name)}{permissions_xml(1)}"
            f"<DS_MAD>{cdata(self.ds_mad)}</DS_MAD><TM_MAD>{cdata(self.tm_mad)}</TM_MAD>"
            f"<BASE_PATH>{cdata(self.base_path)}</BASE_PATH>{element('TYPE', _TYPES[self.type])}"
            f"{element('DISK_TYPE', DiskType[self.disk_type].value)}<STATE>0</STATE><CLUSTERS><ID>0</ID></CLUSTERS>"
            f"{element('TOTAL_MB', self.total_mb)}{element('FREE_MB', self.free_mb)}{element('USED_MB', self.used_mb)}"
            f"{identifiers('IMAGES', self.image_ids)}<TEMPLATE>{attributes_xml(self.template)}</TEMPLATE></DATASTORE>"
        )


@dataclass
class SnapshotList:
    """Snapshots of a disk or of a persistent image, flat or as a tree."""

    allow_orphans: str = "NO"
    current_base: int = -1
    next_id: int = 0
    disk_id: int | None = None
    snapshots: list[Attributes] = field(default_factory=list)
    blank: bool = False

    def xml(self) -> str:
        """The SNAPSHOTS element; blank ones, of images that came back from a machine without any, have no content."""
        if self.blank and not self.snapshots:
            return "<SNAPSHOTS></SNAPSHOTS>"
        where = "" if self.disk_id is None else f"<DISK_ID>{cdata(str(self.disk_id))}</DISK_ID>"
        inner = "".join(f"<SNAPSHOT>{attributes_xml(one)}</SNAPSHOT>" for one in self.snapshots)
        return (
            f"<SNAPSHOTS><ALLOW_ORPHANS>{cdata(self.allow_orphans)}</ALLOW_ORPHANS>"
            f"<CURRENT_BASE>{cdata(str(self.current_base))}</CURRENT_BASE>{where}"
            f"<NEXT_SNAPSHOT>{cdata(str(self.next_id))}</NEXT_SNAPSHOT>{inner}</SNAPSHOTS>"
        )

    def find(self, snapshot_id: int) -> Attributes | None:
        """The snapshot of that id, if it exists."""
        return next((one for one in self.snapshots if one["ID"] == str(snapshot_id)), None)

    def total_size(self) -> int:
        """MiB that all snapshots are accounted with."""
        return sum(int(str(one["SIZE"])) for one in self.snapshots)


@dataclass
class Image:
    """An image; size in MiB."""

    id: int
    name: str
    type: ImageType
    datastore_id: int
    datastore: str
    disk_type: int
    persistent: bool = False
    path: str = ""
    source: str = ""
    format: str = ""
    fs: str = ""
    size: int = 0
    state: ImageState = ImageState.LOCKED
    prev_state: ImageState = ImageState.INIT
    running_vms: int = 0
    cloning_id: int = -1
    target_snapshot: int = -1
    vm_ids: list[int] = field(default_factory=list)
    template: Attributes = field(default_factory=dict)
    snapshots: SnapshotList = field(default_factory=SnapshotList)
    increments: list[tuple[int, str]] = field(default_factory=list)
    registered: int = field(default_factory=lambda: int(time.time()))

    @property
    def error(self) -> str:
        """What a user reads in the image's ERROR attribute, empty if nothing is wrong."""
        return text_of(self.template, "ERROR")

    def change_state(self, state: ImageState) -> None:
        """Set the state and remember the one before, as oned's list of images shows it."""
        self.prev_state = state
        self.state = state

    def xml(self) -> str:
        """The IMAGE element."""
        return (
            f"<IMAGE>{element('ID', self.id)}{OWNER}{element('NAME', self.name)}{permissions_xml()}"
            f"{element('TYPE', int(self.type))}{element('DISK_TYPE', self.disk_type)}"
            f"{element('PERSISTENT', int(self.persistent))}{element('REGTIME', self.registered)}"
            f"{element('MODTIME', self.registered)}<SOURCE>{cdata(self.source)}</SOURCE><PATH>{cdata(self.path)}</PATH>"
            f"<FORMAT>{cdata(self.format)}</FORMAT><FS>{cdata(self.fs)}</FS>{element('SIZE', self.size)}"
            f"{element('STATE', int(self.state))}{element('PREV_STATE', int(self.prev_state))}"
            f"{element('RUNNING_VMS', self.running_vms)}<CLONING_OPS>0</CLONING_OPS>"
            f"{element('CLONING_ID', self.cloning_id)}"
            f"{element('TARGET_SNAPSHOT', self.target_snapshot)}{element('DATASTORE_ID', self.datastore_id)}"
            f"{element('DATASTORE', self.datastore)}{identifiers('VMS', self.vm_ids)}<CLONES></CLONES>"
            f"<APP_CLONES></APP_CLONES><TEMPLATE>{attributes_xml(self.template)}</TEMPLATE>{self.snapshots.xml()}"
            f"<BACKUP_INCREMENTS>{self._increments_xml()}</BACKUP_INCREMENTS><BACKUP_DISK_IDS></BACKUP_DISK_IDS></IMAGE>"
        )

    def _increments_xml(self) -> str:
        kinds = ("FULL", "INCREMENT")
        return "".join(
            f"<INCREMENT>{element('ID', number)}{element('SOURCE', source)}"
            f"{element('TYPE', kinds[number > 0])}</INCREMENT>" for number, source in self.increments)


@dataclass
class HostRecord:
    """A host as `onehost create` made it; state 2 is MONITORED, 3 ERROR, 4 DISABLED, 8 OFFLINE."""

    id: int
    name: str
    im_mad: str
    vm_mad: str
    state: int = 2
    vm_ids: list[int] = field(default_factory=list)
    template: Attributes = field(default_factory=dict)
    monitoring: Attributes = field(default_factory=dict)

    def xml(self) -> str:
        """The HOST element, short of PCI devices and NUMA nodes."""
        return (
            f"<HOST>{element('ID', self.id)}{element('NAME', self.name)}{element('STATE', self.state)}"
            f"{element('PREV_STATE', self.state)}<IM_MAD>{cdata(self.im_mad)}</IM_MAD>"
            f"<VM_MAD>{cdata(self.vm_mad)}</VM_MAD>"
            "<CLUSTER_ID>0</CLUSTER_ID><CLUSTER>default</CLUSTER><HOST_SHARE><MEM_USAGE>0</MEM_USAGE>"
            f"<RUNNING_VMS>{len(self.vm_ids)}</RUNNING_VMS><DATASTORES></DATASTORES><PCI_DEVICES/><NUMA_NODES/>"
            "</HOST_SHARE>"
            f"{identifiers('VMS', self.vm_ids)}<TEMPLATE>{attributes_xml(self.template)}</TEMPLATE>"
            f"<MONITORING>{attributes_xml(self.monitoring)}</MONITORING></HOST>"
        )


@dataclass
class Network:
    """A virtual network with one address range."""

    id: int
    name: str
    bridge: str
    vn_mad: str
    first_ip: tuple[int, int, int, int] = (10, 0, 0, 10)
    dns: str = ""
    gateway: str = ""
    netmask: str = "255.255.255.0"
    address: str = "10.0.0.0"
    template: Attributes = field(default_factory=dict)
    leased: int = 0

    def lease(self) -> tuple[str, str]:
        """The next address and the MAC that oned derives from it (prefix 02:00)."""
        a, b, c, d = self.first_ip
        octets = (a, b, c, d + self.leased)
        self.leased += 1
        return ".".join(map(str, octets)), "02:00:" + ":".join(f"{one:02x}" for one in octets)
