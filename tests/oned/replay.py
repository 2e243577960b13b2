"""Does on the stand-in what the user of a recording did with onevm, oneimage and the others."""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict

from lxml import etree
from recordings import AnsweringBackend, Recording, load

from oned import Call, Image, Injection, Oned, Operation, Refused, Settings, SshFarm, VirtualMachine

# Operations that the stand-in does not offer, by the words of the recording's label.
NOT_OFFERED = {
    r"^onehost ": "hosts are not monitored",
    r"vnet create": "virtual networks are records without drivers",
    r"^updateconf .*backup": "a backup's recording has the configuration with it",
    r"backup \(slow\)|backup-cancel": "the driver was let go on: contract tests cancel it as the shipped driver does",
    r"ds restore|backup image delete": "the driver makes the images by itself; restore_image() stands for it",
    r"^secgroup|^sg-": "security groups are VNM's alone",
    r"^exec": "guest agents are not part of the main job",
    r"3 at once|^onehost flush": "there is no scheduler; tests place machines themselves",
    r"rename|^image (list|show)": "changes or reads a record, calls no driver",
    r"flatten": "refused by the recorded command line itself",
    r"OS.BOOT.disk0": "only VM_MAD TYPE xen fails to write that deployment file",
    r"bootopt|nothing was deployed": "follows the operation that only TYPE xen fails",
    r"probe": "no probes; report() sets what they would say",
}
# Operations that were given up while a driver hung: (set, op) -> the op during which the driver came back.
HANGS = {
    ("self", 224): 226, ("self", 236): 237, ("self", 238): 239, ("extra", 61): 62, ("extra", 65): 67, ("extra", 71): 73,
}
# Backup images as the recorded oned numbered them.
BACKUP_IMAGES = {165: 39, 167: 40, 172: 41}
_TM_MAD_CONF = {
    "LN_TARGET": "NONE", "CLONE_TARGET": "SELF", "SHARED": "YES", "DRIVER": "raw", "DISK_TYPE": "BLOCK",
    "ALLOW_ORPHANS": "YES", "DS_MIGRATE": "YES", "DS_LIVE_MIGRATE": "YES", "DS_MIGRATE_SNAP": "YES",
}


@dataclass
class Replayed:
    """What the stand-in did for one recording."""

    recording: Recording
    skipped: str = ""
    calls: list[Call] = field(default_factory=list)
    operation: Operation | None = None
    refusal: str = ""
    status: str = ""
    error: str = ""
    history: list[Dict[str, Any]] = field(default_factory=list)
    followed: bool = False


def reason_to_skip(recording: Recording) -> str:
    if recording.key == ("extra", 228):
        return "a machine of the three at once still uses the image"
    return next((why for pattern, why in NOT_OFFERED.items() if re.search(pattern, recording.label, re.IGNORECASE)), "")


class Replay:
    """One set of recordings, in order, on one stand-in."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.directory = directory = Path(tempfile.mkdtemp(prefix="oned-replay-"))
        (directory / "ssh").mkdir()
        settings = Settings(
            vm_mad="rec", vmm_directory="rec", tm_mad="rec", ds_mad="rec", im_mad="rec", device_prefix="sd",
            live_disk_snapshots=("rec-rec",), inherit_datastore_attributes=(), tm_mad_conf=_TM_MAD_CONF)
        self.backend = AnsweringBackend()
        self.cloud = Oned(directory / "one", SshFarm((), directory / "ssh", None), settings, backend=self.backend)
        self.cloud.next_ids["network"] = {"self": 3, "extra": 4}[kind]
        self.network = self.cloud.create_network(f"{kind}-net", vn_mad="rec", dns="10.0.0.2", gateway="10.0.0.1")
        self.waiting: list[tuple[int, Injection, Operation]] = []
        self.followed: set[int] = set()
        self.afterwards: list[Callable[[], object]] = []

    def run(self) -> Dict[str, Replayed]:
        results = {}
        recordings = load(self.kind)
        self._hosts()
        self._known_names(recordings)
        for recording in recordings:
            results[recording.name] = self._one(recording)
        self.cloud.stop()
        shutil.rmtree(self.directory)
        return results

    def _hosts(self) -> None:
        self.cloud.next_ids["host"] = 8
        for name in ("node1", "node2", "node3", "node4"):
            record = self.cloud.create_host(name)
            record.vm_mad = {"node3": "recxml", "node4": "reckvm"}.get(name, "rec")

    def _known_names(self, recordings: list[Recording]) -> None:
        """Ids that the recorded oned had reached."""
        first = next(one for one in recordings if "datastore create" in one.label)
        self.cloud.next_ids["datastore"] = int(re.findall(r"\d+", first.stdout)[0])

    # --- one operation ---------------------------------------------------------------------------------------------

    def _one(self, recording: Recording) -> Replayed:
        result = Replayed(recording, reason_to_skip(recording))
        cloud, before = self.cloud, len(self.cloud.calls)
        self.backend.expect([] if result.skipped else recording.calls, bool(self.waiting))
        vm = cloud.vms.get(recording.vm) if recording.vm is not None else None
        if not result.skipped:
            held = self._inject(recording)
            try:
                result.operation = self._do(recording, vm)
            except Refused as refused:
                result.refusal = str(refused)
            if result.operation is not None and recording.key in HANGS:
                self._await_call(before, recording)
                self.waiting.append((HANGS[recording.key], held[0], result.operation))
        self._release(recording.op)
        cloud.log.clear_injections()
        vm = cloud.vms.get(recording.vm) if recording.vm is not None else None
        if result.operation is not None and result.operation.refused:
            result.refusal = result.operation.error
        if vm is not None:
            if result.skipped:
                self._follow(vm, recording)
            result.status, result.error = vm.status, vm.error
            result.history = [_history(one) for one in vm.history[-3:]]
            result.followed = vm.id in self.followed
        for late in self.afterwards:
            late()
        self.afterwards.clear()
        result.calls = cloud.calls[before:]
        return result

    def _inject(self, recording: Recording) -> list[Injection]:
        slow = 30.0 if recording.key in HANGS else 0.0
        return [self.cloud.inject(what, one["rc"], one["stderr"], slow, one["count"], one.get("match", ""))
                for what, one in recording.inject if "sleep" not in one or recording.key in HANGS]

    def _await_call(self, before: int, recording: Recording) -> None:
        wanted = len(recording.calls)
        self.cloud.log.await_calls(before + wanted, 10.0)

    def _release(self, op: int) -> None:
        for one in [one for one in self.waiting if one[0] == op]:
            self.waiting.remove(one)
            one[1].release()
            one[2].wait(10.0)

    def _follow(self, vm: VirtualMachine, recording: Recording) -> None:
        """Bring a machine where an operation that is not offered left it; its history is no longer compared."""
        self.followed.add(vm.id)
        if recording.after != vm.status and recording.after in ("RUNNING", "POWEROFF", "UNKNOWN"):
            self.cloud.report(vm, recording.after)
        history = recording.data.get("history")
        if history and vm.history:
            vm.current.seq = history[-1]["seq"]

    # --- what the user did -----------------------------------------------------------------------------------------

    def _do(self, recording: Recording, vm: VirtualMachine | None) -> Operation | None:
        tool, verb, *words = recording.command
        options, arguments = _parse(words)
        if tool == "onevm":
            assert vm is not None, f"{recording.name}: no machine {recording.vm}"
            return self._onevm(recording, vm, verb, options, arguments[1:])
        doers: Dict[str, Callable[..., Operation | None]] = {
            "oneimage": self._oneimage, "onetemplate": self._onetemplate, "onedatastore": self._onedatastore}
        return doers[tool](recording, verb, options, arguments)

    def _onevm(self, recording: Recording, vm: VirtualMachine, verb: str, options: Dict[str, str],
               words: list[str]) -> Operation:
        cloud, hard, hang = self.cloud, "hard" in options, recording.key in HANGS
        disk = {"image": {"IMAGE": options.get("image", "")}, "file": {"TYPE": "fs", "SIZE": "50", "FORMAT": "raw"}}
        table: Dict[str, Callable[[], Operation]] = {
            "deploy": lambda: cloud.deploy(vm, words[0], words[1], background=hang),
            "migrate": lambda: cloud.migrate(
                vm, words[0], "live" in options, words[1] if len(words) > 1 else None,
                poff="poff" in options or "poff-hard" in options, hard="poff-hard" in options, background=hang),
            "resume": lambda: cloud.resume(vm), "suspend": lambda: cloud.suspend(vm), "stop": lambda: cloud.stop_vm(vm),
            "poweroff": lambda: cloud.poweroff(vm, hard), "undeploy": lambda: cloud.undeploy(vm, hard),
            "reboot": lambda: cloud.reboot(vm, hard), "terminate": lambda: cloud.terminate(vm, hard),
            "recover": lambda: self._recover(vm, options, recording),
            "disk-attach": lambda: cloud.attach_disk(vm, disk["image" if "image" in options else "file"]),
            "disk-detach": lambda: cloud.detach_disk(vm, int(words[0])),
            "disk-snapshot-create": lambda: cloud.snapshot_disk(vm, int(words[0]), words[1]),
            "disk-snapshot-revert": lambda: cloud.revert_disk(vm, int(words[0]), int(words[1])),
            "disk-snapshot-delete": lambda: cloud.delete_disk_snapshot(vm, int(words[0]), int(words[1])),
            "disk-saveas": lambda: self._save_as(recording, vm, words, options),
            "disk-resize": lambda: cloud.resize_disk(vm, int(words[0]), int(words[1])),
            "nic-attach": lambda: cloud.attach_nic(vm, {
                "NETWORK": options["network"], **({"PARENT": options["alias"]} if "alias" in options else {})}),
            "nic-detach": lambda: cloud.detach_nic(vm, int(words[0])),
            "nic-update": lambda: cloud.update_nic(vm, int(words[0]), {"INBOUND_AVG_BW": "1000"}),
            "backup": lambda: self._backup(recording, vm),
            "restore": lambda: cloud.restore(vm, cloud.images[int(words[0])]),
            "updateconf": lambda: cloud.update_configuration(vm, {"CONTEXT": {"NETWORK": "YES", "FOO": "bar"}}),
            "resize": lambda: cloud.resize_vm(
                vm, float(options["cpu"]) if "cpu" in options else None,
                int(options["vcpu"]) if "vcpu" in options else None, int(options["memory"])),
            "snapshot-create": lambda: cloud.snapshot_vm(vm, words[0]),
            "snapshot-revert": lambda: cloud.revert_vm(vm, int(words[0])),
            "snapshot-delete": lambda: cloud.delete_vm_snapshot(vm, int(words[0])),
        }
        return table[verb]()

    def _backup(self, recording: Recording, vm: VirtualMachine) -> Operation:
        document = next(one["stdin"] for one in recording.calls if one["action"].startswith("prebackup"))
        config = etree.fromstring(document.encode()).find("BACKUPS/BACKUP_CONFIG")
        self.cloud.configure_backup(vm, **{one.tag: one.text or "" for one in (config if config is not None else ())})
        self.cloud.next_ids["image"] = BACKUP_IMAGES.get(recording.op, 0)
        return self.cloud.backup(vm, next(one for one in self.cloud.datastores.values() if one.type == "BACKUP_DS"))

    def _recover(self, vm: VirtualMachine, options: Dict[str, str], recording: Recording) -> Operation:
        cloud = self.cloud
        verb = next(one for one in ("success", "failure", "retry", "delete", "recreate", "delete-db") if one in options)
        operation: Operation = getattr(cloud, f"recover_{verb.replace('-', '_')}")(vm)
        if recording.key == ("extra", 73):  # the recorded scheduler placed the recreated machine at once
            self._release(recording.op)
            self.afterwards.append(lambda: cloud.deploy(vm, "node2", "extra-sys1"))
        return operation

    def _save_as(self, recording: Recording, vm: VirtualMachine, words: list[str],
                 options: Dict[str, str]) -> Operation:
        self._next_image(recording)
        return self.cloud.save_disk_as(vm, int(words[0]), words[1], int(options.get("snapshot", -1)))

    def _next_image(self, recording: Recording) -> None:
        made = [call for call in recording.calls if call["action"] in ("cp", "mkfs", "clone")]
        found = re.findall(r"ID: (\d+)", recording.stdout)
        if made and made[0]["mad"] == "ds":
            self.cloud.next_ids["image"] = int(made[0]["argv"][0])
        elif found:
            self.cloud.next_ids["image"] = int(found[0])

    def _oneimage(self, recording: Recording, verb: str, options: Dict[str, str], words: list[str]) -> Operation | None:
        cloud = self.cloud
        if verb == "create":
            self._next_image(recording)
            store = next(one for one in cloud.datastores.values() if one.name == options["d"])
            cloud.create_image(
                options["name"], options.get("path", ""), store, "persistent" in options,
                int(options["size"]) if "size" in options else None, options["type"], source=options.get("source", ""),
                template={"FORMAT": options["format"]} if "format" in options else None)
            return cloud.operations[-1] if "source" not in options else None
        image = cloud.images.get(int(words[0])) if words[0].isdigit() else None
        image = image or cloud.image_named(words[0])
        if verb == "clone":
            self._next_image(recording)
            cloud.clone_image(image, words[1])
        elif verb == "delete":
            cloud.delete_image(image)
        elif verb == "enable":
            cloud.enable_image(image)
            return None
        else:
            cloud.image_snapshot(image, verb.split("-")[1], int(words[1]))
        return cloud.operations[-1]

    def _onedatastore(self, recording: Recording, verb: str, options: Dict[str, str], words: list[str]) -> Operation:
        kind = "SYSTEM" if "system" in recording.label else "IMAGE"
        datastore_id = int(re.findall(r"\d+", recording.stdout)[0])
        self.cloud.next_ids["datastore"] = datastore_id
        systems = sum(one.is_system for one in self.cloud.datastores.values())
        if "backup" in recording.label:
            return self.cloud.monitor_datastore(self.cloud.create_backup_datastore(
                f"{self.kind}-bak", self.directory / "backups", {"DS_MAD": "rec"}))
        name = f"{self.kind}-sys{systems + 1}" if kind == "SYSTEM" else f"{self.kind}-img"
        extra = {"REC_SYS": "x"} if kind == "SYSTEM" else {"REC_ATTR": "some value", "BRIDGE_LIST": "node1 node2"}
        datastore = self.cloud.create_datastore(name, kind, extra)
        return self.cloud.monitor_datastore(datastore)

    def _onetemplate(self, recording: Recording, verb: str, options: Dict[str, str],
                     words: list[str]) -> Operation | None:
        self.cloud.next_ids["vm"] = recording.vm
        template = _template_of(recording.vm_after)
        if "persistent" in options:  # onetemplate clones every image first and makes the clones persistent
            for disk, call in zip(template["DISK"], recording.calls):
                origin = self.cloud.images[int(re.findall(r"<CLONING_ID>(\d+)", call["stdin"])[0])]
                self.cloud.next_ids["image"] = int(call["argv"][0])
                self.cloud.set_persistent(self.cloud.clone_image(origin, disk["IMAGE"]), True)
        self._ensure_images(recording.vm_after)
        vm = self.cloud.instantiate(template, hold=True, name=options["name"])
        if "hold" in options:
            return None
        placed = recording.history[-1]  # by the recorded scheduler
        return self.cloud.deploy(vm, placed["host"], self.cloud.datastores[placed["ds"]].name)

    def _ensure_images(self, document: str) -> None:
        """Images that were made between two recorded stretches."""
        for disk in etree.fromstring(document.encode()).findall("TEMPLATE/DISK"):
            name, image_id = disk.findtext("IMAGE"), disk.findtext("IMAGE_ID")
            if name and image_id and not any(one.name == name for one in self.cloud.images.values()):
                self.cloud.next_ids["image"] = int(image_id)
                store = next(one for one in self.cloud.datastores.values() if one.name == disk.findtext("DATASTORE"))
                image: Image = self.cloud.create_image(
                    name, datastore=store, persistent=disk.findtext("PERSISTENT") == "YES", template={"FORMAT": "raw"},
                    size_mb=int(disk.findtext("ORIGINAL_SIZE", "0")), source=disk.findtext("SOURCE", ""))
                store.image_ids.append(image.id)


def _parse(words: list[str]) -> tuple[Dict[str, str], list[str]]:
    """(options, arguments) of a command line of OpenNebula."""
    flags = {"live", "hard", "poff", "poff-hard", "persistent", "hold", "append", "success", "failure", "retry",
             "delete", "recreate", "delete-db"}
    options: Dict[str, str] = {}
    arguments: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name = word.lstrip("-")
        if word.startswith("-") and name in flags:
            options[name] = ""
        elif word.startswith("-"):
            options[name] = rest.pop(0)
        else:
            arguments.append(word)
    return options, arguments


def _template_of(document: str) -> Dict[str, Any]:
    """What the user must have written for oned to make that machine."""
    template = etree.fromstring(document.encode()).find("TEMPLATE")
    assert template is not None, shlex.quote(document[:80])
    plain = ("CPU", "VCPU", "VCPU_MAX", "MEMORY", "MEMORY_MAX")
    user: Dict[str, Any] = {name: template.findtext(name) for name in plain if template.findtext(name)}
    user["DISK"] = [_disk_of(disk) for disk in template.findall("DISK")]
    user["NIC"] = [{name: nic.findtext(name) for name in ("NETWORK", "MODEL") if nic.findtext(name)}
                   for nic in template.findall("NIC")]
    context = template.find("CONTEXT")
    if context is not None:
        user["CONTEXT"] = {one.tag: one.text or "" for one in context if not one.tag.startswith("ETH")
                           and one.tag not in ("DISK_ID", "TARGET")}
    for name in ("OS", "GRAPHICS", "FEATURES", "RAW", "CPU_MODEL", "INPUT", "TOPOLOGY", "VIDEO"):
        vector = template.find(name)
        if vector is not None:
            user[name] = {one.tag: one.text or "" for one in vector if one.tag not in ("UUID", "PORT")}
    free = etree.fromstring(document.encode()).find("USER_TEMPLATE")
    user.update({one.tag: one.text or "" for one in (free if free is not None else []) if not len(one)})
    user["SUBMIT_ON_HOLD"], user["TEMPLATE_ID"] = "YES", template.findtext("TEMPLATE_ID", "0")
    return user


def _disk_of(disk: Any) -> Dict[str, str]:
    if disk.findtext("IMAGE"):
        written = {"IMAGE": disk.findtext("IMAGE")}
        if disk.findtext("DEV_PREFIX", "sd") != "sd":
            written["DEV_PREFIX"] = disk.findtext("DEV_PREFIX")
        if disk.findtext("SIZE") != disk.findtext("ORIGINAL_SIZE"):
            written["SIZE"] = disk.findtext("SIZE")
        return written
    return {name: disk.findtext(name) for name in ("TYPE", "SIZE", "FS", "FORMAT") if disk.findtext(name)}


def _history(record: Any) -> Dict[str, Any]:
    times = ("etime", "pstime", "petime", "rstime", "retime", "estime", "eetime")
    return {"seq": record.seq, "host": record.host, "ds": record.datastore_id, "action": int(record.action),
            "set": [name for name in times if getattr(record, name)]}
