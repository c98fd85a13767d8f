"""How much of the time workers read and match, and what a second worker brings.

    python -m benchmarks.efficiency             # one worker, then two, of one thread each; about five minutes on idle cores
    python -m benchmarks.efficiency --scenes 5 --size 1536 --gaps 1 --json efficiency.json

A run takes minutes or hours, and its blocks hold up to 64 pairs. So that this one is like it, its blocks hold 30 pairs by default, it
lasts more than a minute, and cluster, modules and compiled numerics are there before time is taken. Images are written once to
``--folder``. What Dask says of its tasks tells how long each phase was at work; writing is taken off the phase that measures, and so are
tasks that only cut pixels for other tiles or join them.
"""

from __future__ import annotations

import argparse
import re
import shutil
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from distributed import Client
from distributed.diagnostics.task_stream import TaskStreamPlugin

from benchmarks.memory import DAYS, write_archive
from benchmarks.report import Figure, as_records, exit_code, show_figures, write_json
from ftrack.cluster import open_client
from ftrack.config import Workflow
from ftrack.plan import Plan, make_plan
from ftrack.records import Record
from ftrack.run import Event, run_plan
from ftrack.warmup import compile_numerics

BUSY, SPEEDUP = 0.85, 1.8
PLUGIN = "efficiency"

LATE = ("fit_shifts", "finish_velocity")
CUTTING = ("overlap-getitem", "rechunk", "getitem", "shuffle", "p2p")
JOINED = re.compile(r"overlap-[0-9a-f]{32}")
"""How the names of tasks begin that only cut, send or join pixels."""


def begin_listening(dask_scheduler: Any = None) -> None:
    """Let the scheduler remember when every task was at work."""
    dask_scheduler.add_plugin(TaskStreamPlugin(dask_scheduler, maxlen=1_000_000), name=PLUGIN)


def seconds_of_tasks(dask_scheduler: Any = None) -> dict[str, float]:
    """Return the seconds that tasks were computed, moved and read back from disk, by action; computing is told apart by ``kind_of``."""
    found: dict[str, float] = {}
    for task in dask_scheduler.plugins[PLUGIN].buffer:
        kind = kind_of(str(task["key"]))
        for step in task["startstops"]:
            name = kind if step["action"] == "compute" else step["action"]
            found[name] = found.get(name, 0.0) + step["stop"] - step["start"]
    return found


def kind_of(key: str) -> str:
    """Return what a task does by its key: ``late``, ``cutting``, or ``compute`` for reading, matching and writing displacement."""
    name = key.lstrip("('")
    if name.startswith(LATE):
        return "late"
    return "cutting" if name.startswith(CUTTING) or JOINED.match(name) else "compute"


def make_case(listing: Path, output: Path, gaps: int, workers: int, tile: int = 512) -> Plan:
    """Return the plan of a run with workers of one thread."""
    for path in (output, Path(f"{output}.run")):
        shutil.rmtree(path, ignore_errors=True)
    return make_plan(
        Workflow.read(
            {
                "scenes": {"catalog": str(listing), "asset": "nir"},
                "pairs": {"min_days": 1, "max_days": DAYS * gaps},
                "run": {"tile": tile},
                "output": str(output),
                "cluster": {"kind": "local", "workers": workers, "threads": 1, "memory": "3GiB"},
            }
        )
    )


def measure_run(plan: Plan, client: Client, workers: int) -> dict[str, float]:
    """Run a plan and return how its time was spent."""
    client.run(compile_numerics)
    client.run_on_scheduler(begin_listening)
    phases: list[tuple[str, float]] = []
    records: list[Record] = []

    def listen(event: Event) -> None:
        if event.kind == "phase":
            phases.append((event.phase, time.monotonic()))
        elif event.record is not None:
            records.append(event.record)

    begun = time.monotonic()
    report = run_plan(plan, client, listen)
    ended = time.monotonic()
    assert report.published, report.failed
    tasks = client.run_on_scheduler(seconds_of_tasks)
    writing = sum(record.seconds for record in records if record.phase == "match")
    steps = [("begin", begun), *phases, ("end", ended)]
    spans = {f"{name}_s": after - before for (name, before), (_, after) in pairwise(steps)}
    return {
        "seconds": ended - begun,
        "vectors_per_second": report.measured / (ended - begun),
        "busy": (tasks["compute"] - writing) / (workers * (ended - begun)),
        "writing": writing / (workers * (ended - begun)),
        "cutting": tasks.get("cutting", 0.0) / (workers * (ended - begun)),
        "late": tasks.get("late", 0.0) / (workers * (ended - begun)),
        "transfer": tasks.get("transfer", 0.0) / (workers * (ended - begun)),
        **spans,
    }


def measure(folder: Path, scenes: int, size: int, gaps: int) -> tuple[list[Figure], dict[int, dict[str, float]]]:
    """Run with one and with two workers, and return figures, and what they are made of."""
    listing = write_archive(folder / f"archive_{size}", scenes, size)
    found = {}
    for workers in (1, 2):
        plan = make_case(listing, folder / f"cube_{workers}.zarr", gaps, workers)
        with open_client(plan.workflow.cluster) as client:
            found[workers] = measure_run(plan, client, workers)
    two = found[2]
    gain = found[1]["seconds"] / two["seconds"]
    figures = [
        Figure("two workers: share of the time in reading and matching", two["busy"], at_least=BUSY),
        Figure("throughput of two workers over that of one", gain, at_least=SPEEDUP),
        Figure("one worker: share of the time in reading and matching", found[1]["busy"]),
        Figure("two workers: writing displacement", two["writing"]),
        Figure("two workers: cutting and joining pixels", two["cutting"]),
        Figure("two workers: fits and velocity", two["late"]),
        Figure("two workers: moving pixels between them, while others are computed", two["transfer"]),
        Figure("two workers: wall time", two["seconds"], unit="s", digits=1),
        Figure("one worker: wall time", found[1]["seconds"], unit="s", digits=1),
    ]
    return figures, found


def main() -> None:
    """Measure and print; leave with 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/efficiency"))
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--size", type=int, default=2560)
    parser.add_argument("--gaps", type=int, default=3, help="longest pair, in intervals between scenes")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures, found = measure(options.folder, options.scenes, options.size, options.gaps)
    show_figures("How busy workers are", figures, f"{options.scenes} scenes of {options.size} px")
    if options.json:
        write_json(options.json, {"figures": as_records(figures), "runs": found})
    raise SystemExit(exit_code(figures))


if __name__ == "__main__":
    main()
