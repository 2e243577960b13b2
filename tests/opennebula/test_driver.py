"""The frame around actions: argv by name, one bare last line on stderr, exit status, no traceback."""

from __future__ import annotations

import sys
import types

import pytest

from dnc.errors import BadInput, NoSpace
from dnc.opennebula import driver


@pytest.fixture
def action(monkeypatch, tmp_path):
    """Registers a module as dnc.tm.probe and returns a function that calls it as OpenNebula would."""

    def install(run, arguments=()):
        module = types.ModuleType("dnc.tm.probe")
        module.ARGUMENTS = arguments
        module.run = run
        monkeypatch.setitem(sys.modules, "dnc.tm.probe", module)
        return lambda *argv: driver.main(str(tmp_path), "tm", "probe", argv)

    return install


@pytest.mark.parametrize(
    ("names", "argv", "expected"),
    [
        (("a", "b"), ["1", "2"], [("a", ("1",)), ("b", ("2",))]),
        (("files...", "to"), ["1", "2", "3"], [("files", ("1", "2")), ("to", ("3",))]),
        (("files...", "to"), ["3"], [("files", ()), ("to", ("3",))]),
        (("a", "b?"), ["1"], [("a", ("1",)), ("b", ())]),
        (("a", "b?"), ["1", "2"], [("a", ("1",)), ("b", ("2",))]),
    ],
)
def test_argv_gets_names(names, argv, expected):
    assert driver.match_arguments(names, argv) == expected


@pytest.mark.parametrize(("names", "argv"), [(("a",), []), (("a",), ["1", "2"]), (("f...", "a", "b"), ["1"])])
def test_wrong_argv_shows_usage(names, argv):
    with pytest.raises(BadInput, match="usage: <"):
        driver.match_arguments(names, argv)


def test_output_and_success(action, capsys):
    assert action(lambda call: call.arg("x"), ("x",))("one-7 raw") == 0
    assert capsys.readouterr() == ("one-7 raw\n", "")


def test_failure_ends_in_one_bare_line(action, capsys):
    def run(call):
        call.log.info("half way")
        raise NoSpace("pool is full", host="node1", command="zfs create x", hint="free some")

    assert action(run)() == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "INFO: probe: half way", "ERROR: probe: failed command: zfs create x", "node1: pool is full; free some. ",
    ]


def test_internal_errors_have_no_traceback(action, capsys, monkeypatch):
    def run(call):
        return {}["x"]

    assert action(run)() == 1
    line = capsys.readouterr().err
    assert "internal error KeyError" in line and "Traceback" not in line and line.count("\n") == 1
    monkeypatch.setenv("DNC_DEBUG", "1")
    assert action(run)() == 1
    assert "Traceback" in capsys.readouterr().err


def test_signal_unwinds(action, capsys):
    def run(call):
        raise driver.Terminated("signal 15")

    assert action(run)() == 1
    assert "was interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["no_such_action", "../x", "__init__.x", "1", "a b"])
def test_unknown_actions(name, capsys, tmp_path):
    assert driver.main(str(tmp_path), "tm", name, []) == 1
    assert "is no action of dnc" in capsys.readouterr().err


def test_wrong_configuration_stops_the_action(action, tmp_path, capsys):
    (tmp_path / "dncrc").write_text("REPLICAS=9\n")
    assert action(lambda call: pytest.fail("must not run"))() == 1
    assert capsys.readouterr().err == "dncrc:1: REPLICAS='9': takes a number from 1 to 3. \n"
