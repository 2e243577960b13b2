"""IM host/monitor: memory and processors in use, as the hypervisor says, and the host's traffic (contract 3.3)."""

from __future__ import annotations

import time
from typing import Mapping, Sequence

from ..host.counters import host_traffic
from ..host.hypervisor import Hypervisor
from ..host.machine import Host
from ..opennebula.driver import Call
from ..opennebula.monitoring import hypervisor_name
from ..opennebula.template import attributes
from ..tools.xl_info import ListedDomain
from .use import processor_use

ARGUMENTS = ("words...",)


def run(call: Call) -> str:
    """USEDMEMORY, FREEMEMORY in KiB; USEDCPU, FREECPU in percent of one processor; NETRX, NETTX in bytes."""
    host = Host(call.runner, call.config, call.log)
    hypervisor = Hypervisor(call.runner, call.log)
    info, domains = hypervisor.info(), hypervisor.domains()
    used = min(round(_used_percent(host, domains)), info.cpus * 100)
    traffic = host_traffic(host.paths.sys)
    return attributes({
        "HYPERVISOR": hypervisor_name(call.args("words"), call.config.hypervisor),
        "USEDMEMORY": (info.total_mib - info.free_mib) * 1024, "FREEMEMORY": info.free_mib * 1024,
        "USEDCPU": used, "FREECPU": info.cpus * 100 - used, "NETRX": traffic.received, "NETTX": traffic.sent,
    })


def _used_percent(host: Host, domains: Sequence[ListedDomain]) -> float:
    """What all domains took since the last look, dom0 too; on the first look it is not known: 0."""
    seconds: Mapping[str, float] = {str(domain.id): domain.cpu_seconds for domain in domains}
    with host.samples.open("host-monitor") as sample:
        now = time.monotonic()
        use = processor_use(sample.seen, seconds, now)
        sample.keep({"at": now, "seconds": dict(seconds)})
    return sum(use.values())
