"""One simulated farm a test process; what a test leaves behind fails it, and the next test gets a new farm."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulated import SimStage


def pytest_configure(config: pytest.Config) -> None:
    """See marks.py."""
    config.addinivalue_line("markers", "thorough: contract tests that only run when -m names them (minutes)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without `-m ... thorough ...` the thorough tests are left out, unless one is named on the command line."""
    named = any("::" in argument for argument in config.args)
    if named or "thorough" in (config.option.markexpr or "") or config.option.keyword:
        return
    left_out = [item for item in items if item.get_closest_marker("thorough") or _spared(item)]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


# Where DRBD's version matters most; with 9 the other modules are left to the thorough run.
_ON_EITHER = ("test_main_path.py", "test_many_hosts.py", "test_snapshots.py", "test_growth.py",
              "test_migration_failures.py", "test_crashes.py")


def _spared(item: pytest.Item) -> bool:
    """With DRBD 9 a test runs always on one backend only, and in some modules."""
    values = getattr(item, "callspec", None)
    if values is None or values.params.get("drbd") != "9":
        return False
    return values.params.get("backend", "zfs") != "zfs" or item.path.name not in _ON_EITHER


class Stages:
    """The farms of this process, one a version of DRBD and number of hosts, made again when a test has spoilt it."""

    def __init__(self) -> None:
        self._stages: dict[tuple[str, ...], tuple[SimStage, str]] = {}

    def get(self, drbd: str, hosts: tuple[str, ...]) -> SimStage:
        """The farm. Skips the test where the machine does not allow one."""
        key = (drbd, *hosts)
        if key not in self._stages:
            place = tempfile.mkdtemp(prefix="dnc-contract-")
            self._stages[key] = SimStage(Path(place), hosts, drbd), place
            try:
                self._stages[key][0].start()
            except RuntimeError as error:
                self.drop(self._stages[key][0])
                pytest.skip(f"no simulated farm here: {error}")
        return self._stages[key][0]

    def drop(self, stage: SimStage | None = None) -> None:
        """End a farm, or all; the next test gets another one."""
        for key, (one, place) in list(self._stages.items()):
            if stage in (None, one):
                one.stop()
                del self._stages[key]
                shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def stages() -> Iterator[Stages]:
    """Where this process has its farms."""
    if os.geteuid() != 0:
        pytest.skip("the simulated farm mounts file systems: run as root")
    held = Stages()
    yield held
    held.drop()


@pytest.fixture(scope="session", params=["8.4", "9"])
def drbd(request: pytest.FixtureRequest) -> str:
    """Each version of DRBD in turn."""
    return str(request.param)


@pytest.fixture
def hosts() -> tuple[str, ...]:
    """The hosts of the farm; a test module may have more."""
    return ("node1", "node2")


@pytest.fixture
def stage(stages: Stages, drbd: str, hosts: tuple[str, ...]) -> Iterator[SimStage]:
    """A farm with nothing on it; afterwards there must be nothing again, and no rule of safety broken."""
    yield from clean_stage(stages, drbd, hosts)


@pytest.fixture
def three(stages: Stages, drbd: str) -> Iterator[SimStage]:
    """As `stage`, with three hosts, all of them in BRIDGE_LIST."""
    for found in clean_stage(stages, drbd, ("node1", "node2", "node3")):
        for store in found.datastores.values():
            store.template["BRIDGE_LIST"] = " ".join(found.hosts)
        yield found


def clean_stage(stages: Stages, drbd: str, hosts: tuple[str, ...]) -> Iterator[SimStage]:
    """What a test gets, and what is looked at after it."""
    found = stages.get(drbd, hosts)
    clean = False
    try:
        yield found
        found.farm.clear_faults()
        found.tidy()
        broken, left = found.violations(), found.leftovers()
        clean = not broken and not left
        assert not broken
        assert not left
    finally:
        if not clean:
            stages.drop(found)


@pytest.fixture(params=["zfs", "thin"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each kind of pool in turn."""
    return str(request.param)
