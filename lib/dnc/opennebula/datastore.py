"""DS_DRIVER_ACTION_DATA: what datastore actions get, base64, on stdin (contract 4)."""

from __future__ import annotations

import base64
import binascii
import enum
from typing import Dict, NamedTuple, Optional, Tuple, Union

from ..errors import BadConfig, BadInput
from ..grammar import PoolSpec, parse_host, parse_id, parse_path, parse_pool, parse_replicas
from .vm import VmDocument, parse_vm
from .xml import Element, attributes, parse_document, require_text, text_of

CHECKSUMS = ("MD5", "SHA1", "SHA256")


class ImageType(enum.IntEnum):
    """IMAGE/TYPE (contract 4)."""

    OS = 0
    CDROM = 1
    DATABLOCK = 2
    KERNEL = 3
    RAMDISK = 4
    CONTEXT = 5
    BACKUP = 6
    FILESYSTEM = 7


class Image(NamedTuple):
    """IMAGE; size in MiB, 0 where oned does not know it yet. `source` is what an earlier action printed."""

    id: int
    name: str
    type: ImageType
    path: str
    source: str
    size_mib: int
    format: str
    filesystem: str
    checksums: Dict[str, str]
    replicas_text: str = ""


class Datastore(NamedTuple):
    """DATASTORE and the attributes of it that dnc reads."""

    id: int
    name: str
    bridge_list: Tuple[str, ...]
    pool: Optional[PoolSpec]
    safe_dirs: Tuple[str, ...]
    restricted_dirs: Tuple[str, ...]
    attributes: Dict[str, str]


class DatastoreMessage(NamedTuple):
    """The whole message; `image` is absent for `monitor`, `extra` holds top-level leaves (TARGET_SNAPSHOT, …)."""

    image: Optional[Image]
    datastore: Datastore
    extra: Dict[str, str]

    def replicas(self, default: int) -> int:
        """Replicas of the image, or of what lies in the datastore: the image's own word, the datastore's, `default`.

        Read where it counts only: a wrong value must not stop the image's removal. Raises BadConfig.
        """
        whole = _replicas(self.datastore.attributes.get("DNC_REPLICAS", ""), f"datastore {self.datastore.id}")
        return self.image_replicas or whole or default

    @property
    def image_replicas(self) -> Optional[int]:
        """What the image itself says. Raises BadConfig."""
        image = self.image
        if image is None:
            return None
        return _replicas(image.replicas_text, f"image {image.id}" if image.id >= 0 else "the image")

    def require_image(self) -> Image:
        """The image. Raises BadInput when the message has none."""
        if self.image is None:
            raise BadInput("the datastore message has no IMAGE")
        return self.image


def decode_base64(data: bytes, what: str) -> bytes:
    """A base64 document from stdin. Raises BadInput."""
    try:
        return base64.b64decode(data.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise BadInput(f"{what} on stdin is not base64", hint="OpenNebula sends it encoded (contract 4)") from None


def parse_message(data: bytes) -> DatastoreMessage:
    """A datastore action's stdin. Raises BadInput, BadConfig (a wrong attribute of the datastore)."""
    what = "the datastore message"
    root = parse_document(decode_base64(data, what), "DS_DRIVER_ACTION_DATA", what)
    element = root.find("DATASTORE")
    if element is None:
        raise BadInput("the datastore message has no DATASTORE")
    image = root.find("IMAGE")
    return DatastoreMessage(
        image=_image(image) if image is not None else None, datastore=_datastore(element), extra=attributes(root)
    )


def parse_encoded_vm(data: bytes) -> VmDocument:
    """A base64 `<VM>`, as premigrate, postmigrate and failmigrate get it. Raises BadInput."""
    return parse_vm(decode_base64(data, "the VM document"))


def _image(element: Element) -> Image:
    kind = parse_id(text_of(element, "TYPE", "0").strip() or "0", "image type")
    if kind not in list(ImageType):
        raise BadInput(f"image type {kind} is unknown to dnc")
    size = text_of(element, "SIZE").strip()
    template = attributes(element.find("TEMPLATE"))
    number = text_of(element, "ID").strip()
    return Image(
        # `stat` comes before the image has a number.
        id=parse_id(number, "image id") if number else -1,
        name=text_of(element, "NAME"),
        type=ImageType(kind),
        path=text_of(element, "PATH"),
        source=text_of(element, "SOURCE").strip(),
        size_mib=parse_id(size, "image SIZE") if size else 0,
        format=text_of(element, "FORMAT").strip(),
        # FSTYPE is what cxm's users write.
        filesystem=text_of(element, "FS").strip() or template.get("FSTYPE", "").strip(),
        checksums={key.lower(): template[key].strip().lower() for key in CHECKSUMS if template.get(key)},
        replicas_text=template.get("DNC_REPLICAS", ""),
    )


def _datastore(element: Element) -> Datastore:
    number = parse_id(require_text(element, "ID", "the DATASTORE"), "datastore id")
    values = attributes(element.find("TEMPLATE"))
    place = f"datastore {number}"
    return Datastore(
        id=number,
        name=text_of(element, "NAME"),
        bridge_list=_words(values, "BRIDGE_LIST", place),
        pool=_pool(values, place),
        safe_dirs=_words(values, "SAFE_DIRS", place),
        restricted_dirs=_words(values, "RESTRICTED_DIRS", place),
        attributes=values,
    )


def _words(values: Dict[str, str], key: str, place: str) -> Tuple[str, ...]:
    parse = parse_host if key == "BRIDGE_LIST" else parse_path
    try:
        return tuple(parse(word) for word in values.get(key, "").split())
    except BadInput as error:
        raise BadConfig(f"{place}: {key}: {error.what}", hint="correct it with onedatastore update") from None


def _pool(values: Dict[str, str], place: str) -> Optional[PoolSpec]:
    text: Union[str, None] = values.get("DNC_POOL", "").strip()
    if not text:
        return None
    try:
        return parse_pool(text)
    except BadInput as error:
        raise BadConfig(f"{place}: DNC_POOL: {error.what}", hint=error.hint) from None


def _replicas(text: str, place: str) -> Optional[int]:
    try:
        return parse_replicas(text.strip()) if text.strip() else None
    except BadInput as error:
        raise BadConfig(f"DNC_REPLICAS of {place}: {error.what}", hint="correct its template") from None
