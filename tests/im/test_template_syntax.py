"""What probes print can be read back by a reader as strict as oned, whatever names and texts it holds."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dnc.opennebula.template import attribute, attributes, quoted, vector
from oned.template_text import TemplateError, parse_template

HOSTILE = ['"', "\\", '\\"', "]]>", "x]]>y", "\n", 'a"\nSTATE="POWEROFF', "[", "]", ",", "=", "#", "é", "\0",
           "\x1b[31m", 'one-1", STATE="FAILURE"', "\udc80", "]]]>>", "$(reboot)", "`id`", "ends in \\", "\u2028"]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_stays_one_value(value):
    line = vector("VM", {"ID": 5, "NAME": value, "STATE": "RUNNING"})
    text = attribute("BEFORE", "x") + line + attribute("AFTER", value)
    parsed = parse_template(text)
    assert [name for name, _ in parsed] == ["BEFORE", "VM", "AFTER"]
    assert set(parsed[1][1]) == {"ID", "NAME", "STATE"}
    assert parsed[1][1]["STATE"] == "RUNNING"
    assert text.count("\n") == 3


@given(st.lists(st.tuples(st.text(alphabet="ABC_9", min_size=1), st.text()), max_size=5))
@example([("A", "x\\"), ("B", '" y="')])
def test_any_text_can_be_read_back(pairs):
    text = "".join(attribute(name, value) + vector(name, {"X": value, "Y": value}) for name, value in pairs)
    parsed = parse_template(text)
    assert [name for name, _ in parsed] == [name for name, _ in pairs for _ in range(2)]
    for (_name, value), (_again, single) in zip(pairs, parsed[::2]):
        if value.isprintable() and not set('"\\') & set(value) and "]]>" not in value:
            assert single == value


def test_plain_values_come_back_as_they_are():
    text = attributes({"CPU": 12.345, "MEMORY": 65536, "NAME": "Intel(R) Xeon(R) @ 2.60GHz", "EMPTY": ""})
    assert dict(parse_template(text)) == {
        "CPU": "12.3", "MEMORY": "65536", "NAME": "Intel(R) Xeon(R) @ 2.60GHz", "EMPTY": ""}
    assert quoted("it's") == '"it\'s"'


@pytest.mark.parametrize("text", [
    'A="x', 'A="x\\"\nB="y"\n', "A", "A=[B=\"x\"", 'A="x" B', "=x", 'A=[B="x" C="y"]', 'A="a]]>b"', "A=[B=\"x\",]"])
def test_the_reader_refuses_what_oned_refuses(text):
    with pytest.raises(TemplateError):
        parse_template(text)


def test_the_reader_takes_what_oned_takes():
    text = '# a comment\nA=x B = "y z"\nV = [ a = 1,\n  B="\\"q\\"" ]\nE=\n'
    assert parse_template(text) == [("A", "x"), ("B", "y z"), ("V", {"A": "1", "B": '"q"'}), ("E", "")]
