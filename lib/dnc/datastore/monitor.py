"""DS monitor: the image datastore's space, as it can really be allocated (contract 4)."""

from __future__ import annotations

from ..farm.capacity import measure
from ..opennebula.datastore import parse_message
from ..opennebula.driver import Call

ARGUMENTS = ("datastore",)


def run(call: Call) -> str:
    """USED_MB, FREE_MB, TOTAL_MB of pairs of pools."""
    return measure(call, parse_message(call.stdin).datastore).text()
