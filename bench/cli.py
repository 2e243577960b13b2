"""The command line: python -m bench."""

from __future__ import annotations

import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from . import burst, clones, counts, imports, places, probes, resizes, snapshots, throughput
from .results import Row, Verdict, not_run, to_json
from .stand import Stand
from .table import show_table
from .timing import CannotMeasure

EXIT_OVER = 1  # a budget is exceeded
EXIT_NOT_RUN = 2  # something could not be measured, though it was asked for


@dataclass(frozen=True)
class Part:
    """Rows measured together. `measure(repeat, progress, stand)` gives them; `needs_lab` when it uses the stand."""

    name: str
    about: str
    measure: Callable[[int, Callable[[str], None], Stand], list[Row]]
    repeat: int
    needs_lab: bool = False


PARTS = (
    Part("imports", "imports of each driver action over bare Python", imports.measure, repeat=7),
    Part("counts", "sessions, questions, processes of actions, simulated farm", counts.measure, repeat=1),
    Part("places", "placement among two hosts and among a thousand, on made-up answers", places.measure, repeat=5),
    Part("probes", "monitoring probes with 500 domains, simulated farm", probes.measure, repeat=5),
    Part("burst", "100 clones, 15 at a time, simulated farm", burst.measure, repeat=1),
    Part("labburst", "20 clones, 15 at a time, on the two hosts", burst.on_lab, repeat=1, needs_lab=True),
    Part("clone", "driver time of TM clone against the raw commands", clones.against_raw, repeat=3, needs_lab=True),
    Part("snapshot", "snapshot, revert and saveas, and how long the guest waits", snapshots.measure, repeat=3,
         needs_lab=True),
    Part("resize", "driver time of TM resize against the raw commands", resizes.measure, repeat=3, needs_lab=True),
    Part("import", "import throughput against dd", throughput.measure, repeat=1, needs_lab=True),
    Part("size", "clone time against image size", clones.against_size, repeat=2, needs_lab=True),
)

ONLY_HELP = f"Only this part; may be given again. {'; '.join(f'{part.name}: {part.about}' for part in PARTS)}."


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--no-lab", is_flag=True, help="Only what needs no hosts in QEMU.")
@click.option("--only", metavar="NAME", multiple=True, type=click.Choice([part.name for part in PARTS]), help=ONLY_HELP)
@click.option("--repeat", type=click.IntRange(1, 200), help="Measurements behind a median (each part has its own).")
@click.option("--json", "json_file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="Write all rows there too.")
def bench(no_lab: bool, only: Sequence[str], repeat: int | None, json_file: Path | None) -> None:
    """Measure what dnc costs and show it beside the budgets.

    Exit status: 0 all within budget, 1 a budget exceeded, 2 something could not be measured.
    """
    chosen = [part for part in PARTS if part.name in only or not only]
    progress = Console(stderr=True, highlight=False)
    begun = time.monotonic()
    rows: list[Row] = []
    stand = Stand()
    try:
        for part in chosen:
            if not (no_lab and part.needs_lab):
                rows += run_part(part, repeat or part.repeat, progress, stand)
    finally:
        stand.stop()
    show_table(rows)
    progress.print(f"measured in {time.monotonic() - begun:.0f} s", style="dim")
    if json_file is not None:
        json_file.write_text(to_json(rows, machine()), encoding="utf-8")
    sys.exit(status_of(rows))


def run_part(part: Part, repeat: int, progress: Console, stand: Stand) -> list[Row]:
    """The rows of a part; a part that cannot run at all is one row that says why."""
    with progress.status(part.about) as status:
        begun = time.monotonic()
        try:
            rows = part.measure(repeat, lambda text: status.update(f"{part.name}: {text}"), stand)
        except CannotMeasure as error:
            rows = [not_run(part.name, part.about, error)]
        except Exception as error:  # the other rows are still worth showing
            rows = [not_run(part.name, part.about, f"{type(error).__name__}: {error}")]
    progress.print(f"  {part.about:<66} {time.monotonic() - begun:6.1f} s", style="dim")
    return rows


def status_of(rows: Sequence[Row]) -> int:
    """The exit status that the rows deserve."""
    verdicts = {row.verdict for row in rows}
    if Verdict.OVER in verdicts:
        return EXIT_OVER
    return EXIT_NOT_RUN if Verdict.NOT_RUN in verdicts else 0


def machine() -> dict[str, Any]:
    """What the numbers depend on: processors, their model, load, versions, time (unix seconds)."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processors": os.cpu_count(), "model": model, "load": list(os.getloadavg()), "kernel": platform.release(),
        "python": platform.python_version(), "time": int(time.time()),
    }


def main() -> None:
    """Run the command line; an interrupt is a short line, not a traceback, and leaves no lab running."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        bench(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("bench: interrupted", err=True)
        sys.exit(130)
