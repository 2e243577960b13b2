"""The faults and mishaps that tests plan for a simulated farm: part of SimFarm."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from sim import drbd_kernel as kernel
from sim import drbd_link, power, world


class Faults:
    """Everything that can go wrong on the hosts."""

    live: str
    hosts: tuple[str, ...]
    _pids: dict[str, Any]
    _process: Any
    _opened: world.World
    _ticking: threading.Event

    def _world(self, host: str = "") -> world.World:
        self._opened = world.World(self.live, host)
        return self._opened

    def inject(self, host: str, kind: str, *, n: int = 1, pattern: str = "", **more: Any) -> None:
        with self._world(host).open():
            self._opened.of()["inject"].append({"kind": kind, "wait": n, "pattern": pattern, **more})

    def crash_at(self, host: str, n: int, when: str = "before", target: str = "agent", pattern: str = "") -> None:
        """The n-th fake command on `host` (that contains `pattern`) kills its callers: "agent", "action" or "both"."""
        self.inject(host, "crash", n=n, pattern=pattern, when=when, target=target)

    def fail_at(
        self,
        host: str,
        pattern: str,
        status: int = 1,
        stderr: str = "injected failure\n",
        n: int = 1,
        stays: bool = False,
    ) -> None:
        """The n-th command that contains `pattern` fails without doing anything; stays: and all after it."""
        self.inject(host, "fail", n=n, pattern=pattern, status=status, stderr=stderr, stays=stays)

    def delay(
        self, host: str, pattern: str, seconds: float, when: str = "before", n: int = 1, stays: bool = False
    ) -> None:
        """The n-th command that contains `pattern` takes longer."""
        self.inject(host, "delay", n=n, pattern=pattern, seconds=seconds, when=when, stays=stays)

    def power_cut_at(self, host: str, n: int, when: str = "before", victim: str = "", pattern: str = "") -> None:
        """At the n-th fake command on `host`, `victim` (that host, if not named) loses power."""
        self.inject(host, "power", n=n, pattern=pattern, when=when, victim=victim or host)

    def clear_faults(self) -> None:
        with self._world().open() as state:
            for host in self.hosts:
                state["hosts"][host]["inject"] = []

    def command_count(self, host: str) -> int:
        """Fake commands that ran on a host so far."""
        return int(self.state["hosts"][host]["count"])

    def power_cut(self, host: str) -> None:
        power.cut(world.World(self.live, host), host)

    def power_on(self, host: str) -> None:
        power.on(world.World(self.live, host), host)

    def disconnect(self, *hosts: str) -> None:
        """Cut the replication network of one host, or between two hosts."""
        self._cut("-".join(sorted(hosts)), True)

    def reconnect(self, *hosts: str) -> None:
        self._cut("-".join(sorted(hosts)), False)

    def _cut(self, link: str, cut: bool) -> None:
        with self._world().open() as state:
            state["cut"] = [other for other in state["cut"] if other != link] + ([link] if cut else [])
            drbd_link.settle(self._opened)

    def ssh_refuses(self, host: str, reason: str = "") -> None:
        """ssh to the host fails: "No route to host", "Connection refused", "key", "denied"; "" heals it."""
        path = f"{self.live}/hosts/{host}/refuse"
        if reason:
            with open(path, "w") as file:
                file.write(reason)
        elif os.path.exists(path):
            os.unlink(path)

    def fill_pool(self, host: str, pool: str, free: int = 0) -> None:
        """Leave only `free` bytes in "tank" or in the thin pool "vg0/pool"."""
        from sim import lvm, zfs_report

        with self._world(host).open():
            here = self._opened.of()
            if pool.startswith("vg0"):
                thin = here["lvm"]["vg0"]["volumes"]["pool"]
                thin["reserved"] = 0
                thin["reserved"] = max(0, thin["size"] - lvm.pool_used(self._opened, "vg0", "pool") - free)
            else:
                zpool = here["zfs"]["pools"]["tank"]
                zpool["reserved"] = 0
                zpool["reserved"] = max(0, zfs_report.available(self._opened, "tank") - free)

    def fill_metadata(self, host: str, percent: str = "11.72") -> None:
        """How full the metadata of the thin pool are said to be; without a number, as they were."""
        with self._world(host).open():
            self._opened.of()["lvm"]["vg0"]["volumes"]["pool"]["metadata_percent"] = percent

    def empty_pool(self, host: str, pool: str) -> None:
        """Undo fill_pool."""
        with self._world(host).open():
            here = self._opened.of()
            (here["lvm"]["vg0"]["volumes"]["pool"] if pool.startswith("vg0") else here["zfs"]["pools"]["tank"])[
                "reserved"
            ] = 0

    def remove_tool(self, host: str, tool: str) -> None:
        self._move_tool(host, tool, "", ".removed")

    def restore_tool(self, host: str, tool: str) -> None:
        self._move_tool(host, tool, ".removed", "")

    def _move_tool(self, host: str, tool: str, old: str, new: str) -> None:
        root = f"/proc/{self._pids['hosts'][host]}/root"
        for directory in ("/usr/sbin", "/usr/bin"):
            if os.path.exists(f"{root}{directory}/{tool}{old}"):
                os.rename(f"{root}{directory}/{tool}{old}", f"{root}{directory}/{tool}{new}")

    def deny_sudo(self, host: str, denied: bool = True) -> None:
        with self._world(host).open():
            self._opened.of()["sudo"] = not denied

    def holds(self, domain: str, *vdevs: str) -> None:
        """The guest has these disks open and lets none of them go; without disks, it has none open."""
        with self._world().open() as state:
            state["held"] = [f"{domain}/{vdev}" for vdev in vdevs]

    def has_cpu(self, host: str, hw_caps: str = "") -> None:
        """The CPU features that `xl info` tells; without, those of all hosts."""
        with self._world(host).open():
            xen = self._opened.of()["xen"]
            xen.pop("hw_caps", None)
            xen.update({"hw_caps": hw_caps} if hw_caps else {})

    def unload_drbd(self, host: str) -> None:
        """The module is not there, and cannot be loaded."""
        with self._world(host).open():
            self._opened.of()["drbd"].update(loaded=False, installed=False)
            for resource in list(kernel.resources(self._opened, host).values()):
                kernel.withdraw(self._opened, resource, host)
            self._opened.of()["drbd"]["resources"] = {}
            drbd_link.settle(self._opened)

    def load_drbd(self, host: str) -> None:
        with self._world(host).open():
            self._opened.of()["drbd"].update(loaded=True, installed=True)
            drbd_link.settle(self._opened)

    def resync_ticks(self, ticks: int, stalled: bool = False) -> None:
        """Resyncs take this many commands (0: none); stalled: they make no progress."""
        with self._world().open() as state:
            state["sync_ticks"], state["sync_stalled"] = ticks, stalled
        self._ticking.clear()
        if ticks:
            self._ticking = threading.Event()
            self._ticking.set()
            threading.Thread(target=self._tick, args=(self._ticking,), daemon=True).start()

    def _tick(self, ticking: threading.Event) -> None:
        """A resync goes on also while nobody runs a tool."""
        opened = world.World(self.live)
        while ticking.is_set() and self._process is not None:
            with opened.open():
                drbd_link.settle(opened)
            time.sleep(0.1)

    @property
    def resyncs(self) -> list[dict[str, Any]]:
        """Every resync that DRBD began: resource, source, target, kib."""
        return list(self.state.get("resyncs", []))
