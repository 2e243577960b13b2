"""NIC: bridge, name, limit, and whether a device model emulates one for guests without PV drivers."""

from __future__ import annotations

from typing import Dict, Tuple

from ...config import Config
from ...errors import BadInput
from ...grammar import parse_id, shown
from ...opennebula.vm import VmDocument
from ...tools.xl_config import GuestType, NicConfig
from .attributes import check

# MODEL of templates that mean "paravirtual", whatever the hypervisor calls it.
_PARAVIRTUAL = ("", "virtio", "xen", "vif", "netfront")
_MODELS = ("rtl8139", "e1000", "e1000e", "ne2k_pci", "pcnet", "i82551", "i82557b", "i82559er", "vmxnet3")
# A burst may last this long, in ms: netback lets a guest wait until the next count begins.
_LONGEST_COUNT = 1000
_SHORTEST_COUNT = 50


def nic_configs(vm: VmDocument, kind: GuestType, config: Config) -> Tuple[NicConfig, ...]:
    """Every NIC of a guest that starts. Raises BadInput for what Xen cannot do."""
    return tuple(nic_config(vm, nic, _model(vm, nic, kind, config)) for nic in vm.nics)


def nic_config(vm: VmDocument, nic: Dict[str, str], model: str = "") -> NicConfig:
    """One NIC on a bridge; `model` if it is emulated beside. A running guest gets it paravirtual only, whatever MODEL
    says. Raises BadInput."""
    number = parse_id(nic.get("NIC_ID", "").strip(), f"NIC_ID of VM {vm.id}")
    where = f"NIC {number} of VM {vm.id}"
    check("NIC", nic, where)
    bridge = nic.get("BRIDGE", "").strip()
    if not bridge:
        raise BadInput(f"{where} has no BRIDGE", hint="dnc connects guests to bridges only")
    switch = nic.get("BRIDGE_TYPE", "").strip() or nic.get("VN_MAD", "").strip()
    rate, count = _rate(nic, where)
    return NicConfig(
        mac=nic.get("MAC", "").strip().lower(),
        bridge=bridge,
        vifname=nic.get("TARGET", "").strip() or f"one-{vm.id}-{number}",
        script="vif-openvswitch" if switch.startswith(("openvswitch", "ovswitch")) else "",
        rate_kbytes=rate,
        rate_ms=count,
        mtu=_number(nic, "MTU"),
        model=model,
    )


def _wanted(nic: Dict[str, str]) -> str:
    return nic.get("MODEL", "").strip().lower()


def emulation_wanted(vm: VmDocument) -> bool:
    """Whether a NIC's MODEL names what only an HVM guest can get."""
    return any(_wanted(nic) not in _PARAVIRTUAL for nic in vm.nics)


def _number(nic: Dict[str, str], name: str) -> int:
    text = nic.get(name, "").strip()
    return parse_id(text, name) if text else 0


def _rate(nic: Dict[str, str], where: str) -> Tuple[int, int]:
    """What the guest may send in kB/s, and the ms over which it is counted: as long as a burst of OUTBOUND_PEAK_KB
    takes at that rate, within reason. The average holds in any case, so OUTBOUND_PEAK_BW adds nothing."""
    average, burst = _number(nic, "OUTBOUND_AVG_BW"), _number(nic, "OUTBOUND_PEAK_KB")
    if not average:
        if burst or _number(nic, "OUTBOUND_PEAK_BW"):
            raise BadInput(f"OUTBOUND_PEAK_BW in {where}: Xen limits the average", hint="set OUTBOUND_AVG_BW too")
        return 0, 0
    return average, min(max(burst * 1000 // average, _SHORTEST_COUNT), _LONGEST_COUNT) if burst else 0


def _model(vm: VmDocument, nic: Dict[str, str], kind: GuestType, config: Config) -> str:
    """The emulated model, or empty for a PV interface. Raises BadInput."""
    wanted = _wanted(nic)
    if kind is not GuestType.HVM:
        return ""
    if not wanted:
        wanted = config.hvm_nic
    if wanted in _PARAVIRTUAL:
        return ""
    where = f"NIC {nic.get('NIC_ID', '').strip()} of VM {vm.id}"
    if wanted not in _MODELS:
        raise BadInput(f"MODEL {shown(wanted)} in {where} is none that Xen emulates", hint="use " + ", ".join(_MODELS))
    if config.emulated_nics == "never":
        raise BadInput(f"MODEL {wanted} in {where}: EMULATED_NICS of dncrc forbids it", hint='use MODEL="virtio"')
    if config.emulated_nics == "unfiltered" and not _unfiltered(vm, nic):
        raise BadInput(
            f"MODEL {wanted} in {where}: OpenNebula's filters do not see an emulated interface",
            hint='use MODEL="virtio" with PV drivers in the guest, or EMULATED_NICS="always" in dncrc',
        )
    return wanted


def _unfiltered(vm: VmDocument, nic: Dict[str, str]) -> bool:
    """Whether no rule of OpenNebula limits the interface, so that going past them gives nothing away.

    The driver `bridge` applies none at all; a group whose rules let everything through does not either.
    """
    spoofing = ("FILTER_IP_SPOOFING", "FILTER_MAC_SPOOFING")
    filters = any(nic.get(name, "").strip().upper() in ("YES", "1", "TRUE") for name in spoofing)
    if nic.get("VN_MAD", "").strip() in ("bridge", "dummy"):
        return True
    groups = [word for word in nic.get("SECURITY_GROUPS", "").split(",") if word.strip()]
    ways = {
        rule.get("RULE_TYPE", "").strip().upper() for rule in vm.vectors.get("SECURITY_GROUP_RULE", ())
        if rule.get("SECURITY_GROUP_ID", "").strip() in groups and rule.get("PROTOCOL", "").strip().upper() == "ALL"
        and not any(rule.get(limit, "").strip() for limit in ("IP", "SIZE", "RANGE", "NETWORK_ID", "ICMP_TYPE"))
    }
    return not filters and (not groups or {"INBOUND", "OUTBOUND"} <= ways)
