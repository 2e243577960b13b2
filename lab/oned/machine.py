"""A virtual machine as oned holds it: state, template, history, snapshots, and the documents made from it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

from .attributes import Attributes, attributes_xml, cdata, element, identifiers, text_of, vector_of, vectors_of
from .records import OWNER, SnapshotList, permissions_xml
from .states import HistoryAction, LcmState, VmState


def now() -> int:
    """Unix time in seconds, as oned stores it."""
    return int(time.time())


@dataclass
class History:
    """One history record; times are unix seconds, 0 = not yet."""

    vm_id: int
    seq: int
    host: str
    host_id: int
    vm_mad: str
    tm_mad: str
    datastore_id: int
    stime: int = field(default_factory=now)
    etime: int = 0
    pstime: int = 0
    petime: int = 0
    rstime: int = 0
    retime: int = 0
    estime: int = 0
    eetime: int = 0
    action: HistoryAction = HistoryAction.NONE
    request_id: int = -1

    def begin_action(self, action: HistoryAction, request_id: int) -> None:
        """A user asked for something that this record shows."""
        self.action = action
        self.request_id = request_id

    def clear_action(self) -> None:
        """What was asked for is over."""
        self.action = HistoryAction.NONE
        self.request_id = -1

    def close(self) -> None:
        """The record ends now, and with it the phases that still ran."""
        moment = now()
        if self.pstime and not self.petime:
            self.petime = moment
        if self.rstime and not self.retime:
            self.retime = moment
        self.etime = moment

    def xml(self, with_plan: bool) -> str:
        """The HISTORY element; PLAN_ID and ACTION_ID exist from 7.0 on."""
        user = 0 if self.request_id != -1 else -1
        plan = "<PLAN_ID>-2</PLAN_ID><ACTION_ID>-1</ACTION_ID>" if with_plan else ""
        times = "".join(
            element(name.upper(), getattr(self, name))
            for name in ("pstime", "petime", "rstime", "retime", "estime", "eetime")
        )
        return (
            f"<HISTORY>{element('OID', self.vm_id)}{element('SEQ', self.seq)}{element('HOSTNAME', self.host)}"
            f"{element('HID', self.host_id)}<CID>0</CID>{element('STIME', self.stime)}{element('ETIME', self.etime)}"
            f"<VM_MAD>{cdata(self.vm_mad)}</VM_MAD><TM_MAD>{cdata(self.tm_mad)}</TM_MAD>"
            f"{element('DS_ID', self.datastore_id)}{plan}{times}{element('ACTION', int(self.action))}"
            f"{element('UID', user)}{element('GID', user)}{element('REQUEST_ID', self.request_id)}</HISTORY>"
        )


class Ticket:
    """One run of a driver action for a machine; recover takes it away."""

    def __init__(self) -> None:
        self.cancelled = False
        self.dropped = False

    def cancel(self) -> None:
        """DRIVER_CANCEL: no further step is begun; the process that runs is left alone (observation 2)."""
        self.cancelled = True
        self.dropped = True

    def drop(self) -> None:
        """oned no longer waits for the result; the driver goes on with its steps (observation 4)."""
        self.dropped = True


@dataclass
class VirtualMachine:
    """A virtual machine; its documents are made with xml()."""

    id: int
    name: str
    template: Attributes
    user_template: Attributes
    with_plan: bool = True
    state: VmState = VmState.PENDING
    lcm_state: LcmState = LcmState.LCM_INIT
    deploy_id: str = ""
    resched: int = 0
    stime: int = field(default_factory=now)
    etime: int = 0
    history: list[History] = field(default_factory=list)
    snapshots: dict[int, SnapshotList] = field(default_factory=dict)
    backup_config: Attributes = field(default_factory=dict)
    backup_ids: list[int] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    ticket: Ticket = field(default_factory=Ticket)
    requested_hard: bool = False
    at_frontend: bool = False
    resumes_from: VmState | None = None
    monitoring: Attributes = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition, repr=False)

    # --- state -----------------------------------------------------------------------------------------------------

    def enter(self, lcm_state: LcmState) -> None:
        """ACTIVE in that LCM state."""
        self._change(VmState.ACTIVE, lcm_state)

    def rest(self, state: VmState) -> None:
        """A state in which nothing goes on."""
        self._change(state, LcmState.LCM_INIT)

    def _change(self, state: VmState, lcm_state: LcmState) -> None:
        with self.changed:
            if state is not self.state:
                self.log.append(f"New state is {state.name}")
            if lcm_state is not self.lcm_state:
                self.log.append(f"New LCM state is {lcm_state.name}")
            self.state, self.lcm_state = state, lcm_state
            self.changed.notify_all()

    @property
    def status(self) -> str:
        """What a user sees: the LCM state of an active machine, else the state."""
        return self.lcm_state.name if self.state is VmState.ACTIVE else self.state.name

    @property
    def is_running(self) -> bool:
        """ACTIVE and RUNNING."""
        return self.state is VmState.ACTIVE and self.lcm_state is LcmState.RUNNING

    def await_status(self, status: str, timeout_s: float = 60.0) -> None:
        """Wait until a user would see that status; TimeoutError names it."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.status == status, timeout_s):
                raise TimeoutError(f"VM {self.id} is {self.status}, not {status}, after {timeout_s:g} s")

    def new_ticket(self) -> Ticket:
        """The ticket of the driver action that begins now."""
        self.ticket = Ticket()
        return self.ticket

    @property
    def error(self) -> str:
        """USER_TEMPLATE/ERROR, empty if none was set."""
        return text_of(self.user_template, "ERROR")

    def set_error(self, text: str) -> None:
        """What the user reads, with the time in front as oned writes it."""
        self.user_template["ERROR"] = f"{time.strftime('%a %b %d %H:%M:%S %Y')}: {text}"

    # --- history ---------------------------------------------------------------------------------------------------

    @property
    def current(self) -> History:
        """The newest history record; IndexError before the first deployment."""
        return self.history[-1]

    @property
    def previous(self) -> History:
        """The record before the newest."""
        return self.history[-2]

    @property
    def host(self) -> str:
        """Name of the host of the newest record, empty before the first deployment."""
        return self.history[-1].host if self.history else ""

    @property
    def datastore_id(self) -> int:
        """The system datastore of the newest record."""
        return self.current.datastore_id

    def copy_record(self, of: History | None = None) -> History:
        """A new record on the same host and datastore as the newest (or as the one given)."""
        base = of or self.current
        fresh = replace(base, seq=self.current.seq + 1, stime=now(), etime=0, pstime=0, petime=0, rstime=0, retime=0,
                        estime=0, eetime=0, action=HistoryAction.NONE, request_id=-1)
        self.history.append(fresh)
        return fresh

    # --- disks -----------------------------------------------------------------------------------------------------

    @property
    def disks(self) -> list[Attributes]:
        """DISK vectors in the order of the document."""
        return vectors_of(self.template, "DISK")

    def disk(self, disk_id: int) -> Attributes | None:
        """The disk of that id, or None."""
        return next((one for one in self.disks if one["DISK_ID"] == str(disk_id)), None)

    @property
    def context_disk_id(self) -> int | None:
        """DISK_ID of the context CD-ROM, None if the machine has no context."""
        context = vector_of(self.template, "CONTEXT")
        return None if context is None else int(text_of(context, "DISK_ID"))

    @property
    def nics(self) -> list[Attributes]:
        """NIC vectors."""
        return vectors_of(self.template, "NIC")

    def snapshots_of(self, disk_id: int) -> SnapshotList | None:
        """The snapshots of a disk, None if it never had any."""
        return self.snapshots.get(disk_id)

    # --- documents -------------------------------------------------------------------------------------------------

    def xml(self, all_history: bool = False) -> str:
        """The VM element; drivers get only the newest history record, one.vm.info gives all."""
        records = self.history if all_history else self.history[-1:]
        history = "".join(one.xml(self.with_plan) for one in records)
        snapshots = "".join(self.snapshots[disk_id].xml() for disk_id in sorted(self.snapshots))
        return (
            f"<VM>{element('ID', self.id)}{OWNER}{element('NAME', self.name)}{permissions_xml()}"
            "<LAST_POLL>0</LAST_POLL>"
            f"{element('STATE', int(self.state))}{element('LCM_STATE', int(self.lcm_state))}"
            f"{element('PREV_STATE', int(self.state))}{element('PREV_LCM_STATE', int(self.lcm_state))}"
            f"{element('RESCHED', self.resched)}{element('STIME', self.stime)}{element('ETIME', self.etime)}"
            f"{element('DEPLOY_ID', self.deploy_id)}<MONITORING>{attributes_xml(self.monitoring)}</MONITORING>"
            "<SCHED_ACTIONS></SCHED_ACTIONS>"
            f"<TEMPLATE>{attributes_xml(self.template)}</TEMPLATE>"
            f"<USER_TEMPLATE>{attributes_xml(self.user_template)}</USER_TEMPLATE>"
            f"<HISTORY_RECORDS>{history}</HISTORY_RECORDS>{snapshots}{self._backups_xml()}</VM>"
        )

    def _backups_xml(self) -> str:
        config = attributes_xml(self.backup_config)
        inner = f"<BACKUP_CONFIG>{config}</BACKUP_CONFIG>" if config else "<BACKUP_CONFIG/>"
        return f"<BACKUPS>{inner}{identifiers('BACKUP_IDS', self.backup_ids)}</BACKUPS>"
