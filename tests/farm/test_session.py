"""Sessions against a fake ssh that runs a small agent, or fails the way ssh fails."""

from __future__ import annotations

import os
import signal
import stat
import sys
import textwrap
import time

import pytest
from caller import TestCaller

from dnc.errors import Busy, DncError, TimedOut, ToolMissing, Unreachable
from dnc.farm.session import Session, session_failure
from dnc.farm.sessions import Sessions
from dnc.version import VERSION

AGENT = '''
import json, os, sys
host = [word for word in sys.argv if word.startswith("node")][0]
out, trace = sys.stdout.buffer, open(os.environ["TRACE"], "a")
def say(record):
    out.write(json.dumps(record).encode() + b"\\n"); out.flush()
committed = False
for line in sys.stdin.buffer:
    request = json.loads(line)
    op, args, number = request["op"], request["args"], request["id"]
    trace.write(f"{host} {op}\\n"); trace.flush()
    if op == "hello":
        say({"log": {"level": "INFO", "text": "good day"}})
        say({"id": number, "ok": {"host": "x" + host, "version": os.environ.get("AGENT_VERSION", args["version"])}})
    elif op == "fail":
        say({"id": number, "error": {"kind": "Busy", "what": "it is held", "host": None, "hint": "wait"}})
    elif op == "write":
        data = sys.stdin.buffer.read(args["length"])
        if not args.get("quiet"):
            say({"id": number, "ok": {"sum": sum(data)}})
    elif op == "read":
        say({"id": number, "ok": {"length": 5}}); out.write(b"a\\n{}b"); out.flush()
    elif op == "die":
        os.kill(os.getpid(), 9)
    elif op == "hang":
        pass
    elif op == "commit":
        committed = True
        say({"id": number, "ok": {}})
    else:
        say({"id": number, "ok": {"op": op, **args}})
trace.write(f"{host} end {'kept' if committed else 'rolled back'}\\n")
'''


@pytest.fixture
def farm(tmp_path, monkeypatch):
    """Put a fake ssh in front of PATH; returns the trace of what agents saw."""
    (tmp_path / "agent.py").write_text(textwrap.dedent(AGENT))
    trace = tmp_path / "trace"
    trace.touch()
    monkeypatch.setenv("TRACE", str(trace))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    fake_ssh(tmp_path, f'exec {sys.executable} {tmp_path}/agent.py "$@"')
    return trace


def fake_ssh(directory, script):
    path = directory / "ssh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_operations_run_on_all_hosts_and_commit_keeps_them(farm):
    caller = TestCaller()
    with Sessions(caller) as sessions:
        sessions.open(["node1", "node2"])
        answers = sessions.all("echo", sessions.hosts, resource="one-1")
        assert answers["node2"] == {"op": "echo", "resource": "one-1"}
        assert sessions.ssh_name("xnode2") == "node2"
        sessions.commit()
    assert sorted(line for line in farm.read_text().splitlines() if "end" in line) == [
        "node1 end kept", "node2 end kept"
    ]
    assert "INFO: test: node1: good day" in caller.logged


def test_leaving_without_commit_rolls_back_and_waits_for_it(farm):
    with pytest.raises(RuntimeError), Sessions(TestCaller()) as sessions:
        sessions.open(["node1"])
        raise RuntimeError("the action failed")
    assert farm.read_text().splitlines()[-1] == "node1 end rolled back"


def test_one_ssh_a_host_whatever_is_opened_how_often(farm):
    caller = TestCaller()
    with Sessions(caller) as sessions:
        sessions.open(["node1", "node2"])
        sessions.try_open(["node2", "node1"])
        sessions.all("echo", sessions.hosts)
    assert caller.runner.count == 2


def test_the_first_hosts_error_is_raised_and_the_others_logged(farm):
    caller = TestCaller()
    with Sessions(caller) as sessions:
        sessions.open(["node1", "node2"])
        with pytest.raises(Busy, match="node2: it is held; wait"):
            sessions.all("fail", ["node2", "node1"])
        assert sessions.all("echo", ["node1", "node2"]), "sessions go on after an error"
    assert "ERROR: test: node1: it is held" in caller.logged


def test_raw_data_both_ways(farm):
    with Sessions(TestCaller()) as sessions:
        sessions.open(["node1"])
        session = sessions.sessions["node1"]
        assert session.receive(session.send("write", {"length": 3}, b"\n\x01\x02")) == {"sum": 13}
        session.send("write", {"length": 70000, "quiet": True}, b"\n" * 70000)
        assert session.call("read")["length"] == 5
        assert session.take_raw(5) == b"a\n{}b"
        assert session.call("echo")["op"] == "echo"


def test_locks_are_taken_host_after_host_by_their_own_names(farm):
    with Sessions(TestCaller()) as sessions:
        sessions.open(["node2", "node1"])
        sessions.lock(["node2", "node1"], ["one-2", "one-1"])
    locks = [line for line in farm.read_text().splitlines() if line.endswith("lock")]
    assert locks == ["node1 lock", "node2 lock"]


def test_a_killed_agent_is_told_apart_from_a_lost_connection(farm):
    with Sessions(TestCaller()) as sessions:
        sessions.open(["node1", "node2"])
        with pytest.raises(DncError, match="node1: host agent was killed by signal 9 during die"):
            sessions.call("node1", "die")
        with pytest.raises(DncError, match="killed"):
            sessions.call("node1", "echo")
        assert sessions.call("node2", "echo")["op"] == "echo"


def test_no_answer_is_an_error_with_its_deadline(farm):
    with Sessions(TestCaller()) as sessions:
        sessions.open(["node1"])
        with pytest.raises(TimedOut, match="node1: no answer to hang within 0 s"):
            sessions.call("node1", "hang", timeout=0.2)
        with pytest.raises(TimedOut):
            sessions.all("echo", ["node1"])


def test_another_version_on_the_host_says_how_to_bring_it_there(farm, monkeypatch):
    monkeypatch.setenv("AGENT_VERSION", "0.0.1")
    with Sessions(TestCaller()) as sessions, pytest.raises(DncError) as caught:
        sessions.open(["node1"])
    assert caught.value.line() == f"node1: has dnc 0.0.1, this frontend has {VERSION}; onehost sync --force node1. "


@pytest.mark.parametrize(("said", "status", "kind", "line"), [
    ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\\nHost key verification failed.", 255, Unreachable,
     "node1: ssh host key changed, connection refused"),
    ("Host key verification failed.", 255, Unreachable, "node1: ssh host key is not known"),
    ("oneadmin@node1: Permission denied (publickey).", 255, Unreachable, "node1: ssh refuses oneadmin's key"),
    ("ssh: Could not resolve hostname node1: Name or service not known", 255, Unreachable,
     "node1: host name does not resolve"),
    ("ssh: connect to host node1 port 22: Connection timed out", 255, Unreachable,
     "node1: host does not answer within 5 s"),
    ("ssh: connect to host node1 port 22: Connection refused", 255, Unreachable, "node1: host refuses ssh"),
    ("ssh: connect to host node1 port 22: No route to host", 255, Unreachable, "node1: no route to host"),
    ("something new", 255, Unreachable, "node1: ssh failed: something new"),
    ("/usr/bin/python3: can't open file '/var/tmp/one/lib/dnc-agent': [Errno 2] No such file", 2, ToolMissing,
     "node1: dnc is not installed on the host; onehost sync --force node1"),
    ("bash: line 1: /usr/bin/python3: No such file or directory", 127, ToolMissing, "node1: python3 is not installed"),
])
def test_each_way_ssh_fails_is_one_clear_line(tmp_path, monkeypatch, said, status, kind, line):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    fake_ssh(tmp_path, f'printf "%b\\n" "{said}" >&2; exit {status}')
    with Sessions(TestCaller()) as sessions:
        with pytest.raises(kind) as caught:
            sessions.open(["node1"])
        assert caught.value.line().startswith(line)
        assert "\n" not in caught.value.line()
        assert sessions.hosts == ()


def test_sshd_that_drops_connections_is_asked_again(tmp_path, farm):
    script = f'''
if [ ! -e {tmp_path}/knocked ]; then
  touch {tmp_path}/knocked; echo "kex_exchange_identification: Connection closed by remote host" >&2; exit 255
fi
exec {sys.executable} {tmp_path}/agent.py "$@"'''
    fake_ssh(tmp_path, script)
    with Sessions(TestCaller()) as sessions:
        sessions.open(["node1"])
        assert sessions.call("node1", "echo")["op"] == "echo"


def test_a_login_shell_that_talks_does_no_harm(tmp_path, farm):
    fake_ssh(tmp_path, f'echo "Welcome to node1!"; exec {sys.executable} {tmp_path}/agent.py "$@"')
    with Sessions(TestCaller()) as sessions:
        sessions.open(["node1"])
        assert sessions.about("node1")["host"] == "xnode1"


def test_unreachable_hosts_are_kept_beside_the_others(tmp_path, farm):
    fake_ssh(tmp_path, f'''case "$*" in
*node2*) echo "ssh: connect to host node2 port 22: No route to host" >&2; exit 255;;
esac
exec {sys.executable} {tmp_path}/agent.py "$@"''')
    with Sessions(TestCaller()) as sessions:
        errors = sessions.try_open(["node1", "node2"])
        assert list(errors) == ["node2"]
        assert sessions.hosts == ("node1",)
        assert sessions.try_open(["node2"]) == errors, "a dead host is asked once an action"


def test_a_signal_in_the_middle_rolls_back(farm):
    def stop(_number, _frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt), Sessions(TestCaller()) as sessions:
            sessions.open(["node1"])
            sessions.call("node1", "hang", timeout=60)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 20
    assert farm.read_text().splitlines()[-1] == "node1 end rolled back"


def test_a_lost_connection_after_hello_names_the_operation():
    error = session_failure("node1", 255, "client_loop: send disconnect: Broken pipe", "bring_up", True, 5)
    assert isinstance(error, Unreachable)
    assert error.line().startswith("node1: connection lost during bring_up; client_loop")


def test_a_closed_session_refuses_politely():
    with pytest.raises(Unreachable, match="node1: the session is closed"):
        Session("node1", TestCaller()).send("echo", {})
