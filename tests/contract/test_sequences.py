"""Any sequence of user operations on two VMs, with crashes in between: no rule of safety breaks, no data is lost."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from marks import THOROUGH
from simulated import SimStage

from oned import Image, VirtualMachine

pytestmark = pytest.mark.sim
# Far behind what the guest of the simulation writes (1 MiB): it must survive everything.
MARK_AT = 1536 << 10
OPERATIONS = ("live", "cold", "suspend", "poweroff", "stop", "undeploy", "resume", "reset", "recover", "terminate")
CRASHES = st.none() | st.tuples(
    st.sampled_from(["node1", "node2"]), st.integers(1, 9), st.sampled_from(["before", "after"]),
    st.sampled_from(["agent", "action"]))
STEPS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from(OPERATIONS), CRASHES), min_size=3, max_size=6)


class Players:
    """Two VMs: one of a clone and a persistent image, one of a persistent image."""

    def __init__(self, stage: SimStage, clone: Image, kept: list[Image]) -> None:
        self.stage = stage
        self.disks = [[clone, kept[0]], [kept[1]]]
        self.kept = kept
        self.vms: list[VirtualMachine | None] = [None, None]

    def vm(self, number: int) -> VirtualMachine:
        """The VM of that number; another one when it has gone."""
        found = self.vms[number]
        if found is None or found.status == "DONE":
            self.stage.cloud.enable_image(self.kept[number])
            template = self.stage.template(*self.disks[number], CONTEXT=None, NIC=None)
            found = self.vms[number] = self.stage.cloud.instantiate(template, host=self.stage.hosts[number])
        return found

    def step(self, number: int, operation: str, crash: tuple[str, int, str, str] | None) -> None:
        """One user operation, maybe with a crash in it; what oned refuses in this state is no step."""
        vm = self.vm(number)
        if crash is not None:
            host, n, when, target = crash
            self.stage.farm.crash_at(host, n, when, target)
        self.operate(vm, operation)
        self.stage.farm.clear_faults()

    def operate(self, vm: VirtualMachine, operation: str) -> None:
        """What a user does next in this state."""
        cloud = self.stage.cloud
        other = "node2" if vm.host == "node1" else "node1"
        if vm.status in ("STOPPED", "UNDEPLOYED"):
            cloud.resume(vm)
        if vm.status == "PENDING":
            cloud.deploy(vm, host=other)
        elif vm.status.endswith("_FAILURE"):
            (cloud.terminate if operation == "terminate" else cloud.recover_retry)(vm)
        elif operation == "live" and vm.status != "RUNNING":
            cloud.resume(vm)
        else:
            actions = {
                "live": lambda: cloud.migrate(vm, other, live=True), "cold": lambda: cloud.migrate(vm, other),
                "suspend": lambda: cloud.suspend(vm), "poweroff": lambda: cloud.poweroff(vm, hard=True),
                "stop": lambda: cloud.stop_vm(vm), "undeploy": lambda: cloud.undeploy(vm, hard=True),
                "resume": lambda: cloud.resume(vm), "reset": lambda: cloud.reboot(vm, hard=True),
                "recover": lambda: cloud.recover_delete(vm), "terminate": lambda: cloud.terminate(vm, hard=True),
            }
            actions[operation]()

    def end(self) -> None:
        """Both VMs go; whatever broke before, this must work within two attempts."""
        for vm in self.vms:
            if vm is None or vm.status == "DONE":
                continue
            self.stage.cloud.terminate(vm, hard=True)
            if vm.status != "DONE":
                self.stage.cloud.recover_delete(vm)
            assert vm.status == "DONE", vm.status

    def check(self) -> None:
        """What holds after every step."""
        assert self.stage.violations() == []
        for vm in self.vms:
            if vm is not None:
                assert len(self.stage.domain_hosts(vm)) <= 1


def kept_whole(stage: SimStage, images: list[Image]) -> None:
    """Persistent images hold on both hosts what was in them, but for the guest's own counter."""
    wanted = stage.raw_file().read_bytes()[MARK_AT:]
    for image in images:
        for host in stage.hosts:
            assert stage.farm.volume_data(host, image.source, 2 << 20)[MARK_AT:] == wanted, f"{image.source} on {host}"


@THOROUGH
def test_random_operations(stage: SimStage) -> None:
    clone = stage.import_image("zfs")
    kept = [stage.import_image(backend, persistent=True) for backend in ("zfs", "thin")]

    @settings(max_examples=4, deadline=None, derandomize=True, phases=[Phase.generate], database=None,
              suppress_health_check=[HealthCheck.too_slow])
    @given(steps=STEPS)
    def play(steps: list[tuple[int, str, tuple[str, int, str, str] | None]]) -> None:
        players = Players(stage, clone, kept)
        for number, operation, crash in steps:
            players.step(number, operation, crash)
            players.check()
        players.end()
        players.check()
        assert stage.remains(clone, *kept) == []
        kept_whole(stage, kept)

    play()
