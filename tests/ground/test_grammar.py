"""Names and numbers from outside: what fits is kept, everything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc import grammar
from dnc.errors import BadInput

HOSTILE = [
    "", " ", "-rf", "--force", "a b", "a'b", 'a"b', "a;b", "$(id)", "`id`", "a\nb", "a\0b", "../x", "a/../b", "é",
    "a" * 300, "one-1\n", "\u0661",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "parse",
    [grammar.parse_resource, grammar.parse_image_source, grammar.parse_pool, grammar.parse_id, grammar.parse_size_mib,
     grammar.parse_path, grammar.parse_domain],
)
def test_hostile_text_fits_no_grammar(parse, text):
    with pytest.raises(BadInput) as caught:
        parse(text)
    assert "\n" not in caught.value.line() and len(caught.value.line()) < 250


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_hosts(text):
    with pytest.raises(BadInput):
        grammar.parse_host(text)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 99999))
def test_names_round_trip(image, vm, disk):
    source = grammar.image_name(image)
    for name in (source, grammar.clone_name(source, vm, disk), grammar.volatile_name(vm, disk)):
        assert grammar.parse_resource(name.text) == name


@given(st.text(max_size=40))
def test_parsers_answer_or_raise_bad_input(text):
    for parse in (grammar.parse_resource, grammar.parse_host, grammar.parse_pool, grammar.parse_path):
        try:
            parse(text)
        except BadInput:
            continue


def test_paths_are_folded():
    assert grammar.parse_path("/var/lib/one//datastores/./0/") == "/var/lib/one/datastores/0"


def test_image_source_is_an_image():
    with pytest.raises(BadInput, match="not an image volume"):
        grammar.parse_image_source("one-1-2-3")


@pytest.mark.parametrize("text", ["zfs:tank/dnc", "lvm:vg0/pool"])
def test_pools(text):
    assert str(grammar.parse_pool(text)) == text


@pytest.mark.parametrize("text", ["zfs:-o/x", "lvm:vg0", "zfs:/tank", "lvm:-a/b", "ext4:x", "zfs:tank@s", "zfs:a//b"])
def test_wrong_pools(text):
    with pytest.raises(BadInput):
        grammar.parse_pool(text)


@pytest.mark.parametrize("text", ["", "-1", "x", "save-", "save-x", "1\n", "12345678901", "../1", "0 1"])
def test_no_snapshots(text):
    with pytest.raises(BadInput):
        grammar.parse_snapshot(text)


@pytest.mark.parametrize("text", ["0", "17", "save-9"])
def test_snapshots(text):
    assert grammar.parse_snapshot(text) == text
