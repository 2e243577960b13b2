"""Sessions, questions and processes of each action, counted on the simulated farm with the stand-in for oned."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .counting import Count, Counting, ssh_wrapper
from .imports import REPOSITORY
from .results import Row, not_run
from .timing import CannotMeasure

GROUP = "counts"
HOSTS = ("node1", "node2", "node3")  # one more than there are replicas: an action has to know which two it needs
REPLICAS = 2
IMAGE_MIB = 8
MANY = 4  # disks of the larger VM
HOST_SSH_LOG = "/tmp/ssh-sessions"
KERNEL = "/tmp/guest-kernel"
# Constant text, run on a simulated host as root.
PREPARE_HOST = f"""set -e
mv /usr/bin/ssh /usr/bin/ssh-itself
printf '#!/bin/sh\\necho session >>{HOST_SSH_LOG}\\nexec /usr/bin/ssh-itself "$@"\\n' >/usr/bin/ssh
chmod 755 /usr/bin/ssh; : >{HOST_SSH_LOG}; chmod 666 {HOST_SSH_LOG}; echo kernel >{KERNEL}"""

# (action, hosts it involves: its budget of sessions, questions allowed, whether a VM with four disks is compared)
Expectation = tuple[str, int, int, bool]
EXPECTED: tuple[Expectation, ...] = (
    # Every host is asked for its room while none publishes it; which hosts are disabled, only oned knows.
    ("ds cp", len(HOSTS), 1, False),
    # one.vm.info, and one.vm.update to have the VM scheduled where its new disk is: once a disk.
    ("tm clone", REPLICAS, 2, True),
    ("vmm deploy", 0, 0, True),
    ("tm premigrate", REPLICAS, 0, True),
    ("vmm migrate", 2, 0, True),  # one to the destination, and the stream that xl itself opens
    ("tm postmigrate", REPLICAS, 0, True),
    ("tm mv", REPLICAS, 1, True),
    ("tm snap_create_live", REPLICAS, 1, False),
    ("tm snap_revert", REPLICAS, 1, False),
    ("tm snap_delete", REPLICAS, 1, False),
    ("tm cpds", len(HOSTS), 1, False),  # the empty image that it replaces may lie on another host
    ("tm delete", REPLICAS, 1, True),
)


def measure(_repeat: int, progress: Callable[[str], None], _stand: object = None) -> list[Row]:
    """Counted once: they do not vary. Raises CannotMeasure when the farm cannot be made here."""
    with simulated() as (cloud, counting):
        source = cloud.location / "image.raw"
        fill(source)
        store = cloud.create_datastore("images", template={"DNC_POOL": "zfs:tank/dnc", "SAFE_DIRS": str(source.parent)})
        cloud.create_datastore("system", type="SYSTEM")
        trouble = ""
        progress("an image imported")
        image = cloud.create_image("image", str(source), store)
        trouble = image.template.get("ERROR", "")
        marks = [0]
        for disks in (1, MANY):
            progress(f"a VM with {disks} disks: instantiated, migrated live and cold, terminated")
            trouble = trouble or life(cloud, disks)
            marks.append(len(counting.counts))
        return rows_of(counting.counts[:marks[1]], counting.counts[marks[1]:], trouble)


def fill(path: Path) -> None:
    """An image: some data at its start and in its middle, holes elsewhere."""
    with path.open("wb") as file:
        file.truncate(IMAGE_MIB << 20)
        for place in (0, IMAGE_MIB << 19):
            file.seek(place)
            file.write(os.urandom(65536))
    path.chmod(0o644)


def life(cloud: Any, disks: int) -> str:
    """Instantiate, migrate live, power off, migrate at rest, terminate; returns the first error text.

    With one disk it is also snapshot, reverted and saved: these actions concern one disk each.
    """
    template = {
        "CPU": 1, "MEMORY": 64, "DISK": [{"IMAGE": "image"} for _ in range(disks)],
        "OS": {"KERNEL": KERNEL, "KERNEL_CMD": "console=hvc0"},
    }
    vm = cloud.instantiate(template, host="node1")
    done = [cloud.operations[-1]]
    alone = disks == 1
    for step in (
        lambda: cloud.migrate(vm, "node2", live=True), *[lambda: cloud.snapshot_disk(vm, 0, "one")] * alone,
        lambda: cloud.poweroff(vm, hard=True),
        *[lambda: cloud.revert_disk(vm, 0, 0), lambda: cloud.save_disk_as(vm, 0, "saved"),
          lambda: cloud.delete_disk_snapshot(vm, 0, 0)] * alone,
        lambda: cloud.migrate(vm, "node1"), lambda: cloud.terminate(vm),
    ):
        if not done[-1].ok:
            break
        done.append(step())
    return "" if done[-1].ok else f"{done[-1].label}: {done[-1].error}"


def rows_of(one: list[Count], many: list[Count], trouble: str) -> list[Row]:
    """Rows from the calls of a VM with one disk and of one with many."""
    rows: list[Row] = []
    for action, hosts, questions, compared in EXPECTED:
        first = [count for count in one if count.action == action]
        larger = [count for count in many if count.action == action]
        if not first or any(count.failed for count in first):
            rows.append(not_run(GROUP, action, trouble or f"the stand-in made no call of {action}"))
            continue
        rows += _rows(action, "1 disk" if compared else "", first, hosts, questions)
        if compared and (not larger or any(count.failed for count in larger)):
            rows.append(not_run(GROUP, f"{action}, {MANY} disks", trouble or f"the stand-in made no call of {action}"))
        elif compared:
            # What one disk took is the budget for many: never more sessions (a call a disk is judged call by call).
            rows += _rows(action, f"{MANY} disks", larger, max(count.sessions for count in first), questions)
    return rows


def _rows(action: str, disks: str, counts: list[Count], hosts: int, questions: int) -> list[Row]:
    worst = max(counts, key=lambda count: (count.sessions, count.processes))
    name = f"{action}, {disks}" if disks else action
    calls = f"the most of {len(counts)} calls" if len(counts) > 1 else ""
    asked = max(count.questions for count in counts)
    return [
        Row(GROUP, f"{name}: ssh sessions", "sessions", worst.sessions, hosts, calls),
        Row(GROUP, f"{name}: questions to oned", "questions", asked, questions, calls),
        Row(GROUP, f"{name}: processes", "processes", worst.processes, None, worst.tools_text),
    ]


@contextmanager
def simulated() -> Iterator[tuple[Any, Counting]]:
    """The stand-in in front of a simulated farm, suite installed on both sides. Raises CannotMeasure."""
    try:
        from oned import Oned, SshFarm
        from sim.farm import SimFarm
    except ImportError as error:
        raise CannotMeasure(f"the simulated farm cannot be imported: {error}") from None
    place = Path(tempfile.mkdtemp(prefix="dnc-bench-"))
    place.chmod(0o755)
    try:
        with SimFarm(place / "sim", HOSTS) as farm:
            log = place / "ssh-sessions"
            ssh_wrapper(place / "ssh" / "ssh", f"{farm.directory}/bin/ssh", log)
            for host in HOSTS:
                done = farm.run(host, ["sh", "-c", PREPARE_HOST])
                if done.status != 0:
                    raise CannotMeasure(f"{host}: {done.stderr.strip()}")
            with Oned(place / "one", SshFarm(HOSTS, place / "ssh", user=None)) as cloud:
                cloud.environment.update(DNC_DEBUG="1", TMPDIR=str(place))
                install(cloud)
                logs = [Path(farm.path(host, HOST_SSH_LOG)) for host in HOSTS]
                counting = Counting(log, logs, lambda: len(cloud.rpc.questions), lambda: farm.commands)
                cloud.log.progress = counting
                yield cloud, counting
    except (RuntimeError, OSError) as error:
        raise CannotMeasure(str(error)) from None
    finally:
        shutil.rmtree(place, ignore_errors=True)


def install(cloud: Any) -> None:
    """The suite on the frontend and on the hosts, as a user and OpenNebula put it there."""
    cloud.install(REPOSITORY)
    settings = {"HOSTS": " ".join(HOSTS), "REPLICATION_NETWORK": "10.99.0.0/24", "PVH_LOADER": ""}
    (cloud.remotes / "dncrc").write_text("".join(f'{key}="{value}"\n' for key, value in settings.items()))
    cloud.sync_hosts()
