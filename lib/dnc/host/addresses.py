"""The address by which other members reach this host, found without starting a process."""

from __future__ import annotations

import re
from typing import Iterator, List

from ..errors import BadConfig
from .files import read_text

# /proc/net/fib_trie: "|-- 10.99.0.1" followed by "/32 host LOCAL"
_LOCAL = re.compile(r"\|-- (\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL")


def _ipv4(proc: str) -> List[str]:
    return list(dict.fromkeys(_LOCAL.findall(read_text(f"{proc}/net/fib_trie") or "")))


def _ipv6(proc: str) -> Iterator[str]:
    for line in (read_text(f"{proc}/net/if_inet6") or "").splitlines():
        digits = line.split()[0]
        yield ":".join(digits[i:i + 4] for i in range(0, 32, 4))


def replication_address(network: str, host: str, proc: str = "/proc") -> str:
    """This host's address in REPLICATION_NETWORK; without one, the address that its name resolves to.

    Raises BadConfig when there is none that a peer could use.
    """
    if network:
        import ipaddress  # 10 ms that only a set network has to pay

        wanted = ipaddress.ip_network(network)
        for text in (*_ipv4(proc), *_ipv6(proc)):
            if ipaddress.ip_address(text) in wanted:
                return str(ipaddress.ip_address(text))
        raise BadConfig(f"no address of this host lies in {network}", host=host, hint="correct REPLICATION_NETWORK")
    return _resolved(host)


def _resolved(host: str) -> str:
    import socket

    try:
        address = str(socket.getaddrinfo(host, None)[0][4][0])
    except OSError:
        address = ""
    if not address or address.startswith("127.") or address == "::1":
        raise BadConfig(
            "its name does not resolve to an address that peers can use", host=host,
            hint="set REPLICATION_NETWORK in dncrc",
        )
    return address
