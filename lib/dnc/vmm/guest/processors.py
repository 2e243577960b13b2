"""CPU, VCPU, TOPOLOGY, NUMA_NODE, CPU_MODEL and MEMORY."""

from __future__ import annotations

import math
from typing import Dict, Tuple

from ...config import Config
from ...errors import BadInput
from ...grammar import parse_id, shown
from ...opennebula.vm import VmDocument
from ...tools.xl_config import GuestType
from .kinds import setting

# credit2 gives every domain 256 unless told otherwise: CPU="1" is that share.
_WEIGHT_OF_ONE_CPU = 256
_LARGEST_WEIGHT = 65535
# What the hypervisor takes (HVM_MAX_VCPUS, and a PV guest's as Linux has it).
_MOST_VCPUS = {GuestType.HVM: 128, GuestType.PVH: 128, GuestType.PV: 512}
_PINNED = ("CORE", "THREAD")
_POLICIES = ("", "NONE", "SHARED", *_PINNED)


def weight(vm: VmDocument) -> int:
    """CPU as a share: what KVM does with it too."""
    return min(_LARGEST_WEIGHT, max(1, math.ceil(vm.cpu * _WEIGHT_OF_ONE_CPU)))


def cap(vm: VmDocument, config: Config) -> int:
    """CPU as a limit too, in percent of one processor; 0 for none. XEN_CPU_CAP, else CPU_CAP of dncrc.

    Raises BadInput.
    """
    wanted = setting(vm, "XEN_CPU_CAP").lower() or config.cpu_cap
    if wanted not in ("yes", "no"):
        raise BadInput(f"XEN_CPU_CAP {shown(wanted)} is not yes or no")
    return math.ceil(vm.cpu * 100) if wanted == "yes" else 0


def check_size(vm: VmDocument, kind: GuestType) -> None:
    """Raises BadInput for memory or vCPUs that Xen does not give."""
    if vm.memory_mib < 1:
        raise BadInput(f"VM {vm.id} has no MEMORY")
    if not 1 <= vm.vcpus <= vm.vcpus_max <= _MOST_VCPUS[kind]:
        raise BadInput(f"VCPU of VM {vm.id}: a {kind.value} guest has 1 to {_MOST_VCPUS[kind]}, VCPU_MAX included")
    mode = vm.template.get("MEMORY_RESIZE_MODE", "").strip().upper()
    if mode not in ("", "BALLOONING") and vm.memory_max_mib > vm.memory_mib:
        raise BadInput(
            f"MEMORY_RESIZE_MODE {shown(mode)} of VM {vm.id}: Xen plugs no memory",
            hint='use "BALLOONING": MEMORY_MAX is set aside',
        )


def pinning(vm: VmDocument) -> Tuple[str, ...]:
    """The host processors of each vCPU: with PIN_POLICY CORE or THREAD one each, with SHARED or NODE_AFFINITY those
    of its node. oned chose them and wrote them into NUMA_NODE. Raises BadInput."""
    topology = vm.vector("TOPOLOGY")
    policy = topology.get("PIN_POLICY", "").strip().upper()
    if policy not in _POLICIES:
        raise BadInput(f"TOPOLOGY/PIN_POLICY {shown(policy)} of VM {vm.id} is not CORE, THREAD, SHARED or NONE")
    nodes = [node for node in vm.vectors.get("NUMA_NODE", ()) if _count(node, "TOTAL_CPUS")]
    if len(nodes) > 1:
        raise BadInput(
            f"NUMA_NODE of VM {vm.id}: {len(nodes)} memory nodes, a guest of Xen gets one",
            hint="take the NODES out of TOPOLOGY",
        )
    affinity = topology.get("NODE_AFFINITY", "").strip() not in ("", "-1")
    if policy in ("", "NONE") and not affinity:
        return ()
    node = nodes[0] if nodes else {}
    given = [str(parse_id(word.strip(), "CPUS")) for word in node.get("CPUS", "").split(",") if word.strip()]
    total = _count(node, "TOTAL_CPUS")
    if not given or policy in _PINNED and len(given) < total:
        raise BadInput(
            f"TOPOLOGY of VM {vm.id} pins its vCPUs, but OpenNebula chose no CPUS",
            hint="set the host's PIN_POLICY, or take it out of the template",
        )
    return tuple(given[:total]) if policy in _PINNED else (",".join(given),) * total


def _count(values: Dict[str, str], name: str) -> int:
    text = values.get(name, "").strip()
    return parse_id(text, name) if text else 0
