"""xl's recorded answers, sysfs trees, pools' answers and samples, as the probes read them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from dnc.command import Runner
from dnc.errors import DncError
from dnc.grammar import parse_pool
from dnc.host.counters import Counters, domain_counters, host_traffic
from dnc.host.hypervisor import Hypervisor
from dnc.host.samples import Samples
from dnc.im.use import processor_use
from dnc.im.vm_status import _conditions
from dnc.log import Log
from dnc.opennebula.monitoring import hypervisor_name, parse_configuration
from dnc.opennebula.vm_state import Condition
from dnc.tools import volume_use
from dnc.tools.xl import DomainState
from dnc.tools.xl_info import parse_info, parse_list_verbose

DATA = Path(__file__).resolve().parent.parent / "data"


def recorded(name: str) -> str:
    text = (DATA / "xl" / name).read_text()
    return text.partition("#@ --- stdout\n")[2].partition("#@ --- stderr")[0]


def log() -> tuple[Log, list[str]]:
    said: list[str] = []
    return Log("test", sink=lambda level, text: said.append(f"{level} {text}")), said


# ---- xl


def test_the_hypervisor_as_recorded():
    info = parse_info(recorded("xl-info.txt"))
    assert (info.cpus, info.cpu_mhz, info.total_mib, info.free_mib) == (1, 2596, 2047, 808)
    assert (info.version, info.scheduler, info.dom0_fixed) == ("4.20.4-pre", "credit2", True)
    assert "hvm-3.0-x86_64" in info.capabilities
    assert info.virtualisation.startswith("pv hvm")


@pytest.mark.parametrize("text", ["", "nr_cpus : 1\n", "nr_cpus : x\ntotal_memory : 1\nfree_memory : 1\n"])
def test_a_hypervisor_that_says_nothing_useful(text):
    with pytest.raises(DncError, match="xl info"):
        parse_info(text)


def test_the_domains_as_recorded():
    domains, odd = parse_list_verbose(recorded("xl-list-v.txt"))
    assert odd == ()
    assert [(one.name, one.id, one.memory_mib, one.state, one.cpu_seconds, one.reason) for one in domains] == [
        ("Domain-0", 0, 1024, DomainState.RUNNING, 133.0, -1), ("g1", 3, 192, DomainState.BLOCKED, 2.1, -1)]


def verbose(name: str, number: int = 5, flags: str = "-b----", reason: str = "-") -> str:
    uuid = "a0322f36-817d-4154-8db8-f7c250d44e59"
    return f"{name:<40} {number:5d}   192     1     {flags}       2.1 {uuid} {reason:>8}                -"


@pytest.mark.parametrize("name", [
    "one 5", '"', "x" * 300, "one-5 7 192 1 -b---- 2.1", "Name", "(null)", "one-5\\", "one-7]]>", "$(id)", " lead", "é",
    verbose("nested")])
def test_a_hostile_name_hides_nobody(name):
    domains, odd = parse_list_verbose("\n".join([verbose("one-1", 1), verbose(name, 2), verbose("one-3", 3)]))
    assert odd == ()
    assert [one.id for one in domains] == [1, 2, 3]
    assert set(_conditions(domains)) == {1, 3}


@pytest.mark.parametrize("line", ["garbage", "one-9", "one-9 5 192 1 -b---- soon", "\tone-9"])
def test_an_odd_line_costs_only_itself(line):
    domains, odd = parse_list_verbose("\n".join([verbose("one-1", 1), line, verbose("one-3", 3)]))
    assert [one.id for one in domains] == [1, 3]
    assert odd == (line,)


@pytest.mark.parametrize(("name", "flags", "reason", "condition"), [
    ("one-5", "r-----", "-", Condition.RUNNING), ("one-5", "------", "-", Condition.RUNNING),
    ("one-5", "-b----", "-", Condition.RUNNING), ("one-5", "--p---", "-", Condition.PAUSED),
    ("one-5", "---s--", "0", Condition.ENDED), ("one-5", "---s--", "1", Condition.ENDED),
    ("one-5", "---s--", "2", Condition.PASSING), ("one-5", "---s--", "3", Condition.CRASHED),
    ("one-5", "---sc-", "3", Condition.CRASHED), ("one-5", "-----d", "-", Condition.ENDED),
    ("one-5--migratedaway", "--p---", "-", Condition.PASSING), ("one-5--incoming", "--p---", "-", None),
    ("one-5-2", "-b----", "-", None), ("one-05x", "-b----", "-", None), ("two-5", "-b----", "-", None)])
def test_what_a_domain_means(name, flags, reason, condition):
    domains, _odd = parse_list_verbose(verbose(name, flags=flags, reason=reason))
    assert _conditions(domains) == ({5: condition} if condition else {})


def test_a_domain_counts_more_than_what_a_migration_left():
    for lines in (("one-5--migratedaway", "one-5"), ("one-5", "one-5--migratedaway")):
        domains, _odd = parse_list_verbose("\n".join(verbose(name, number) for number, name in enumerate(lines, 1)))
        assert _conditions(domains) == {5: Condition.RUNNING}


def test_odd_lines_are_told(monkeypatch):
    heard, said = log()
    hypervisor = Hypervisor(Runner(heard), heard)
    monkeypatch.setattr(Hypervisor, "_ask", lambda self, argv: "\n".join(["odd"] * 9 + [verbose("one-1")]))
    assert len(hypervisor.domains()) == 1
    assert len(said) == 5


# ---- sysfs


def write(path: Path, **values: object) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (path / name).write_text(f"{value}\n")


def test_counters_of_domains(tmp_path):
    bus = tmp_path / "bus/xen-backend/devices"
    write(bus / "vif-5-0/net/one-7-0/statistics", rx_bytes=100, tx_bytes=2000)
    write(bus / "vif-5-1/net/one-7-1/statistics", rx_bytes=1, tx_bytes=2)
    write(tmp_path / "class/net/one-7-1-emu/statistics", rx_bytes=10, tx_bytes=20)
    write(bus / "vbd-5-51712/statistics", rd_req=3, wr_req=4, rd_sect=8, wr_sect=16)
    write(bus / "vbd-5-51728/statistics", rd_req=1, wr_req=0, rd_sect=-1, wr_sect="x")
    write(bus / "vbd-6-51712/statistics", rd_req=1)
    write(bus / "vif-9-0")
    write(bus / "vkbd-5-0/statistics", rd_req=9)
    assert domain_counters(str(tmp_path)) == {
        5: Counters(received=2022, sent=111, read_bytes=4096, written_bytes=8192, reads=4, writes=4),
        6: Counters(reads=1), 9: Counters()}


def test_no_backends_at_all(tmp_path):
    assert domain_counters(str(tmp_path)) == {}
    assert host_traffic(str(tmp_path)) == Counters()


def test_traffic_of_the_host_is_that_of_its_physical_interfaces(tmp_path):
    for name, bus, bytes_seen in (("eth0", "pci", 7), ("eth1", "virtio", 5), ("one-5-0", "xen-backend", 1000)):
        write(tmp_path / f"class/net/{name}/statistics", rx_bytes=bytes_seen, tx_bytes=bytes_seen * 2)
        write(tmp_path / f"class/net/{name}/device")
        write(tmp_path / f"bus/{bus}")
        (tmp_path / f"class/net/{name}/device/subsystem").symlink_to(tmp_path / f"bus/{bus}")
    write(tmp_path / "class/net/br0/statistics", rx_bytes=99, tx_bytes=99)
    assert host_traffic(str(tmp_path)) == Counters(received=12, sent=24)


# ---- processors


def test_processor_time_between_two_looks():
    earlier = {"at": 100.0, "seconds": {"1": 10.0, "2": 5.0, "3": 1.0}}
    use = processor_use(earlier, {"1": 12.0, "2": 4.0, "4": 1.0}, 110.0)
    assert use == {"1": 20.0, "2": 0.0, "4": 10.0}


@pytest.mark.parametrize("earlier", [{}, {"at": 1.0}, {"at": "x", "seconds": {}}, {"at": 1.0, "seconds": 3},
                                     {"at": 109.5, "seconds": {}}, {"at": 200.0, "seconds": {}}])
def test_no_earlier_look_no_use(earlier):
    assert processor_use(earlier, {"1": 12.0}, 110.0) == {}


# ---- pools


def test_what_zvols_and_their_snapshots_occupy():
    lines = ("tank/dnc/one-3\t1000\t5000", "tank/dnc/one-3-7-0\t300\t900", "tank/dnc/one-3@one-3-7-0\t-\t0",
             "tank/dnc/one-3-7-0@one-3-7-0.snap-0\t-\t500", "tank/dnc/one-3-7-0.branch-1@one-3-7-0.snap-12\t-\t70",
             "tank/dnc/odd", "tank/dnc/one-4\t-\t-")
    use = volume_use.parse(parse_pool("zfs:tank/dnc"), "\n".join(lines))
    assert use.volumes == {"one-3": 1000, "one-3-7-0": 300}
    assert use.snapshots == {"one-3-7-0": {0: 500, 12: 70}}


def test_what_thin_volumes_and_their_snapshots_occupy():
    rows = [
        {"lv_name": "one-3-7-0", "lv_size": "1000", "data_percent": "25.00", "pool_lv": "pool"},
        {"lv_name": "one-3-7-0.snap-1", "lv_size": "1000", "data_percent": "10.00", "pool_lv": "pool"},
        {"lv_name": "one-5", "lv_size": "1000", "data_percent": "", "pool_lv": "pool"},
        {"lv_name": "other", "lv_size": "1000", "data_percent": "50.00", "pool_lv": "pool2"}]
    use = volume_use.parse(parse_pool("lvm:vg0/pool"), json.dumps({"report": [{"lv": rows}]}))
    assert use.volumes == {"one-3-7-0": 250, "one-5": 0}
    assert use.snapshots == {"one-3-7-0": {1: 100}}


# ---- samples


def samples(tmp_path, boot="one"):
    write(tmp_path / "proc/sys/kernel/random", boot_id=boot)
    heard, said = log()
    return Samples(str(tmp_path / "monitoring"), str(tmp_path / "proc"), heard), said


def test_a_sample_is_what_was_kept(tmp_path):
    for expected in ({}, {"n": 1}):
        with samples(tmp_path)[0].open("x") as sample:
            assert sample.seen == expected
            sample.keep({"n": 1})


def test_a_sample_of_another_boot_is_dropped(tmp_path):
    with samples(tmp_path)[0].open("x") as sample:
        sample.keep({"n": 1})
    with samples(tmp_path, boot="two")[0].open("x") as sample:
        assert sample.seen == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"boot": "one"}', '{"boot": "one", "seen": 3}', "[" * 100000,
                                  "\0\xff"])
def test_a_damaged_sample_is_none(tmp_path, text):
    with samples(tmp_path)[0].open("x") as sample:
        sample.keep({"n": 1})
    (tmp_path / "monitoring/x.json").write_text(text, encoding="latin-1")
    with samples(tmp_path)[0].open("x") as sample:
        assert sample.seen == {}
        sample.keep({"n": 2})
    with samples(tmp_path)[0].open("x") as sample:
        assert sample.seen == {"n": 2}


def test_nothing_can_be_kept_and_nothing_fails(tmp_path):
    (tmp_path / "monitoring").write_text("not a directory")
    found, said = samples(tmp_path)
    with found.open("x") as sample:
        assert sample.seen == {}
        sample.keep({"n": 1})
    assert "nothing is remembered" in said[0]


def test_a_failing_look_keeps_what_was(tmp_path):
    with samples(tmp_path)[0].open("x") as sample:
        sample.keep({"n": 1})
    with pytest.raises(RuntimeError), samples(tmp_path)[0].open("x") as sample:
        sample.keep({"n": 2})
        raise RuntimeError
    with samples(tmp_path)[0].open("x") as sample:
        assert sample.seen == {"n": 1}


def test_two_at_once_take_turns(tmp_path):
    samples(tmp_path)
    found = Samples(str(tmp_path / "monitoring"), str(tmp_path / "proc"), log()[0])

    def count():
        for _ in range(25):
            with found.open("x") as sample:
                sample.keep({"n": sample.seen.get("n", 0) + 1})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with samples(tmp_path)[0].open("x") as sample:
        assert sample.seen == {"n": 100}


# ---- what the client gives


def test_the_monitoring_configuration_of_a_running_oned():
    heard, said = log()
    found = parse_configuration((DATA / "samples/monitor-configuration.xml").read_bytes(), "/x", heard)
    assert found == (5, 180, "/var/lib/one/datastores")
    assert said == []


@pytest.mark.parametrize("text", [b"", b"  \n", b"<A/>", b"<MONITOR_CONFIGURATION/>", b"\xff\xfe", b"<!DOCTYPE x><A/>",
                                  b"<MONITOR_CONFIGURATION><PROBES_PERIOD><STATE_VM>soon</STATE_VM></PROBES_PERIOD>"
                                  b"</MONITOR_CONFIGURATION>"])
def test_an_odd_configuration_means_defaults(text):
    heard, _said = log()
    assert parse_configuration(text, "/x", heard) == (5, 180, "/x")


@pytest.mark.parametrize(("words", "configured", "name"), [
    (("dnc", "3", "xen1"), "", "dnc"), (("qemu", "3", "xen1"), "", "qemu"), (("dnc x", "3", "xen1"), "", "dnc"),
    (("3", "xen1"), "", "dnc"), ((), "", "dnc"), (("dnc", "3", "xen1"), "qemu", "qemu"),
    (("qemu", "more", "3", "xen1"), "", "qemu")])
def test_the_hypervisors_name(words, configured, name):
    assert hypervisor_name(words, configured) == name
