"""Results of the benchmarks: verdicts, what a reader sees, and JSON that comes back as it was written."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench.results import FORMAT, BadResults, Row, Verdict, from_json, median, not_run, read, show, to_json
from bench.table import show_table, summary

ROWS = [
    Row("imports", "tm clone", "ms", 23.25, 40.0, "bare Python 10.0 ms", (22.0, 23.25, 25.5)),
    Row("imports", "tm mv", "ms", 40.5, 40.0),
    Row("counts", "tm clone: processes", "processes", 12.0, None, "zfs 4, drbdmeta 2, drbdadm 2"),
    not_run("clone", "driver / raw commands, zfs", "lab bench: no memory\n"),
]


@pytest.mark.parametrize(
    ("measured", "budget", "verdict"),
    [(39.9, 40.0, Verdict.WITHIN), (40.0, 40.0, Verdict.WITHIN), (40.1, 40.0, Verdict.OVER), (0.0, 0.0, Verdict.WITHIN),
     (1.0, 0.0, Verdict.OVER), (5.0, None, Verdict.NO_BUDGET), (None, 40.0, Verdict.NOT_RUN),
     (None, None, Verdict.NOT_RUN)],
)
def test_verdict_follows_from_numbers(measured, budget, verdict):
    assert Row("g", "w", "ms", measured, budget).verdict is verdict


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(2.0, "sessions", "2 sessions"), (1.0, "sessions", "1 session"), (0.0, "questions", "0 questions"),
     (1.0, "s", "1.00 s"), (1.2345, "times", "1.23 times"), (23.25, "ms", "23.2 ms"), (312.4, "ms", "312 ms"),
     (1.0, "processes", "1 process")],
)
def test_numbers_are_shown_with_as_many_digits_as_make_sense(value, unit, text):
    assert show(value, unit) == text


def test_json_comes_back_as_it_was_written():
    text = to_json(ROWS, {"processors": 2})
    again = from_json(text)
    assert again == ROWS
    assert [row.samples for row in again] == [row.samples for row in ROWS]
    assert [entry["verdict"] for entry in json.loads(text)["rows"]] == ["within", "over", "no budget", "not run"]
    assert json.loads(text)["machine"] == {"processors": 2}


numbers = st.none() | st.floats(0, 1e12)


@given(st.text(), st.text(), st.sampled_from(["ms", "s", "sessions", ""]), numbers, numbers, st.text(),
       st.lists(st.floats(0, 1e9)))
def test_any_row_survives_json(group, what, unit, measured, budget, note, samples):
    row = Row(group, what, unit, measured, budget, note, tuple(samples))
    assert from_json(to_json([row], {})) == [row]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", '{"format": 1}', '{"format": 1, "rows": [{}]}', '{"format": 1, "rows": {"a": 1}}',
     json.dumps({"format": FORMAT + 1, "rows": []}), '{"format": 1, "rows": ["x"]}'],
)
def test_what_is_no_results_file_is_refused(text):
    with pytest.raises(BadResults):
        from_json(text)


def test_a_verdict_that_its_numbers_do_not_give_is_refused():
    document = json.loads(to_json(ROWS, {}))
    document["rows"][1]["verdict"] = "within"
    with pytest.raises(BadResults, match="tm mv"):
        from_json(json.dumps(document))


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_numbers_that_are_none_are_refused(value):
    document = json.loads(to_json(ROWS[:1], {}))
    document["rows"][0]["measured"] = value
    with pytest.raises(BadResults, match="no measurement"):
        from_json(json.dumps(document))


def test_reading_names_the_file(tmp_path):
    with pytest.raises(BadResults, match="absent.json"):
        read(tmp_path / "absent.json")
    path = tmp_path / "rows.json"
    path.write_text(to_json(ROWS, {}))
    assert read(path) == ROWS


def test_median():
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5
    with pytest.raises(ValueError, match="no values"):
        median([])


def test_why_something_was_not_measured_is_one_short_line():
    assert not_run("g", "w", "first\nlast words \n").note == "last words"
    assert not_run("g", "w", KeyError()).note == "KeyError"
    assert len(not_run("g", "w", "x" * 5000).note) < 300


def test_no_secret_gets_into_a_note():
    row = not_run("import", "dd", "Command 'drbdsetup net-options --shared-secret=5ac358776103526468f2 --x' failed")
    assert "5ac358776103526468f2" not in row.note and "failed" in row.note


def test_table_shows_every_row_with_budget_and_verdict():
    out = io.StringIO()
    show_table([*ROWS, Row("g", "[bold]markup[/bold]", "ms", 1.0)], Console(file=out, width=200))
    lines = out.getvalue().splitlines()
    line = next(line for line in lines if "tm mv" in line)
    assert "40.5 ms" in line and "≤ 40.0 ms" in line and "over" in line
    assert any("lab bench: no memory" in line and "not run" in line for line in lines)
    assert any("[bold]markup[/bold]" in line for line in lines)
    assert lines[-1] == "1 within, 1 over, 2 no budget, 1 not run"


def test_summary_of_nothing():
    assert summary([]) == "nothing measured"
