"""IM vm/monitor: what each VM of this host uses: processor, memory, network, disks, snapshots (contract 3.3)."""

from __future__ import annotations

import base64
import time
from typing import Dict, List, Mapping, Sequence, Set

from ..errors import BadInput, DncError
from ..grammar import MIB, PoolSpec, parse_domain, parse_pool
from ..host.counters import Counters, domain_counters
from ..host.hypervisor import Hypervisor
from ..host.machine import Host
from ..host.vm_places import disks_of, vm_directories
from ..opennebula.driver import Call
from ..opennebula.monitoring import parse_configuration
from ..opennebula.template import attributes, vector
from ..tools import volume_use
from ..tools.volume_use import VolumeUse
from ..tools.xl_info import ListedDomain
from .use import processor_use

ARGUMENTS = ("words...",)


def run(call: Call) -> str:
    """One line a VM; empty when there is none."""
    host = Host(call.runner, call.config, call.log)
    domains = _of_opennebula(Hypervisor(call.runner, call.log).domains())
    if not domains:
        return ""
    use = _processor_use(host, domains)
    counters = domain_counters(host.paths.sys)
    location = parse_configuration(call.stdin, call.config.datastore_location, call.log).datastore_location
    disks = _disks(location, domains)
    sizes = _volume_use(host, {name for names in disks.values() for name in names.values()})
    lines = []
    for vm, domain in sorted(domains.items()):
        text = _figures(domain, use.get(str(domain.id), 0.0), counters.get(domain.id, Counters()))
        text += _sizes(disks.get(vm, {}), sizes)
        monitor = base64.b64encode(text.encode()).decode()
        lines.append(vector("VM", {"ID": vm, "DEPLOY_ID": domain.name, "MONITOR": monitor}))
    return "".join(lines)


def _of_opennebula(domains: Sequence[ListedDomain]) -> Dict[int, ListedDomain]:
    """By VM; the two halves of a migration are nobody's yet."""
    found: Dict[int, ListedDomain] = {}
    for domain in domains:
        try:
            found[parse_domain(domain.name)] = domain
        except BadInput:
            continue
    return found


def _processor_use(host: Host, domains: Mapping[int, ListedDomain]) -> Mapping[str, float]:
    seconds = {str(domain.id): domain.cpu_seconds for domain in domains.values()}
    with host.samples.open("vm-monitor") as sample:
        now = time.monotonic()
        use = processor_use(sample.seen, seconds, now)
        sample.keep({"at": now, "seconds": seconds})
    return use


def _figures(domain: ListedDomain, percent: float, counters: Counters) -> str:
    return attributes({
        "CPU": percent, "MEMORY": domain.memory_mib * 1024, "NETRX": counters.received, "NETTX": counters.sent,
        "DISKRDBYTES": counters.read_bytes, "DISKWRBYTES": counters.written_bytes,
        "DISKRDIOPS": counters.reads, "DISKWRIOPS": counters.writes,
    })


def _disks(location: str, domains: Mapping[int, ListedDomain]) -> Dict[int, Dict[int, str]]:
    """Resource of each disk by VM and number."""
    directories = vm_directories(location)
    return {vm: disks_of(directories.get(vm, ())) for vm in domains}


def _volume_use(host: Host, names: Set[str]) -> VolumeUse:
    """Of every pool that holds one of the volumes; one that cannot be asked is told and left out."""
    pools: Dict[PoolSpec, None] = {}
    for name in sorted(names):
        try:
            spec = host.resource_files.find(name)
            pools.setdefault(parse_pool(spec.pool) if spec else host.config.pool)
        except DncError as error:
            host.log.warn(str(error))
    use = VolumeUse({}, {})
    for pool in pools:
        try:
            done = host.runner.run(volume_use.question(pool), privileged=True, changes=False)
            found = volume_use.parse(pool, done.stdout)
        except (DncError, ValueError, KeyError) as error:
            host.log.warn(f"{pool}: its volumes cannot be listed: {error}")
            continue
        use.volumes.update(found.volumes)
        use.snapshots.update(found.snapshots)
    return use


def _sizes(disks: Mapping[int, str], use: VolumeUse) -> str:
    """DISK_SIZE and SNAPSHOT_SIZE in MiB, rounded up; a disk without a volume on this host has none."""
    lines: List[str] = []
    for number, name in sorted(disks.items()):
        if name in use.volumes:
            lines.append(vector("DISK_SIZE", {"ID": number, "SIZE": -(-use.volumes[name] // MIB)}))
    for number, name in sorted(disks.items()):
        for label, size in sorted(use.snapshots.get(name, {}).items()):
            lines.append(vector("SNAPSHOT_SIZE", {"ID": label, "DISK_ID": number, "SIZE": -(-size // MIB)}))
    return "".join(lines)
