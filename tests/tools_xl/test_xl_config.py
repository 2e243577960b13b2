"""The xl configuration: whatever a document holds, a value stays one value of xl's syntax."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnc.errors import BadInput
from dnc.tools.xl import vdev_number
from dnc.tools.xl_config import (
    DiskConfig,
    Display,
    DomainConfig,
    GuestType,
    NicConfig,
    Target,
    assign_vdevs,
    check_raw,
    disk_specification,
    nic_specification,
    quote,
    render,
    vdev_for,
)

PVH, PV, HVM = GuestType.PVH, GuestType.PV, GuestType.HVM
PLAIN = DomainConfig(
    name="one-1", uuid="u", guest_type=PVH, memory_mib=64, memory_max_mib=64, vcpus=1, vcpus_max=1, cpu_weight=256,
    on_crash="destroy",
)
_TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<word>[A-Za-z0-9_]+)"""
    r"""|(?P<mark>[=\[\],])|(?P<blank>[ \t\n])"""
)


def read(text: str) -> dict[str, list[str]]:
    """A reader of xl's syntax as libxlutil has it (libxlu_cfg_l.l): assignments of strings, numbers and lists."""
    values: dict[str, list[str]] = {}
    tokens = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match, f"not xl syntax: {text[position:position + 40]!r}"
        position = match.end()
        if match.lastgroup != "blank":
            tokens.append((match.lastgroup, match.group()))
    key = ""
    for index, (kind, token) in enumerate(tokens):
        if kind == "word" and tokens[index + 1:index + 2] == [("mark", "=")]:
            key = token
            assert key not in values, f"{key} set twice"
            values[key] = []
        elif kind == "string":
            values[key].append(re.sub(r"\\(.)", r"\1", token[1:-1]))
        elif kind == "word":
            values[key].append(token)
    return values


def test_reader_and_quote_agree():
    assert read('a = "x\\"y\\\\"\nb = [ "1", \'2\', ]\nc = 3\n') == {"a": ['x"y\\'], "b": ["1", "2"], "c": ["3"]}


@given(st.text())
def test_any_command_line_stays_one_value(text: str):
    config = PLAIN._replace(kernel="/k", cmdline=text)
    try:
        rendered = render(config)
    except BadInput:
        assert any(ord(letter) < 32 or ord(letter) == 127 or 0xD800 <= ord(letter) <= 0xDFFF for letter in text)
        return
    values = read(rendered)
    assert values.get("cmdline", [""]) == [text]
    assert values["name"] == ["one-1"] and values["kernel"] == ["/k"]


@given(st.text(), st.text(), st.text())
def test_no_nic_can_say_more_than_a_nic(mac: str, bridge: str, name: str):
    for nic in (
        NicConfig(mac, "br0", "one-1-0"), NicConfig("02:00:00:00:00:01", bridge, "one-1-0"),
        NicConfig("02:00:00:00:00:01", "br0", name),
    ):
        try:
            specification = nic_specification(nic)
        except BadInput:
            continue
        assert [word.split("=")[0] for word in specification.split(",")] == ["mac", "bridge", "vifname", "type"]
        assert read(render(PLAIN._replace(nics=(nic,))))["vif"] == [specification]


@given(st.text())
def test_no_path_can_say_more_than_a_path(path: str):
    disk = DiskConfig("xvda", path)
    try:
        values = read(render(PLAIN._replace(disks=(disk,))))
    except BadInput:
        return
    assert values["disk"][0].startswith("format=raw,vdev=xvda,access=rw,target=/")
    assert set(values) == set(read(render(PLAIN))) | {"disk"}


@given(st.text(), st.text(), st.text())
def test_no_display_can_say_more_than_a_display(listen: str, password: str, keymap: str):
    display = Display(listen, 5901, password, keymap)
    for kind in (PV, HVM):
        try:
            values = read(render(PLAIN._replace(guest_type=kind, display=display)))
        except BadInput:
            continue
        if kind is PV:
            (vfb,) = values["vfb"]
            allowed = {"vnc", "vnclisten", "vncdisplay", "vncunused", "vncpasswd", "keymap"}
            assert {word.split("=")[0] for word in vfb.split(",")} <= allowed
        else:
            assert values["vnclisten"] == [listen]


@pytest.mark.parametrize("text", ["a\nb", "a\x00", "\x7f", "\ud800", "a\tb"])
def test_control_characters_are_refused(text: str):
    with pytest.raises(BadInput, match="control character"):
        quote(text)


@pytest.mark.parametrize("target, kind, vdev", [
    ("xvda", PVH, "xvda"), ("sda", PVH, "xvda"), ("vdb", PV, "xvdb"), ("hda", PVH, "xvdm"), ("hdb", PV, "xvdn"),
    ("hdn", PVH, "xvdz"), ("hda", HVM, "hda"), ("hdd", HVM, "hdd"), ("xvdc", HVM, "xvdc"), ("sda", HVM, "xvda"),
    ("vdz", HVM, "xvdz"),
])
def test_targets(target: str, kind: GuestType, vdev: str):
    assert vdev_for(target, kind) == vdev


@pytest.mark.parametrize("target, kind", [
    ("hde", HVM), ("hdo", PVH), ("", PVH), ("sdaaa", PVH), ("hdaa", PVH), ("sda,x=1", PVH), ("xvda\n", PV),
])
def test_targets_that_are_none(target: str, kind: GuestType):
    with pytest.raises(BadInput, match="TARGET"):
        vdev_for(target, kind)


@pytest.mark.parametrize("names, kind, vdevs", [
    (["xvda", "sda", "vda", "hda"], PVH, ["xvda", "xvdaa", "xvdba", "xvdm"]),
    (["sda", "xvda", "xvdm", "hda"], PV, ["xvda", "xvdca", "xvdm", "xvdda"]),
    (["hda", "xvda", "sda", "sdb"], HVM, ["hda", "xvdca", "xvdaa", "xvdb"]),
    (["xvda", "cd:hda", "cd:sda", "cd:xvdb", "cd:sde"], HVM, ["xvda", "hda", "hdb", "hdc", "hdd"]),
    (["sdb", "cd:sdb", "cd:sdd"], HVM, ["xvdb", "hda", "xvdd"]),
    (["xvdz", "xvdaa", "vdzz"], PVH, ["xvdz", "xvdaa", "xvdzz"]),
])
def test_disks_whose_names_would_be_one_stand_apart(names: list[str], kind: GuestType, vdevs: list[str]):
    targets = [Target(number, name.removeprefix("cd:"), name.startswith("cd:")) for number, name in enumerate(names)]
    assert list(assign_vdevs(targets, kind).values()) == vdevs
    # A disk that comes later moves none; nor does the order in the document count.
    assert assign_vdevs(targets[:2], kind) == dict(enumerate(vdevs[:2]))
    assert assign_vdevs(targets[::-1], kind) == dict(enumerate(vdevs))


@given(st.lists(st.tuples(st.sampled_from(["xvd", "sd", "vd", "hd"]), st.sampled_from("abcd"), st.booleans()),
                unique_by=lambda one: one[:2]), st.sampled_from(list(GuestType)))
def test_no_two_targets_become_one_disk(names: list[tuple[str, str, bool]], kind: GuestType):
    targets = [Target(number, prefix + letter, cdrom) for number, (prefix, letter, cdrom) in enumerate(names)]
    try:
        found = assign_vdevs(targets, kind)
    except BadInput:
        assert kind is HVM and sum(cdrom for _prefix, _letter, cdrom in names) > 2
        return
    assert len(set(found.values())) == len(names)
    assert len({vdev_number(vdev) for vdev in found.values()}) == len(names)


def test_two_disks_of_one_name_are_refused():
    with pytest.raises(BadInput, match="both be xvda"):
        render(PLAIN._replace(disks=(DiskConfig("xvda", "/dev/a"), DiskConfig("xvda", "/dev/b"))))


def test_cdrom_is_a_drive_for_hvm_and_a_loop_device_for_others():
    cdrom = DiskConfig("xvdm", "/var/x, y/disk.1", readonly=True, cdrom=True, file=True)
    assert disk_specification(cdrom, PVH) == "format=raw,vdev=xvdm,access=ro,script=block,target=/var/x, y/disk.1"
    assert disk_specification(cdrom, HVM) == "format=raw,vdev=xvdm,access=ro,devtype=cdrom,target=/var/x, y/disk.1"


def test_only_guests_with_a_screen_get_vnc():
    display = Display("127.0.0.1", 5941)
    assert "vnc" not in render(PLAIN._replace(display=display))
    assert read(render(PLAIN._replace(display=display, guest_type=HVM)))["vncdisplay"] == ["41"]
    assert read(render(PLAIN._replace(display=display, guest_type=PV)))["vfb"] == [
        "vnc=1,vnclisten=127.0.0.1,vncdisplay=41,vncunused=0"
    ]


@pytest.mark.parametrize("raw", [
    "disk = [ 'phy:/dev/sda,xvdz,w' ]", "x=1; disk=['a']", "disk += [ 'b' ]", "\n  name = 'Domain-0'", "uuid='x'",
    "type='pv'", "a = 'x' ;name='y'", "# '\nname = 'b' # '",
])
def test_raw_leaves_what_the_suite_answers_for(raw: str):
    with pytest.raises(BadInput, match="RAW sets"):
        check_raw(raw)


@pytest.mark.parametrize("raw", ["tsc_mode = 'native'", "# name = 'x'", "extra = 'disk = 1'", "pci=['01:00.0']", ""])
def test_raw_may_set_the_rest(raw: str):
    check_raw(raw)
    assert raw in render(PLAIN._replace(raw=raw))
