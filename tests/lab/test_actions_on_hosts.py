"""Every action that changes a running guest, on two real hosts, seen from inside the guest; each twice, and against a
domain that is paused or gone."""

from __future__ import annotations

import json
import re
import time

import pytest
from looks import MIB, no_two_primaries
from once_more import again

from stage import GUEST

pytestmark = pytest.mark.lablong


@pytest.fixture(scope="module", params=["qemu"])
def vm_mad(stage, request):
    """The name of the VM_MAD, on which nothing depends: FireEdge wants one that it knows (observation 17)."""
    before = [record.vm_mad for record in stage.cloud.hosts.values()]
    for record in stage.cloud.hosts.values():
        record.vm_mad = request.param
    yield request.param
    for record, name in zip(stage.cloud.hosts.values(), before):
        record.vm_mad = name


@pytest.fixture(scope="module")
def image_of(stage, vm_mad):
    image = stage.import_guest("thin", "guest-of-actions")
    yield image
    stage.cloud.delete_image(image).checked()


@pytest.fixture(scope="module")
def vm(stage, image_of):
    """A guest with room to grow, whose kernel tells what it sees."""
    vm = stage.instantiate(image_of, "node1", MEMORY="160", MEMORY_MAX="208", VCPU="1", VCPU_MAX="2", OS={
        **stage.template(image_of)["OS"], "KERNEL_CMD": "console=hvc0 ignore_loglevel mitigations=off"})
    stage.wait_for_tick(vm, 1)
    yield vm
    stage.cloud.terminate(vm, hard=True).checked()
    assert [line for line in stage.leftovers() if f"-{vm.id}-" in line or "domain" in line] == []


def ask(stage, vm, command, answer, seconds=90):
    """Type a command at the guest's console and wait for an answer of that pattern."""
    host = stage.domain_hosts(vm)[0]
    token = f"T{time.monotonic_ns()}"
    script = 'tty=$(xenstore-read "/local/domain/$(xl domid "$1")/console/tty"); printf "%s\\n" "$2" > "$tty"'
    stage.lab.root(host, ["sh", "-c", script, "sh", f"one-{vm.id}", f"echo {token} $({command}) END"])
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = re.search(rf"^{token} (.*) END", stage.lab.console_tail(f"one-{vm.id}", 60), re.MULTILINE)
        if found and re.search(answer, found.group(1)):
            return found.group(1)
        if found:
            break
        time.sleep(1)
    raise AssertionError(f"{command}: the guest said {found.group(1) if found else 'nothing'}")


def seen(stage, vm, host="node1"):
    """b_info, disks and nics of the domain as libxl keeps them: what a reboot is built of."""
    entries = json.loads(stage.lab.root(host, ["xl", "list", "-l"]).stdout)
    config = next(one["config"] for one in entries if one["config"]["c_info"].get("name") == f"one-{vm.id}")
    return config["b_info"], config.get("disks", []), config.get("nics", [])


def test_resize_and_what_is_kept_of_it(stage, vm):
    cloud = stage.cloud
    cloud.resize_vm(vm, cpu=2, vcpu=2, memory_mb=192).checked()
    assert again(cloud, "resize").rc == 0
    build, _disks, _nics = seen(stage, vm)
    assert (len(build["avail_vcpus"]), build["target_memkb"], build["sched_params"]["weight"]) == (2, 192 << 10, 512)
    for wanted in ({"memory_mb": 256}, {"vcpu": 3}):
        refused = cloud.resize_vm(vm, **wanted)
        assert not refused.ok and "beyond" in refused.error
    assert seen(stage, vm)[0] == build
    tick = stage.last_tick(vm)
    cloud.suspend(vm).checked()
    cloud.resume(vm).checked()
    stage.wait_for_tick(vm, tick)
    kept, _disks, _nics = seen(stage, vm)
    assert (kept["avail_vcpus"], kept["target_memkb"]) == (build["avail_vcpus"], build["target_memkb"])


def test_a_disk_comes_and_goes(stage, vm):
    cloud = stage.cloud
    cloud.attach_disk(vm, {"TYPE": "fs", "FS": "ext4", "SIZE": "16", "FORMAT": "raw"}).checked()
    assert again(cloud, "attach_disk").rc == 0
    name = f"one-sys-{vm.id}-{vm.disks[-1]['DISK_ID']}"
    target = next(one["vdev"] for one in seen(stage, vm)[1] if name in one["pdev_path"])
    size = int(ask(stage, vm, f"cat /sys/class/block/{target}/size", r"^\d+$")) * 512
    assert 16 * MIB <= size < 24 * MIB
    ask(stage, vm, f"sh -c 'tail -f /dev/null </dev/{target} >/dev/null & echo $! >/holder; echo held'", "held")
    # Linux 6.12 lets go of what a process has open: that gets errors, and the host its disk.
    cloud.detach_disk(vm, int(vm.disks[-1]["DISK_ID"])).checked()
    assert again(cloud, "detach_disk").rc == 0
    assert [one for one in seen(stage, vm)[1] if name in one["pdev_path"]] == []
    assert [line for line in stage.leftovers() if name in line] == []


def test_an_interface_comes_and_goes_and_a_failed_one_leaves_no_trace(stage, vm):
    cloud = stage.cloud
    cloud.attach_nic(vm, {"NETWORK": "guests"}).checked()
    assert again(cloud, "attach_nic").rc == 0
    mac = vm.nics[-1]["MAC"]
    assert ask(stage, vm, "cat /sys/class/net/*/address | tr '\\n' ' '", mac)
    cloud.detach_nic(vm, int(vm.nics[-1]["NIC_ID"])).checked()
    assert again(cloud, "detach_nic").rc == 0
    bridge = cloud.create_network("broken", bridge="br0")
    script = "/etc/xen/scripts/vif-bridge"
    stage.lab.root("node1", ["mv", script, f"{script}.away"])
    stage.lab.root("node1", ["sh", "-c", f"cat > {script}; chmod +x {script}"],
                   input='#!/bin/sh\n[ "$1" != online ] || exit 1\n')
    failed = cloud.attach_nic(vm, {"NETWORK": bridge.name})
    stage.lab.root("node1", ["mv", f"{script}.away", script])
    assert not failed.ok
    assert len(seen(stage, vm)[2]) == 1
    before = stage.last_tick(vm)
    cloud.reboot(vm).checked()
    stage.wait_for_tick(vm, before)


def test_the_context_of_a_running_guest(stage, vm):
    cloud = stage.cloud
    cloud.update_configuration(vm, {"CONTEXT": {"NETWORK": "YES", "GREETING": "hello again"}}, append=True).checked()
    for action in ("prereconfigure", "reconfigure"):
        assert again(cloud, action).rc == 0
    target = next(one["vdev"] for one in seen(stage, vm)[1] if "/datastores/" in one["pdev_path"])
    ask(stage, vm, f"sh -c 'mount -t iso9660 -o ro /dev/{target} /context && cat /context/context.sh; umount /context'",
        "GREETING='hello again'")


def test_saved_memory_that_its_disks_have_left_behind(stage, vm, image_of):
    """Somebody writes to the disk of a suspended VM; the VM says so, and boots when it is told to."""
    cloud, disk = stage.cloud, f"{image_of.source}-{vm.id}-0"
    cloud.suspend(vm).checked()
    assert again(cloud, "save").rc == 0
    device = f"/dev/drbd/by-res/{disk}/0"
    stage.lab.root("node1", ["drbdadm", "primary", disk])
    stage.lab.root("node1", ["dd", "if=/dev/zero", f"of={device}", "bs=4096", "seek=3", "count=1", "oflag=direct"])
    stage.lab.root("node1", ["drbdadm", "secondary", disk])
    refused = cloud.resume(vm)
    assert not refused.ok and vm.status == "SUSPENDED" and "was written to since" in refused.error
    vm.user_template["DNC_RESTORE"] = "boot"
    before = stage.last_tick(vm)
    cloud.resume(vm).checked()
    del vm.user_template["DNC_RESTORE"]
    stage.wait_for_tick(vm, before)


def test_a_paused_guest(stage, vm):
    """What needs the guest is refused at once; a shutdown wakes it, however often it was paused."""
    cloud, name = stage.cloud, f"one-{vm.id}"
    for _twice in range(2):
        stage.lab.root("node1", ["xl", "pause", name])
    for operation in (cloud.resize_vm(vm, cpu=1), cloud.suspend(vm), cloud.attach_nic(vm, {"NETWORK": "guests"})):
        assert not operation.ok and "is paused" in operation.error, operation.label
    cloud.poweroff(vm).checked()
    assert again(cloud, "shutdown").rc == 0
    assert stage.domain_hosts(vm) == []
    for like, action in (("reboot", "reboot"), ("reboot", "reset"), ("resize", "resize"), ("attach_nic", "attach_nic")):
        gone = again(cloud, like, action=action)
        assert gone.rc == 1 and "does not run here" in gone.stderr, action
    before = stage.last_tick(vm)
    cloud.resume(vm).checked()
    assert again(cloud, "deploy").rc == 0
    stage.wait_for_tick(vm, before)


def test_a_shell_at_the_destination(stage, vm):
    """What a broken migration left at the destination does not make the next one fail."""
    text = f'name = "one-{vm.id}--incoming"\ntype = "pvh"\nmemory = 64\nkernel = "{GUEST}/guest-vmlinuz"\n'
    stage.lab.root("node2", ["sh", "-c", "cat > /root/shell.cfg && xl create -p /root/shell.cfg"], input=text)
    before = stage.last_tick(vm)
    stage.cloud.migrate(vm, "node2", live=True).checked()
    assert again(stage.cloud, "migrate").rc == 0
    assert stage.domain_hosts(vm) == ["node2"]
    stage.wait_for_tick(vm, before)
    for disk in [line for line in stage.leftovers() if "/etc/drbd.d/" in line and f"-{vm.id}-" in line]:
        no_two_primaries(stage, disk.rsplit("/", 1)[1].removesuffix(".res"))
    for hard in (False, True):
        before = stage.last_tick(vm)
        stage.cloud.reboot(vm, hard=hard).checked()
        stage.wait_for_tick(vm, before)
