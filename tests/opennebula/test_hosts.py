"""oned's list of hosts: states, published figures, and what is wrong with either."""

from __future__ import annotations

import io

import pytest

from dnc.errors import BadInput
from dnc.log import Log
from dnc.opennebula.hosts import parse_host_pool

VECTOR = ("<DNC_SPACE><POOL>{pool}</POOL><TOTAL_MB>100</TOTAL_MB><USED_MB>40</USED_MB><FREE_MB>60</FREE_MB>"
          "<FILL>40.0</FILL><VOLUMES>{volumes}</VOLUMES><AT>1795190728</AT></DNC_SPACE>")


def host(name: str, state: object, *vectors: str) -> str:
    return (f"<HOST><ID>1</ID><NAME>{name}</NAME><STATE>{state}</STATE><HOST_SHARE><PCI_DEVICES/></HOST_SHARE>"
            f"<TEMPLATE><ARCH><![CDATA[x86_64]]></ARCH>{''.join(vectors)}</TEMPLATE></HOST>")


def read(*hosts: str):
    stream = io.StringIO()
    return parse_host_pool(f"<HOST_POOL>{''.join(hosts)}</HOST_POOL>", Log("test", stream=stream)), stream


def test_states_decide_who_may_be_used():
    records, _ = read(*(host(f"h{state}", state) for state in range(10)))
    assert [name for name, record in records.items() if not record.unusable] == ["h0", "h1", "h2", "h6"]
    assert records["h4"].unusable == "disabled in OpenNebula"
    assert records["h8"].unusable == "offline in OpenNebula"
    assert records["h9"].unusable == "in state 9 in OpenNebula"


def test_a_figure_for_each_pool_and_wrong_ones_told():
    good = [VECTOR.format(pool=pool, volumes=3) for pool in ("zfs:tank/dnc", "lvm:vg0/pool")]
    records, stream = read(host("a", 2, *good), host("b", 2, VECTOR.format(pool="tank", volumes=3), good[1]))
    assert sorted(records["a"].figures) == ["lvm:vg0/pool", "zfs:tank/dnc"]
    assert records["a"].figures["zfs:tank/dnc"].space.usable(95) == 55 << 20
    assert list(records["b"].figures) == ["lvm:vg0/pool"] and "b: 'tank' is not a pool" in stream.getvalue()


@pytest.mark.parametrize("document", ["<VM/>", "", f"<HOST_POOL>{host('a', 'x')}</HOST_POOL>"])
def test_what_is_no_list_of_hosts(document):
    with pytest.raises(BadInput):
        parse_host_pool(document, Log("test", stream=io.StringIO()))
