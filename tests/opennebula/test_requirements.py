"""SCHED_REQUIREMENTS: our clause comes, changes and goes; the user's own text stays to the letter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc.opennebula.requirements import changed, parse, template

FARM = ("a", "b", "c", "d")
OWN = ("", 'CPUSPEED > 1000', 'ARCH = "x86_64" | (NAME != "a" & !HYBRID = YES)', '(FREE_CPU > 5) & (X = "(")', "a & b")


def after(text, disk, hosts, present=(0, 1, 2)):
    return changed(text, present, disk, hosts, FARM)


def test_a_clause_comes_and_goes():
    text = after("", 0, ("b", "a"))
    assert text == '(NAME = "dnc:disk 0" | NAME = "a" | NAME = "b")'
    assert after(text, 0, ("a", "b")) is None
    assert after(text, 0, ()) == ""
    assert after("", 0, ()) is None


def test_disks_on_the_same_hosts_share_a_clause():
    text = after(after("", 0, ("a", "b")), 2, ("b", "a"))
    assert text == '(NAME = "dnc:disk 0,2" | NAME = "a" | NAME = "b")'
    text = after(text, 2, ("a", "c"))
    assert text == '(NAME = "dnc:disk 0" | NAME = "a" | NAME = "b") & (NAME = "dnc:disk 2" | NAME = "a" | NAME = "c")'


def test_clauses_that_no_host_could_meet_together_give_way_to_the_latest():
    """A VM may run as a client of one disk beside a replica of the other."""
    text = after(after(after("X = 1", 0, ("a", "b")), 1, ("b", "c")), 2, ("c", "d"))
    assert parse(text).disks == {1: frozenset("bc"), 2: frozenset("cd")}


def test_a_disk_that_is_everywhere_requires_nothing():
    assert after("", 0, FARM) is None
    assert changed("", (0,), 0, ("a", "b"), ("a", "b")) is None


def test_clauses_of_disks_that_are_gone_go_with_the_next_change():
    text = after(after("X = 1", 0, ("a", "b")), 1, ("a", "b"))
    assert after(text, 2, (), present=(1, 2)) == '(X = 1) & (NAME = "dnc:disk 1" | NAME = "a" | NAME = "b")'


@pytest.mark.parametrize("own", OWN)
def test_the_users_text_is_kept(own):
    text = own
    for disk, hosts in ((0, ("a", "b")), (1, ("b", "d")), (0, ("b", "c")), (2, ("a", "b"))):
        text = after(text, disk, hosts)
        assert parse(text).own == own
    for disk in (0, 1):
        text = after(text, disk, ())
    assert after(text, 2, ()) == own


def test_what_the_user_writes_around_a_clause_is_kept():
    text = after("X = 1", 0, ("a", "b"))
    assert after(f"{text} & Y = 2", 0, ()) == "(X = 1) & Y = 2"
    assert after(f"Y = 2 & {text}", 0, ()) == "Y = 2 & (X = 1)"
    assert after(f"{after('', 0, ('a', 'b'))} | Y = 2", 0, ()) is None, "taken out it would leave half an expression"


@given(st.text(alphabet='ab"&|()!= 1', max_size=20), st.lists(
    st.tuples(st.integers(0, 2), st.sets(st.sampled_from("abcd"), max_size=3)), max_size=6))
def test_any_text_survives_any_changes(own, changes):
    text, disks = own, {}
    for disk, hosts in changes:
        found = after(text, disk, hosts)
        text = text if found is None else found
        disks.pop(disk, None)
        if hosts:
            disks[disk] = frozenset(hosts)
        got = parse(text)
        assert got.own == own
        assert got.disks.items() <= disks.items()
        assert got.disks.get(disk) == disks.get(disk)
        assert not got.disks or frozenset.intersection(*got.disks.values())


def test_the_argument_of_update():
    assert template("a ]]> b") == (
        "<TEMPLATE><SCHED_REQUIREMENTS><![CDATA[a ]]]]><![CDATA[> b]]></SCHED_REQUIREMENTS></TEMPLATE>")
