"""One simulated farm a test process; what a test leaves behind fails it, and the next test gets a new farm."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

for directory in (Path(__file__).parent, *(Path(__file__).parents[2] / name for name in ("lab", "tests"))):
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))

from simulated import SimStage  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    """See marks.py."""
    config.addinivalue_line("markers", "thorough: contract tests that only run when -m names them (minutes)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without `-m ... thorough ...` the thorough tests are left out, unless one is named on the command line."""
    named = any("::" in argument for argument in config.args)
    if named or "thorough" in (config.option.markexpr or "") or config.option.keyword:
        return
    left_out = [item for item in items if item.get_closest_marker("thorough")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


class Stages:
    """The farm of this process, made again when a test has spoilt it."""

    def __init__(self, hosts: tuple[str, ...] = ("node1", "node2")) -> None:
        self._hosts = hosts
        self._stage: SimStage | None = None
        self._place = ""

    def get(self) -> SimStage:
        """The farm. Skips the test where the machine does not allow one."""
        if self._stage is None:
            self._place = tempfile.mkdtemp(prefix="dnc-contract-")
            self._stage = SimStage(Path(self._place), self._hosts)
            try:
                self._stage.start()
            except RuntimeError as error:
                self.drop()
                pytest.skip(f"no simulated farm here: {error}")
        return self._stage

    def drop(self) -> None:
        """End the farm; the next test gets another one."""
        if self._stage is not None:
            self._stage.stop()
            self._stage = None
            shutil.rmtree(self._place, ignore_errors=True)


@pytest.fixture(scope="session")
def stages() -> Iterator[Stages]:
    """Where this process has its farm."""
    if os.geteuid() != 0:
        pytest.skip("the simulated farm mounts file systems: run as root")
    held = Stages()
    yield held
    held.drop()


@pytest.fixture(scope="module")
def stages_of_three() -> Iterator[Stages]:
    """A farm of three hosts, for as long as a module needs it."""
    if os.geteuid() != 0:
        pytest.skip("the simulated farm mounts file systems: run as root")
    held = Stages(("node1", "node2", "node3"))
    yield held
    held.drop()


@pytest.fixture
def three(stages_of_three: Stages) -> Iterator[SimStage]:
    """As `stage`, with three hosts, all of them in BRIDGE_LIST."""
    for found in clean_stage(stages_of_three):
        for store in found.datastores.values():
            store.template["BRIDGE_LIST"] = " ".join(found.hosts)
        yield found


@pytest.fixture
def stage(stages: Stages) -> Iterator[SimStage]:
    """A farm with nothing on it; afterwards there must be nothing again, and no rule of safety broken."""
    yield from clean_stage(stages)


def clean_stage(stages: Stages) -> Iterator[SimStage]:
    """What a test gets, and what is looked at after it."""
    found = stages.get()
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
            stages.drop()


@pytest.fixture(params=["zfs", "thin"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each kind of pool in turn."""
    return str(request.param)
