"""Placement among many hosts, on answers made up here: sessions, questions, time; no process, no farm."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from .results import Row

GROUP = "places"
FARMS = (2, 1000)
REPLICAS = 2
MIB = 1 << 20


class Answering:
    """A session with a host that says hello and tells of its pool."""

    opened = 0

    def __init__(self, host: str, _caller: Any) -> None:
        self.host = host
        self.about: dict[str, Any] = {}
        self.failed = None
        self.output = os.open("/dev/zero", os.O_RDONLY)
        self._pools: list[str] = []
        type(self).opened += 1

    def start(self) -> None:
        """Nothing to start."""

    def greet(self) -> dict[str, Any]:
        """The host's name."""
        self.about = {"host": self.host}
        return self.about

    def send(self, _op: str, args: dict[str, Any]) -> int:
        """A survey."""
        self._pools = args["pools"]
        return 1

    def feed(self) -> None:
        """Nothing comes."""

    def take(self, _number: int) -> dict[str, Any]:
        """Half of a pool is free."""
        space = {"total": 4000 * MIB, "used": 2000 * MIB, "free": 2000 * MIB}
        return {"resources": {}, "pools": dict.fromkeys(self._pools, space), "minors": [], "links": {}}

    def end_input(self) -> None:
        """Nothing to end."""

    def close(self, _timeout: float = 0.0) -> None:
        """Close what feigned to be the answers."""
        os.close(self.output)


def measure(repeat: int, progress: Callable[[str], None], _stand: object = None) -> list[Row]:
    """Sessions and questions of a farm of two hosts and of one of a thousand."""
    rows: list[Row] = []
    sessions, longest = 0, 0.0
    for count in FARMS:
        progress(f"an image placed among {count} hosts")
        samples = [place(count, number) for number in range(max(3, repeat))]
        opened, asked = samples[0][1], samples[0][2]
        seconds = sorted(sample[0] for sample in samples)[len(samples) // 2]
        note = "as many as among two" if count > REPLICAS else "each host is a member"
        what = f"placement among {count} hosts"
        rows.append(Row(GROUP, f"{what}: sessions", "sessions", opened, sessions or REPLICAS, note))
        rows.append(Row(GROUP, f"{what}: questions to oned", "questions", asked,
                        int(count > REPLICAS), ""))
        rows.append(Row(GROUP, f"{what}: processor time", "ms", seconds * 1000, longest or None,
                        "oned's answer read from its XML, hosts ranked"))
        # Reading what a thousand hosts publish takes a moment: a tenth of a second is what sessions would hide.
        sessions, longest = opened, 500.0
    return rows


def place(count: int, number: int) -> tuple[float, int, int]:
    """(processor seconds, sessions, questions) of one placement."""
    from dnc import config
    from dnc.farm.finding import find_hosts
    from dnc.farm.placement import Wanted
    from dnc.farm.sessions import Sessions
    from dnc.grammar import parse_pool
    from dnc.log import Log
    from dnc.opennebula.hosts import parse_host_pool

    names = [f"node{one}" for one in range(count)]
    document = host_pool(names)
    log = Log("bench", stream=io.StringIO())
    caller = SimpleNamespace(config=config.parse(f'HOSTS="{" ".join(names)}"\n'), log=log)
    asked = 0

    def register() -> Any:
        nonlocal asked
        asked += 1
        return parse_host_pool(document, log)

    before, began = Answering.opened, time.process_time()
    with Sessions(caller, Answering) as farm:  # type: ignore[arg-type]
        wanted = Wanted(f"one-{number}", parse_pool("zfs:tank/dnc"), 64 * MIB, REPLICAS, 95)
        find_hosts(farm, wanted, names, register)
    return time.process_time() - began, Answering.opened - before, asked


def host_pool(names: list[str]) -> str:
    """oned's answer, as far as placement reads it, with something of what else stands in it."""
    from dnc.farm.published import Figure
    from dnc.farm.space import Space
    from dnc.grammar import parse_pool

    hosts = []
    for number, name in enumerate(names):
        space = Space(4000 * MIB, 2000 * MIB + number * 4096, 1900 * MIB, 50.0, number % 7)
        line = Figure(parse_pool("zfs:tank/dnc"), space, int(time.time())).render()
        pairs = (pair.split("=", 1) for pair in line.partition("[")[2].rstrip("]").replace('"', "").split(","))
        vector = "".join(f"<{key}><![CDATA[{value}]]></{key}>" for key, value in pairs)
        other = "".join(f"<ATTRIBUTE_{one}><![CDATA[{'x' * 40}]]></ATTRIBUTE_{one}>" for one in range(20))
        hosts.append(f"<HOST><ID>{number}</ID><NAME>{name}</NAME><STATE>2</STATE><TEMPLATE>{other}"
                     f"<DNC_SPACE>{vector}</DNC_SPACE></TEMPLATE></HOST>")
    return f"<HOST_POOL>{''.join(hosts)}</HOST_POOL>"
