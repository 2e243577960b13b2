"""Errors as users see them, the one place that starts processes, and redaction."""

from __future__ import annotations

import io
import os

import pytest

from dnc import errors
from dnc.command import Runner, find_tool, quote
from dnc.log import Log, redact


def make_runner(**options):
    stream = io.StringIO()
    return Runner(Log("test", debug=True, stream=stream), **options), stream


def test_line_says_what_and_where_and_next_step():
    error = errors.NoSpace("zfs:tank/dnc is 97 % full", host="node1", hint="free space or raise POOL_FILL_LIMIT")
    assert error.line() == "node1: zfs:tank/dnc is 97 % full; free space or raise POOL_FILL_LIMIT. "


@pytest.mark.parametrize("text", ["- dash first", "a\nb\r\nc", "", "x" * 500])
def test_line_is_one_line_and_never_empty(text):
    line = errors.DncError(text).line()
    assert line.endswith(". ") and "\n" not in line and not line.startswith("-") and len(line) > 2


@pytest.mark.parametrize("kind", list(errors._kinds().values()))
def test_errors_cross_the_session(kind):
    sent = kind("what", host="h", command="c", hint="n")
    got = errors.from_json(sent.to_json())
    assert type(got) is kind and got.to_json() == sent.to_json()


def test_unknown_kind_becomes_the_root():
    assert type(errors.from_json({"kind": "Newer", "what": "x"})) is errors.DncError


def test_quote_can_be_pasted():
    assert quote(["zfs", "set", "a=b c", "it's", ""]) == """zfs set 'a=b c' 'it'"'"'s' ''"""


@pytest.mark.parametrize(
    "text",
    ["drbdsetup x --shared-secret=hush 1", 'shared-secret "hush";', "shared-secret hush", "shared-secret='hush'"],
)
def test_secrets_are_redacted(text):
    assert "hush" not in redact(text) and "***" in redact(text)


def test_log_is_redacted_and_on_one_line():
    stream = io.StringIO()
    Log("clone", stream=stream).info('a\nshared-secret "hush"')
    assert stream.getvalue() == 'INFO: clone: a shared-secret "***"\n'


def test_run_returns_what_was_said():
    runner, _stream = make_runner()
    result = runner.run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin=b"in", ok=(3,))
    assert (result.status, result.stdout, result.stderr) == (3, "in", "err\n")
    assert runner.count == 1


def test_failure_names_tool_and_last_words():
    runner, _stream = make_runner()
    with pytest.raises(errors.ToolFailed, match="sh failed: second") as caught:
        runner.run(["sh", "-c", "echo first >&2; echo second >&2; exit 7"])
    assert caught.value.status == 7 and "exit 7" in caught.value.command


def test_missing_tool_and_deadline():
    runner, _stream = make_runner()
    with pytest.raises(errors.ToolMissing, match="no-such-tool is not installed"):
        runner.run(["no-such-tool"])
    with pytest.raises(errors.TimedOut, match="sleep did not end"):
        runner.run(["sleep", "5"], timeout=0.1)


def test_dry_run_asks_but_does_not_change(tmp_path):
    runner, stream = make_runner(dry_run=True)
    runner.run(["touch", str(tmp_path / "x")])
    assert not (tmp_path / "x").exists()
    assert f"would run: touch {tmp_path}/x" in stream.getvalue()
    assert runner.run(["echo", "hi"], changes=False).stdout == "hi\n"


def test_tools_are_found_without_sbin_in_path(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert os.path.basename(find_tool("ldconfig")) == "ldconfig"
