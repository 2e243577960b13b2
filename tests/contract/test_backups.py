"""Backups of VMs into a datastore that behaves as OpenNebula's rsync one, and back: in place, and as new images."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from lines import complaint
from marks import THOROUGH, ZFS_FIRST
from simulated import MIB, POOLS, SimStage

from oned import Datastore, Image, VirtualMachine
from sim.farm import Done

pytestmark = pytest.mark.sim
SIZE = 2 * MIB


@pytest.fixture
def store(stage: SimStage) -> Datastore:
    """A backup datastore on the frontend."""
    return stage.cloud.create_backup_datastore(stage.new_name("backups"), stage.directory / "backups")


def resource(image: Image, vm: VirtualMachine, disk: int = 0) -> str:
    return image.source if image.persistent else f"{image.source}-{vm.id}-{disk}"


def content(stage: SimStage, name: str, size: int = SIZE) -> bytes:
    """A disk's data, equal on both members."""
    found = {stage.farm.volume_data(host, name, size) for host in stage.holders(name)}
    assert len(found) == 1, f"replicas of {name} differ"
    return found.pop()


def stored(store: Datastore, image: Image, disk: int = 0, increment: int = 0) -> Path:
    """The file of a disk in the backup datastore."""
    name = image.increments[increment][1] if image.increments else image.source
    return Path(store.base_path) / str(image.vm_ids[0]) / name / f"disk.{disk}.{increment}"


def unpacked(path: Path) -> bytes:
    """What a qcow2 file holds; it is sound."""
    subprocess.run(["qemu-img", "check", "-q", str(path)], check=True)
    raw = path.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(path), str(raw)], check=True)
    data = raw.read_bytes()
    raw.unlink()
    return data


def back_up(stage: SimStage, vm: VirtualMachine, store: Datastore) -> Image:
    """A backup by the user, after which nothing is left on the hosts but the VM."""
    image = stage.cloud.backup(vm, store).checked().image
    assert image is not None
    return image


def left(stage: SimStage) -> list[str]:
    """What of a backup is on the hosts."""
    return [line for line in stage.leftovers() if "backup" in line or ".before" in line]


def write(stage: SimStage, vm: VirtualMachine) -> None:
    """The guest is off, and has written since."""
    if vm.status == "POWEROFF":
        stage.cloud.resume(vm).checked()
    stage.cloud.poweroff(vm, hard=True).checked()


@ZFS_FIRST
def test_backup_of_a_running_vm_and_back(stage: SimStage, backend: str, store: Datastore) -> None:
    image = stage.import_image(backend)
    vm = stage.bare(image)
    name = resource(image, vm)
    saved = back_up(stage, vm, store)
    assert left(stage) == []
    assert vm.status == "RUNNING" and stage.domain_hosts(vm) == ["node1"]
    data = unpacked(stored(store, saved))
    assert len(data) == SIZE and stored(store, saved).stat().st_blocks * 512 < MIB, "data only"
    assert stage.cloud.restore(vm, saved).refused, "the VM runs"
    write(stage, vm)
    assert content(stage, name) != data
    stage.cloud.restore(vm, saved).checked()
    assert content(stage, name) == data
    assert stage.resyncs_of(name) == []
    again = back_up(stage, vm, store)
    assert unpacked(stored(store, again)) == data, "off, the same is saved"
    stage.cloud.resume(vm).checked()
    assert stage.domain_hosts(vm) == ["node1"]
    assert left(stage) == []
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(image) == []
    for one in (saved, again):
        stage.cloud.delete_backup(one).checked()
    assert not list(Path(store.base_path).glob("*/*"))


def argvs(stage: SimStage, since: int) -> list[list[str]]:
    """Commands on the hosts since a moment, in order."""
    return [one["argv"] for one in stage.farm.commands[since:]]


def holds(argv: list[str]) -> bool:
    """Whether a command keeps a guest from writing."""
    return argv[:2] == ["xl", "pause"] or "suspend-io" in argv


def lets_go(argv: list[str]) -> bool:
    return argv[:2] == ["xl", "unpause"] or "resume-io" in argv


def takes(argv: list[str]) -> bool:
    """Whether a command takes a snapshot for a backup."""
    return any(".snap-backup" in word for word in argv) and (argv[:2] == ["zfs", "snapshot"] or "-s" in argv)


@ZFS_FIRST
def test_all_disks_at_one_moment(stage: SimStage, backend: str, store: Datastore) -> None:
    """Clone, persistent image, volatile disk as BACKUP_VOLATILE says; swap never. Restored one by one, or all."""
    pool = {"DNC_POOL": POOLS[backend]}
    system, own = stage.import_image(backend), stage.import_image(backend, persistent=True)
    scratch, swap = {"TYPE": "fs", "FS": "ext4", "SIZE": "4", **pool}, {"TYPE": "swap", "SIZE": "4", **pool}
    vm = stage.bare(system, own, scratch, swap)
    names = [resource(system, vm), own.source, f"one-sys-{vm.id}-2"]
    sizes = [SIZE, SIZE, 4 * MIB]
    first = back_up(stage, vm, store)
    assert not stored(store, first, 2).exists(), "volatile disks only where BACKUP_VOLATILE says so"
    stage.cloud.configure_backup(vm, BACKUP_VOLATILE="YES")
    since = len(stage.farm.commands)
    saved = back_up(stage, vm, store)
    ran = argvs(stage, since)
    moments = [("hold", "take", "go")[(holds, takes, lets_go).index(one)]
               for argv in ran for one in (holds, takes, lets_go) if one(argv)]
    assert moments == sorted(moments, key=("hold", "take", "go").index), "all snapshots within one freeze"
    assert moments.count("take") == 3 and moments.count("hold") == moments.count("go") > 0
    files = sorted(one.name for one in stored(store, saved).parent.iterdir())
    assert files == ["disk.0.0", "disk.1.0", "disk.2.0", "vm.xml"]
    before = [unpacked(stored(store, saved, number)) for number in range(3)]
    assert [len(data) for data in before] == sizes
    write(stage, vm)
    after = [content(stage, name, size) for name, size in zip(names, sizes)]
    assert after[0] != before[0]
    stage.cloud.restore(vm, saved, disk=1).checked()
    assert content(stage, names[1]) == before[1] and content(stage, names[0]) == after[0]
    stage.cloud.restore(vm, saved).checked()
    assert [content(stage, name, size) for name, size in zip(names, sizes)] == before
    stage.cloud.resume(vm).checked()
    for name in names:
        assert stage.roles(name) == {"node1": "Primary", "node2": "Secondary"}
        assert stage.resyncs_of(name) == []
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(system, own) == []


@ZFS_FIRST
def test_increments(stage: SimStage, backend: str, store: Datastore) -> None:
    """What changed, from either host; each increment can be restored; one whose predecessor is gone is refused."""
    image = stage.import_image(backend)
    vm = stage.bare(image)
    name = resource(image, vm)
    stage.cloud.configure_backup(vm, MODE="INCREMENT")
    stage.cloud.poweroff(vm, hard=True).checked()
    contents = []
    for number in range(3):
        write(stage, vm)
        if number == 1:
            stage.cloud.migrate(vm, "node2").checked()
        saved = back_up(stage, vm, store)
        contents.append(content(stage, name))
        assert saved.increments[-1][0] == number
    assert len(set(contents)) == 3
    sizes = [stored(store, saved, increment=number).stat().st_size for number in range(3)]
    assert min(sizes) > 0
    assert len([line for line in left(stage) if "snap-backup-" in line]) in (2, 4), "the last two, on both members"
    for number in (1, 2, 0):
        stage.cloud.restore(vm, saved, increment=number).checked()
        assert content(stage, name) == contents[number], number
    assert vm.backup_config["LAST_INCREMENT_ID"] == "-1"
    anew = back_up(stage, vm, store)
    assert anew is not saved and unpacked(stored(store, anew)) == contents[0], "a restore ends the chain"
    stage.cloud.configure_backup(vm, MODE="INCREMENT", LAST_INCREMENT_ID="7", INCREMENTAL_BACKUP_ID=str(anew.id))
    refused = stage.cloud.backup(vm, store)
    assert "no snapshot of the last increment" in refused.error and "--reset" in refused.error
    stage.cloud.backup(vm, store, reset=True).checked()
    stage.cloud.configure_backup(vm)
    back_up(stage, vm, store)
    assert left(stage) == [], "with MODE=FULL no snapshot stays"
    stage.cloud.terminate(vm, hard=True).checked()
    assert stage.remains(image) == []


@ZFS_FIRST
def test_backups_become_images(stage: SimStage, backend: str, store: Datastore) -> None:
    """`oneimage restore`: DS cp of rsync://…, of a full backup and of a chain."""
    image = stage.import_image(backend)
    vm = stage.bare(image)
    full = back_up(stage, vm, store)
    made = stage.cloud.restore_image(full, stage.datastores[backend])
    assert [content(stage, one.source) for one in made] == [unpacked(stored(store, full))]
    stage.cloud.configure_backup(vm, MODE="INCREMENT")
    for _ in range(2):
        write(stage, vm)
        chain = back_up(stage, vm, store)
    [merged] = stage.cloud.restore_image(chain, stage.datastores[backend])
    assert content(stage, merged.source) == content(stage, resource(image, vm))
    other = stage.bare(merged)
    stage.cloud.terminate(other, hard=True).checked()
    for path, word in (("rsync+rbd://100//0:ab/x/1/ab/disk.0.rbd2", "Ceph"),
                       ("rsync://100//0:ab/x'/disk.0.0", "names no"), ("rsync://100//0:ab/x/../disk.0.0", "names no"),
                       ("restic://9//0:ab/nothing/disk.0.0", "")):
        with pytest.raises(RuntimeError) as told:
            stage.import_image(backend, path, size_mb=2)
        assert word in str(told.value)
        failed = list(stage.cloud.images.values())[-1]
        stage.cloud.delete_image(failed).checked()
    stage.cloud.terminate(vm, hard=True).checked()


@THOROUGH
def test_a_restore_forgets_the_snapshots_that_oned_forgets(stage: SimStage, store: Datastore) -> None:
    """Of all clones, also of those that were not restored; a persistent image keeps its own."""
    system, other = stage.import_image("zfs"), stage.import_image("thin")
    own = stage.import_image("zfs", persistent=True)
    vm = stage.bare(system, other, own)
    for disk in range(3):
        stage.cloud.snapshot_disk(vm, disk, "s").checked()
    saved = back_up(stage, vm, store)
    stage.cloud.poweroff(vm, hard=True).checked()
    stage.cloud.restore(vm, saved, disk=0).checked()
    kept = [line for line in stage.leftovers() if ".snap-" in line]
    assert len(kept) == 2 and all(own.source in line for line in kept)
    stage.cloud.revert_disk(vm, 2, 0).checked()
    stage.cloud.resume(vm).checked()
    stage.cloud.snapshot_disk(vm, 0, "the first again").checked()
    assert vm.snapshots[0].snapshots[0]["ID"] == "0"
    stage.cloud.poweroff(vm, hard=True).checked()
    stage.cloud.revert_disk(vm, 0, 0).checked()
    stage.cloud.terminate(vm, hard=True).checked()


@THOROUGH
def test_refusals(stage: SimStage, store: Datastore) -> None:
    image = stage.import_image("zfs")
    vm = stage.bare(image)
    line, document = stage.cloud.lines(vm).backup(["0"]), vm.xml()

    def prebackup(text: str, stdin: str) -> str:
        done = stage.cloud.transfer.run_line(text, stdin, "plain", "prebackup_live")
        return complaint(Done(done.rc, done.stdout, done.stderr))

    assert "is of another driver" in prebackup(line, document.replace(f"[{image.source}]", "[rbd/one-1]"))
    assert "the document or the path is not" in prebackup(line.replace(f"- {vm.id} ", "- 4711 "), document)
    assert "no disk to back up" in prebackup(line.replace(" 0 one-", " : one-"), document)
    assert "no disk 9" in prebackup(line.replace(" 0 one-", " 9 one-"), document)
    assert "not well-formed" in prebackup(line, document[:-20])
    interactive = "<BACKUP_CONFIG><INTERACTIVE>YES</INTERACTIVE></BACKUP_CONFIG>"
    assert "interactive" in prebackup(line, document.replace("<BACKUP_CONFIG/>", interactive))
    assert left(stage) == []
    saved = back_up(stage, vm, store)
    stage.cloud.poweroff(vm, hard=True).checked()
    assert "has no disk 3" in stage.cloud.restore(vm, saved, disk=3).error
    smaller = stage.bare(stage.import_image("zfs", stage.raw_file(MIB)))
    stage.cloud.poweroff(smaller, hard=True).checked()
    assert "has 2 MiB, the disk 1" in stage.cloud.restore(smaller, saved).error
    stored(store, saved).write_bytes(b"QFI\xfb" + bytes(600))
    before = content(stage, resource(image, vm))
    assert not stage.cloud.restore(vm, saved).ok
    assert content(stage, resource(image, vm)) == before
    for path in stored(store, saved).parent.iterdir():
        path.unlink()
    assert not stage.cloud.restore(vm, saved).ok
    assert not stage.cloud.restore(vm, image).ok
    for one in (vm, smaller):
        stage.cloud.resume(one).checked()
        stage.cloud.terminate(one, hard=True).checked()


@THOROUGH
def test_where_the_files_lie(stage: SimStage, store: Datastore) -> None:
    """BACKUP_BASE_PATH of datastore.conf; another host, where the backup datastore has a BRIDGE_LIST."""
    conf = stage.cloud.remotes / "etc/datastore/datastore.conf"
    conf.parent.mkdir(parents=True, exist_ok=True)
    conf.write_text('SUPPORTED_FS="ext4"\nBACKUP_BASE_PATH="/var/lib/one/backups"\n')
    try:
        image = stage.import_image("thin")
        vm = stage.bare(image)
        stage.cloud.configure_backup(vm, LAST_BRIDGE="node2", FS_FREEZE="SUSPEND")
        since = len(stage.farm.commands)
        saved = back_up(stage, vm, store)
        ran = argvs(stage, since)
        assert ["xl", "pause", f"one-{vm.id}"] in ran and ["xl", "unpause", f"one-{vm.id}"] in ran
        stage.cloud.poweroff(vm, hard=True).checked()
        for host in stage.hosts:
            assert not list(Path(stage.farm.path(host, "/var/lib/one/backups")).glob("*"))
        assert len(unpacked(stored(store, saved))) == SIZE
        stage.cloud.terminate(vm, hard=True).checked()
    finally:
        conf.unlink()
