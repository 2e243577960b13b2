"""A frontend in memory for hooks: the stand-in for oned without drivers, hosts that say what they are told to."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
from fake_hosts import FakeFarm

from dnc import config
from dnc.command import Runner
from dnc.farm.sessions import Sessions
from dnc.hooks import places, settling
from dnc.log import Log
from dnc.opennebula.driver import Call
from oned import Call as DriverCall
from oned import Completed, Oned, Settings, SshFarm, VirtualMachine


class Drivers:
    """Every driver action succeeds at once, except those in `failing`."""

    def __init__(self) -> None:
        self.failing: dict[str, str] = {}

    def has_script(self, family: str, driver: str, action: str) -> bool:
        return family != "vnm" and "." not in action

    def local(self, call: DriverCall) -> Completed:
        if call.action in self.failing:
            return Completed(1, "", self.failing[call.action])
        return Completed(0, {"deploy": "one-0"}.get(call.action, ""))

    remote = script = local

    def shell(self, command: str, stdin: str) -> Completed:
        return Completed(0)

    def open_stream(self, host: str, forward: bool) -> Drivers:
        return self

    def close(self) -> None:
        pass

    def stop(self) -> None:
        pass


class Frontend:
    """oned with one running VM on node1, whose domain is on node2; a home for the hook's files."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (directory / "ssh").mkdir()
        self.drivers = Drivers()
        self.cloud = Oned(directory / "one", SshFarm(("node1", "node2"), directory / "ssh", None), Settings(),
                          backend=self.drivers)
        self.cloud.start()
        self.cloud.create_datastore("system", type="SYSTEM")
        self.vm: VirtualMachine = self.cloud.instantiate({"CPU": 1, "MEMORY": 64}, host="node1")
        self.domain = f"one-{self.vm.id}"
        self.hosts = FakeFarm("node1", "node2")
        self.hosts["node2"].domains[self.domain] = "blocked"
        for module in (places, settling):
            monkeypatch.setattr(module, "Sessions", lambda call: Sessions(call, self.hosts.connect))
        home = Path(self.cloud.environment["HOME"])
        for name in ("ONE_XMLRPC", "ONE_AUTH", "HOME"):
            monkeypatch.setenv(name, self.cloud.environment[name])
        self.home = home / ".one"
        self.stream = io.StringIO()

    def call(self, *words: str, text: str = "", dry_run: bool = False) -> Call:
        log = Log("moved", stream=self.stream)
        settings = config.parse(f'HOSTS="node1 node2"\n{text}')
        values = [("words", tuple(words))]
        return Call(str(self.cloud.remotes), "hooks", "moved", values, settings, log, Runner(log, dry_run=dry_run),
                    time.time())

    @property
    def asked(self) -> list[tuple[str, tuple[Any, ...]]]:
        return self.cloud.rpc.questions

    def methods(self) -> list[str]:
        return [method for method, _arguments in self.asked]
