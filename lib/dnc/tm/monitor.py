"""TM monitor: the system datastore's space, as it can really be allocated (contract 1.7)."""

from __future__ import annotations

from ..farm.capacity import measure
from ..opennebula.datastore import parse_message
from ..opennebula.driver import Call
from ..opennebula.oned import host_register

ARGUMENTS = ("datastore",)


def run(call: Call) -> str:
    """USED_MB, FREE_MB, TOTAL_MB for as many replicas as new volumes get; the log tells of each pool."""
    message = parse_message(call.stdin)
    replicas = message.replicas(call.config.replicas)
    return measure(call, message.datastore, replicas, host_register(call.log)).text()
