"""No value of a document breaks the xl configuration: what is not refused is read back as the one value it was."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc.errors import BadInput
from dnc.opennebula.vm import parse_vm
from vmm.documents import disk, rendered, vector, vm_text
from vmm.hostile import DOCUMENTS, MARKS, VALUE, cdata
from vmm.xl_reader import NotXl, check, read

# What a document can hold, with a taste for what means something.
TEXT = st.one_of(
    st.lists(st.sampled_from(MARKS), max_size=8).map("".join),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), include_characters="\n\t"), max_size=20),
)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_documents_are_good(name: str):
    values = check(rendered(parse_vm(DOCUMENTS[name])))
    assert values["name"] == "one-901" and values["type"] == name.split("-")[0]


@pytest.mark.parametrize("name", DOCUMENTS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_one_attribute_holds(name: str, data: st.DataObject):
    text = DOCUMENTS[name]
    places = [match.span(2) for match in VALUE.finditer(text)]
    start, end = data.draw(st.sampled_from(places))
    hostile = data.draw(st.one_of(TEXT, TEXT.map(lambda more: text[start:end] + more)))
    document = text[:start] + cdata(hostile) + text[end:]
    try:
        configuration = rendered(parse_vm(document))
    except BadInput:
        return
    values = check(configuration)
    assert values["name"] == "one-901" and values["on_poweroff"] == "destroy"


@settings(max_examples=80, deadline=None)
@given(TEXT)
def test_a_command_line_arrives_as_it_was(text: str):
    document = DOCUMENTS["pvh"].replace("[quiet]", f"[{cdata(text)}]")
    try:
        values = check(rendered(parse_vm(document)))
    except BadInput:
        return
    assert values["cmdline"] == f"root=/dev/xvda1 {text.strip()}".strip()


WORDS = st.sampled_from(
    ["a", "disk", "=", " = ", "'x'", '"y"', "[", "]", ",", ";", "\n", "#", "1", "0x1f", "+=", "'", '"', "\\", "name"]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, max_size=10).map("".join))
def test_raw_that_is_accepted_is_read_and_sets_nothing_of_ours(raw: str):
    document = vm_text(disk(0), vector("RAW", TYPE="dnc", DATA=raw))
    try:
        text = rendered(parse_vm(document))
    except BadInput:
        return
    before, mark, after = text.partition("# RAW of the VM template\n")
    check(before)
    if mark and "+=" not in after:
        try:
            added = read(after)
        except NotXl as error:
            assert "set twice" in str(error)
        else:
            assert not {"name", "disk", "vif", "uuid", "type", "builder"} & set(added)
