"""MONITOR_CONFIGURATION, which monitord's client gives each probe on stdin, and the argv it calls them with."""

from __future__ import annotations

from typing import NamedTuple, Sequence

from ..errors import BadInput
from ..grammar import parse_id, parse_path
from ..log import Log
from .xml import parse_document, text_of

# As IM_MAD's ARGUMENTS end in oned's monitord.conf, and as the directory below remotes/im is called.
NAME = "dnc"


class MonitorConfiguration(NamedTuple):
    """Seconds between two looks at states, and between two that tell everything; where VMs' directories are."""

    state_period: int
    sync_period: int
    datastore_location: str


def parse_configuration(data: bytes, location: str, log: Log) -> MonitorConfiguration:
    """stdin of a probe. What is missing or odd there gets oned's default, since monitoring must go on."""
    default = MonitorConfiguration(5, 180, location)
    if not data.strip():
        return default
    try:
        root = parse_document(data, "MONITOR_CONFIGURATION", "the monitoring configuration")
        state, sync = (text_of(root, f"PROBES_PERIOD/{key}").strip() for key in ("STATE_VM", "SYNC_STATE_VM"))
        place = text_of(root, "DATASTORE_LOCATION").strip()
        return MonitorConfiguration(
            parse_id(state, "STATE_VM") if state else default.state_period,
            parse_id(sync, "SYNC_STATE_VM") if sync else default.sync_period,
            parse_path(place) if place else location,
        )
    except BadInput as error:
        log.warn(f"{error.what}: going on with defaults")
        return default


def hypervisor_name(words: Sequence[str], configured: str) -> str:
    """What hosts publish as HYPERVISOR: what dncrc says, else the name in `NAME ... HOST_ID HOST_NAME` of argv."""
    if configured:
        return configured
    return words[0].split()[0] if len(words) > 2 and words[0].strip() else NAME
