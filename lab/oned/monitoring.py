"""Monitoring: probes run on hosts as monitord's client runs them, and what oned makes of their words (contract 3).

The client itself is Ruby and not part of this: here each directory of probes is one ssh session.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Dict

from .attributes import Attributes
from .calls import Call, Completed
from .machine import VirtualMachine, now
from .observe import Observation
from .records import HostRecord
from .states import LcmState, VmState
from .template_text import Parsed, TemplateError, parse_template

# In the client's order; beacons are for its loop only.
DIRECTORIES = {
    "host/system": "SYSTEM_HOST", "host/monitor": "MONITOR_HOST", "vm/status": "STATE_VM", "vm/execution": "EXEC_VM",
    "vm/monitor": "MONITOR_VM", "vm/snapshot": "MONITOR_VM",
}
_SINCE = {"vm/execution": (7, 2)}
_GONE_FROM = (LcmState.UNKNOWN, LcmState.RUNNING, LcmState.SHUTDOWN, LcmState.SHUTDOWN_POWEROFF,
              LcmState.SHUTDOWN_UNDEPLOY)
# Executables of a directory in the order of their names, each with the configuration on stdin; a directory that is
# missing is an error of its own. $1 the directory, the rest is argv of each probe.
_RUN = """cd {home}/im/{driver}.d || exit 1
directory=$PWD/../{driver}-probes.d/{directory}
[ -d "$directory" ] || {{ echo "No such file or directory @ dir_initialize - {directory}" >&2; exit 1; }}
input=$(cat)
for probe in "$directory"/*; do
  [ -f "$probe" ] && [ -x "$probe" ] || continue
  printf '%s\\n' "$input" | "$probe" {arguments} || {{ echo "Error executing ${{probe##*/}}" >&2; exit 1; }}
done"""


@dataclass
class Monitored:
    """What the probes of a host said, by directory, and what oned noted of it."""

    texts: Dict[str, str] = field(default_factory=dict)
    errors: Dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every directory answered in proper syntax."""
        return not self.errors


class Monitoring(Observation):
    """Hosts monitored through the installed probes."""

    def monitor_host(self, name: str, *directories: str) -> Monitored:
        """Run the probes of these directories, or of all, and apply what they say."""
        host, result = self.host(name), Monitored()
        for directory in directories or DIRECTORIES:
            if self.settings.major < _SINCE.get(directory, (0, 0)):
                continue
            call, done = self._probes(host, directory)
            result.texts[directory] = done.stdout
            message = DIRECTORIES.get(directory, "BEACON_HOST")
            try:
                if done.rc != 0:
                    raise TemplateError(done.stderr.strip() or f"exit status {done.rc}")
                if message != "BEACON_HOST":
                    self._apply(host, message, parse_template(done.stdout))
            except TemplateError as error:
                result.errors[directory] = str(error)
                if message in ("SYSTEM_HOST", "MONITOR_HOST", "BEACON_HOST"):
                    host.state = 3
        return result

    def monitor_configuration(self, host: HostRecord) -> str:
        """What probes find on stdin."""
        periods = "".join(f"<{key}><![CDATA[{value}]]></{key}>" for key, value in self.settings.periods.items())
        return (
            f"<MONITOR_CONFIGURATION><DATASTORE_LOCATION><![CDATA[{self.settings.datastore_location}]]>"
            "</DATASTORE_LOCATION><NETWORK><ADDRESS><![CDATA[0.0.0.0]]></ADDRESS><MONITOR_ADDRESS><![CDATA[auto]]>"
            "</MONITOR_ADDRESS><PORT><![CDATA[4124]]></PORT><PRIKEY><![CDATA[]]></PRIKEY><PUBKEY><![CDATA[]]></PUBKEY>"
            f"<THREADS><![CDATA[8]]></THREADS></NETWORK><PROBES_PERIOD>{periods}</PROBES_PERIOD>"
            f"<HOST_ID>{host.id}</HOST_ID></MONITOR_CONFIGURATION>"
        )

    def _probes(self, host: HostRecord, directory: str) -> tuple[Call, Completed]:
        driver = self.settings.im_directory
        argv = (driver, str(host.id), host.name)
        call = Call("im", driver, directory, host.name, argv, "plain", self.monitor_configuration(host))
        script = _RUN.format(home=self.settings.remotes_on_host, driver=driver, directory=directory,
                             arguments=" ".join(argv))
        return call, self.log.perform(call, lambda: self.backend.command(host.name, script, call.stdin))

    # --- what oned does with the messages --------------------------------------------------------------------------

    def _apply(self, host: HostRecord, message: str, parsed: Parsed) -> None:
        if message == "SYSTEM_HOST":
            _merge(host.template, parsed)
            host.state = 2
        elif message == "MONITOR_HOST":
            _merge(host.monitoring, parsed)
        elif message == "MONITOR_VM":
            self._vm_figures(host, parsed)
        elif message == "STATE_VM":
            self._vm_states(host, parsed)

    def _vm_figures(self, host: HostRecord, parsed: Parsed) -> None:
        for _name, vector in parsed:
            if isinstance(vector, dict):
                vm = self._machine_on(host, vector)
                text = base64.b64decode(vector.get("MONITOR", ""), validate=True).decode()
                if vm is not None:
                    vm.monitoring = {}
                    _merge(vm.monitoring, parse_template(text))

    def _machine_on(self, host: HostRecord, vector: Dict[str, str]) -> VirtualMachine | None:
        vm = self.vms.get(int(vector.get("ID", "-1")))
        return vm if vm is not None and vm.history and vm.current.host_id == host.id else None

    def _vm_states(self, host: HostRecord, parsed: Parsed) -> None:
        reported = set()
        singles = {name: value for name, value in parsed if isinstance(value, str)}
        for name, vector in parsed:
            if name != "VM" or not isinstance(vector, dict):
                continue
            reported.add(int(vector["ID"]))
            vm = self._machine_on(host, vector)
            if vm is not None:
                if vector["STATE"] == "RUNNING":
                    vm.deploy_id = vector["DEPLOY_ID"]
                self._act_on(vm, vector["STATE"])
        if singles.get("SYNC_STATE", "").upper() != "YES" or "MISSING_STATE" not in singles:
            return
        known = {vm.id for vm in self.vms.values() if vm.host == host.name and _has_host(vm)}
        host.template["ZOMBIES"] = " ".join(str(one) for one in sorted(reported - known))
        for number in sorted(known - reported):
            vm = self.vms[number]
            if vm.state is VmState.ACTIVE and vm.lcm_state in _GONE_FROM:
                self.report(vm, "UNKNOWN" if singles["MISSING_STATE"] == "UNKNOWN" else "POWEROFF")

    def _act_on(self, vm: VirtualMachine, state: str) -> None:
        guard = self.settings.state_guard_s
        if guard and now() - max(vm.current.rstime, vm.current.retime) < guard:
            vm.log.append("Ignoring VM state update")
        elif state == "FAILURE" and vm.status in ("RUNNING", "UNKNOWN"):
            self.report(vm, "UNKNOWN")
        elif state == "SUSPENDED" and vm.status in ("RUNNING", "UNKNOWN"):
            vm.rest(VmState.SUSPENDED)
        elif state in ("RUNNING", "POWEROFF"):
            self.report(vm, state)


def _has_host(vm: VirtualMachine) -> bool:
    return vm.state in (VmState.ACTIVE, VmState.POWEROFF, VmState.SUSPENDED)


def _merge(attributes: Attributes, parsed: Parsed) -> None:
    """What is there under a new name goes; several vectors of one name stay several."""
    for name in {name for name, _value in parsed}:
        values = [value for given, value in parsed if given == name]
        vectors = [dict(value) for value in values if isinstance(value, dict)]
        attributes[name] = vectors if vectors else str(values[-1])
