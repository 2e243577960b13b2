"""The two real hosts with the suite on them: started when the first row needs them, stopped at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .results import Row, not_run
from .timing import CannotMeasure

LAB = "bench"
HOST = "node1"
BACKENDS = ("zfs", "thin")


class Stand:
    """The lab `bench`. A failed start is remembered, so that each part can say why it could not be measured."""

    def __init__(self) -> None:
        self._stage: Any = None
        self._trouble = ""

    @property
    def stage(self) -> Any:
        """The running lab with the stand-in for oned. Raises CannotMeasure."""
        if self._trouble:
            raise CannotMeasure(self._trouble)
        if self._stage is None:
            try:
                self._stage = self._start()
            except CannotMeasure as error:
                self._trouble = str(error)
                raise
        return self._stage

    @staticmethod
    def _start() -> Any:
        try:
            from stage import Stage
        except ImportError as error:
            raise CannotMeasure(f"the lab cannot be imported: {error}") from None
        stage = Stage(LAB)
        try:
            stage.start()
            # Emulated hosts on a busy machine are slow to answer, and several labs may live on it: what an import
            # spools must not lie where another's does.
            stage.configure(SSH_TIMEOUT="60")
            spool = stage.lab.directory / "frontend" / "var" / "run"
            stage.cloud.environment["TMPDIR"] = str(spool)
        except Exception as error:  # whatever it is, the rows that need no lab are still worth showing
            stage.stop()
            raise CannotMeasure(f"lab {LAB}: {error}") from None
        return stage

    def stop(self) -> None:
        """Stop the lab, if it was started."""
        if self._stage is not None:
            self._stage.stop()
            self._stage = None


def each_backend(group: str, what: str, measure: Callable[[str], list[Row]]) -> list[Row]:
    """The rows of both backends; one that cannot be measured is a row that says why, and stops not the other."""
    rows = []
    for backend in BACKENDS:
        try:
            rows += measure(backend)
        except CannotMeasure as error:
            rows.append(not_run(group, f"{what}, {backend}", error))
    return rows


def transfer(stage: Any, line: str) -> float:
    """Run one line of a transfer file as one_tm does; seconds it took. Raises CannotMeasure with its last words."""
    done = stage.cloud.transfer.run_line(line)
    if done.rc != 0:
        raise CannotMeasure(f"{line.split()[0]}: {last_line(done.stderr)}")
    return float(stage.cloud.calls[-1].seconds)


def last_line(text: str) -> str:
    """The line that a user would see."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"


def image_of(stage: Any, backend: str, name: str, **how: Any) -> Any:
    """An image in a backend's datastore (path=... or size_mb=...). Raises CannotMeasure."""
    image = stage.cloud.create_image(name, datastore=stage.datastores[backend], type="DATABLOCK", **how)
    operation = stage.cloud.operations[-1]
    if not operation.ok:
        raise CannotMeasure(f"image {name}: {operation.error}")
    return image


def clone_lines(stage: Any, image: Any) -> tuple[str, str, str]:
    """A VM that is held, as (resource of its disk, CLONE line, DELETE line): TM clone can be run alone with it."""
    cloud = stage.cloud
    vm = cloud.instantiate({"CPU": 1, "MEMORY": 64, "DISK": [{"IMAGE": image.name}]}, hold=True)
    system = next(one for one in cloud.datastores.values() if one.is_system)
    disk = f"{HOST}:{cloud.vm_directory(system.id, vm.id)}/disk.0"
    clone = f"CLONE {cloud.tm_mad} {cloud.frontend}:{image.source} {disk} {vm.id} {image.datastore_id}"
    delete = f"DELETE {cloud.tm_mad} {disk} {vm.id} {image.datastore_id}"
    return f"{image.source}-{vm.id}-0", clone, delete
