"""The benchmarks' own parts: what is measured, what a call is counted as, exit status, the clone by hand."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from bench import cli, counts, imports, raw_clone, throughput, timing
from bench.counting import Count, Counting, local_processes, ssh_wrapper
from bench.results import Row, Verdict, not_run


def test_every_executable_is_measured():
    found = set(imports.actions())
    assert {("tm", "clone"), ("tm", "premigrate"), ("vmm", "deploy"), ("datastore", "cp")} <= found
    remotes = imports.REPOSITORY / "remotes"
    assert all((remotes / family / "dnc" / action).exists() for family, action in found if family != "im")
    probes = {action for family, action in found if family == "im"}
    assert probes == {"host_system", "host_monitor", "vm_status", "vm_monitor"}


def test_what_is_no_launcher_is_not_measured(tmp_path):
    place = tmp_path / "tm" / "dnc"
    place.mkdir(parents=True)
    (tmp_path / imports.LAUNCHER).touch()
    (place / "clone").symlink_to(tmp_path / imports.LAUNCHER)
    (place / "README").symlink_to(tmp_path / imports.LAUNCHER)
    (place / "notes").touch()
    assert imports.actions(tmp_path) == [("tm", "clone")]


def test_import_command_is_the_launchers_path():
    argv = imports.import_command("tm", "clone")
    assert argv[:3] == ("/usr/bin/python3", "-I", "-c")
    assert str(imports.LIB) in argv[3] and 'load_action("tm", "clone")' in argv[3]


def test_over_base_is_in_milliseconds_over_the_median():
    assert timing.over_base([0.030, 0.050], [0.010, 0.020, 0.900]) == pytest.approx([10.0, 30.0])


def test_a_command_that_fails_says_why():
    with pytest.raises(timing.CannotMeasure, match="last words"):
        timing.processor_seconds(["/bin/sh", "-c", "echo first >&2; echo last words >&2; exit 3"])


def test_processor_time_counts_work_and_not_waiting():
    waiting = timing.processor_seconds(["/bin/sleep", "0.3"])
    assert 0 <= waiting < 0.3


def test_processes_of_the_frontend_are_read_from_its_own_debug_lines():
    stderr = "\n".join([
        "DEBUG: cp: start: /one/sh/override/ssh -T -- node1", "DEBUG: cp: run: /usr/bin/qemu-img info x",
        "DEBUG: cp: node1: run: /usr/sbin/zfs list", "INFO: cp: run: nothing", "DEBUG: cp: start: /usr/bin/zstd -dc",
    ])
    assert local_processes(stderr) == 2


def call(mad="tm", action="clone", rc=None, stderr=""):
    return SimpleNamespace(mad=mad, action=action, argv=("a", "b"), rc=rc, stderr=stderr)


def test_counting_takes_the_difference_that_a_call_made(tmp_path):
    frontend, host = tmp_path / "frontend", tmp_path / "host"
    frontend.write_text("session\n")
    host.write_text("")
    questions = [1]
    commands = [{"host": "node1", "argv": ["zfs", "list"]}]
    counting = Counting(frontend, [host, tmp_path / "absent"], lambda: len(questions), lambda: list(commands))
    counting(call())
    frontend.write_text("session\n" * 3)
    questions.append(2)
    commands += [{"host": "node1", "argv": ["sudo", "zfs"]}, {"host": "node1", "argv": ["zfs", "clone"]},
                 {"host": "node2", "argv": ["zfs", "clone"]}]
    counting(call(rc=0, stderr="DEBUG: clone: run: /usr/bin/xz -d"))
    counting(call("vmm", "deploy"))
    frontend.write_text("session\n" * 9)  # the stand-in's own sessions
    counting(call("vmm", "deploy", rc=1))
    clone, deploy = counting.counts
    assert (clone.sessions, clone.questions, clone.local, clone.failed) == (2, 1, 1, False)
    assert clone.tools == {("node1", "zfs"): 1, ("node2", "zfs"): 1}
    assert clone.processes == 2 + 2 * 2 + 1
    assert clone.tools_text == "zfs 2"
    assert (deploy.sessions, deploy.failed) == (0, True)
    assert counting.of("tm clone") == [clone]


def test_ssh_wrapper_notes_and_becomes_the_real_one(tmp_path):
    log = tmp_path / "log"
    ssh_wrapper(tmp_path / "bin" / "ssh", "/bin/echo", log)
    timing.processor_seconds([str(tmp_path / "bin" / "ssh"), "node1"])
    assert log.read_text() == "session\n"


def count(action, sessions, questions=0, failed=False):
    return Count(action, (), failed, sessions, questions, {("node1", "zfs"): 3})


def test_more_disks_may_not_take_more_sessions():
    one = [count("ds cp", 3), count("tm premigrate", 2)]
    many = [count("tm premigrate", 4)]
    rows = {row.what: row for row in counts.rows_of(one, many, "")}
    assert rows["tm premigrate, 1 disk: ssh sessions"].verdict is Verdict.WITHIN
    assert rows["tm premigrate, 4 disks: ssh sessions"].verdict is Verdict.OVER
    assert rows["ds cp: ssh sessions"].budget == len(counts.HOSTS)
    assert rows["tm mv"].verdict is Verdict.NOT_RUN


def test_a_call_that_failed_is_no_measurement():
    rows = counts.rows_of([count("tm clone", 2, failed=True)], [], "deploy 0: no space")
    clone = next(row for row in rows if row.what == "tm clone")
    assert clone.verdict is Verdict.NOT_RUN and clone.note == "deploy 0: no space"


@pytest.mark.parametrize("backend", ["zfs", "thin"])
def test_a_clone_by_hand_needs_only_commands_that_oneadmin_may_run(backend):
    steps = raw_clone.make_steps(backend, "one-7", ("node1", "node2"))
    assert steps[-1] == ["agreed"] and steps[-2] == ["sudo", "-n", "drbdadm", "up", "raw"]
    allowed = {"sudo", "write", "device", "agreed"}
    assert {step[0] for step in steps} <= allowed
    text = next(step[2] for step in steps if step[0] == "write")
    assert "10.99.0.1:6900" in text and "10.99.0.2:6900" in text and text.count("{") == text.count("}")
    assert raw_clone.remove_steps(backend, "one-7")[0] == ["sudo", "-n", "drbdadm", "down", "raw"]
    compile(raw_clone.SCRIPT, "script", "exec")


def test_rates_come_from_the_difference_of_two_sizes():
    small, large = throughput.SMALL_MIB, throughput.LARGE_MIB
    rows = throughput.rows_of("zfs", {small: [10.0], large: [14.0]}, [large / 64.0])
    by_unit = {row.what: row.measured for row in rows}
    assert by_unit["DS cp, data alone, zfs"] == pytest.approx((large - small) / 4.0)
    assert by_unit["dd over ssh, zfs"] == pytest.approx(64.0)
    busy = throughput.rows_of("zfs", {small: [14.0], large: [14.0]}, [1.0])
    assert [row.verdict for row in busy] == [Verdict.NO_BUDGET, Verdict.NO_BUDGET, Verdict.NOT_RUN]
    assert "too busy" in busy[-1].note


@pytest.mark.parametrize(
    ("rows", "status"),
    [([], 0), ([Row("g", "w", "ms", 1.0, 2.0)], 0), ([Row("g", "w", "ms", 3.0, 2.0), not_run("g", "x", "y")], 1),
     ([Row("g", "w", "ms", 1.0), not_run("g", "x", "y")], 2)],
)
def test_exit_status_tells(rows, status):
    assert cli.status_of(rows) == status


def only_part(monkeypatch, measure):
    monkeypatch.setattr(cli, "PARTS", (cli.Part("imports", "something", measure, repeat=4),))


def test_command_line_writes_json(monkeypatch, tmp_path):
    seen = []

    def measure(repeat, progress, _stand):
        progress("working")
        seen.append(repeat)
        return [Row("imports", "tm clone", "ms", 1.0, 40.0)]

    only_part(monkeypatch, measure)
    target = tmp_path / "rows.json"
    done = CliRunner().invoke(cli.bench, ["--only", "imports", "--repeat", "2", "--json", str(target)])
    assert done.exit_code == 0 and seen == [2]
    assert "tm clone" in done.output and "within" in done.output
    assert json.loads(target.read_text())["rows"][0]["measured"] == 1.0


def test_a_part_that_breaks_is_a_row(monkeypatch):
    def measure(_repeat, _progress, _stand):
        raise RuntimeError("the farm fell over")

    only_part(monkeypatch, measure)
    done = CliRunner().invoke(cli.bench, [])
    assert done.exit_code == 2
    assert "the farm fell over" in done.output


def test_no_lab_leaves_out_what_needs_it(monkeypatch):
    def measure(_repeat, _progress, _stand):
        raise AssertionError("was measured")

    part = cli.Part("clone", "something", measure, repeat=1, needs_lab=True)
    monkeypatch.setattr(cli, "PARTS", (part,))
    done = CliRunner().invoke(cli.bench, ["--no-lab"])
    assert done.exit_code == 0 and "nothing measured" in done.output
