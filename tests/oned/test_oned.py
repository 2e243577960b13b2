"""What tests of the suite rely on: XML-RPC and its bad days, injections, actions that are given up, versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator
from xmlrpc.client import ServerProxy

import pytest
from lxml import etree

from oned import Call, Completed, Oned, Refused, Settings, SshFarm
from oned.messages import failure_text, transfer_error

SESSION = "oneadmin:opennebula"


class Answers:
    """Plausible answers without any process."""

    def has_script(self, family: str, driver: str, action: str) -> bool:
        return family != "vnm" and "." not in action

    def local(self, call: Call) -> Completed:
        word = {"deploy": "one-0", "stat": "64", "cp": f"vol-{call.argv[0] if call.argv else ''} raw", "mkfs": "vol"}
        return Completed(0, word.get(call.action, ""))

    remote = script = local

    def shell(self, command: str, stdin: str) -> Completed:
        return Completed(0)

    def open_stream(self, host: str, forward: bool) -> Answers:
        return self

    def close(self) -> None:
        pass

    def stop(self) -> None:
        pass


def make(directory: Path, **settings: Any) -> Oned:
    (directory / "ssh").mkdir()
    cloud = Oned(directory / "one", SshFarm(("node1", "node2"), directory / "ssh", None), Settings(**settings),
                 backend=Answers())
    cloud.start()
    cloud.create_datastore("images", template={"DNC_POOL": "zfs:tank/dnc"})
    cloud.create_datastore("system", type="SYSTEM", template={"DNC_POOL": "lvm:vg0/pool"})
    cloud.create_network("lan", bridge="br7")
    cloud.create_image("os", path="/img")
    cloud.create_image("data", path="/img", persistent=True)
    return cloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Oned]:
    made = make(tmp_path)
    yield made
    made.stop()


def template(*images: str, **more: Any) -> dict[str, Any]:
    return {"CPU": 1, "MEMORY": 64, "DISK": [{"IMAGE": one} for one in images], **more}


def actions(operation: Any) -> list[str]:
    return [one.action for one in operation.calls]


# --- XML-RPC ---------------------------------------------------------------------------------------------------------


def test_vm_info_is_the_document_with_all_history(cloud: Oned) -> None:
    vm = cloud.instantiate(template("os", NIC=[{"NETWORK": "lan"}]), host="node1")
    cloud.migrate(vm, "node2", live=True)
    ok, document, code = ServerProxy(cloud.rpc.url).one.vm.info(SESSION, vm.id, False)
    root = etree.fromstring(document.encode())
    assert (ok, code) == (True, 0)
    assert root.xpath("HISTORY_RECORDS/HISTORY/HOSTNAME/text()") == ["node1", "node2"]
    assert root.findtext("TEMPLATE/DISK/DNC_POOL") == "zfs:tank/dnc"
    assert root.findtext("TEMPLATE/NIC/TARGET") == f"one-{vm.id}-0" and root.findtext("TEMPLATE/NIC/BRIDGE") == "br7"
    assert cloud.rpc.questions == [("one.vm.info", (vm.id, False))]


def test_other_documents_and_pools(cloud: Oned) -> None:
    proxy = ServerProxy(cloud.rpc.url)
    roots = {"host": "HOST", "datastore": "DATASTORE", "image": "IMAGE"}
    for kind, root in roots.items():
        answer = getattr(proxy.one, f"{kind}pool").info(SESSION, -2, -1, -1)
        pool = etree.fromstring(answer[1].encode())
        assert pool.tag == f"{root}_POOL" and {one.tag for one in pool} == {root}
        first = int(pool[0].findtext("ID"))
        assert etree.fromstring(getattr(proxy.one, kind).info(SESSION, first)[1].encode()).tag == root


def test_refusals_of_the_server(cloud: Oned) -> None:
    proxy = ServerProxy(cloud.rpc.url)
    assert proxy.one.vm.info(SESSION, 77) == [False, "[one.vm.info] Error getting virtual machine [77].", 0x400]
    assert proxy.one.vm.info("x:y", 0)[0] is False
    cloud.rpc.error = "Internal error"
    assert proxy.one.vm.info(SESSION, 0)[1] == "[one.vm.info] Internal error"


def test_server_that_is_gone_and_comes_back(cloud: Oned) -> None:
    url = cloud.rpc.url
    cloud.rpc.stop()
    with pytest.raises(OSError):
        ServerProxy(url).one.system.version(SESSION)
    cloud.rpc.start()
    assert cloud.rpc.url == url and ServerProxy(url).one.system.version(SESSION) == [True, "7.4.0", 0]
    cloud.rpc.garbage = b"<not xml"
    with pytest.raises(Exception, match="not well-formed|unclosed|syntax"):
        ServerProxy(url).one.system.version(SESSION)


# --- documents -------------------------------------------------------------------------------------------------------


def test_volatile_disks_inherit_from_the_system_datastore(cloud: Oned) -> None:
    vm = cloud.instantiate({"MEMORY": 64, "CPU": 1, "DISK": [{"TYPE": "fs", "SIZE": "10", "FS": "ext4"}]}, host="node1")
    assert vm.disks[0]["DNC_POOL"] == "lvm:vg0/pool" and vm.disks[0]["TM_MAD"] == "dnc"


def test_free_attributes_go_to_the_user_template(cloud: Oned) -> None:
    vm = cloud.instantiate(template("os", XEN_TYPE="pvh"), host="node1")
    assert vm.user_template == {"XEN_TYPE": "pvh"} and "XEN_TYPE" not in vm.template


def test_disk_larger_than_its_image(cloud: Oned) -> None:
    vm = cloud.instantiate({**template(), "DISK": [{"IMAGE": "os", "SIZE": "100"}]}, host="node1")
    assert (vm.disks[0]["SIZE"], vm.disks[0]["ORIGINAL_SIZE"]) == ("100", "64")
    assert actions(cloud.operations[-1]) == ["clone", "deploy"]


def test_persistent_image_has_one_user(cloud: Oned) -> None:
    vm = cloud.instantiate(template("data"), host="node1")
    with pytest.raises(Refused, match="already in use"):
        cloud.instantiate(template("data"), host="node1")
    cloud.terminate(vm).checked()
    assert cloud.image_named("data").state.name == "READY" and "mvds" in actions(cloud.operations[-1])


# --- failures and giving up ------------------------------------------------------------------------------------------


def test_injected_failure_and_retry(cloud: Oned) -> None:
    cloud.inject("tm.clone", stderr="node1: no space", match="disk.1")
    vm = cloud.instantiate(template("os", "os"), host="node1")
    assert (vm.status, vm.error[26:]) == ("PROLOG_FAILURE", "Error executing image transfer script: node1: no space")
    assert not cloud.operations[-1].ok and actions(cloud.operations[-1]) == ["clone", "clone"]
    with pytest.raises(RuntimeError, match="no space"):
        cloud.operations[-1].checked()
    assert cloud.recover_retry(vm).ok and vm.status == "RUNNING"


def test_clone_given_up_while_it_runs(cloud: Oned) -> None:
    slow = cloud.inject("tm.clone", rc=0, sleep_s=30)
    vm = cloud.instantiate(template("os", "os"), host="node1", background=True)
    running = cloud.operations[-1]
    cloud.log.await_calls(5, 10)
    assert vm.status == "PROLOG" and running.running
    assert actions(cloud.recover_delete(vm)) == ["delete", "delete", "delete"] and vm.status == "DONE"
    assert running.running  # nobody stopped the script
    slow.release()
    running.wait(10)
    assert running.given_up and actions(running) == ["clone"] and running.calls[0].rc == 0
    assert vm.status == "DONE"


def test_migration_given_up_goes_on(cloud: Oned) -> None:
    vm = cloud.instantiate(template("os"), host="node1")
    slow = cloud.inject("vmm.migrate", rc=0, sleep_s=30)
    running = cloud.migrate(vm, "node2", live=True, background=True)
    vm.await_status("MIGRATE", 10)
    cloud.log.await_calls(8, 10)
    cloud.recover_failure(vm)
    assert (vm.status, vm.host) == ("RUNNING", "node1")
    slow.release()
    assert actions(running.wait(10)) == ["premigrate", "migrate", "postmigrate"]
    assert (vm.status, vm.host) == ("RUNNING", "node1")


def test_unknown_machine_is_migrated_without_its_host(cloud: Oned) -> None:
    vm = cloud.instantiate(template("os"), host="node1")
    cloud.report(vm, "UNKNOWN")
    assert actions(cloud.migrate(vm, "node2").checked()) == ["mv", "mv", "deploy"]
    assert (vm.status, vm.host) == ("RUNNING", "node2")


def test_premigrate_of_6_10_is_not_undone(tmp_path: Path) -> None:
    cloud = make(tmp_path, version="6.10.5")
    vm = cloud.instantiate(template("os"), host="node1")
    cloud.inject("tm.premigrate", stderr="ERROR: no\nplain")
    operation = cloud.migrate(vm, "node2", live=True)
    assert actions(operation) == ["premigrate"] and vm.error.endswith("MIGRATE: ERROR: no plain")
    assert "PLAN_ID" not in vm.xml()
    cloud.stop()


def test_live_disk_snapshots_need_the_pair(tmp_path: Path) -> None:
    cloud = make(tmp_path, live_disk_snapshots=())
    vm = cloud.instantiate(template("os"), host="node1")
    operation = cloud.snapshot_disk(vm, 0, "a")
    assert not operation.ok and operation.calls == [] and vm.status == "RUNNING"
    cloud.stop()


def test_deploy_without_an_id_fails(cloud: Oned) -> None:
    cloud.inject("vmm.deploy", rc=0, stdout=" ")
    vm = cloud.instantiate(template("os"), host="node1")
    assert vm.status == "BOOT_FAILURE" and "Empty deploy ID" in vm.error


def test_progress_is_told_of_start_and_end(cloud: Oned) -> None:
    told: list[tuple[str, bool]] = []
    cloud.log.progress = lambda call: told.append((call.action, call.rc is None))
    cloud.instantiate(template("os"), host="node1")
    assert told == [("clone", True), ("clone", False), ("deploy", True), ("deploy", False)]


@pytest.mark.parametrize(("version", "stderr", "shown"), [
    ("7.4.0", "INFO: a\ntext\nERROR: b", "text"),
    ("7.4.0", "first\nsecond", "firstsecond"),
    ("7.4.0", "ERROR: only this", ""),
    ("6.10.5", "INFO: a\ntext\n", "INFO: a text"),
])
def test_failure_text(version: str, stderr: str, shown: str) -> None:
    assert failure_text(stderr, version)[0] == shown


def test_transfer_error_is_cut() -> None:
    assert transfer_error("x" * 61).endswith("x" * 61)
    cut = "Error executing image transfer script: " + "x" * 61
    assert transfer_error("x" * 62) == f"{cut}... see more details in VM log"
    assert transfer_error("") == ""
