"""one_vmm_exec: the steps of virtualisation actions, and what happens when one fails (contract 1.4, 2.1, 2.4)."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import Callable

from .attributes import Attributes, collapsed, text_of, vectors_of
from .backend import Backend, Stream
from .calls import Call, CallLog, Completed
from .machine import Ticket, VirtualMachine
from .messages import VmmMessage, failure_text, vmm_message, vnm_message
from .records import Datastore
from .transfer import DriverFailure, GivenUp, TransferDriver

DEPLOY_INFO = "\0deploy-info"
_UNENGINED = ("resize", "snapshot_create", "snapshot_delete", "poll")


@dataclass(frozen=True)
class Step:
    """One step; fail_actions run if it fails, no_fail lets the action go on."""

    driver: str
    action: str
    parameters: tuple[str, ...] = ()
    on_destination: bool = False
    stdin: str | None = None
    encoding: str = "none"
    fail_actions: tuple[Step, ...] = ()
    no_fail: bool = False


@dataclass(frozen=True)
class Context:
    """What all steps of an action share; network_vm is the document before the action changed it."""

    vm: VirtualMachine
    system: Datastore
    parts: VmmMessage
    ticket: Ticket

    @property
    def raw_message(self) -> str:
        """VMM_DRIVER_ACTION_DATA as oned wrote it."""
        return vmm_message(self.vm, self.system, self.parts)

    @property
    def message(self) -> str:
        """The same as scripts find it on stdin."""
        return collapsed(self.raw_message)


class VmmDriver:
    """Runs virtualisation actions."""

    def __init__(self, backend: Backend, log: CallLog, transfer: TransferDriver, directory: str, version: str) -> None:
        self._backend = backend
        self._log = log
        self._transfer = transfer
        self.directory = directory
        self.version = version

    def run(self, name: str, context: Context, steps: list[Step]) -> str:
        """Run an action's steps; its stdout (of `deploy`, say) is returned, DriverFailure raised."""
        return _Run(self, name, context).perform(steps)

    def plain(self, name: str, script: str, context: Context, parameters: tuple[str, ...]) -> str:
        """An action outside the step engine: one ssh with one script."""
        host, vm = context.parts.host, context.vm
        call = Call("vmm", self.directory, script, host, (*parameters, str(vm.id), host), "plain", context.message)
        done = self._log.perform(call, lambda: self._backend.remote(call))
        if context.ticket.dropped:
            raise GivenUp(name)
        if done.rc != 0:
            info, log = failure_text(done.stderr, self.version)
            raise DriverFailure(name, info, log)
        return done.stdout.strip()


class _Run:
    """One action on its way: sessions, information between steps."""

    def __init__(self, driver: VmmDriver, name: str, context: Context) -> None:
        self.driver = driver
        self.name = name
        self.context = context
        self.info: dict[str, str] = {}
        self.network_message = vnm_message(context.vm, context.vm.deploy_id)
        self.message = context.message
        self.log: list[str] = []
        self._streams: dict[str, Stream] = {}

    def perform(self, steps: list[Step]) -> str:
        try:
            self._steps(steps, recovering=False)
        finally:
            for stream in self._streams.values():
                stream.close()
        info = self.info.get(self.name.lower(), "")
        if self.context.ticket.dropped:
            raise GivenUp(self.name, info)
        return info

    def _steps(self, steps: list[Step] | tuple[Step, ...], recovering: bool) -> None:
        for step in steps:
            if self.context.ticket.cancelled:
                raise GivenUp(self.name)
            info, failed = self._step(step)
            if not failed:
                self.info[step.action] = info
                continue
            if step.no_fail or recovering:
                continue
            self._steps(step.fail_actions, recovering=True)
            if self.context.ticket.dropped:
                raise GivenUp(self.name)
            raise DriverFailure(self.name, info, self.log)

    def _step(self, step: Step) -> tuple[str, bool]:
        """(stdout or failure information, whether it failed)."""
        run: Callable[[Step], tuple[Completed, str]] = {
            "tm": self._tm, "ds": self._ds, "vmm": self._vmm, "vnm": self._vnm, "shell": self._shell,
        }[step.driver]
        done, prefix = run(step)
        if done.rc == 0:
            return done.stdout.strip(), False
        text, log = failure_text(done.stderr, self.driver.version)
        self.log += log
        return f"{prefix}{text}", True

    def _tm(self, step: Step) -> tuple[Completed, str]:
        line = step.parameters[0]
        own = step.action if step.action.startswith(("pre", "post", "fail")) else ""
        return self.driver._transfer.run_line(line, step.stdin or "", step.encoding, own), ""

    def _ds(self, step: Step) -> tuple[Completed, str]:
        """An action of a backup datastore: its driver is the first parameter."""
        call = Call("ds", step.parameters[0], step.action, "frontend", step.parameters[1:], step.encoding,
                    step.stdin or "")
        return self.driver._log.perform(call, lambda: self.driver._backend.local(call)), ""

    def _host(self, step: Step) -> str:
        return self.context.parts.migration_host if step.on_destination else self.context.parts.host

    def _stream(self, host: str) -> Stream:
        if host not in self._streams:
            self._streams[host] = self.driver._backend.open_stream(host, self.name == "MIGRATE")
        return self._streams[host]

    def _parameters(self, step: Step) -> tuple[str, ...]:
        return tuple(self.info.get("deploy", "") if one == DEPLOY_INFO else one for one in step.parameters)

    def _vmm(self, step: Step) -> tuple[Completed, str]:
        host = self._host(step)
        argv = (*self._parameters(step), str(self.context.vm.id), host)
        stdin = self.message if step.stdin is None else step.stdin
        call = Call("vmm", self.driver.directory, step.action, host, argv, "plain", stdin)
        done = self.driver._log.perform(call, lambda: self._stream(host).script(call))
        return self._with_exit_code(call, done), ""

    @staticmethod
    def _with_exit_code(call: Call, done: Completed) -> Completed:
        """An injected failure lacks what the ssh stream adds to stderr (observation 9)."""
        if call.injected and done.rc != 0:
            separator = "\n" if done.stderr and not done.stderr.endswith("\n") else ""
            return replace(done, stderr=f"{done.stderr}{separator}ExitCode: {done.rc}")
        return done

    def _vnm(self, step: Step) -> tuple[Completed, str]:
        host = self._host(step)
        vm = self.context.vm
        drivers = list(dict.fromkeys(text_of(nic, "VN_MAD") for name in ("NIC", "NIC_ALIAS")
                                     for nic in vectors_of(vm.template, name)))
        done = Completed(0)
        for driver in drivers:
            call = Call("vnm", driver, step.action, host, self._parameters(step), "base64",
                        self.network_message if step.stdin is None else step.stdin)
            if self.driver._backend.has_script("vnm", driver, step.action):
                done = self.driver._log.perform(call, lambda call=call: self._stream(host).script(call))  # type: ignore[misc]
            else:
                done = self.driver._log.skip(call)
            if done.rc != 0:
                return self._with_exit_code(call, done), f"{driver}: "
        return done, ""

    def _shell(self, step: Step) -> tuple[Completed, str]:
        return self._stream(self._host(step)).shell(step.parameters[0], step.stdin or ""), ""


def vm_base64(vm: VirtualMachine) -> str:
    """The VM document of premigrate, postmigrate and failmigrate (encoded later)."""
    return collapsed(vm.xml())


def message_argument(context: Context) -> str:
    """The whole message as an argument (attach_disk, resize_disk: observation 14)."""
    return base64.b64encode(context.raw_message.encode()).decode()


def target_index(disk: Attributes) -> str:
    """The last letter of TARGET as a number."""
    return str(ord(text_of(disk, "TARGET")[-1]) - ord("a"))
