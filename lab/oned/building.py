"""Turns what a user writes into the TEMPLATE that oned keeps: disks from images, interfaces from networks, context."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Callable, Iterable

from .attributes import Attributes, text_of, upper, vector_of, vectors_of
from .machine import VirtualMachine
from .records import Datastore, Image, Network, SnapshotList
from .states import ImageState, ImageType
from .transfer import is_volatile

# Anything else that a user writes at the top of a template goes to USER_TEMPLATE (contract section 8).
_TEMPLATE_NAMES = frozenset((
    "CPU", "VCPU", "VCPU_MAX", "MEMORY", "MEMORY_MAX", "MEMORY_SLOTS", "MEMORY_RESIZE_MODE", "DISK", "NIC", "NIC_ALIAS",
    "NIC_DEFAULT", "CONTEXT", "OS", "GRAPHICS", "INPUT", "VIDEO", "FEATURES", "CPU_MODEL", "TOPOLOGY", "NUMA_NODE",
    "PCI", "RAW", "TPM", "IOMMU", "MEMORY_ENCRYPTION", "EMULATOR", "SUBMIT_ON_HOLD", "TEMPLATE_ID",
))
_NIC_CONTEXT = (
    "DNS", "EXTERNAL", "GATEWAY", "IP", "IP6", "IP6_GATEWAY", "IP6_METHOD", "IP6_METRIC", "IP6_PREFIX_LENGTH",
    "IP6_ULA", "MAC", "MASK", "METHOD", "METRIC", "MTU", "NETWORK", "ROUTES", "SEARCH_DOMAIN", "VLAN_ID", "VROUTER_IP",
    "VROUTER_IP6", "VROUTER_MANAGEMENT",
)
# Copied from a datastore into its disks by oned itself; INHERIT_DATASTORE_ATTR adds more (contract 1.6, 4).
INHERITED = ("ALLOW_ORPHANS", "CLONE_TARGET", "DISK_TYPE", "LN_TARGET", "PERSISTENT_SNAPSHOTS", "TM_MAD")


class Refused(Exception):
    """oned does not accept the request; the text is what a user reads."""


@dataclass(frozen=True)
class Store:
    """Where images, datastores and networks are looked up."""

    image: Callable[[str], Image]
    image_by_name: Callable[[str], Image]
    datastore: Callable[[int], Datastore]
    network: Callable[[str], Network]
    inherit: tuple[str, ...]
    device_prefix: str
    driver: str


def split_template(user: Attributes) -> tuple[Attributes, Attributes]:
    """(TEMPLATE, USER_TEMPLATE) of what a user wrote; NAME belongs to neither."""
    written = upper(user)
    written.pop("NAME", None)
    kept = {name: value for name, value in written.items() if name in _TEMPLATE_NAMES}
    free = {name: value for name, value in written.items() if name not in _TEMPLATE_NAMES}
    return kept, free


def build_disk(store: Store, written: Attributes, disk_id: int) -> tuple[Attributes, Image | None]:
    """The DISK vector of oned for the one that a user wrote; its image comes too, if it has one."""
    disk: Attributes = dict(written)
    disk["DISK_ID"] = str(disk_id)
    disk["CLUSTER_ID"] = "0"
    if "IMAGE_ID" not in disk and "IMAGE" not in disk:
        if not is_volatile(disk):
            raise Refused("DISK needs IMAGE, IMAGE_ID or TYPE fs or swap")
        disk.setdefault("DEV_PREFIX", store.device_prefix)
        # TM_MAD_CONF's DRIVER wins over what the user wrote (extra 197)
        disk["FORMAT"] = disk["DRIVER"] = store.driver or text_of(disk, "FORMAT", "raw")
        return disk, None
    known = "IMAGE_ID" in disk
    image = store.image(text_of(disk, "IMAGE_ID")) if known else store.image_by_name(text_of(disk, "IMAGE"))
    _describe_image(store, disk, image)
    return disk, image


def _describe_image(store: Store, disk: Attributes, image: Image) -> None:
    datastore = store.datastore(image.datastore_id)
    for name in (*INHERITED, *store.inherit):
        if name in datastore.template:
            disk[name] = datastore.template[name]
    cdrom = image.type is ImageType.CDROM
    disk.update(
        CLONE="NO" if cdrom or image.persistent else "YES", SAVE="YES" if image.persistent else "NO",
        READONLY="YES" if cdrom else "NO", TYPE="CDROM" if cdrom else datastore.disk_type, DATASTORE=datastore.name,
        DATASTORE_ID=str(datastore.id), DRIVER=text_of(datastore.template, "DRIVER", image.format), FORMAT=image.format,
        IMAGE=image.name, IMAGE_ID=str(image.id), ORIGINAL_SIZE=str(image.size), SOURCE=image.source,
        IMAGE_STATE=str(int(ImageState.USED_PERS if image.persistent else ImageState.USED)),
    )
    if image.persistent:
        disk["PERSISTENT"] = "YES"
    if not cdrom:
        disk.setdefault("DEV_PREFIX", text_of(image.template, "DEV_PREFIX", store.device_prefix))
    wanted = int(text_of(disk, "SIZE", "0"))
    disk["SIZE"] = str(max(wanted, image.size) if text_of(disk, "CLONE") == "YES" else image.size)
    disk["DISK_SNAPSHOT_TOTAL_SIZE"] = str(image.snapshots.total_size()) if image.persistent else "0"


def describe_system(store: Store, disk: Attributes, system: Datastore) -> None:
    """A volatile disk takes its attributes from the system datastore."""
    for name in ("ALLOW_ORPHANS", "DISK_TYPE", "PERSISTENT_SNAPSHOTS", *store.inherit):
        if name in system.template:
            disk[name] = system.template[name]
    disk.update(DATASTORE=system.name, DATASTORE_ID=str(system.id), TM_MAD=system.tm_mad)


def free_target(prefix: str, used: Iterable[str]) -> str:
    """The first free device name of that prefix."""
    taken = set(used)
    return next(f"{prefix}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz" if f"{prefix}{letter}" not in taken)


def cdrom_prefix(template: Attributes) -> str:
    """Prefix of CD-ROMs: a q35 machine has no IDE."""
    return "sd" if "q35" in text_of(vector_of(template, "OS") or {}, "MACHINE") else "hd"


def used_targets(template: Attributes) -> list[str]:
    """Device names that disks and the context have."""
    found = [text_of(disk, "TARGET") for disk in vectors_of(template, "DISK")]
    context = vector_of(template, "CONTEXT")
    return [name for name in [*found, text_of(context or {}, "TARGET")] if name]


def assign_target(template: Attributes, disk: Attributes) -> None:
    """Give a disk a device name unless the user chose one."""
    if not text_of(disk, "TARGET"):
        prefix = cdrom_prefix(template) if text_of(disk, "TYPE") == "CDROM" else text_of(disk, "DEV_PREFIX", "sd")
        disk["TARGET"] = free_target(prefix, used_targets(template))


def assign_targets(template: Attributes, images: list[Image | None]) -> None:
    """oned's order: the first OS image, the context, CD-ROMs, the others."""
    disks = vectors_of(template, "DISK")
    first = next((i for i, image in enumerate(images) if image and image.type is ImageType.OS), None)
    if first is not None:
        assign_target(template, disks[first])
    context = vector_of(template, "CONTEXT")
    if context is not None and not text_of(context, "TARGET"):
        context["TARGET"] = free_target(cdrom_prefix(template), used_targets(template))
    for cdroms in (True, False):
        for disk in disks:
            if (text_of(disk, "TYPE") == "CDROM") is cdroms:
                assign_target(template, disk)


def build_nic(store: Store, written: Attributes, vm_id: int, nic_id: int) -> Attributes:
    """The NIC vector of oned for the one that a user wrote."""
    network = store.network(text_of(written, "NETWORK"))
    address, mac = network.lease()
    nic: Attributes = {
        **written, "AR_ID": "0", "BRIDGE": network.bridge, "BRIDGE_TYPE": "linux", "CLUSTER_ID": "0", "IP": address,
        "MAC": mac, "NAME": f"NIC{nic_id}", "NETWORK": network.name, "NETWORK_ID": str(network.id),
        "NIC_ID": str(nic_id), "SECURITY_GROUPS": "0", "VN_MAD": network.vn_mad,
    }
    nic.setdefault("TARGET", f"one-{vm_id}-{nic_id}")
    nic.update({name: value for name, value in (("DNS", network.dns), ("GATEWAY", network.gateway)) if value})
    nic.update(network.template)
    return nic


def fill_context(store: Store, template: Attributes) -> None:
    """The ETHn_ variables of NETWORK=YES, taken from interfaces and their networks."""
    context = vector_of(template, "CONTEXT")
    if context is None or text_of(context, "NETWORK").upper() != "YES":
        return
    for nic in [*vectors_of(template, "NIC"), *vectors_of(template, "NIC_ALIAS")]:
        network = store.network(text_of(nic, "NETWORK"))
        known = {"DNS": network.dns, "GATEWAY": network.gateway, "IP": text_of(nic, "IP"), "MAC": text_of(nic, "MAC"),
                 "MASK": network.netmask, "NETWORK": network.address}
        alias = "ALIAS_ID" in nic
        prefix = f"ETH{nic['PARENT_ID']}_ALIAS{nic['ALIAS_ID']}" if alias else f"ETH{text_of(nic, 'NIC_ID')}"
        for name in _NIC_CONTEXT:
            context[f"{prefix}_{name}"] = known.get(name, "")


def _security_rules() -> list[Attributes]:
    return [{"PROTOCOL": "ALL", "RULE_TYPE": direction, "SECURITY_GROUP_ID": "0", "SECURITY_GROUP_NAME": "default"}
            for direction in ("OUTBOUND", "INBOUND")]


def _complete(template: Attributes, vm_id: int) -> None:
    """What oned adds on its own."""
    system = vector_of(template, "OS") or {}
    template["OS"] = {"UUID": str(uuid.uuid4()), **system}
    if "MEMORY_MAX" in template:
        template.setdefault("MEMORY_RESIZE_MODE", "BALLOONING")
    template["VMID"] = str(vm_id)
    template["AUTOMATIC_DS_REQUIREMENTS"] = '("CLUSTERS/ID" @> 0)'
    template["AUTOMATIC_REQUIREMENTS"] = "(CLUSTER_ID = 0) & !(PIN_POLICY = PINNED)"
    if vectors_of(template, "NIC"):
        template["AUTOMATIC_NIC_REQUIREMENTS"] = '("CLUSTERS/ID" @> 0)'
        template["SECURITY_GROUP_RULE"] = list(_security_rules())


def build_vm(store: Store, user: Attributes, vm_id: int, name: str,
             with_plan: bool) -> tuple[VirtualMachine, list[Image]]:
    """A new machine from a user's template, with the images that its disks use; Refused if something is missing."""
    template, free = split_template(user)
    disks: list[Attributes] = []
    images: list[Image | None] = []
    for index, written in enumerate(vectors_of(template, "DISK")):
        disk, image = build_disk(store, written, index)
        disks.append(disk)
        images.append(image)
    template["DISK"] = disks
    template["NIC"] = [build_nic(store, nic, vm_id, index) for index, nic in enumerate(vectors_of(template, "NIC"))]
    context = vector_of(template, "CONTEXT")
    if context is not None:
        context["DISK_ID"] = str(len(disks))
    assign_targets(template, images)
    fill_context(store, template)
    _complete(template, vm_id)
    for name_of_list in ("DISK", "NIC"):
        if not template[name_of_list]:
            del template[name_of_list]
    vm = VirtualMachine(vm_id, name, template, free, with_plan)
    for disk, image in zip(disks, images):
        if image and image.persistent and image.snapshots.snapshots:
            vm.snapshots[int(text_of(disk, "DISK_ID"))] = SnapshotList(
                image.snapshots.allow_orphans, image.snapshots.current_base, image.snapshots.next_id,
                int(text_of(disk, "DISK_ID")), list(image.snapshots.snapshots))
    return vm, [image for image in images if image]
