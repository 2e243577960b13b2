"""OpenNebula gives up what still runs, repeats what was done, and does things twice at once (observations 1 to 3)."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from lines import HeldVm, complaint, succeeds
from marks import THIN_FIRST, THOROUGH, ZFS_FIRST, first
from simulated import MIB, POOLS, SimStage

from sim.farm import Done

pytestmark = pytest.mark.sim


def at_once(*actions: Callable[[], Done]) -> list[Done]:
    """Run all at the same time; their results in order."""
    results: dict[int, Done] = {}
    threads = [threading.Thread(target=lambda n=n, action=action: results.update({n: action()}))
               for n, action in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[n] for n in range(len(actions))]


@ZFS_FIRST
@pytest.mark.parametrize("command", first(3, later=(1, 5)))
def test_delete_while_the_clone_runs(stage: SimStage, backend: str, command: int) -> None:
    image = stage.import_image(backend)
    stage.farm.delay("node1", "", 1.5, n=command)
    vm = stage.cloud.instantiate(stage.template(image, CONTEXT=None, NIC=None), host="node1", background=True)
    prolog = stage.cloud.operations[-1]
    vm.await_status("PROLOG")
    stage.await_delayed("node1", "")
    assert stage.cloud.recover_delete(vm).ok
    assert not prolog.wait(60).ok
    assert stage.remains(image) == []
    assert stage.domain_hosts(vm) == []


@THIN_FIRST
@pytest.mark.parametrize("when", ["before", "after"])
def test_delete_while_the_deploy_runs(stage: SimStage, backend: str, when: str) -> None:
    image = stage.import_image(backend)
    stage.farm.delay("node1", "xl create", 1.5, when=when)
    vm = stage.cloud.instantiate(stage.template(image, CONTEXT=None, NIC=None), host="node1", background=True)
    boot = stage.cloud.operations[-1]
    stage.await_delayed("node1", "xl create")
    assert stage.cloud.recover_delete(vm).ok
    assert not boot.wait(60).ok
    assert stage.domain_hosts(vm) == []
    assert stage.remains(image) == []


@ZFS_FIRST
def test_delete_of_a_disk_that_never_was(stage: SimStage, backend: str) -> None:
    image = stage.import_image(backend)
    kept = stage.import_image(backend, persistent=True)
    held = HeldVm(stage, image, kept, {"TYPE": "swap", "SIZE": "4", "DNC_POOL": POOLS[backend]})
    for number in range(3):
        succeeds(held.delete(number))
    succeeds(held.save(1))
    succeeds(held.delete_directory())
    assert stage.remains(image, kept) == []
    held.forget()


@THIN_FIRST
def test_a_forced_end_keeps_persistent_images(stage: SimStage, backend: str) -> None:
    kept = stage.import_image(backend, persistent=True)
    vm = stage.bare(kept)
    assert stage.cloud.recover_delete(vm).ok
    assert stage.domain_hosts(vm) == []
    assert stage.remains(kept) == []
    assert stage.replicas_equal(kept.source, 2 * MIB)
    stage.cloud.enable_image(kept)
    again = stage.bare(kept, host="node2")
    stage.cloud.terminate(again, hard=True).checked()


@THOROUGH
def test_recreate_and_retry(stage: SimStage) -> None:
    image = stage.import_image("zfs")
    stage.farm.fail_at("node1", "drbdadm up")
    vm = stage.cloud.instantiate(stage.template(image, CONTEXT=None, NIC=None), host="node1")
    assert vm.status == "PROLOG_FAILURE"
    assert stage.remains(image) == []
    stage.cloud.recover_retry(vm).checked()
    assert stage.domain_hosts(vm) == ["node1"]
    assert stage.cloud.recover_recreate(vm).ok
    assert stage.remains(image) == []
    stage.cloud.deploy(vm, host="node2").checked()
    assert stage.domain_hosts(vm) == ["node2"]
    stage.cloud.terminate(vm, hard=True).checked()


@THOROUGH
def test_every_disk_action_twice(stage: SimStage, backend: str) -> None:
    image = stage.import_image(backend)
    kept = stage.import_image(backend, persistent=True)
    held = HeldVm(stage, image, kept, {"TYPE": "fs", "FS": "ext4", "SIZE": "4", "DNC_POOL": POOLS[backend]})
    for number in range(3):
        succeeds(held.make(number))
        succeeds(held.make(number))
    for target in ("frontend", "node2"):
        for number in range(3):
            succeeds(held.move(number, target))
            succeeds(held.move(number, target))
        held.host = target
    for done in (held.save(1), held.save(1), held.delete(0), held.delete(0), held.delete(2), held.delete(2)):
        succeeds(done)
    succeeds(held.delete_directory())
    succeeds(held.delete_directory())
    assert stage.remains(image, kept) == []
    held.forget()


@ZFS_FIRST
def test_disk_actions_twice_at_once(stage: SimStage, backend: str) -> None:
    image = stage.import_image(backend)
    held = HeldVm(stage, image, image)
    for done in at_once(held.make, held.make, lambda: held.make(1)):
        succeeds(done)
    assert stage.replicas_equal(f"{image.source}-{held.vm.id}-0", 2 * MIB)
    made = at_once(lambda: held.delete(1), held.delete, held.delete)
    for done in made:
        succeeds(done)
    assert stage.remains(image) == []
    succeeds(held.delete_directory())
    held.forget()


def test_make_and_delete_at_once(stage: SimStage) -> None:
    image = stage.import_image("thin")
    held = HeldVm(stage, image)
    for _ in range(2):
        made, deleted = at_once(held.make, held.delete)
        succeeds(deleted)
        if made.status:
            assert "given up" in complaint(made)
        succeeds(held.delete())
        assert stage.remains(image) == []
    succeeds(held.delete_directory())
    held.forget()


@THOROUGH
def test_many_vms_at_once_get_their_own_minors(stage: SimStage) -> None:
    image = stage.import_image("zfs")
    machines = [HeldVm(stage, image, image, host=("node1", "node2")[n % 2]) for n in range(4)]
    for done in at_once(*(held.make for held in machines)):
        succeeds(done)
    found = stage.farm.state["hosts"]["node1"]["drbd"]["resources"].values()
    minors = [one["minor"] for one in found]
    assert len(set(minors)) == len(minors) == 4
    for done in at_once(*(held.delete for held in machines)):
        succeeds(done)
    for held in machines:
        succeeds(held.delete_directory())
        held.forget()
    assert stage.remains(image) == []


@THOROUGH
def test_migration_actions_twice(stage: SimStage) -> None:
    image = stage.import_image("zfs")
    vm = stage.bare(image)
    for action in ("premigrate", "premigrate", "failmigrate", "failmigrate"):
        succeeds(stage.migration(vm, action, "node1", "node2"))
    assert stage.two_primaries_allowed() == []
    assert stage.roles(f"{image.source}-{vm.id}-0") == {"node1": "Primary", "node2": "Secondary"}
    stage.cloud.migrate(vm, "node2", live=True).checked()
    for action in ("postmigrate", "premigrate", "postmigrate"):
        succeeds(stage.migration(vm, action, "node1", "node2"))
    assert stage.two_primaries_allowed() == []
    assert stage.roles(f"{image.source}-{vm.id}-0") == {"node1": "Secondary", "node2": "Primary"}
    stage.cloud.terminate(vm, hard=True).checked()
