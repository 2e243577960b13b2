"""remotes/dncrc: KEY="value" lines, parsed (never executed) into a frozen record."""

from __future__ import annotations

import os
import re
from typing import Any, Callable, Dict, NamedTuple, Tuple

from .errors import BadConfig, BadInput
from .grammar import MAX_REPLICAS, PoolSpec, parse_host, parse_path, parse_pool

_LINE = re.compile(r"\s*([A-Z][A-Z0-9_]*)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'#]*))\s*(?:#.*)?\Z")


class Config(NamedTuple):
    """Settings of dncrc; times in seconds. remotes/dncrc explains each."""

    hosts: Tuple[str, ...]
    replication_network: str
    datastore_location: str
    pool: PoolSpec
    replicas: int
    host_pairs: Tuple[Tuple[str, str], ...]
    failure_domains: Tuple[Tuple[str, Tuple[str, ...]], ...]
    missing_replica: str
    pool_fill_limit: int
    minor_base: int
    port_base: int
    minor_count: int
    ssh_timeout: int
    connect_timeout: int
    sync_timeout: int
    lock_timeout: int
    shutdown_timeout: int
    guest_type: str
    pvh_loader: str
    pv_loader: str
    on_crash: str
    cpu_cap: str
    hvm_nic: str
    emulated_nics: str
    uefi_firmware: str
    graphics_listen: str
    keymap: str
    discard: str
    pci_seize: str
    vtpm_backend: str
    on_shutdown_timeout: str
    safe_dirs: Tuple[str, ...]
    restricted_dirs: Tuple[str, ...]
    hypervisor: str
    one_xmlrpc: str
    hook_auth: str
    hook_queue: str
    hook_expiry: int

    def port(self, minor: int) -> int:
        """The TCP port that goes with a minor, the same on every member (design D4)."""
        return self.port_base + minor - self.minor_base

    def to_json(self) -> Dict[str, Any]:
        """Plain values for the agent's session."""
        record: Dict[str, Any] = dict(self._asdict())
        record["pool"] = str(self.pool)
        return record


def from_json(record: Dict[str, Any]) -> Config:
    """The configuration as a frontend sent it; both sides run the same version."""
    fields = dict(record)
    fields["pool"] = parse_pool(fields["pool"])
    for name in ("hosts", "safe_dirs", "restricted_dirs"):
        fields[name] = tuple(fields[name])
    fields["host_pairs"] = tuple((one, other) for one, other in fields["host_pairs"])
    fields["failure_domains"] = tuple((name, tuple(hosts)) for name, hosts in fields["failure_domains"])
    return Config(**fields)


def _hosts(text: str) -> Tuple[str, ...]:
    hosts = tuple(parse_host(word) for word in text.split())
    if len(set(hosts)) != len(hosts):
        raise ValueError("names each host once")
    return hosts


def _host_pairs(text: str) -> Tuple[Tuple[str, str], ...]:
    pairs = []
    for word in text.split():
        one, _, other = word.partition("=")
        pairs.append((parse_host(one), parse_host(other)))
    named = [host for pair in pairs for host in pair]
    if len(set(named)) != len(named):
        raise ValueError("names each host once, as one=other")
    return tuple(pairs)


def _failure_domains(text: str) -> Tuple[Tuple[str, Tuple[str, ...]], ...]:
    domains = []
    for word in text.split():
        name, _, hosts = word.partition("=")
        if not _DOMAIN_NAME.match(name):
            raise ValueError("takes words name=host,host,...")
        domains.append((name, tuple(parse_host(host) for host in hosts.split(","))))
    named = [host for _name, hosts_of in domains for host in hosts_of]
    if len(set(named)) != len(named) or len({name for name, _hosts in domains}) != len(domains):
        raise ValueError("names each host and each domain once")
    return tuple(domains)


def _network(text: str) -> str:
    import ipaddress  # 10 ms that only a set network has to pay

    return str(ipaddress.ip_network(text, strict=False)) if text else ""


def _paths(text: str) -> Tuple[str, ...]:
    return tuple(parse_path(word) for word in text.split())


def _loader(text: str) -> str:
    return text if text in ("", "pygrub") else parse_path(text)


def _optional_path(text: str) -> str:
    return parse_path(text) if text else ""


def _address(text: str) -> str:
    if text in ("127.0.0.1", "0.0.0.0"):
        return text
    import ipaddress  # 10 ms that only another address has to pay

    return str(ipaddress.ip_address(text))


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text and not pattern.match(text):
            raise ValueError(what)
        return text

    return parse


def _endpoint(text: str) -> str:
    if text and not re.match(r"https?://[A-Za-z0-9\[][^\s@\"']*\Z", text):
        raise ValueError("takes an address like http://frontend:2633/RPC2")
    return text


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ValueError(f"takes a number from {low} to {high}")
        return int(text)

    return parse


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError("takes one of " + ", ".join(allowed))
        return text

    return parse


_DOMAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_KEYMAP = re.compile(r"[a-z-]{1,12}\Z")

# key in dncrc: (default, parser); the order is that of Config's fields.
SETTINGS: Dict[str, Tuple[str, Callable[[str], Any]]] = {
    "HOSTS": ("", _hosts),
    "REPLICATION_NETWORK": ("", _network),
    "DATASTORE_LOCATION": ("/var/lib/one/datastores", parse_path),
    "POOL": ("zfs:tank/dnc", parse_pool),
    "REPLICAS": ("2", _number(1, MAX_REPLICAS)),
    "HOST_PAIRS": ("", _host_pairs),
    "FAILURE_DOMAINS": ("", _failure_domains),
    "MISSING_REPLICA": ("auto", _choice("auto", "copy", "move", "refuse")),
    "POOL_FILL_LIMIT": ("95", _number(1, 100)),
    "MINOR_BASE": ("1000", _number(1, 1 << 19)),
    "PORT_BASE": ("7000", _number(1024, 65000)),
    "MINOR_COUNT": ("8000", _number(1, 50000)),
    "SSH_TIMEOUT": ("15", _number(1, 600)),
    "CONNECT_TIMEOUT": ("60", _number(1, 3600)),
    "SYNC_TIMEOUT": ("3600", _number(1, 1 << 20)),
    "LOCK_TIMEOUT": ("120", _number(0, 86400)),
    "SHUTDOWN_TIMEOUT": ("120", _number(1, 86400)),
    "GUEST_TYPE": ("pvh", _choice("pvh", "pv", "hvm")),
    "PVH_LOADER": ("/usr/lib/grub-xen/grub-i386-xen_pvh.bin", _loader),
    "PV_LOADER": ("pygrub", _loader),
    "ON_CRASH": ("destroy", _choice("destroy", "restart", "preserve")),
    "CPU_CAP": ("no", _choice("no", "yes")),
    "HVM_NIC": ("vif", _choice("vif", "rtl8139", "e1000", "e1000e", "ne2k_pci", "pcnet", "vmxnet3")),
    "EMULATED_NICS": ("unfiltered", _choice("unfiltered", "always", "never")),
    "UEFI_FIRMWARE": ("", _optional_path),
    "GRAPHICS_LISTEN": ("127.0.0.1", _address),
    "KEYMAP": ("", _matching(_KEYMAP, "takes a keymap as de or en-us")),
    "DISCARD": ("", _choice("", "unmap", "ignore")),
    "PCI_SEIZE": ("no", _choice("no", "yes")),
    "VTPM_BACKEND": ("", _matching(_DOMAIN_NAME, "takes the name of a domain")),
    "ON_SHUTDOWN_TIMEOUT": ("keep", _choice("keep", "destroy")),
    "SAFE_DIRS": ("/var/tmp", _paths),
    "RESTRICTED_DIRS": ("/", _paths),
    "HYPERVISOR": ("", _matching(_DOMAIN_NAME, "takes one word of letters, digits, _, . and -")),
    "ONE_XMLRPC": ("", _endpoint),
    "HOOK_AUTH": ("", _optional_path),
    "HOOK_QUEUE": ("", _optional_path),
    "HOOK_EXPIRY": ("86400", _number(60, 1 << 25)),
}


def parse(text: str, name: str = "dncrc") -> Config:
    """Settings from the text of a dncrc. Raises BadConfig with file, line and what is allowed."""
    values = {key: parser(default) for key, (default, parser) in SETTINGS.items()}
    seen: Dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        if not match:
            raise BadConfig(f'{name}:{number}: not of the form KEY="value"', hint="correct or comment out the line")
        key = match.group(1)
        if key not in SETTINGS:
            raise BadConfig(f"{name}:{number}: {key} is no setting of dnc", hint=_nearest(key))
        if key in seen:
            raise BadConfig(f"{name}:{number}: {key} is set twice", hint=f"it is set in line {seen[key]} already")
        seen[key] = number
        value = next(group for group in match.groups()[1:] if group is not None)
        values[key] = _value(key, value, f"{name}:{number}")
    config = Config(*values.values())
    if config.port(config.minor_base + config.minor_count - 1) > 65535:
        raise BadConfig(f"{name}: PORT_BASE + MINOR_COUNT exceeds port 65535", hint="lower one of them")
    _check_topology(config, name)
    return config


def _check_topology(config: Config, name: str) -> None:
    """Raises BadConfig when pairs and domains name hosts that are none of HOSTS, or contradict each other."""
    domain_of = {host: domain for domain, hosts in config.failure_domains for host in hosts}
    for key, named in (("HOST_PAIRS", [host for pair in config.host_pairs for host in pair]),
                       ("FAILURE_DOMAINS", list(domain_of))):
        strange = [host for host in named if host not in config.hosts]
        if strange:
            raise BadConfig(f"{name}: {key} names {strange[0]}, which is not in HOSTS", hint="correct one of them")
    for one, other in config.host_pairs:
        if domain_of.get(one, one) == domain_of.get(other, other):
            raise BadConfig(f"{name}: the pair {one}={other} lies in one failure domain", hint="correct one of them")


def _value(key: str, text: str, place: str) -> Any:
    try:
        return SETTINGS[key][1](text)
    except BadInput as error:
        raise BadConfig(f"{place}: {key}: {error.what}", hint=error.hint) from None
    except ValueError as error:
        raise BadConfig(f"{place}: {key}={text!r}: {error}") from None


def _nearest(key: str) -> str:
    import difflib  # only on the way to an error

    near = difflib.get_close_matches(key, SETTINGS, 1)
    return f"did you mean {near[0]}?" if near else "remotes/dncrc of the distribution lists all settings"


def load(path: str) -> Config:
    """Read the dncrc at `path`; an absent file means defaults. Raises BadConfig."""
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read(1 << 20)
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{os.path.basename(path)} cannot be read: {error}", hint=f"check {path}") from None
    return parse(text, os.path.basename(path))
