"""Hosts as oned knows them: whether they may be used, and what they publish about their pools (one.hostpool.info)."""

from __future__ import annotations

import enum
from typing import Dict

from ..errors import BadInput
from ..farm.finding import HostRecord
from ..farm.published import ATTRIBUTE, Figure, parse
from ..grammar import shown
from ..log import Log
from .xml import Element, attributes, parse_document, text_of


class HostState(enum.IntEnum):
    """HOST/STATE (include/Host.h of OpenNebula)."""

    INIT = 0
    MONITORING_MONITORED = 1
    MONITORED = 2
    ERROR = 3
    DISABLED = 4
    MONITORING_ERROR = 5
    MONITORING_INIT = 6
    MONITORING_DISABLED = 7
    OFFLINE = 8


_UNUSABLE = {
    HostState.ERROR: "in ERROR in OpenNebula", HostState.MONITORING_ERROR: "in ERROR in OpenNebula",
    HostState.DISABLED: "disabled in OpenNebula", HostState.MONITORING_DISABLED: "disabled in OpenNebula",
    HostState.OFFLINE: "offline in OpenNebula",
}


def parse_host_pool(document: str, log: Log) -> Dict[str, HostRecord]:
    """HOST_POOL by host name. Figures that are not as they should be are told and left out. Raises BadInput."""
    root = parse_document(document, "HOST_POOL", "oned's list of hosts")
    records = [_record(element, log) for element in root.iterfind("HOST")]
    return {record.name: record for record in records}


def _record(element: Element, log: Log) -> HostRecord:
    name = text_of(element, "NAME").strip()
    state = text_of(element, "STATE").strip()
    if not (state.isascii() and state.isdigit()):
        raise BadInput(f"host {shown(name)} has STATE {shown(state)}")
    figures = []
    for vector in element.iterfind(f"TEMPLATE/{ATTRIBUTE}"):
        try:
            figures.append(_figure(vector))
        except BadInput as error:
            log.warn(f"{name}: {error.what}: its figures are not used")
    number = int(state)
    why = _UNUSABLE.get(HostState(number), "") if number in list(HostState) else f"in state {number} in OpenNebula"
    return HostRecord(name, why, {str(figure.pool): figure for figure in figures})


def _figure(element: Element) -> Figure:
    return parse(attributes(element))
