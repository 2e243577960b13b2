"""Hosts in memory behind the session's interface: they remember what was asked, and know resources and domains."""

from __future__ import annotations

import os
from typing import Any

from dnc.errors import DncError, Unreachable
from dnc.tools.resource import ResourceSpec, parse_spec

ADDRESS = {f"node{number}": f"10.0.0.{number}" for number in (1, 2, 3, 4)}


def spec(name: str, hosts=("node1", "node2"), **more: Any) -> ResourceSpec:
    """A finished resource file."""
    members = [
        {"host": host, "address": ADDRESS[host], "device": f"/dev/zvol/tank/dnc/{name}", "node_id": number}
        for number, host in enumerate(hosts)
    ]
    return parse_spec({
        "name": name, "minor": 1000, "port": 7000, "secret": "s" * 40, "members": members, "state": "ready",
        "kind": "image", "vm": None, "origin": None, "proof": "fresh-zero", "pool": "zfs:tank/dnc",
        "data_bytes": 64 << 20, "slots": 1, **more,
    })


def status(name: str, role="Secondary", disk="UpToDate", peer_role="Secondary", connection="Connected", oos=0):
    """STATUS as the agent sends it."""
    ready = (disk, connection, oos) == ("UpToDate", "Connected", 0)
    peer = {"host": "peer", "connection": connection, "role": peer_role,
            "disk": "UpToDate" if connection == "Connected" else "DUnknown",
            "replication": "Established" if connection == "Connected" else "Off", "out_of_sync": oos}
    return {"name": name, "minor": 1000, "role": role, "disk": disk, "ready": ready, "suspended": False,
            "peers": [peer]}


class FakeHost:
    """What one host has. `asked`: (op, args) in order; `answers`: op -> answer, or an error to raise."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.resources: dict[str, dict[str, Any]] = {}
        self.domains: dict[str, str] = {}
        self.minors: set[int] = set()
        self.generation = {"current": "AAAA", "clean": True}
        self.free = 100 << 30
        self.space: dict[str, Any] = {}
        self.files: dict[str, int] = {}
        self.links: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {}
        self.down: DncError | None = None
        self.committed = False
        self.drbd = "8.4"

    def have(self, spec: ResourceSpec, status: dict[str, Any] | None = None, **more: Any) -> None:
        volume = {"pool": spec.pool, "name": spec.name, "bytes": 65 << 20, "device": f"/dev/{spec.name}"}
        self.resources[spec.name] = {"spec": spec.to_json(), "volume": volume, "status": status, **more}

    def ops(self, *names: str) -> list[str]:
        """Operations asked, in order; only those named, when some are."""
        return [op for op, _args in self.asked if not names or op in names]

    def args(self, op: str) -> list[dict[str, Any]]:
        return [args for asked, args in self.asked if asked == op]

    def answer(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((op, args))
        given = self.answers.get(op)
        if isinstance(given, DncError):
            raise given
        if given is not None:
            return given(args) if callable(given) else given
        act = getattr(self, f"do_{op}", None)
        return act(args) if act else {}

    def do_survey(self, args):
        names = list(self.resources) if args["resources"] is None else args["resources"]
        nothing = {"spec": None, "volume": None, "status": None}
        space = {"total": 100 << 30, "used": (100 << 30) - self.free, "free": self.free, **self.space}
        return {
            "resources": {name: {**nothing, **self.resources.get(name, {})} for name in names},
            "pools": dict.fromkeys(args.get("pools") or [], space), "minors": sorted(self.minors), "links": self.links,
        }

    def do_reserve_minor(self, args):
        if args["minor"] in self.minors:
            return {"reserved": False}
        self.minors.add(args["minor"])
        return {"reserved": True}

    def do_release_minor(self, args):
        return {}

    def do_create_volume(self, args):
        return {"bytes": args["bytes"], "device": f"/dev/zvol/tank/dnc/{args['name']}"}

    def do_clone_volume(self, args):
        return {"bytes": args["bytes"] or 65 << 20, "origin_bytes": 65 << 20, "grown": bool(args["bytes"]),
                "device": f"/dev/zvol/tank/dnc/{args['name']}"}

    def do_generation(self, args):
        return self.generation

    def do_find_domain(self, args):
        return {"state": self.domains.get(args["name"])}

    def do_destroy_domain(self, args):
        return {"destroyed": self.domains.pop(args["name"], None) is not None}

    def do_settle(self, args):
        one = {"settled": True, "role": "", "peer_role": "", "why": ""}
        return {"resources": dict.fromkeys(args["resources"], one)}

    def do_list_files(self, args):
        return {"files": self.files, "links": self.links, "exists": bool(self.files or self.links)}

    def do_commit(self, args):
        self.committed = True
        return {}


class FakeSession:
    """dnc.farm.session.Session as Sessions sees it."""

    def __init__(self, fake: FakeHost) -> None:
        self.host = fake.name
        self.fake = fake
        self.about: dict[str, Any] = {}
        self.failed: DncError | None = None
        self.output = os.open("/dev/zero", os.O_RDONLY)
        self._answers: dict[int, Any] = {}
        self._number = 0

    def start(self) -> None: ...

    def greet(self) -> dict[str, Any]:
        if self.fake.down is not None:
            raise self.fake.down
        address = ADDRESS.get(self.host, "10.0.1.1")
        self.about = {"host": self.host, "address": address, "slots": 1, "drbd": self.fake.drbd}
        return self.about

    def send(self, op: str, args: dict[str, Any], payload: bytes = b"") -> int:
        self._number += 1
        try:
            self._answers[self._number] = self.fake.answer(op, dict(args))
        except DncError as error:
            self._answers[self._number] = error.on(self.host)
        return self._number

    def take(self, number: int) -> dict[str, Any]:
        answer = self._answers.pop(number)
        if isinstance(answer, DncError):
            raise answer
        return answer

    def receive(self, number: int, timeout: float = 0.0) -> dict[str, Any]:
        return self.take(number)

    def call(self, op: str, /, *, timeout: float = 0.0, **args: Any) -> dict[str, Any]:
        return self.take(self.send(op, args))

    def take_raw(self, length: int, timeout: float = 0.0) -> bytes:
        return bytes(length)

    def feed(self) -> None: ...

    def end_input(self) -> None: ...

    def close(self, timeout: float = 0.0) -> None:
        if self.output >= 0:
            os.close(self.output)
            self.output = -1


class FakeFarm:
    """Hosts by name; `connect` is what Sessions takes instead of ssh."""

    def __init__(self, *names: str) -> None:
        self.hosts = {name: FakeHost(name) for name in names}
        self.sessions = 0

    def __getitem__(self, name: str) -> FakeHost:
        return self.hosts[name]

    def connect(self, host: str, _caller: Any) -> FakeSession:
        self.sessions += 1
        if host not in self.hosts:
            unknown = FakeHost(host)
            unknown.down = Unreachable("host name does not resolve", host=host)
            return FakeSession(unknown)
        return FakeSession(self.hosts[host])

    def fail(self, host: str) -> None:
        self.hosts[host].down = Unreachable("no route to host", host=host)


def two_with_images(monkeypatch: Any) -> FakeFarm:
    """node1 and node2 with image one-7 and persistent image one-8 at rest; sessions go there."""
    found = FakeFarm("node1", "node2")
    for name in ("node1", "node2"):
        found[name].have(spec("one-7"))
        found[name].have(spec("one-8"))
    monkeypatch.setattr("dnc.farm.sessions.Session", found.connect)
    return found
