"""TM mkswap: a volatile swap disk (contract 1.2)."""

from __future__ import annotations

from ..grammar import parse_id, parse_size_mib
from ..opennebula.driver import Call
from ..opennebula.paths import parse_disk_path
from .mkimage import make

ARGUMENTS = ("size", "destination", "vm", "datastore")


def run(call: Call) -> None:
    """As mkimage, formatted by mkswap."""
    place = parse_disk_path(call.arg("destination"))
    make(call, place, parse_id(call.arg("vm"), "VM id"), parse_size_mib(call.arg("size")), swap=True)
