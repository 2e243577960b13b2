"""A fixed sequence of raw tool commands, run on any farm: the simulation and the lab must observe the same.

A farm is anything with run(host, argv) -> object with status, stdout, stderr, commands running as root.
"""

from __future__ import annotations

import re
import time
from typing import Any, Callable, Protocol

from sim.scenario_tools import LVM, ZFS, Backend, error_class

HOSTS = ("node1", "node2")
MINOR, PORT = 4090, 7990
MIB = 1 << 20
DEADLINE_S = 40.0
GUEST = "/var/lib/dnc-lab/guest"

class Outcome(Protocol):
    """How a command ended."""

    @property
    def status(self) -> int: ...
    @property
    def stdout(self) -> str: ...
    @property
    def stderr(self) -> str: ...


class FarmLike(Protocol):
    """The simulation, or the lab."""

    def run(self, host: str, argv: list[str]) -> Outcome:
        """Run a command as root on a host."""
        ...


class Scenario:
    """One run; `observations` maps the name of a step to what was seen."""

    def __init__(self, farm: FarmLike, backend: Backend, progress: Callable[[str], None] | None = None) -> None:
        self.farm, self.backend = farm, backend
        self.progress = progress or (lambda _text: None)
        self.observations: dict[str, Any] = {}
        self.part = ""
        number = 0 if backend.kind == "zfs" else 5
        self.minors = {f"cmp{backend.kind}{part}": MINOR + number + index for index, part in enumerate(("o", "c", "g"))}
        self.image, self.clone, self.grown = self.minors

    # making observations

    def note(self, name: str, value: Any) -> None:
        self.progress(f"{name}: {value}")
        self.observations[f"{self.backend.kind}, {self.part}: {name}"] = value

    def do(self, name: str, host: str, argv: list[str]) -> Outcome:
        """Run a command and note its status and class of error."""
        done = self.farm.run(host, argv)
        self.note(f"{name} on {host}", [done.status, error_class(done.stderr) if done.status else ""])
        return done

    def both(self, name: str, argv: list[str]) -> None:
        for host in HOSTS:
            self.do(name, host, argv)

    def shell(self, host: str, text: str) -> Outcome:
        return self.farm.run(host, ["sh", "-c", text])

    def state(self, resource: str, host: str = "node1") -> str:
        """The line of /proc/drbd and what is out of sync: "Connected Secondary/Secondary UpToDate/UpToDate oos:0"."""
        text = self.farm.run(host, ["cat", "/proc/drbd"]).stdout
        found = re.search(rf"^ *{self.minors[resource]}: cs:(\S+)(?: ro:(\S+) ds:(\S+).*\n.* (oos:\d+))?", text, re.M)
        return " ".join(word for word in found.groups() if word) if found else "absent"

    def settled(self, name: str, resource: str, wanted: str, host: str = "node1") -> None:
        """Note the state once its connection is `wanted`, or what it is at the deadline."""
        end = time.monotonic() + DEADLINE_S
        while not self.state(resource, host).startswith(wanted) and time.monotonic() < end:
            time.sleep(0.2)
        self.note(name, self.state(resource, host))

    def generations(self, name: str, resource: str) -> None:
        """Note whether the current UUIDs are equal, the bitmap UUIDs' emptiness, and the flags."""
        lines = []
        for host in HOSTS:
            device = self.backend.device + resource
            argv = ["drbdmeta", str(self.minors[resource]), "v08", device, "internal", "get-gi"]
            lines.append(self.farm.run(host, argv).stdout.strip().split(":"))
        if len(lines[0]) < 11 or len(lines[1]) < 11:
            self.note(name, f"unreadable: {lines}")
            return
        same = int(lines[0][0], 16) & ~1 == int(lines[1][0], 16) & ~1
        empty = [int(line[1], 16) == 0 for line in lines]
        self.note(name, {"same": same, "bitmap empty": empty, "flags": [":".join(line[4:11]) for line in lines]})

    def digests(self, name: str, resource: str, size: int) -> None:
        """Note whether the first `size` bytes are equal on both hosts."""
        texts = [
            self.shell(host, f"head -c {size} {self.backend.device}{resource} | sha256sum").stdout.split()
            for host in HOSTS
        ]
        self.note(name, "equal" if texts[0] and texts[0] == texts[1] else "different")

    def resource_file(self, resource: str) -> str:
        minor = self.minors[resource]
        hosts = "".join(
            f"  on {host} {{\n    address 10.99.0.{number}:{PORT + minor - MINOR};\n"
            f"    volume 0 {{ device minor {minor}; disk {self.backend.device}{resource}; meta-disk internal; }}\n  "
            f"}}\n"
            for number, host in enumerate(HOSTS, 1)
        )
        return (
            f"resource {resource} {{\n  net {{ protocol C; cram-hmac-alg sha256; shared-secret \"comparison{minor}\";\n"
            "    verify-alg md5;\n"
            "    after-sb-0pri disconnect; after-sb-1pri disconnect; after-sb-2pri disconnect; }\n" + hosts + "}\n"
        )  # fmt: skip

    def configure(self, resource: str) -> None:
        for host in HOSTS:
            self.shell(host, f"cat > /etc/drbd.d/{resource}.res <<'END'\n{self.resource_file(resource)}END\n")

    def write(self, host: str, resource: str, block: int, letter: str) -> None:
        """Write 4 KiB of a letter through the DRBD device; the simulation sees the write when the next tool runs."""
        device = f"/dev/drbd/by-res/{resource}/0"
        self.shell(host, f"head -c 4096 /dev/zero | tr '\\0' {letter} | dd of={device} bs=4096 seek={block} "
                         f"conv=notrunc,fsync 2>&1")
        self.farm.run(host, ["drbdadm", "role", resource])

    # the parts of the story

    def run(self) -> dict[str, Any]:
        """All parts; what was made is removed at the end, whatever happened."""
        try:
            for part in (
                self.volumes, self.making, self.roles, self.rest, self.cloning, self.growing, self.separation,
                self.split_brain,
                self.domains,
            ):  # fmt: skip
                self.part = part.__name__.replace("_", " ")
                part()
        finally:
            self.clean_up()
        return self.observations

    def volumes(self) -> None:
        image = self.image
        self.both("create volume", self.backend.create(image))
        self.do("create it again", "node1", self.backend.create(image))
        done = self.farm.run("node1", self.backend.size(image))
        self.note("size, origin, tags", done.stdout.split())
        self.do("clone what is absent", "node1", self.backend.clone("cmpabsent", "cmpx")[0])
        self.do("remove what is absent", "node1", self.backend.remove("cmpabsent")[0])
        self.do("grow what is absent", "node1", self.backend.grow("cmpabsent"))
        self.do("list what is absent", "node1", self.backend.size("cmpabsent"))

    def making(self) -> None:
        image = self.image
        self.do("up of an unknown resource", "node1", ["drbdadm", "up", "cmpabsent"])
        self.configure(image)
        self.do("up without metadata", "node1", ["drbdadm", "up", image])
        self.note("state after that", self.state(image))
        self.do("down of the half", "node1", ["drbdadm", "down", image])
        self.do("status while down", "node1", ["drbdadm", "status", image])
        self.do("role while down", "node1", ["drbdadm", "role", image])
        self.both("create-md", ["drbdadm", "create-md", "--force", image])
        self.generations("fresh generations", image)
        self.both("up", ["drbdadm", "up", image])
        self.settled("both up", image, "Connected")
        self.do("primary without data", "node1", ["drbdadm", "primary", image])
        self.do("declare equal", "node1", ["drbdadm", "new-current-uuid", "--clear-bitmap", f"{image}/0"])
        self.settled("declared equal", image, "Connected Secondary/Secondary UpToDate/UpToDate")
        self.do("declare equal again", "node1", ["drbdadm", "new-current-uuid", "--clear-bitmap", f"{image}/0"])
        self.note("size of the device", self._size(image))
        self.do("create-md while up", "node1", ["drbdadm", "create-md", "--force", image])
        self.do("up while up", "node1", ["drbdadm", "up", image])
        self.do("adjust while up", "node1", ["drbdadm", "adjust", image])
        opened = self.shell("node1", f"dd if=/dev/drbd/by-res/{image}/0 of=/dev/null bs=4k count=1")
        self.note("open a Secondary", opened.status)
        self.do("remove while attached", "node1", self.backend.remove(image)[0])
        self.note("status text", self.farm.run("node1", ["drbdadm", "status", image]).stdout.replace(image, "R"))

    def _size(self, resource: str) -> str:
        return self.farm.run("node1", ["cat", f"/sys/class/block/drbd{self.minors[resource]}/size"]).stdout.strip()

    def roles(self) -> None:
        image = self.image
        self.do("primary", "node1", ["drbdadm", "primary", image])
        self.do("primary again", "node1", ["drbdadm", "primary", image])
        self.write("node1", image, 256, "a")
        self.note("one primary", self.state(image))
        self.do("second primary", "node2", ["drbdadm", "primary", image])
        self.both("allow two", ["drbdadm", "net-options", "--protocol=C", "--allow-two-primaries=yes", image])
        self.do("second primary, allowed", "node2", ["drbdadm", "primary", image])
        self.note("two primaries", self.state(image))
        self.do("forbid two while there are", "node1", ["drbdadm", "net-options", "--allow-two-primaries=no", image])
        self.write("node2", image, 257, "b")
        self.do("secondary", "node1", ["drbdadm", "secondary", image])
        self.both("forbid two", ["drbdadm", "net-options", "--allow-two-primaries=no", image])
        held = self.shell("node2", f"exec 3<>/dev/drbd/by-res/{image}/0; drbdadm secondary {image}; echo $?; drbdadm "
                                   f"down {image}; echo $?")
        self.note("secondary and down while held open", held.stdout.split())
        self.do("secondary there", "node2", ["drbdadm", "secondary", image])
        self.do("secondary again", "node2", ["drbdadm", "secondary", image])
        self.settled("nobody primary", image, "Connected Secondary/Secondary")

    def rest(self) -> None:
        image = self.image
        self.both("down", ["drbdadm", "down", image])
        self.both("down again", ["drbdadm", "down", image])
        self.note("state when down", self.state(image))
        self.generations("generations at rest", image)
        self.digests("data at rest", image, 60 * MIB)
        data = self.shell("node2", f"dd if={self.backend.device}{image} bs=4096 skip=256 count=2 2>/dev/null | tr -s "
                                   f"ab | head -c 4")
        self.note("what was written", data.stdout)

    def cloning(self) -> None:
        clone = self.clone
        for host in HOSTS:
            for argv in self.backend.clone(self.image, clone):
                self.do(f"clone: {argv[0]} {argv[1]}", host, argv)
        self.do("clone again", "node1", self.backend.clone(self.image, clone)[-1])
        if self.backend.kind == "zfs":
            self.do("remove an origin", "node1", ["zfs", "destroy", f"tank/dnc/{self.image}"])
            self.do("remove an origin, -r", "node1", ["zfs", "destroy", "-r", f"tank/dnc/{self.image}"])
            self.do("remove its snapshot", "node1", ["zfs", "destroy", f"tank/dnc/{self.image}@{clone}"])
        self.configure(clone)
        self.generations("generations of the clone", clone)
        self.both("up of the clone", ["drbdadm", "up", clone])
        self.settled("clone", clone, "Connected Secondary/Secondary UpToDate/UpToDate")
        self.do("primary of the clone", "node2", ["drbdadm", "primary", clone])
        text = self.shell("node2", f"dd if=/dev/drbd/by-res/{clone}/0 bs=4096 skip=256 count=2 2>/dev/null | tr -s ab "
                                   f"| head -c 4")
        self.note("the clone's data", text.stdout)
        self.do("secondary of the clone", "node2", ["drbdadm", "secondary", clone])

    def growing(self) -> None:
        grown = self.grown
        for host in HOSTS:
            for argv in self.backend.clone(self.image, grown):
                self.farm.run(host, argv)
        self.both("grow", self.backend.grow(grown))
        self.configure(grown)
        self.do("up of a grown clone", "node1", ["drbdadm", "up", grown])
        self.both("down of it", ["drbdadm", "down", grown])
        self.both("create-md of it", ["drbdadm", "create-md", "--force", grown])
        self.both("up of it", ["drbdadm", "up", grown])
        self.settled("grown clone before", grown, "Connected")
        self.do("declare it equal", "node2", ["drbdadm", "new-current-uuid", "--clear-bitmap", f"{grown}/0"])
        self.settled("grown clone", grown, "Connected Secondary/Secondary UpToDate/UpToDate")
        self.note("size of the grown device", self._size(grown))

    def separation(self) -> None:
        """A Primary that loses its peer, writes, and gets it back."""
        clone = self.clone
        self.do("primary", "node1", ["drbdadm", "primary", clone])
        self.do("peer goes down", "node2", ["drbdadm", "down", clone])
        self.settled("alone", clone, "WFConnection")
        self.write("node1", clone, 512, "c")
        self.note("alone, written", self.state(clone))
        self.do("peer comes up", "node2", ["drbdadm", "up", clone])
        self.settled("together again", clone, "Connected Primary/Secondary UpToDate/UpToDate")
        self.do("disconnect", "node1", ["drbdadm", "disconnect", clone])
        self.note("after disconnect, here", self.state(clone))
        self.settled("after disconnect, there", clone, "WFConnection", "node2")
        self.do("connect", "node1", ["drbdadm", "connect", clone])
        self.settled("connected", clone, "Connected Primary/Secondary UpToDate/UpToDate")
        self.do("secondary at last", "node1", ["drbdadm", "secondary", clone])

    def split_brain(self) -> None:
        clone = self.clone
        self.both("disconnect", ["drbdadm", "disconnect", clone])
        for host, letter in (("node1", "d"), ("node2", "e")):
            self.do("primary alone", host, ["drbdadm", "primary", clone])
            self.write(host, clone, 600, letter)
        self.do("secondary alone", "node2", ["drbdadm", "secondary", clone])
        self.both("connect", ["drbdadm", "connect", clone])
        self.settled("split brain", clone, "StandAlone")
        self.settled("split brain there", clone, "StandAlone", "node2")
        self.do("give in", "node2", ["drbdadm", "connect", "--discard-my-data", clone])
        self.do("go on", "node1", ["drbdadm", "connect", clone])
        self.settled("resolved", clone, "Connected Primary/Secondary UpToDate/UpToDate")
        self.do("secondary here", "node1", ["drbdadm", "secondary", clone])
        self.both("down", ["drbdadm", "down", clone])
        self.digests("data after the split brain", clone, 60 * MIB)

    def domains(self) -> None:
        """xl's answers around a disk; the guest has no root and may end at any time, so nothing depends on it."""
        clone = self.clone
        self.both("up for the domain", ["drbdadm", "up", clone])
        self.settled("before the domain", clone, "Connected")
        name = f"cmp-{self.backend.kind}"
        config = (
            f'name = "{name}"\ntype = "pvh"\nmemory = 128\nkernel = "{GUEST}/guest-vmlinuz"\n'
            f'disk = [ "format=raw,vdev=xvda,access=rw,target=/dev/drbd/by-res/{clone}/0" ]\n'
        )
        self.shell("node1", f"cat > /root/{name}.cfg <<'END'\n{config}END\n")
        self.shell("node1", f"sed 's#/dev/drbd/by-res/{clone}/0#/dev/cmpabsent#' /root/{name}.cfg > "
                            f"/root/{name}-absent.cfg")
        self.shell("node1", f"echo 'name = ' > /root/{name}-bad.cfg")
        self.do("create with a bad file", "node1", ["xl", "create", f"/root/{name}-bad.cfg"])
        self.do("create without its disk", "node1", ["xl", "create", f"/root/{name}-absent.cfg"])
        self.do("create on a Secondary", "node1", ["xl", "create", "-p", f"/root/{name}.cfg"])
        lines = self.farm.run("node1", ["xl", "block-list", name]).stdout.splitlines()
        self.note("its disk's backend", lines[1].split()[3] if len(lines) > 1 else "")
        self.do("destroy it", "node1", ["xl", "destroy", name])
        self.do("primary for the domain", "node1", ["drbdadm", "primary", clone])
        self.do("create", "node1", ["xl", "create", f"/root/{name}.cfg"])
        self.do("create again", "node1", ["xl", "create", f"/root/{name}.cfg"])
        self.do("secondary under a domain", "node1", ["drbdadm", "secondary", clone])
        for word in ("pause", "unpause", "domid"):
            self.do(word, "node1", ["xl", word, name])
        self.farm.run("node1", ["xl", "destroy", name])
        for word in ("destroy", "pause", "shutdown", "list"):
            self.do(f"{word} of nobody", "node1", ["xl", word, name])
        end = time.monotonic() + DEADLINE_S
        while self.farm.run("node1", ["drbdadm", "secondary", clone]).status and time.monotonic() < end:
            time.sleep(0.2)
        self.note("secondary after the domain", self.state(clone))

    def clean_up(self) -> None:
        """Remove whatever there is, in the order that works."""
        self.farm.run("node1", ["xl", "destroy", f"cmp-{self.backend.kind}"])
        for host in HOSTS:
            for resource in (self.grown, self.clone, self.image):
                self.farm.run(host, ["drbdadm", "down", resource])
                self.shell(host, f"rm -f /etc/drbd.d/{resource}.res /root/cmp-{self.backend.kind}*")
                for argv in self.backend.remove(resource):
                    self.farm.run(host, argv)
                if self.backend.kind == "zfs":
                    self.farm.run(host, ["zfs", "destroy", f"tank/dnc/{self.image}@{resource}"])


__all__ = ["LVM", "ZFS", "Scenario"]
