"""The probes of the information driver on a host with many domains, on the simulated farm: processor time, processes.

Domains, their backends, directories and resource files are made up; xl and zfs are replaced by programs that print a
text, so that what is counted is the suite's own time, and theirs is not.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .imports import REPOSITORY
from .results import Row, median, not_run
from .timing import CannotMeasure

GROUP = "probes"
DOMAINS = 500
DISKS = 2
BUDGET_MS = 1000.0
HOST = "node1"
PROBES = {"host/system": "system", "host/monitor": "usage", "vm/status": "state", "vm/monitor": "poll"}
# Run on a simulated host as root: prints processor milliseconds of a probe with all it starts, and its length.
MEASURE = """import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, capture_output=True, cwd="/var/tmp/one/im/dnc.d")
used = resource.getrusage(resource.RUSAGE_CHILDREN)
sys.stderr.write(done.stderr.decode())
print((used.ru_utime + used.ru_stime) * 1000, done.stdout.count(b"VM="), done.returncode)
"""
SAYING = "#!/bin/sh\necho \"$0 $*\" >>/tmp/started\nexec cat \"/tmp/said-${0##*/}-$1\"\n"
UUID = "a0322f36-817d-4154-8db8-f7c250d44e59"
XL_LIST = "{name:<40} {id:5d}   192     1     -b----       {time:.1f} " + UUID + "        -                -\n"


def measure(repeat: int, progress: Callable[[str], None], _stand: object = None) -> list[Row]:
    """Two rows a probe. Raises CannotMeasure when the farm cannot be made here."""
    with host_with_suite() as farm:
        progress(f"a host with {DOMAINS} domains")
        populate(farm)
        rows = []
        for directory, name in PROBES.items():
            progress(directory)
            rows += _rows(farm, directory, name, repeat)
        return rows


@contextmanager
def host_with_suite() -> Iterator[Any]:
    """A simulated host with the suite copied to it. Raises CannotMeasure."""
    try:
        from oned import Oned, SshFarm
        from sim.farm import SimFarm
    except ImportError as error:
        raise CannotMeasure(f"the simulated farm cannot be imported: {error}") from None
    place = Path(tempfile.mkdtemp(prefix="dnc-bench-"))
    place.chmod(0o755)
    try:
        with SimFarm(place / "sim", (HOST,)) as farm:
            hosts = SshFarm((HOST,), Path(farm.directory) / "bin", user=None)
            with Oned(place / "one", hosts) as cloud:
                cloud.install(REPOSITORY)
                cloud.sync_hosts()
            yield farm
    except (RuntimeError, OSError) as error:
        raise CannotMeasure(str(error)) from None
    finally:
        shutil.rmtree(place, ignore_errors=True)


def populate(farm: Any) -> None:
    """Make the domains up: what xl and zfs say, backends, directories with links, resource files."""
    names = {vm: [f"one-1-{vm}-{disk}" for disk in range(DISKS)] for vm in range(DOMAINS)}
    listing = "".join(XL_LIST.format(name=f"one-{vm}", id=vm + 1, time=vm / 10) for vm in names)
    info = "nr_cpus : 64\ntotal_memory : 524288\nfree_memory : 65536\nxen_version : 4.20.4\n"
    every = [name for disks in names.values() for name in disks]
    sizes = "".join(f"tank/dnc/{name}\t1048576\t2097152\ntank/dnc/{name}@{name}.snap-0\t-\t4096\n" for name in every)
    # zfs answers the question about space with this too, and is not understood: that pool is told in DNC_ERROR.
    for tool, word, text in (("xl", "list", listing), ("xl", "info", info), ("zfs", "list", sizes)):
        Path(farm.path(HOST, f"/tmp/said-{tool}-{word}")).write_text(text)
    for tool in ("xl", "zfs"):
        path = f"/usr/sbin/{tool}"
        done = farm.run(HOST, ["sh", "-c", f"rm {path}; printf '%s' \"$1\" >{path}; chmod 755 {path}", "sh", SAYING])
        if done.status != 0:
            raise CannotMeasure(done.stderr.strip())
    _backends(Path(farm.live) / "hosts" / HOST / "sysbus/xen-backend/devices")
    for vm, disks in names.items():
        directory = Path(farm.path(HOST, f"/var/lib/one/datastores/100/{vm}"))
        directory.mkdir(parents=True)
        for number, name in enumerate(disks):
            (directory / f"disk.{number}").symlink_to(f"/dev/drbd/by-res/{name}/0")
            Path(farm.path(HOST, f"/etc/drbd.d/{name}.res")).write_text(_resource(name, vm, vm * DISKS + number))


def _backends(top: Path) -> None:
    for vm in range(DOMAINS):
        _counters(top / f"vif-{vm + 1}-0/net/one-{vm}-0/statistics", ("rx_bytes", "tx_bytes"))
        for disk in range(DISKS):
            _counters(top / f"vbd-{vm + 1}-{51712 + 16 * disk}/statistics", ("rd_req", "rd_sect", "wr_req", "wr_sect"))


def _counters(directory: Path, names: tuple[str, ...]) -> None:
    directory.mkdir(parents=True)
    for name in names:
        (directory / name).write_text("123456789\n")


def _resource(name: str, vm: int, number: int) -> str:
    """A resource file as the suite writes it, short of what drbdadm reads."""
    members = [[host, f"10.99.0.{index}", f"/dev/zvol/tank/dnc/{name}", index] for index, host in enumerate(
        ("node1", "node2"), 1)]
    header = {
        "state": "ready", "kind": "clone", "vm": vm, "origin": "one-1", "proof": None, "pool": "zfs:tank/dnc",
        "data_bytes": 1 << 30, "slots": 1, "members": members, "minor": 1000 + number, "port": 7000 + number,
    }
    return f'# dnc {json.dumps(header)}\nresource "{name}" {{ net {{ shared-secret "{"s" * 40}"; }} }}\n'


def _rows(farm: Any, directory: str, name: str, repeat: int) -> list[Row]:
    """Processor time and processes of one probe; the first look, which tells everything, is not among the samples."""
    path, started = f"/var/tmp/one/im/dnc-probes.d/{directory}/{name}", Path(farm.path(HOST, "/tmp/started"))
    samples = []
    for _ in range(repeat + 1):
        started.write_text("")
        done = farm.run(HOST, ["python3", "-c", MEASURE, path, "dnc", "0", HOST])
        words = done.stdout.split()
        if done.status != 0 or len(words) != 3 or words[2] != "0":
            return [not_run(GROUP, f"{directory}, {DOMAINS} domains", done.stderr.strip() or done.stdout.strip())]
        samples.append(float(words[0]))
    what, processes = f"{directory}, {DOMAINS} domains", len(started.read_text().splitlines())
    note = f"first look {samples[0]:.0f} ms; least {min(samples[1:]):.0f} ms; xl's and zfs's own time not counted"
    return [
        Row(GROUP, f"{what}: processor time", "ms", median(samples[1:]), BUDGET_MS, note, tuple(samples[1:])),
        Row(GROUP, f"{what}: processes", "processes", processes, 3, "none a domain"),
    ]
