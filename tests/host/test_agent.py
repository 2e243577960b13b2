"""The agent's session on its two streams: protocol, raw data, bad input, the end of a session."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dnc.host.agent import Agent, Ended
from dnc.host.machine import Paths
from dnc.host.operations import OPERATIONS
from dnc.host.operations import __doc__ as PROTOCOL
from dnc.version import VERSION
from host.fake_host import MIB, FakeHost, settings

LIB = Path(__file__).resolve().parents[2] / "lib"


@pytest.fixture
def paths(tmp_path):
    return FakeHost(tmp_path).paths


def hello(root, **changes):
    args = {
        "version": VERSION, "dry_run": False, "started": time.time(),
        "config": settings('REPLICAS="1"\nPOOL="zfs:tank/dnc"', str(root)).to_json(),
    }
    return {"id": 0, "op": "hello", "args": {**args, **changes}}


def session(paths, *requests, greet=True):
    """Answers by number, and the log, of a session that sends these requests and leaves."""
    stream = b""
    root = os.path.dirname(paths.state)
    for request in ((hello(root),) if greet else ()) + requests:
        record, raw = request if isinstance(request, tuple) else (request, b"")
        stream += (record if isinstance(record, bytes) else json.dumps(record).encode()) + b"\n" + raw
    sink = io.BytesIO()
    agent = Agent(io.BytesIO(stream), sink, paths=paths)
    status = agent.serve()
    answers, log, rest = {}, [], sink.getvalue()
    while rest:
        line, _, rest = rest.partition(b"\n")
        record = json.loads(line)
        if "log" in record:
            log.append(record["log"]["text"])
            continue
        answers[record["id"]] = record.get("ok", record.get("error"))
        length = (record.get("ok") or {}).get("length")
        if length:
            answers["raw"], rest = rest[:length], rest[length:]
    return answers, log, status


def request(number, op, **args):
    return {"id": number, "op": op, "args": args}


def test_hello(paths):
    answers, _, status = session(paths)
    assert status == 0
    assert answers[0]["host"] == os.uname().nodename and answers[0]["version"] == VERSION
    assert answers[0]["drbd"] == "8.4" and answers[0]["slots"] == 1


def test_hello_of_another_version(paths):
    root = os.path.dirname(paths.state)
    answers, _, _ = session(paths, hello(root, version="9.9", config={}), request(1, "survey"), greet=False)
    assert answers[0] == {"host": os.uname().nodename, "version": VERSION}
    assert "before hello" in answers[1]["what"]


@pytest.mark.parametrize("line", [
    b"rubbish", b"{}", b"[]", b'{"id":1,"op":2,"args":{}}', b'{"id":1,"op":"survey"}', b"\xff",
])
def test_no_request_ends_the_session(paths, line):
    answers, _, _ = session(paths, line, request(2, "survey"))
    assert "no request" in next(answer["what"] for key, answer in answers.items() if key != 0)
    assert 2 not in answers


@pytest.mark.parametrize(("op", "args", "words"), [
    ("format_everything", {}, "no operation 'format_everything'"),
    ("survey", {"what": 1}, "survey has no argument 'what'"),
    ("lock", {}, "lock needs resources"),
    ("lock", {"resources": "one-1"}, "is not a list"),
    ("lock", {"resources": ["one-1; rm -rf /"]}, "is not a disk of dnc"),
    ("lock", {"resources": ["one-1\n"]}, "is not a line of text"),
    ("reserve_minor", {"resource": "one-1", "minor": "5"}, "is not a number"),
    ("reserve_minor", {"resource": "one-1", "minor": True}, "is not a number"),
    ("create_volume", {"pool": "zfs:-o/x", "name": "one-1", "bytes": 1, "tags": {}}, "is not a pool"),
    ("create_volume", {"pool": "lvm:vg0/p", "name": "one-1", "bytes": 1, "tags": {"x": "y"}}, "takes kind, vm"),
    ("create_volume", {"pool": "lvm:vg0/p", "name": "one-1", "bytes": 1, "tags": {"kind": "$(id)"}}, "takes words"),
    ("ensure_directory", {"path": "/etc/dnc"}, "outside of the datastores"),
    ("ensure_directory", {"path": "/var/lib/one/datastores/../../x"}, "not a clean absolute path"),
    ("remove_directory", {"path": "/"}, "outside of the datastores"),
    ("read_file", {"path": "/etc/passwd"}, "outside of the datastores"),
    ("format", {"resource": "one-1", "filesystem": "ntfs; x"}, "is none of ext2"),
    ("write_resource", {"spec": {"name": "one-1"}}, "is not a resource"),
    ("settle", {"vm": 1, "resources": [], "domain": "x\ny", "role_here": True}, "not a line of text"),
    ("read", {"resource": "one-1", "offset": 0, "length": 1 << 40}, "is more than"),
])
def test_bad_input(paths, op, args, words):
    answers, _, status = session(paths, request(1, op, **args), request(2, "commit"))
    assert answers[1]["kind"] == "BadInput" and words in answers[1]["what"]
    assert answers[2] == {} and status == 0, "the session goes on"


def test_links_do_not_lead_out(paths, tmp_path):
    (tmp_path / "datastores" / "100").symlink_to("/etc")
    answers, _, _ = session(paths, request(1, "read_file", path=f"{tmp_path}/datastores/100/passwd"))
    assert "outside" in answers[1]["what"]


def test_small_files(paths, tmp_path):
    path = f"{tmp_path}/datastores/100/42/checkpoint"
    answers, _, _ = session(
        paths, request(1, "ensure_directory", path=os.path.dirname(path)),
        (request(2, "write_file", path=path, offset=0, length=3, last=False), b"abc"),
        request(3, "list_files", path=os.path.dirname(path)),
        (request(4, "write_file", path=path, offset=3, length=4, mode=0o600), b"\n{}\n"),
        request(5, "read_file", path=path, offset=1, length=100), request(6, "commit"),
    )
    assert "checkpoint" not in answers[3]["files"], "it is not in place before it is whole"
    assert answers["raw"] == b"bc\n{}\n" and answers[5] == {"length": 6, "size": 7}
    assert oct(os.stat(path).st_mode)[-3:] == "600"


def test_not_committed_files_go(paths, tmp_path):
    directory = f"{tmp_path}/datastores/100/42"
    session(
        paths, request(1, "ensure_directory", path=directory),
        (request(2, "write_file", path=directory + "/x", length=1), b"x"),
    )
    assert not os.path.exists(directory)


def single(tmp_path, size=MIB):
    device = tmp_path / "dev" / "zvol" / "tank" / "dnc" / "one-7"
    device.parent.mkdir(parents=True)
    device.write_bytes(bytes(size))
    member = {"host": os.uname().nodename, "address": "10.0.0.1", "device": str(device), "node_id": 0}
    return device, {
        "name": "one-7", "minor": None, "port": None, "secret": "", "members": [member], "state": "making",
        "kind": "image", "pool": "zfs:tank/dnc", "data_bytes": size, "slots": 0,
    }


def test_one_replica_needs_no_drbd(paths, tmp_path):
    device, record = single(tmp_path)
    link = f"{tmp_path}/datastores/100/42/disk.0"
    answers, _, status = session(
        paths, request(1, "write_resource", spec=record), request(2, "create_metadata", resource="one-7"),
        request(3, "bring_up", resource="one-7"), request(4, "declare_equal", resource="one-7", proof="single"),
        request(5, "await_ready", resource="one-7"), request(6, "promote", resource="one-7"),
        (request(7, "write", resource="one-7", offset=4096, length=4), b"data"),
        request(8, "flush", resource="one-7"), request(9, "read", resource="one-7", offset=4094, length=8),
        request(10, "generation", resource="one-7"), request(11, "ensure_link", path=link, resource="one-7"),
        request(12, "demote", resource="one-7"), request(13, "mark_ready", resource="one-7", proof="single"),
        request(14, "digest", resource="one-7"), request(15, "commit"),
    )
    assert status == 0 and not any("what" in answer for key, answer in answers.items() if key != "raw")
    assert answers[5]["status"]["ready"] and answers[10]["clean"] and answers[14]["bytes"] == MIB
    assert answers["raw"] == b"\0\0data\0\0"
    assert os.readlink(link) == str(device)


def test_quiet_writes_answer_at_the_flush(paths, tmp_path):
    device, record = single(tmp_path)
    def put(number, name, offset):
        return request(number, "write", resource=name, offset=offset, length=4, quiet=True), b"data"

    answers, _, _ = session(
        paths, request(1, "write_resource", spec=record), put(2, "one-7", 0), put(3, "one-7", 8),
        request(4, "flush", resource="one-7"), put(5, "one-8", 0), put(6, "one-7", 16),
        request(7, "commit"), request(8, "flush", resource="one-7"), request(9, "flush", resource="one-7"),
    )
    assert {2, 3, 5, 6}.isdisjoint(answers)
    assert answers[4] == {"bytes": 8}
    assert "not committed" in answers[7]["what"]
    assert answers[8]["kind"] == "NotFound" and "one-8" in answers[8]["what"]
    assert answers[9] == {"bytes": 8}, "after a failure nothing more was written"
    assert device.read_bytes()[:20] == b"data\0\0\0\0data" + bytes(8)


def test_truncated_data_rolls_back(paths, tmp_path):
    _, record = single(tmp_path)
    session(
        paths, request(1, "write_resource", spec=record),
        (request(2, "write", resource="one-7", offset=0, length=100), b"short"),
    )
    assert not os.path.exists(f"{paths.state}/single/one-7.res")


def test_our_own_faults_are_told_in_one_line(paths, monkeypatch):
    broken = OPERATIONS["commit"]._replace(act=lambda work: 1 // 0)
    monkeypatch.setitem(OPERATIONS, "commit", broken)
    answers, log, _ = session(paths, request(1, "commit"))
    assert "internal error ZeroDivisionError" in answers[1]["what"]
    assert any("1 // 0" in line for line in log)


def test_failed_roll_back_is_told(paths, monkeypatch, tmp_path):
    _, record = single(tmp_path)
    unlink = os.unlink

    def refuse(path):
        if path.endswith(".res"):
            raise PermissionError(13, "Permission denied", path)
        unlink(path)

    monkeypatch.setattr(os, "unlink", refuse)
    _, log, status = session(paths, request(1, "write_resource", spec=record))
    assert status == 1 and any("not taken back: file of one-7" in line for line in log)


def test_every_operation_is_documented():
    for op in OPERATIONS:
        assert f"  {op} " in PROTOCOL, op


def test_nobody_waits_for_who_has_gone(paths):
    read, write = os.pipe()
    agent = Agent(io.BytesIO(b""), io.BytesIO(), paths=paths, watched=read)
    agent._alive()
    os.close(write)
    with pytest.raises(Ended):
        agent._alive()
    os.close(read)


class Process:
    """The real executable, with its own paths to the test's directory."""

    def __init__(self, paths: Paths) -> None:
        code = (
            f"import sys; sys.path.insert(0, {str(LIB)!r})\n"
            "from dnc.host import agent, machine\n"
            f"paths = machine.Paths(*{tuple(paths)!r})\n"
            "sys.exit(agent.main(paths))"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, record: dict) -> dict:
        self.process.stdin.write(json.dumps(record).encode() + b"\n")
        self.process.stdin.flush()
        while True:
            answer = json.loads(self.process.stdout.readline())
            if "log" not in answer:
                return answer


@pytest.mark.parametrize("end", ["eof", signal.SIGTERM, signal.SIGHUP])
def test_the_end_of_a_process_rolls_back(paths, tmp_path, end):
    _, record = single(tmp_path)
    agent = Process(paths)
    agent.ask(hello(tmp_path))
    assert agent.ask(request(1, "write_resource", spec=record))["ok"] == {}
    assert os.path.exists(f"{paths.state}/single/one-7.res")
    if end == "eof":
        agent.process.stdin.close()
    else:
        agent.process.send_signal(end)
    assert agent.process.wait(20) == 0
    assert not os.path.exists(f"{paths.state}/single/one-7.res")
    assert os.listdir(f"{paths.state}/locks") == []


def test_a_killed_process_leaves_no_lock(paths, tmp_path):
    first, second = Process(paths), Process(paths)
    for agent in (first, second):
        agent.ask(hello(tmp_path))
    first.ask(request(1, "lock", resources=["one-7"]))
    answer = second.ask(request(1, "lock", resources=["one-7"], timeout_s=0))
    assert answer["error"]["kind"] == "Busy" and str(first.process.pid) in answer["error"]["what"]
    first.process.kill()
    first.process.wait()
    assert second.ask(request(2, "lock", resources=["one-7"], timeout_s=5))["ok"] == {}
    second.process.stdin.close()
    second.process.wait(20)


def test_a_waiting_agent_notices_that_the_frontend_has_gone(paths, tmp_path):
    first, second = Process(paths), Process(paths)
    for agent in (first, second):
        agent.ask(hello(tmp_path))
    first.ask(request(1, "lock", resources=["one-7"]))
    second.process.stdin.write(json.dumps(request(1, "lock", resources=["one-7"], timeout_s=600)).encode() + b"\n")
    second.process.stdin.flush()
    assert select.select([second.process.stdout], [], [], 0.5)[0] == []
    second.process.stdin.close()
    assert second.process.wait(20) == 0
    first.process.stdin.close()
    assert first.process.wait(20) == 0
