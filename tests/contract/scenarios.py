"""Stories that the simulated farm and the real hosts both play; each returns what was observed, so that both compare.

A `place` is a SimStage (simulated.py) or the lab's Stage with the same methods.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

MIB = 1 << 20


class Place(Protocol):
    """What a scenario needs of a farm; hosts are node1 and node2."""

    cloud: Any

    def import_image(self, backend: str, *, persistent: bool = False) -> Any: ...
    def instantiate(self, *disks: Any, host: str = "node1", **more: Any) -> Any: ...
    def domain_hosts(self, vm: Any) -> list[str]: ...
    def roles(self, resource: str) -> dict[str, str]: ...
    def replicas_equal(self, resource: str, size: int) -> bool: ...
    def leftovers(self) -> list[str]: ...


@dataclass
class Observation:
    """One step: the user operation, how it ended, and what is to be seen on the hosts after it."""

    step: str
    ok: bool
    state: str
    domains: list[str] = field(default_factory=list)
    roles: dict[str, dict[str, str]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)


class Story:
    """A VM's life, written down."""

    def __init__(self, place: Place, vm: Any, resources: list[str]) -> None:
        self.place = place
        self.vm = vm
        self.resources = resources
        self.observed: list[Observation] = []
        self.note("instantiate", place.cloud.operations[-1])

    def note(self, step: str, operation: Any) -> Observation:
        """Write down what is to be seen after an operation; AssertionError with the user's text if it failed."""
        assert operation.ok, f"{step}: {operation.error or operation}"
        seen = Observation(
            step, operation.ok, self.vm.status, self.place.domain_hosts(self.vm),
            {name: self.place.roles(name) for name in self.resources},
            [f"{call.mad}.{call.action}" for call in operation.calls],
        )
        self.observed.append(seen)
        return seen

    def runs_on(self, host: str) -> None:
        """The domain is on that host only, and each disk is Primary there and nowhere else."""
        seen = self.observed[-1]
        assert seen.domains == [host], seen
        for name, roles in seen.roles.items():
            primaries = [one for one, role in roles.items() if role == "Primary"]
            assert primaries == [host], f"{name} is {roles} after {seen.step}"

    def rests(self) -> None:
        """No domain, and no Primary anywhere."""
        seen = self.observed[-1]
        assert seen.domains == [], seen
        for name, roles in seen.roles.items():
            assert "Primary" not in roles.values(), f"{name} is {roles} after {seen.step}"


def resources_of(vm: Any) -> list[str]:
    """DRBD resources of a VM's writable disks, by the naming rule of the block drivers."""
    names = []
    for disk in vm.disks:
        number = disk["DISK_ID"]
        if "IMAGE_ID" not in disk:
            names.append(f"one-sys-{vm.id}-{number}")
        elif disk.get("PERSISTENT") == "YES":
            names.append(str(disk["SOURCE"]))
        else:
            names.append(f"{disk['SOURCE']}-{vm.id}-{number}")
    return names


def life(place: Place, disks: list[Any]) -> Story:
    """A VM runs, moves live there and back and there, cold, rests in every way, and goes."""
    cloud = place.cloud
    vm = place.instantiate(*disks, host="node1")
    story = Story(place, vm, resources_of(vm))
    story.runs_on("node1")
    for host in ("node2", "node1", "node2"):
        story.note(f"live to {host}", cloud.migrate(vm, host, live=True))
        story.runs_on(host)
    story.note("cold to node1", cloud.migrate(vm, "node1"))
    story.runs_on("node1")
    story.note("suspend", cloud.suspend(vm))
    story.note("resume", cloud.resume(vm))
    story.runs_on("node1")
    story.note("stop", cloud.stop_vm(vm))
    story.rests()
    cloud.resume(vm)
    story.note("resume elsewhere", cloud.deploy(vm, host="node2"))
    story.runs_on("node2")
    story.note("undeploy", cloud.undeploy(vm))
    story.rests()
    cloud.resume(vm)
    story.note("resume elsewhere", cloud.deploy(vm, host="node1"))
    story.runs_on("node1")
    story.note("poweroff", cloud.poweroff(vm))
    story.note("resume", cloud.resume(vm))
    story.runs_on("node1")
    story.note("reboot", cloud.reboot(vm))
    story.note("reset", cloud.reboot(vm, hard=True))
    story.runs_on("node1")
    return story


def short_life(place: Place, backend: str) -> Story:
    """What the simulated farm and the real hosts are compared by: one image, one disk, each kind of operation once."""
    cloud = place.cloud
    image = place.import_image(backend)
    vm = place.instantiate(image, host="node1")
    story = Story(place, vm, resources_of(vm))
    story.note("live to node2", cloud.migrate(vm, "node2", live=True))
    story.note("live to node1", cloud.migrate(vm, "node1", live=True))
    story.note("poweroff", cloud.poweroff(vm, hard=True))
    story.note("migrate at rest", cloud.migrate(vm, "node2"))
    story.note("resume", cloud.resume(vm))
    story.note("suspend", cloud.suspend(vm))
    story.note("resume", cloud.resume(vm))
    story.note("undeploy", cloud.undeploy(vm, hard=True))
    cloud.resume(vm)
    story.note("resume elsewhere", cloud.deploy(vm, host="node1"))
    story.note("terminate", cloud.terminate(vm, hard=True))
    cloud.delete_image(image).checked()
    return story


def compared(story: Story) -> list[tuple[object, ...]]:
    """What was observed, without what differs by chance: numbers of VMs and images."""
    return [
        (seen.step, seen.ok, seen.state, seen.domains, [seen.roles[name] for name in story.resources], seen.calls)
        for seen in story.observed
    ]


class LabPlace:
    """The lab's Stage as a Place."""

    def __init__(self, stage: Any) -> None:
        self.stage = stage
        self.cloud = stage.cloud
        self._images = 0

    def import_image(self, backend: str, *, persistent: bool = False) -> Any:
        """The guest's image."""
        self._images += 1
        return self.stage.import_guest(backend, f"scenario-{backend}-{self._images}", persistent=persistent)

    def instantiate(self, *disks: Any, host: str = "node1", **more: Any) -> Any:
        """A VM that boots the guest, with these images as disks."""
        return self.stage.instantiate(disks[0], host, DISK=[{"IMAGE": disk.name} for disk in disks], **more)

    def domain_hosts(self, vm: Any) -> list[str]:
        """Hosts on which a domain of that VM exists."""
        return list(self.stage.domain_hosts(vm))

    def roles(self, resource: str) -> dict[str, str]:
        """Role of a resource on each host where the kernel has it."""
        found = {host: self.stage.proc_drbd(host, resource) for host in self.stage.lab.hosts}
        return {host: one["ro"].split("/")[0] for host, one in found.items() if "ro" in one}

    def replicas_equal(self, resource: str, size: int) -> bool:
        """Whether two hosts hold the same first bytes."""
        for backend in ("zfs", "thin"):
            digests = self.stage.digests(backend, resource, size)
            if digests:
                return len(digests) == 2 and len(set(digests.values())) == 1
        return False

    def leftovers(self) -> list[str]:
        """What is left on the hosts."""
        return list(self.stage.leftovers())
