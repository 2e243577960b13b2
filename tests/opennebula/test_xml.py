"""Malformed, truncated and hostile documents: one clear error each, quickly, and nothing fetched."""

from __future__ import annotations

import base64

import pytest

from dnc.errors import BadInput
from dnc.opennebula.action import parse_vmm_message
from dnc.opennebula.datastore import parse_encoded_vm, parse_message
from dnc.opennebula.vm import parse_vm
from dnc.opennebula.xml import SIZE_LIMIT

LAUGHS = b"""<!DOCTYPE VM [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><VM><ID>&b;</ID></VM>"""
EXTERNAL = b"""<!DOCTYPE VM [<!ENTITY x SYSTEM "file:///etc/passwd">]><VM><ID>&x;</ID></VM>"""


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is empty"),
        (b"   \n", "is empty"),
        (b"<VM><ID>1</ID>", "not well-formed"),
        (b"<VM><ID>1</ID></VM><VM/>", "not well-formed"),
        (b"garbage", "not well-formed"),
        (b"\x00\x01\x02", "not well-formed"),
        (b"<HOST/>", "is a <HOST>, not a <VM>"),
        (LAUGHS, "has a DTD"),
        (EXTERNAL, "has a DTD"),
        (b"<VM>" + b"<a>" * 5000 + b"</a>" * 5000 + b"</VM>", "not well-formed"),
        (b"<VM>" + b" " * SIZE_LIMIT + b"</VM>", "larger than 16 MiB"),
        (b"<VM><ID>1</ID></VM>", "has no TEMPLATE"),
        (b"<VM><TEMPLATE/></VM>", "has no ID"),
        (b"<VM><ID>1;reboot</ID><TEMPLATE/></VM>", "not a valid VM id"),
        (b"<VM><ID>-1</ID><TEMPLATE/></VM>", "not a valid VM id"),
        (b"<VM><ID>1</ID><TEMPLATE><DISK><DISK_ID>x</DISK_ID></DISK></TEMPLATE></VM>", "not a valid DISK_ID"),
        (b"<VM><ID>1</ID><TEMPLATE><CPU>nan</CPU></TEMPLATE></VM>", "not a positive number"),
    ],
)
def test_bad_vm_documents(data, expected):
    with pytest.raises(BadInput) as caught:
        parse_vm(data)
    assert expected in caught.value.line()


def test_bad_messages():
    with pytest.raises(BadInput, match="not base64"):
        parse_message(b"<DS_DRIVER_ACTION_DATA/>")
    with pytest.raises(BadInput, match="no DATASTORE"):
        parse_message(base64.b64encode(b"<DS_DRIVER_ACTION_DATA/>"))
    with pytest.raises(BadInput, match="not base64"):
        parse_encoded_vm(b"<VM/>")
    with pytest.raises(BadInput, match="has no VM"):
        parse_vmm_message(b"<VMM_DRIVER_ACTION_DATA/>")


def test_comments_and_instructions_are_dropped():
    vm = parse_vm(b"<VM><!-- x --><ID>7</ID><?php x?><TEMPLATE><MEMORY>64</MEMORY></TEMPLATE></VM>")
    assert (vm.id, vm.memory_mib) == (7, 64)
