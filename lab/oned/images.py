"""User operations on datastores and images: create, clone, delete, enable, persistent, snapshots, monitor."""

from __future__ import annotations

import re
import time

from .attributes import Attributes, text_of, upper
from .building import Refused
from .core import Operation, OperationFailed
from .lifecycle import LifeCycle
from .records import Datastore, Image, SnapshotList
from .states import DiskType, ImageState, ImageType
from .transfer import DriverFailure

_REMOVE_ERROR = ("Error removing image from datastore. Retry the operation or manually remove image source"
                 "  and run the delete --force operation to completely delete the image")
_SPACE = re.compile(r"(USED_MB|FREE_MB|TOTAL_MB)\s*=\s*\"?(\d+)")


class ImageOperations(LifeCycle):
    """Operations on images and datastores."""

    def create_datastore(self, name: str, type: str = "IMAGE", template: Attributes | None = None,
                         monitor: bool = False) -> Datastore:
        """Register a datastore, IMAGE or SYSTEM; attributes of TM_MAD_CONF are copied into it as oned does."""
        system = type.upper().startswith("SYSTEM")
        attributes = upper(template or {})
        tm_mad = text_of(attributes, "TM_MAD", self.settings.tm_mad)
        ds_mad = "-" if system else text_of(attributes, "DS_MAD", self.settings.ds_mad)
        conf = self.settings.tm_mad_conf
        names = (("SHARED", "DS_MIGRATE", "DS_LIVE_MIGRATE", "DS_MIGRATE_SNAP", "ALLOW_ORPHANS") if system else
                 ("LN_TARGET", "CLONE_TARGET", "DRIVER", "DISK_TYPE", "ALLOW_ORPHANS"))
        defaults = {one: conf[one] for one in names if one in conf}
        defaults.update(PERSISTENT_SNAPSHOTS="YES", RESTRICTED_DIRS="/", SAFE_DIRS="/var/tmp", TM_MAD=tm_mad,
                        TYPE="SYSTEM_DS" if system else "IMAGE_DS", DISK_TYPE=conf["DISK_TYPE"])
        if not system:
            defaults["DS_MAD"] = ds_mad
        datastore_id = self.new_id("datastore")
        path = f"{self.settings.datastore_location}/{datastore_id}"
        datastore = Datastore(datastore_id, name, defaults["TYPE"], ds_mad, tm_mad, path,
                              {**defaults, **{key: value for key, value in attributes.items() if key != "TYPE"}})
        self.datastores[datastore_id] = datastore
        if monitor:
            self.monitor_datastore(datastore)
        return datastore

    def monitor_datastore(self, datastore: Datastore, vm_disks: bool = False) -> Operation:
        """Ask the driver for the datastore's space."""
        def work(_: Operation) -> None:
            try:
                answer = self.datastore_driver.monitor(datastore, self.settings.datastore_location, vm_disks)
            except DriverFailure as failure:
                raise OperationFailed(f"Error monitoring datastore {datastore.id}: {failure.info}") from None
            space = {name: int(value) for name, value in _SPACE.findall(answer)}
            if len(space) != 3:
                raise OperationFailed(f"Error parsing datastore information: {answer}")
            datastore.used_mb, datastore.free_mb = space["USED_MB"], space["FREE_MB"]
            datastore.total_mb = space["TOTAL_MB"]
        return self.operate(f"monitor datastore {datastore.id}", work)

    # --- create ----------------------------------------------------------------------------------------------------

    def create_image(self, name: str, path: str = "", datastore: Datastore | None = None, persistent: bool = False,
                     size_mb: int | None = None, type: str = "OS", template: Attributes | None = None, source: str = "",
                     background: bool = False) -> Image:
        """Create an image from a path (or URL), empty of a size in MiB, or of a source that exists.

        Refused when `stat` fails. A failing cp or mkfs leaves the image in ERROR, with image.error set.
        """
        store = datastore or next(one for one in self.datastores.values() if not one.is_system)
        size = size_mb
        if path and size is None:
            size = self._stat(store, path, type.upper() != "CDROM")
        image = self._register(name, store, type, persistent, size or 0, template, source)
        image.path, image.source = path, source
        if source:
            image.change_state(ImageState.READY)
            image.prev_state = ImageState.READY
            store.image_ids.append(image.id)
            return image
        action = "cp" if path else "mkfs"
        self.operate(f"create image {image.id}", lambda operation: self._make(operation, store, image, action),
                     background=background)
        return image

    def _stat(self, store: Datastore, path: str, with_size: bool) -> int:
        request = self.new_id("stat")
        answer = ""

        def work(_: Operation) -> None:
            nonlocal answer
            try:
                answer = self.datastore_driver.stat(store, path, request, with_size)
            except DriverFailure as failure:
                answer = failure.info
                raise OperationFailed(failure.info) from None
        operation = self.operate(f"stat {path}", work)
        if not operation.ok or not answer.isdigit():
            raise Refused(f"[one.image.allocate] Cannot parse image SIZE: {answer}")
        return int(answer)

    def _register(self, name: str, store: Datastore, type: str, persistent: bool, size: int,
                  template: Attributes | None, source: str = "") -> Image:
        if any(one.name == name for one in self.images.values()):
            raise Refused(f"[one.image.allocate] NAME is already taken by IMAGE {self.image_named(name).id}.")
        attributes = upper(template or {})
        if "FORMAT" in attributes and not source:
            attributes.setdefault("DRIVER", attributes["FORMAT"])
        kind = ImageType[type.upper()]
        if kind is not ImageType.CDROM:
            attributes.setdefault("DEV_PREFIX", self.settings.device_prefix)
        image = Image(self.new_id("image"), name, kind, store.id, store.name, DiskType[store.disk_type].value,
                      persistent, format=text_of(attributes, "FORMAT"), fs=text_of(attributes, "FS"), size=size,
                      template=attributes)
        for extra in ("FORMAT", "FS"):
            attributes.pop(extra, None)
        self.images[image.id] = image
        return image

    def _make(self, operation: Operation, store: Datastore, image: Image, action: str) -> None:
        operation.image = image
        try:
            answer = self.datastore_driver.image(action, store, image)
        except DriverFailure as failure:
            self._image_error(image, "Error copying image in the datastore" if action != "mkfs" else
                              "Error creating datablock", failure.info)
        words = answer.split()
        if action == "mkfs":
            if len(words) != 1:
                self._image_error(image, "Error creating datablock", f"not one SOURCE: {answer}")
            image.source, image.format = answer, image.format or "raw"
        else:
            if len(words) != 2 and not (action == "clone" and len(words) == 1):
                self._image_error(image, "Error copying image in the datastore", "FORMAT was not returned")
            image.source, image.format = words[0], words[1] if len(words) == 2 else image.format
        store.image_ids.append(image.id)
        image.cloning_id = -1
        image.change_state(ImageState.READY)
        image.prev_state = ImageState.READY

    def _image_error(self, image: Image, what: str, info: str) -> None:
        text = f"{what}: {info}" if info and not info.startswith("-") else what
        image.template["ERROR"] = f"{time.strftime('%a %b %d %H:%M:%S %Y')} : {text}"
        image.change_state(ImageState.ERROR)
        image.prev_state = ImageState.ERROR
        raise OperationFailed(text)

    def clone_image(self, image: Image, name: str, background: bool = False) -> Image:
        """`oneimage clone`: a new image with the contents of another."""
        store = self.datastores[image.datastore_id]
        keep = {key: value for key, value in image.template.items() if key != "ERROR"}
        copy = self._register(name, store, image.type.name, False, image.size, keep)
        copy.path, copy.format, copy.cloning_id = image.source, image.format, image.id
        self.operate(f"clone image {image.id}", lambda operation: self._make(operation, store, copy, "clone"),
                     background=background)
        return copy

    # --- change ----------------------------------------------------------------------------------------------------

    def delete_image(self, image: Image, force: bool = False) -> Operation:
        """Remove an image and what its SOURCE names; an image without SOURCE needs no driver."""
        def work(operation: Operation) -> None:
            operation.image = image
            if image.vm_ids:
                raise Refused(f"[one.image.delete] Cannot delete image. There are {len(image.vm_ids)} VMs using it.")
            store = self.datastores[image.datastore_id]
            if image.source:
                try:
                    self.datastore_driver.image("rm", store, image)
                except DriverFailure as failure:
                    if not force:
                        self._image_error(image, _REMOVE_ERROR, failure.info)
            if image.id in store.image_ids:
                store.image_ids.remove(image.id)
            self.images.pop(image.id, None)
        return self.operate(f"delete image {image.id}", work)

    def enable_image(self, image: Image) -> None:
        """`oneimage enable`: out of ERROR."""
        image.template.pop("ERROR", None)
        image.change_state(ImageState.READY if not image.vm_ids else ImageState.USED)

    def set_persistent(self, image: Image, persistent: bool) -> None:
        """`oneimage persistent` and `nonpersistent`; Refused while machines use it."""
        if image.vm_ids:
            raise Refused(f"[one.image.persistent] Image is in use by {len(image.vm_ids)} VMs.")
        image.persistent = persistent

    def image_snapshot(self, image: Image, action: str, snapshot_id: int) -> Operation:
        """`oneimage snapshot-revert` or `-delete` of a persistent image that no machine uses."""
        def work(operation: Operation) -> None:
            operation.image = image
            snapshot = image.snapshots.find(snapshot_id)
            if snapshot is None:
                raise Refused("[one.image.snapshot" + action + "] Snapshot does not exist")
            image.target_snapshot = snapshot_id
            try:
                self.datastore_driver.image(f"snap_{action}", self.datastores[image.datastore_id], image)
            except DriverFailure as failure:
                self._image_error(image, f"Error during image snapshot {action}", failure.info)
            finally:
                image.target_snapshot = -1
            if action == "delete":
                image.snapshots.snapshots.remove(snapshot)
            if not image.snapshots.snapshots:
                image.snapshots = SnapshotList(image.snapshots.allow_orphans, -1, image.snapshots.next_id)
        return self.operate(f"image {image.id} snapshot {action} {snapshot_id}", work)
