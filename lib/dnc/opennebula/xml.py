"""Safe reading of OpenNebula's documents: no entities, no network, no DTD, limited size and depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Optional, Union

from ..errors import BadInput

if TYPE_CHECKING:
    from lxml.etree import _Element

    Element = _Element
else:
    Element = object

# A VM document of a real farm has some 10 kB; the largest part is what users put into CONTEXT and RAW.
SIZE_LIMIT = 16 * 1024 * 1024


def parse_document(data: Union[bytes, str], root: str, what: str) -> Element:
    """The root element of a document whose root is called `root`.

    `what` names the document in messages. Raises BadInput: empty, too large, truncated, malformed, with a DTD,
    nested too deeply (libxml2's limit of 256 levels) or of another kind.
    """
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    if not data.strip():
        raise BadInput(f"{what} is empty", hint="nothing came on stdin, or oned sent nothing")
    if len(data) > SIZE_LIMIT:
        raise BadInput(f"{what} is larger than {SIZE_LIMIT >> 20} MiB")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise BadInput(f"{what} has a DTD, which OpenNebula never sends")
    from lxml import etree  # 20 ms that only actions with a document pay

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False,
        remove_comments=True, remove_pis=True,
    )
    try:
        element = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        text = " ".join(str(error).split())[:120]
        raise BadInput(
            f"{what} is not well-formed: {text}", hint="a line EOT in a VM attribute truncates it: use base64 there"
        ) from None
    if element.tag != root:
        raise BadInput(f"{what} is a <{str(element.tag)[:40]}>, not a <{root}>")
    return element


def text_of(element: Element, path: str, default: str = "") -> str:
    """Text of the first element at `path`, or `default` when absent; a CDATA value as it stands."""
    found = element.find(path)
    if found is None:
        return default
    return found.text or ""


def require_text(element: Element, path: str, what: str) -> str:
    """Text at `path`. Raises BadInput when it is absent or empty."""
    text = text_of(element, path).strip()
    if not text:
        raise BadInput(f"{what} has no {path}")
    return text


def cdata(text: str) -> str:
    """Text as it stands in a document that we write."""
    return f"<![CDATA[{text.replace(']]>', ']]]]><![CDATA[>')}]]>"


def all_text(element: Optional[Element]) -> str:
    """Every text in and below an element, in order."""
    return "" if element is None else "".join(str(text) for text in element.itertext())


def attributes(element: Optional[Element]) -> Dict[str, str]:
    """A vector attribute as a dict of its leaves; a repeated leaf keeps its first value."""
    values: Dict[str, str] = {}
    for child in element if element is not None else ():
        if isinstance(child.tag, str) and len(child) == 0:
            values.setdefault(child.tag, child.text or "")
    return values
