"""A host in a temporary directory: zfs, LVM and DRBD 8.4 with just enough semantics for the host layer, in process.

The peer is another such host that answers like a healthy one; `peer` says how it is. Texts of errors are real ones.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from dnc import config
from dnc.command import Result, Runner, failure
from dnc.host.machine import Host, Paths
from dnc.host.operations import perform
from dnc.host.undo import Undo
from dnc.host.waiting import Patience
from dnc.host.work import Work
from dnc.log import Log
from dnc.tools import drbd
from dnc.tools.resource import new_secret

MIB = 1 << 20
UUID = "2DABAB9FAB1A1036"


class Killed(BaseException):
    """The process is gone: nothing after this runs."""


class Refused(Exception):
    """A tool's refusal: status and stderr."""


class FakeTools(Runner):
    """Answers argv like the tools; `calls` are the command lines, `kill_at` counts changes until the process dies."""

    def __init__(self, root: Path, log: Log, *, dry_run: bool = False) -> None:
        super().__init__(log, dry_run=dry_run)
        self.root = root
        self.calls: list[str] = []
        self.zvols: dict[str, dict] = {}
        self.snapshots: set[str] = set()
        self.deferred: set[str] = set()
        self.metadata: dict[str, dict] = {}
        self.up: dict[str, dict] = {}
        self.held: set[str] = set()
        self.peer = "UpToDate"
        self.fill = 10.0
        self.kill_at = -1
        self.kill_after = False
        self.refusals: dict[str, str] = {}
        (root / "proc").mkdir(exist_ok=True)
        self.show()

    def run(self, argv, *, privileged=False, changes=True, stdin=None, ok=(0,), timeout=120.0):
        if self.dry_run and changes:
            self.log.info(f"would run: {' '.join(argv)}")
            return Result(tuple(argv), 0, "", "")
        line = " ".join(argv)
        self.calls.append(line)
        self.count += 1
        if changes:
            self.kill_at -= 1
        if changes and self.kill_at == 0 and not self.kill_after:
            raise Killed
        try:
            for start, text in self.refusals.items():
                if line.startswith(start):
                    raise Refused(1, text)
            output = getattr(self, argv[0].replace(".", "_"))(*argv[1:])
        except Refused as refused:
            status, text = refused.args
            raise failure(Result(tuple(argv), status, "", text), argv[0]) from None
        if changes and self.kill_at == 0:
            raise Killed
        return Result(tuple(argv), 0, output or "", "")

    # zfs: a zvol is a sparse file below devices/zvol

    def device(self, dataset: str) -> Path:
        return self.root / "dev" / "zvol" / dataset

    def zfs(self, verb, *words):
        name = words[-1]
        if verb == "list" and "used,available" in words:
            total = 1000 * MIB
            return f"{int(total * self.fill / 100)}\t{int(total * (1 - self.fill / 100))}\n"
        if verb == "list":
            return self.zfs_list(name) + (self.zfs_list_snapshots(name) if "volume,snapshot" in words else "")
        if verb == "rename":
            return self.zfs_rename(*words)
        if verb == "get":
            if name not in self.zvols:
                raise Refused(1, f"cannot open '{name}': dataset does not exist")
            return "".join(f"dnc:{key}\t{value}\n" for key, value in self.zvols[name]["tags"].items())
        if verb == "snapshot":
            if name in self.snapshots:
                raise Refused(1, f"cannot create snapshot '{name}': dataset already exists")
            return self.snapshots.add(name)
        if verb == "set":
            return self.zfs_set(words[0], name)
        if verb == "promote":
            return self.zfs_promote(name)
        return self.zfs_destroy(words[0], name) if verb == "destroy" else self.zfs_make(verb, words, name)

    def zfs_list(self, name):
        lines = [
            f"{dataset}\tvolume\t{zvol['size']}\t{zvol['origin'] or '-'}\t0\t0\n"
            for dataset, zvol in self.zvols.items() if dataset.startswith(name)
        ]
        if name.count("/") > 1 and not lines:
            raise Refused(1, f"cannot open '{name}': dataset does not exist")
        return "".join(lines)

    def zfs_list_snapshots(self, name):
        return "".join(
            f"{one}\tsnapshot\t{self.zvols[one.split('@')[0]]['size']}\t-\t0\t"
            f"{'on' if one in self.deferred else 'off'}\t-\n"
            for one in sorted(self.snapshots) if one.startswith(name)
        )

    def zfs_make(self, verb, words, name):
        if name in self.zvols:
            raise Refused(1, f"cannot create '{name}': dataset already exists")
        tags = dict(word[4:].split("=") for word in words if word.startswith("dnc:"))
        path = self.device(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        origin = None
        if verb == "clone":
            origin = words[-2]
            if origin not in self.snapshots:
                raise Refused(1, f"cannot open '{origin}': dataset does not exist")
            source = origin.split("@")[0]
            path.write_bytes(self.device(source).read_bytes())
            self.metadata[str(path)] = dict(self.metadata.get(str(self.device(source)), {}))
            size = self.zvols[source]["size"]
        else:
            size = int(words[words.index("-V") + 1])
            with open(path, "wb") as stream:
                stream.truncate(size)
        self.zvols[name] = {"size": size, "origin": origin, "tags": tags}

    def zfs_set(self, setting, name):
        if setting.startswith("volsize="):
            self.zvols[name]["size"] = int(setting[8:])
            os.truncate(self.device(name), int(setting[8:]))

    def zfs_rename(self, old, new):
        if old not in self.zvols:
            raise Refused(1, f"cannot open '{old}': dataset does not exist")
        self.device(old).rename(self.device(new))
        self.metadata[str(self.device(new))] = self.metadata.pop(str(self.device(old)), {})
        self.zvols[new] = self.zvols.pop(old)
        for known in (self.snapshots, self.deferred):
            moved = {one for one in known if one.startswith(f"{old}@")}
            known ^= moved | {one.replace(f"{old}@", f"{new}@") for one in moved}
        for zvol in self.zvols.values():
            zvol["origin"] = zvol["origin"] and zvol["origin"].replace(f"{old}@", f"{new}@")

    def zfs_promote(self, name):
        old, _, short = self.zvols[name]["origin"].partition("@")
        self.snapshots.discard(f"{old}@{short}")
        self.snapshots.add(f"{name}@{short}")
        self.zvols[name]["origin"], self.zvols[old]["origin"] = self.zvols[old]["origin"], f"{name}@{short}"

    def zfs_destroy(self, flag, name):
        clones = [dataset for dataset, zvol in self.zvols.items() if (zvol["origin"] or "").split("@")[0] == name]
        if "@" in name:
            if name not in self.snapshots:
                raise Refused(1, "could not find any snapshots to destroy; check snapshot names.")
            needed = any(zvol["origin"] == name for zvol in self.zvols.values())
            if needed and flag == "-d":
                return self.deferred.add(name)
            if needed:
                raise Refused(1, f"cannot destroy '{name}': snapshot has dependent clones\nuse '-R' to destroy the "
                                 "following datasets:\n" + "\n".join(self.zvols))
            return self.snapshots.discard(name)
        if name not in self.zvols:
            raise Refused(1, f"cannot open '{name}': dataset does not exist")
        if any(str(self.device(name)) == up["device"] for up in self.up.values()):
            raise Refused(1, f"cannot destroy '{name}': dataset is busy")
        mine = [snapshot for snapshot in self.snapshots if snapshot.startswith(name + "@")]
        if mine and flag != "-r":
            raise Refused(1, f"cannot destroy '{name}': volume has children\nuse '-r' to destroy the following "
                             "datasets:\n" + "\n".join(mine))
        if clones:
            raise Refused(1, f"cannot destroy '{name}': filesystem has dependent clones\nuse '-R' to destroy the "
                             "following datasets:\n" + "\n".join(clones))
        self.snapshots -= set(mine)
        self.device(name).unlink()
        self.metadata.pop(str(self.device(name)), None)
        origin = self.zvols.pop(name)["origin"]
        if origin in self.deferred and not any(zvol["origin"] == origin for zvol in self.zvols.values()):
            self.snapshots.discard(origin)
        return None

    # DRBD 8.4

    def text_of(self, name):
        path = self.root / "drbd.d" / f"{name}.res"
        if not path.exists():
            raise Refused(1, f"'{name}' not defined in your config (for this host).")
        return path.read_text()

    def drbdadm(self, verb, *words):
        name = words[-1].split("/")[0]
        text = self.text_of(name)
        minor = int(re.search(r"minor (\d+);", text).group(1))
        device = re.search(r"disk (\S+);", text).group(1)
        if verb == "create-md":
            self.metadata[device] = {"fresh": True}
        elif verb == "up":
            if device not in self.metadata:
                self.up[name] = {"minor": minor, "device": device, "role": "Secondary", "disk": "Diskless"}
                self.show()
                raise Refused(1, "No valid meta data found")
            disk = "Inconsistent" if self.metadata[device].get("fresh") else "UpToDate"
            self.up[name] = {"minor": minor, "device": device, "role": "Secondary", "disk": disk, "two": False}
            link = self.root / "dev" / "drbd" / "by-res" / name
            link.mkdir(parents=True, exist_ok=True)
            if not (link / "0").exists():
                (link / "0").symlink_to(device)
        elif verb == "new-current-uuid":
            self.metadata[device] = {"fresh": False}
            self.up[name]["disk"] = "UpToDate"
        elif verb == "net-options":
            self.up[name]["two"] = words[1] == "--allow-two-primaries=yes"
        elif verb in ("secondary", "down") and name in self.held:
            raise Refused(11, f"{name}: State change failed: (-12) Device is held open by someone")
        elif verb == "down":
            self.up.pop(name, None)
        elif verb in ("primary", "secondary"):
            self.up[name]["role"] = verb.capitalize()
        self.show()

    def drbdmeta(self, *words):
        fresh = self.metadata[words[2]].get("fresh")
        uuid = "0000000000000004" if fresh else UUID
        return f"{uuid}:0000000000000000:{'0' * 16}:{'0' * 16}:{0 if fresh else 1}:1:0:0:0:0:0\n"

    def mkswap(self, *words):
        return ""

    def show(self):
        """Write /proc/drbd."""
        lines = ["version: 8.4.11 (api:1/proto:86-101)", "srcversion: 637677C4EAFCF5D1D5446B0 "]
        for up in self.up.values():
            if self.peer == "away":
                state, peer, peer_disk = "WFConnection", "Unknown", "DUnknown"
            elif self.peer == "standalone":
                state, peer, peer_disk = "StandAlone", "Unknown", "DUnknown"
            else:
                peer = "Primary" if self.peer == "Primary" else "Secondary"
                state, peer_disk = "Connected", up["disk"]
            lines.append(f"{up['minor']:2}: cs:{state} ro:{up['role']}/{peer} ds:{up['disk']}/{peer_disk} C r-----")
            lines.append("    ns:0 nr:0 dw:0 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:0")
        (self.root / "proc" / "drbd").write_text("\n".join(lines) + "\n")


def settings(text: str = "", root: str = "/tmp") -> config.Config:
    """A configuration whose datastores lie in the test's directory."""
    return config.parse(f'HOSTS="node1 node2"\nDATASTORE_LOCATION="{root}/datastores"\nLOCK_TIMEOUT="0"\n{text}')


class FakeHost:
    """node1; `work()` begins a session, `kill()` ends one as SIGKILL would."""

    def __init__(self, root: Path, text: str = "") -> None:
        self.root = root
        self.logged: list[str] = []
        self.log = Log("test", debug=True, sink=lambda level, line: self.logged.append(f"{level} {line}"))
        for part in ("drbd.d", "state", "dev", "proc", "sys", "datastores"):
            (root / part).mkdir(exist_ok=True)
        self.tools = FakeTools(root, self.log)
        self.config = settings(text, str(root))
        self.paths = Paths(
            drbd_config=str(root / "drbd.d"), state=str(root / "state"), devices=str(root / "dev"),
            proc=str(root / "proc"), sys_block=str(root / "sys"),
        )
        self.clock = 0.0
        self.work()

    def sleep(self, seconds: float) -> None:
        """Time passes without being waited for."""
        self.clock += seconds

    def work(self, started: float | None = None, *, dry_run: bool = False) -> Work:
        """A session of a new process."""
        self.tools.dry_run = dry_run
        patience = Patience(now=lambda: self.clock, sleep=self.sleep)
        host = Host(self.tools, self.config, self.log, paths=self.paths, patience=patience, name="node1")
        host.ensure_state_directories()
        return Work(host, Undo(self.log), time.time() if started is None else started, "a test")

    @staticmethod
    def kill(work: Work) -> None:
        """SIGKILL: the kernel drops locks and descriptors, nothing else happens."""
        for descriptor in work.host.locks._held.values():
            os.close(descriptor)
        work.host.locks._held.clear()
        work.devices.close_all()

    @staticmethod
    def leave(work: Work, *, commit: bool = True) -> int:
        """The end of a session; how many steps of the roll-back failed."""
        if commit:
            perform(work, "commit", {}, b"")
        work.devices.close_all()
        failed = work.undo.roll_back()
        work.host.locks.release()
        return failed

    def leftovers(self) -> dict:
        """Everything that a removed disk must not leave."""
        return {
            "zvols": sorted(self.tools.zvols), "snapshots": sorted(self.tools.snapshots), "up": sorted(self.tools.up),
            "files": sorted(path.name for path in (self.root / "drbd.d").iterdir()),
            "minors": sorted(os.listdir(self.root / "state" / "minors")),
            "locks": sorted(os.listdir(self.root / "state" / "locks")),
            "intents": sorted(os.listdir(self.root / "state" / "intents")),
        }


NOTHING = {"zvols": [], "snapshots": [], "up": [], "files": [], "minors": [], "locks": [], "intents": []}
POOL = "zfs:tank/dnc"
IMAGE, CLONE = "one-7", "one-7-42-0"


def do(work: Work, op: str, raw: bytes = b"", **args):
    """One operation, as the agent would perform it."""
    if "start" in args:
        args["from"] = args.pop("start")
    return perform(work, op, args, raw)[0]


def spec(name: str, minor: int, device: str, size: int, **changes) -> dict:
    """SPEC for a resource on node1 and node2."""
    record = {
        "name": name, "minor": minor, "port": 7000 + minor - 1000, "secret": new_secret(),
        "members": [
            {"host": host, "address": f"10.99.0.{number + 1}", "device": device, "node_id": number}
            for number, host in enumerate(("node1", "node2"))
        ],
        "state": "making", "kind": "image", "vm": None, "origin": None, "proof": None, "pool": POOL,
        "data_bytes": size, "slots": 1,
    }
    return {**record, **changes}


def make_image(work: Work, name: str = IMAGE, minor: int = 1000, size: int = 4 * MIB) -> None:
    """What the frontend does on each member to make an image."""
    do(work, "lock", resources=[name])
    clear(work, name)
    assert do(work, "reserve_minor", resource=name, minor=minor)["reserved"]
    made = do(work, "create_volume", pool=POOL, name=name, bytes=drbd.volume_size(size, 1), tags={"kind": "image"})
    do(work, "write_resource", spec=spec(name, minor, made["device"], size))
    do(work, "create_metadata", resource=name)
    do(work, "bring_up", resource=name)
    do(work, "declare_equal", resource=name, proof="fresh-zero")
    do(work, "await_ready", resource=name)
    do(work, "promote", resource=name)
    do(work, "write", raw=b"data" * 1024, resource=name, offset=MIB, length=4096)
    do(work, "flush", resource=name)
    do(work, "demote", resource=name)
    do(work, "take_down", resource=name)
    do(work, "mark_ready", resource=name, proof="fresh-zero")


def make_clone(work: Work, name: str = CLONE, minor: int = 1001) -> None:
    """What the frontend does on each member to clone the image."""
    do(work, "lock", resources=[name], shared=[IMAGE])
    clear(work, name)
    seen = do(work, "generation", resource=IMAGE)
    assert seen["clean"]
    assert do(work, "reserve_minor", resource=name, minor=minor)["reserved"]
    tags = {"kind": "clone", "vm": 42, "origin": IMAGE}
    made = do(work, "clone_volume", pool=POOL, origin=IMAGE, name=name, tags=tags)
    record = spec(name, minor, made["device"], 4 * MIB, kind="clone", vm=42, origin=IMAGE)
    do(work, "write_resource", spec=record)
    do(work, "bring_up", resource=name)
    do(work, "await_ready", resource=name)
    do(work, "ensure_link", path=f"{work.host.config.datastore_location}/100/42/disk.0", resource=name)
    do(work, "mark_ready", resource=name, proof="gi:" + seen["current"])


def clear(work: Work, name: str) -> None:
    """The frontend removes a half-made resource before it makes it again."""
    found = do(work, "survey", resources=[name])["resources"][name]
    if found["spec"] is not None and found["spec"]["state"] == "making":
        do(work, "remove_resource", resource=name)
        do(work, "remove_volume", pool=POOL, name=name)


def remove(work: Work, name: str) -> None:
    """What the frontend does on each member to remove a disk."""
    do(work, "give_up", resource=name, frontend_time=time.time())
    do(work, "lock", resources=[name], ignore_given_up=True)
    do(work, "remove_link", path=f"{work.host.config.datastore_location}/100/42/disk.0")
    do(work, "remove_resource", resource=name)
    do(work, "remove_volume", pool=POOL, name=name)
