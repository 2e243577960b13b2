"""IM host/system: what a host is: processors, memory, Xen, pools, the state of its resources (contract 3.3)."""

from __future__ import annotations

import os
import re
import time
from functools import partial
from typing import Callable, Dict, Iterable, List, Optional, TypeVar

from ..config import load
from ..errors import DncError
from ..farm.published import Figure
from ..farm.space import Space
from ..grammar import MIB, PoolSpec, parse_pool
from ..host.files import read_text
from ..host.health import Health, health
from ..host.hypervisor import Hypervisor
from ..host.machine import Host
from ..opennebula.driver import Call
from ..opennebula.monitoring import hypervisor_name, parse_configuration
from ..opennebula.template import Value, attributes
from ..tools.drbd import ResourceSpec
from ..version import VERSION

ARGUMENTS = ("words...",)

_MODEL = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)
# Names of resources in one attribute; the numbers beside them are complete.
_NAMES = 20
Answer = TypeVar("Answer")


def run(call: Call) -> str:
    """The host's attributes. Fails only when Xen does not answer; what else is wrong is said in DNC_ERROR."""
    host = Host(call.runner, call.config, call.log)
    troubles: List[str] = []
    specs = host.resource_files.all()
    _attempt(lambda: load(os.path.join(call.remotes, "dncrc")), troubles)
    location = parse_configuration(call.stdin, call.config.datastore_location, call.log).datastore_location
    text = attributes({
        **_machine(call, host), **_version(call.remotes), **_datastores(location),
        "DNC_VERSION": VERSION, **_resources(_attempt(lambda: health(host, specs), troubles)),
    })
    for pool, volumes in _pools(host, specs.values()).items():
        figure = _attempt(partial(_figure, host, pool, volumes), troubles)
        text += f"{figure.render()}\n" if figure else ""
    return text + attributes({"DNC_ERROR": " | ".join(troubles)})


def _attempt(ask: Callable[[], Answer], troubles: List[str]) -> Optional[Answer]:
    """What `ask` answers; one thing that fails hides nothing else."""
    try:
        return ask()
    except DncError as error:
        troubles.append(str(error))
    except Exception as error:  # a fault of the suite itself must not put the host into ERROR
        troubles.append(f"internal error {type(error).__name__}: {error}")
    return None


def _machine(call: Call, host: Host) -> Dict[str, Value]:
    """Physical processors and memory as the hypervisor has them: dom0 sees only its own. KiB, percent, MHz."""
    hypervisor = Hypervisor(call.runner, call.log)
    info = hypervisor.info()
    dom0 = next((domain.memory_mib for domain in hypervisor.domains() if domain.id == 0), 0)
    model = _MODEL.search(read_text(f"{host.paths.proc}/cpuinfo") or "")
    system = os.uname()
    return {
        "HYPERVISOR": hypervisor_name(call.args("words"), call.config.hypervisor),
        "TOTALCPU": info.cpus * 100, "TOTALMEMORY": info.total_mib * 1024, "CPUSPEED": info.cpu_mhz,
        "MODELNAME": model[1].strip() if model else "", "ARCH": system.machine, "HOSTNAME": host.name,
        "XEN_VERSION": info.version, "XEN_CAPABILITIES": info.capabilities, "XEN_VIRT_CAPS": info.virtualisation,
        "XEN_SCHEDULER": info.scheduler, "XEN_DOM0_MEMORY": dom0 * 1024,
        "XEN_DOM0_FIXED": "YES" if info.dom0_fixed else "NO", "KERNEL": system.release,
        "DRBD_VERSION": _drbd_version(read_text(f"{host.paths.proc}/drbd") or ""),
    }


def _drbd_version(text: str) -> str:
    words = text.split(None, 2)
    return words[1] if len(words) > 1 and words[0] == "version:" else ""


def _version(remotes: str) -> Dict[str, Value]:
    """The version of OpenNebula's remotes on this host, by which `onehost sync` decides."""
    lines = (read_text(os.path.join(remotes, "VERSION")) or "").split()
    return {"VERSION": lines[-1]} if lines else {}


def _datastores(location: str) -> Dict[str, Value]:
    """MiB of the file system in which the VMs' directories lie."""
    try:
        system = os.statvfs(location)
    except OSError:
        return {}
    total, free = (blocks * system.f_frsize // MIB for blocks in (system.f_blocks, system.f_bavail))
    used = (system.f_blocks - system.f_bfree) * system.f_frsize // MIB
    return {"DS_LOCATION_USED_MB": used, "DS_LOCATION_TOTAL_MB": total, "DS_LOCATION_FREE_MB": free}


def _resources(found: Optional[Health]) -> Dict[str, Value]:
    """How many resources, and which of them need a look; nothing when DRBD did not say."""
    if found is None:
        return {}
    values: Dict[str, Value] = {"DNC_RESOURCES": found.resources}
    for key, names in (("DEGRADED", found.degraded), ("DOWN", found.down), ("DUAL_PRIMARY", found.dual_primary)):
        values[f"DNC_{key}"] = len(names)
        values[f"DNC_{key}_NAMES"] = " ".join(names[:_NAMES])
    return values


def _pools(host: Host, specs: Iterable[ResourceSpec]) -> Dict[PoolSpec, int]:
    """The pool of dncrc and each that a resource of this host lies in, with the number of resources."""
    found = {str(host.config.pool): 0}
    for spec in specs:
        found[spec.pool] = found.get(spec.pool, 0) + 1
    return {parse_pool(text): count for text, count in sorted(found.items())}


def _figure(host: Host, pool: PoolSpec, volumes: int) -> Figure:
    """Fill of a pool now. Also noted for the actions of this host, which then need not ask."""
    space = host.pool(pool).space()
    host.journal.note_fill(str(pool), space.fill)
    return Figure(pool, Space(space.total, space.used, space.free, space.fill, volumes), int(time.time()))
