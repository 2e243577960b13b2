"""The VM document: parsed once into frozen records (contract 8)."""

from __future__ import annotations

import enum
from typing import Dict, NamedTuple, Optional, Tuple, Union

from ..errors import BadInput
from ..grammar import (
    PoolSpec,
    ResourceName,
    clone_name,
    image_name,
    parse_id,
    parse_image_source,
    parse_pool,
    parse_replicas,
    parse_size_mib,
    volatile_name,
)
from .xml import Element, attributes, parse_document, require_text, text_of

# The name of this transfer driver in oned.conf (TM_MAD_CONF).
OWN_TM_MAD = "dnc"


class DiskKind(enum.Enum):
    """What a disk is to the storage; decides what ln, delete and mvds do (contract 1.3, observation 1)."""

    CLONE = "clone"
    """Private copy of a non-persistent image: dies with the VM."""
    PERSISTENT = "persistent"
    """The image volume itself: never destroyed by a VM."""
    LINKED = "linked"
    """CD-ROM or immutable image, many VMs read it: OpenNebula sends `ln`, and `delete` at the end."""
    VOLATILE = "volatile"
    """fs or swap: made empty, dies with the VM."""
    FOREIGN = "foreign"
    """Of another transfer driver: a file in the VM's directory."""


class LcmState(enum.IntEnum):
    """The LCM states that change what an action does; contract 8 lists all."""

    LCM_INIT = 0
    PROLOG = 1
    BOOT = 2
    RUNNING = 3
    MIGRATE = 4
    PROLOG_MIGRATE = 8
    PROLOG_RESUME = 9
    EPILOG_STOP = 10
    EPILOG = 11
    CLEANUP_RESUBMIT = 15
    CLEANUP_DELETE = 23
    EPILOG_UNDEPLOY = 30
    PROLOG_UNDEPLOY = 31
    PROLOG_MIGRATE_SUSPEND = 45
    PROLOG_MIGRATE_UNKNOWN = 60


class Disk(NamedTuple):
    """One DISK; sizes in MiB."""

    id: int
    kind: DiskKind
    image: Optional[ResourceName]
    size_mib: int
    original_size_mib: int
    target: str
    readonly: bool
    cdrom: bool
    swap: bool
    datastore: Optional[int]
    pool: Optional[PoolSpec]
    attributes: Dict[str, str]

    def resource(self, vm: int) -> ResourceName:
        """Name of the resource behind the disk. Raises BadInput for a disk of another driver."""
        if self.kind is DiskKind.VOLATILE:
            return volatile_name(vm, self.id)
        if self.image is None:
            raise BadInput(f"disk {self.id} of VM {vm} is not a disk of dnc")
        return self.image if self.kind is DiskKind.PERSISTENT else clone_name(self.image, vm, self.id)

    @property
    def file(self) -> str:
        """The image file on the frontend that the disk is a copy of; empty for images that are volumes."""
        source = self.attributes.get("SOURCE", "")
        return source if self.image is not None and source.startswith("/") else ""

    @property
    def saved(self) -> bool:
        """Whether OpenNebula takes what the VM writes for the image's."""
        return _yes(self.attributes.get("SAVE"))

    @property
    def destroyed_with_vm(self) -> bool:
        """Whether `delete` removes the data: never that of a persistent image (observation 1)."""
        return self.kind in (DiskKind.CLONE, DiskKind.VOLATILE, DiskKind.LINKED)


class History(NamedTuple):
    """One HISTORY record."""

    host: str
    datastore: int
    vm_mad: str
    tm_mad: str


class VmDocument(NamedTuple):
    """A VM as oned describes it; memory in MiB. Vector attributes that only VMM actions read stay dicts."""

    id: int
    name: str
    state: int
    lcm_state: int
    deploy_id: str
    memory_mib: int
    memory_max_mib: int
    vcpus: int
    vcpus_max: int
    cpu: float
    disks: Tuple[Disk, ...]
    nics: Tuple[Dict[str, str], ...]
    context: Dict[str, str]
    os: Dict[str, str]
    features: Dict[str, str]
    graphics: Dict[str, str]
    cpu_model: Dict[str, str]
    raws: Tuple[Dict[str, str], ...]
    template: Dict[str, str]
    user_template: Dict[str, str]
    vectors: Dict[str, Tuple[Dict[str, str], ...]]
    """Every vector attribute of the TEMPLATE by name, each in document order."""
    history: Tuple[History, ...]
    disks_with_snapshots: Tuple[int, ...] = ()

    def disk(self, number: int) -> Disk:
        """The disk with that DISK_ID. Raises BadInput."""
        for disk in self.disks:
            if disk.id == number:
                return disk
        raise BadInput(f"VM {self.id} has no disk {number}")

    def vector(self, name: str) -> Dict[str, str]:
        """The first vector attribute of that name; empty if there is none."""
        return next(iter(self.vectors.get(name, ())), {})

    def replicas(self, disk: Disk) -> Tuple[Optional[int], bool]:
        """(replicas that the disk is to have, whether the VM itself says so); None: nobody says.

        DNC_REPLICAS of the VM goes before that of the disk, which may be its datastore's by INHERIT_DATASTORE_ATTR.
        Read where a disk is made only: a wrong value must not stop a VM's removal. Raises BadInput.
        """
        for own, values, what in (
            (True, self.user_template, f"VM {self.id}"), (True, self.template, f"VM {self.id}"),
            (False, disk.attributes, f"disk {disk.id} of VM {self.id}"),
        ):
            text = values.get("DNC_REPLICAS", "").strip()
            if text:
                try:
                    return parse_replicas(text), own
                except BadInput as error:
                    raise BadInput(f"DNC_REPLICAS of {what}: {error.what}", hint="correct the template") from None
        return None, False

    @property
    def managed_disks(self) -> Tuple[Disk, ...]:
        """The disks that dnc keeps, in DISK_ID order."""
        return tuple(disk for disk in self.disks if disk.kind is not DiskKind.FOREIGN)

    @property
    def resources(self) -> Tuple[ResourceName, ...]:
        """The resources behind the managed disks, in DISK_ID order."""
        return tuple(disk.resource(self.id) for disk in self.managed_disks)

    @property
    def domain(self) -> str:
        """Name of the Xen domain, which is also the DEPLOY_ID."""
        return f"one-{self.id}"

    @property
    def context_disk(self) -> Optional[int]:
        """DISK_ID of the context CD-ROM, if there is one."""
        number = self.context.get("DISK_ID", "")
        return parse_id(number, "DISK_ID") if number else None

    @property
    def ending(self) -> bool:
        """Whether the VM goes for good; one that is being made anew is removed, but does not end."""
        return self.being_removed and self.lcm_state != LcmState.CLEANUP_RESUBMIT

    @property
    def being_removed(self) -> bool:
        """Whether OpenNebula is cleaning up or has finished with the VM."""
        done = 6
        removing = (LcmState.EPILOG, LcmState.CLEANUP_RESUBMIT, LcmState.CLEANUP_DELETE)
        return self.state == done or self.lcm_state in removing


def parse_vm(data: Union[bytes, str]) -> VmDocument:
    """A `<VM>` document. Raises BadInput."""
    return vm_from_element(parse_document(data, "VM", "the VM document"))


def vm_from_element(root: Element) -> VmDocument:
    """The record of a parsed `<VM>`. Raises BadInput."""
    vm = parse_id(require_text(root, "ID", "the VM document"), "VM id")
    template = root.find("TEMPLATE")
    if template is None:
        raise BadInput(f"the document of VM {vm} has no TEMPLATE", hint="it was cut: use base64 for START_SCRIPT")
    memory = _count(text_of(template, "MEMORY"), 0)
    vcpus = _count(text_of(template, "VCPU"), 1)
    disks = sorted((_disk(vm, element) for element in template.findall("DISK")), key=lambda disk: disk.id)
    return VmDocument(
        id=vm,
        name=text_of(root, "NAME"),
        state=_count(text_of(root, "STATE"), 0),
        lcm_state=_count(text_of(root, "LCM_STATE"), 0),
        deploy_id=text_of(root, "DEPLOY_ID").strip(),
        memory_mib=memory,
        memory_max_mib=max(memory, _count(text_of(template, "MEMORY_MAX"), 0)),
        vcpus=vcpus,
        vcpus_max=max(vcpus, _count(text_of(template, "VCPU_MAX"), 0)),
        cpu=_cpu(text_of(template, "CPU"), vm),
        disks=tuple(disks),
        nics=tuple(attributes(element) for element in template.findall("NIC")),
        context=attributes(template.find("CONTEXT")),
        os=attributes(template.find("OS")),
        features=attributes(template.find("FEATURES")),
        graphics=attributes(template.find("GRAPHICS")),
        cpu_model=attributes(template.find("CPU_MODEL")),
        raws=tuple(attributes(element) for element in template.findall("RAW")),
        template=attributes(template),
        user_template=attributes(root.find("USER_TEMPLATE")),
        vectors=_vectors(template),
        history=tuple(_history(element) for element in root.findall("HISTORY_RECORDS/HISTORY")),
        disks_with_snapshots=tuple(
            parse_id(require_text(element, "DISK_ID", "SNAPSHOTS"), "DISK_ID") for element in root.findall("SNAPSHOTS")
        ),
    )


def _vectors(template: Element) -> Dict[str, Tuple[Dict[str, str], ...]]:
    found: Dict[str, Tuple[Dict[str, str], ...]] = {}
    for element in template:
        if isinstance(element.tag, str) and len(element):
            found[element.tag] = (*found.get(element.tag, ()), attributes(element))
    return found


def _count(text: str, default: int) -> int:
    text = text.strip()
    return parse_id(text) if text else default


def _cpu(text: str, vm: int) -> float:
    if not text.strip():
        return 1.0
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 4096:
        raise BadInput(f"CPU of VM {vm} is not a positive number")
    return value


def _disk(vm: int, element: Element) -> Disk:
    values = attributes(element)
    number = parse_id(values.get("DISK_ID", ""), f"DISK_ID of VM {vm}")
    kind_text = values.get("TYPE", "").lower()
    size = parse_size_mib(values["SIZE"].strip()) if values.get("SIZE", "").strip() not in ("", "0") else 0
    original = values.get("ORIGINAL_SIZE", "").strip()
    image, kind = _image_and_kind(values, kind_text)
    pool = values.get("DNC_POOL", "").strip()
    datastore = values.get("DATASTORE_ID", "").strip()
    return Disk(
        id=number,
        kind=kind,
        image=image,
        size_mib=size,
        original_size_mib=parse_size_mib(original) if original not in ("", "0") else size,
        target=values.get("TARGET", ""),
        readonly=_yes(values.get("READONLY")),
        cdrom=kind_text in ("cdrom", "rbd_cdrom"),
        swap=kind_text == "swap",
        datastore=parse_id(datastore, "DATASTORE_ID") if datastore else None,
        pool=parse_pool(pool) if pool else None,
        attributes=values,
    )


def _image_and_kind(values: Dict[str, str], kind_text: str) -> Tuple[Optional[ResourceName], DiskKind]:
    if kind_text in ("swap", "fs"):
        return None, DiskKind.VOLATILE
    source = values.get("SOURCE", "")
    if source.startswith("/") and values.get("TM_MAD", "") == OWN_TM_MAD and values.get("IMAGE_ID", "").strip():
        # A file-based datastore (DS_MAD=fs): what the VM gets is its own copy, whatever the image is.
        image = image_name(parse_id(values["IMAGE_ID"].strip(), "IMAGE_ID"))
        return image, DiskKind.CLONE if _yes(values.get("CLONE")) else DiskKind.LINKED
    try:
        image = parse_image_source(source)
    except BadInput:
        return None, DiskKind.FOREIGN
    if _yes(values.get("PERSISTENT")) and kind_text != "cdrom" and not _yes(values.get("READONLY")):
        return image, DiskKind.PERSISTENT
    if _yes(values.get("CLONE")):
        return image, DiskKind.CLONE
    return image, DiskKind.PERSISTENT if _yes(values.get("SAVE")) else DiskKind.LINKED


def _yes(text: Optional[str]) -> bool:
    return (text or "").strip().upper() in ("YES", "1", "TRUE")


def _history(element: Element) -> History:
    values = attributes(element)
    datastore = values.get("DS_ID", "").strip()
    return History(
        host=values.get("HOSTNAME", ""), datastore=parse_id(datastore, "DS_ID") if datastore else -1,
        vm_mad=values.get("VM_MAD", ""), tm_mad=values.get("TM_MAD", ""),
    )
