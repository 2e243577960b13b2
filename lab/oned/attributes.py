"""OpenNebula templates as Python dictionaries, and their XML as oned writes it.

A template maps a name to a text, to another template (a vector) or to a list of vectors. oned writes names sorted,
values as CDATA, without header, indentation or namespace (contract section 8).
"""

from __future__ import annotations

import re
from typing import Dict, List, Union
from xml.sax.saxutils import escape

Value = Union[str, "Attributes", "List[Attributes]"]
Attributes = Dict[str, Value]

_EMPTY = re.compile(r"<(\w+)></\1>")


def cdata(text: str) -> str:
    """A CDATA section; oned takes the text as it is and so does this."""
    return f"<![CDATA[{text}]]>"


def attributes_xml(attributes: Attributes) -> str:
    """Every attribute in name order, vectors likewise."""
    return "".join(_value_xml(name, value) for name, value in sorted(attributes.copy().items()))


def _value_xml(name: str, value: Value) -> str:
    if isinstance(value, str):
        return f"<{name}>{cdata(value)}</{name}>"
    if isinstance(value, dict):
        return f"<{name}>{attributes_xml(value)}</{name}>" if value else f"<{name}/>"
    return "".join(f"<{name}>{attributes_xml(vector)}</{name}>" for vector in list(value))


def element(name: str, value: object) -> str:
    """A plain element, escaped (oned writes names and numbers without CDATA)."""
    return f"<{name}>{escape(str(value))}</{name}>"


def identifiers(name: str, ids: list[int]) -> str:
    """A list of object ids: <VMS><ID>1</ID></VMS>."""
    return f"<{name}>" + "".join(element("ID", one) for one in ids) + f"</{name}>"


def collapsed(xml: str) -> str:
    """The same document after REXML has read and written it, as one_vmm_exec does: <A></A> becomes <A/>."""
    return _EMPTY.sub(r"<\1/>", xml)


def text_of(attributes: Attributes, name: str, default: str = "") -> str:
    """A single attribute as text, or the default if absent."""
    value = attributes.get(name, default)
    if not isinstance(value, str):
        raise TypeError(f"attribute {name} is a vector, not a text")
    return value


def vector_of(attributes: Attributes, name: str) -> Attributes | None:
    """A vector attribute, or None if absent."""
    value = attributes.get(name)
    if value is None or isinstance(value, dict):
        return value
    raise TypeError(f"attribute {name} is not a single vector")


def vectors_of(attributes: Attributes, name: str) -> list[Attributes]:
    """All vectors of that name; a single one counts as a list of one."""
    value = attributes.get(name, [])
    if isinstance(value, dict):
        return [value]
    if isinstance(value, str):
        raise TypeError(f"attribute {name} is a text, not a vector")
    return value


def upper(attributes: Attributes) -> Attributes:
    """Names in capitals, all the way down, and every value a text: what a user may write freely."""
    result: Attributes = {}
    for name, value in attributes.items():
        if isinstance(value, dict):
            result[name.upper()] = upper(value)
        elif isinstance(value, list):
            result[name.upper()] = [upper(one) for one in value]
        else:
            result[name.upper()] = str(value)
    return result
