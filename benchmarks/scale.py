"""What running costs where the work itself costs nothing: the real plan and the real scheduler, a null kernel, a whole glacier.

    python -m benchmarks.scale                  # 100 km x 80 km, 13 years, 15,000 pairs: its plan, and the first 3,000 of its blocks
    python -m benchmarks.scale --blocks 0       # all of its blocks, in both phases: hours
    python -m benchmarks.scale --quick          # a corner of it, a minute
    python -m benchmarks.scale --json scale.json

The scheduler and two workers with one thread are processes of their own. Nodes, tiles, batches, chunks and records are those of 10 m
pixels and a spacing of 80 m; images have one pixel to a node, and neither reading nor matching does anything, so what is left is planning,
graphs, scheduling, writing and records. Bytes are predicted for the workflow with its real pixels and matcher.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from unittest import mock

import numpy as np
import psutil
from distributed import Client
from zarr.storage import LocalStore, WrapperStore

from benchmarks.glacier import CORNER, GLACIER, NODE, PIXEL, Area, make_workflow, write_items
from benchmarks.null import NullReader
from benchmarks.report import Figure, as_records, exit_code, show_figures, write_json
from ftrack.batches import images_in
from ftrack.plan import Plan, describe, make_plan, read_plan, write_plan
from ftrack.records import Phase, Record
from ftrack.run import Event, run_plan
from ftrack.tally import Tally
from ftrack.tasks import NO_FIT, finish_match, job_of, match_tasks, velocity_tasks
from ftrack.workers import far_environment

TASKS, OVERHEAD, BUILD, GROWTH, READS = 20_000, 50.0, 2.0, 1.1, 1.15

PHASES: tuple[Phase, ...] = ("match", "velocity")

Result = TypeVar("Result")


@contextmanager
def processes(folder: Path, workers: int) -> Iterator[Client]:
    """Start a scheduler and workers of one thread as processes of their own, and end them all at the end."""
    said, root = folder / "scheduler.json", Path(__file__).parent.parent
    said.unlink(missing_ok=True)
    environment = {**os.environ, **far_environment(()), "PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    quiet: dict[str, Any] = {"cwd": root, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    started = [subprocess.Popen([*command, "--scheduler-file", str(said)], **quiet)]
    try:
        while not said.exists():
            time.sleep(0.05)
        options = ["--scheduler-file", str(said), "--nthreads", "1", "--no-dashboard", "--memory-limit", "8GB", "--death-timeout", "20"]
        command = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-nanny", *options]
        started += [subprocess.Popen(command, **quiet) for _ in range(workers)]
        with Client(scheduler_file=str(said)) as client:
            client.wait_for_workers(workers, timeout=60)
            yield client
    finally:
        for process in started:
            process.terminate()
        for process in started:
            # A worker may wait longer than that for the scheduler that is gone.
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


class Sample(NamedTuple):
    """Seconds since the beginning, blocks that have ended, tasks of the scheduler, and bytes of scheduler and driver."""

    seconds: float
    blocks: int
    tasks: int
    scheduler: int
    driver: int


def look_at_scheduler(dask_scheduler: Any = None) -> tuple[int, int, float]:
    """Return what the scheduler has: tasks, bytes of memory, seconds of processor time."""
    return len(dask_scheduler.tasks), *_usage(psutil.Process())


def _usage(process: psutil.Process) -> tuple[int, float]:
    used = process.cpu_times()
    return int(process.memory_info().rss), float(used.user + used.system)


def look_at_worker() -> float:
    """Return the seconds of processor time that a worker has used."""
    return _usage(psutil.Process())[1]


class Watch(threading.Thread):
    """Samples scheduler and driver while a run goes on."""

    def __init__(self, client: Client, seconds: float) -> None:
        super().__init__(daemon=True)
        self.client, self.seconds, self.blocks = client, seconds, 0
        self.samples: list[Sample] = []
        self.stopped, self.begun = threading.Event(), time.monotonic()

    def run(self) -> None:
        while not self.stopped.wait(self.seconds):
            tasks, memory, _ = self.client.run_on_scheduler(look_at_scheduler)
            driver = _usage(psutil.Process())[0]
            self.samples.append(Sample(time.monotonic() - self.begun, self.blocks, tasks, memory, driver))

    def growth(self, name: str) -> float:
        """Return the median of the last third of the samples over that of the middle third."""
        values = np.array([getattr(sample, name) for sample in self.samples], float)
        thirds = np.array_split(values, 3)
        return float(np.median(thirds[2]) / np.median(thirds[1])) if values.size >= 3 else float("nan")


class Enough(Exception):
    """As many blocks as asked for have ended."""


def drive_null(plan: Plan, client: Client, blocks: int) -> dict[str, Any]:
    """Run a plan with nothing to read and nothing to match until so many blocks have ended, and return what it took."""
    watch = Watch(client, 0.25)
    writing: list[float] = []

    def listen(event: Event) -> None:
        if event.kind != "block" or event.record is None:
            return
        watch.blocks += 1
        assert event.record.done, event.record.reason
        writing.append(event.record.seconds)
        if blocks and watch.blocks >= blocks:
            raise Enough

    busy = _processors(client)
    begun = time.monotonic()
    watch.start()
    with mock.patch("ftrack.stack.ExactWarpReader", NullReader):
        try:
            run_plan(plan, client, listen)
        except Enough:
            pass
        finally:
            watch.stopped.set()
            watch.join()
    seconds = time.monotonic() - begun
    used = [after - before for after, before in zip(_processors(client), busy, strict=True)]
    driver, scheduler, workers = (1000 * cpu / watch.blocks for cpu in used)
    return {
        "blocks": watch.blocks,
        "wall_ms": 1000 * seconds / watch.blocks,
        "driver_ms": driver,
        "scheduler_ms": scheduler,
        "workers_ms": workers,
        "writing_ms": 1000 * float(np.mean(writing)),
        "tasks": max(sample.tasks for sample in watch.samples),
        "scheduler_MB": max(sample.scheduler for sample in watch.samples) / 1e6,
        "driver_MB": max(sample.driver for sample in watch.samples) / 1e6,
        "scheduler_growth": watch.growth("scheduler"),
        "driver_growth": watch.growth("driver"),
    }


def _processors(client: Client) -> tuple[float, float, float]:
    """Return the processor time used so far by driver, scheduler and workers."""
    return time.process_time(), client.run_on_scheduler(look_at_scheduler)[2], sum(client.run(look_at_worker).values())


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Return the seconds that some work takes, and its result."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def build_seconds(plan: Plan, waves: int = 5) -> float:
    """Return the longest time that the graph of a wave takes, of some waves all over the plan."""
    every = max(1, len(plan.waves) // waves)
    chosen = list(islice(plan.waves, 0, None, every))[:waves]
    return max(
        timed(lambda wave=wave: match_tasks(plan, wave, {block: job_of(plan, block) for block in wave.blocks}))[0] for wave in chosen
    )


def tally_bytes(plan: Plan) -> int:
    """Return the bytes that a driver keeps of all blocks of a plan when they are done."""
    counts = {batch: (4096,) * len(plan.pairs_of(batch)) for batch in range(plan.tiling.batches)}
    tracemalloc.start()
    try:
        tally = Tally(plan)
        for block in plan.blocks:
            for phase in PHASES:
                tally.add(Record(phase=phase, block=block.id, run_id=plan.run_id, status="ok", measured=counts[block.batch]))
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


class CountingStore(WrapperStore[LocalStore]):
    """A store that counts what is asked of it."""

    count = 0

    def __getattribute__(self, name: str) -> Any:
        if name in ("get", "set", "exists", "delete"):
            CountingStore.count += 1
        return super().__getattribute__(name)


def requests_of_block(plan: Plan) -> tuple[int, int]:
    """Return how many requests a block makes of the store of the cube in either phase; its arrays have to be there."""
    block = plan.blocks[0]
    job = job_of(plan, block)
    shape = tuple(part.stop - part.start for part in job.region)
    (velocity,) = velocity_tasks(plan, block, [NO_FIT] * shape[0]).values()
    counts = []
    with mock.patch("ftrack.store.LocalStore", lambda *args, **kwargs: CountingStore(LocalStore(*args, **kwargs))):
        for work in (lambda: finish_match(job, np.zeros((8, *shape), np.float32)), lambda: velocity.compute(scheduler="synchronous")):
            before = CountingStore.count
            work()
            counts.append(CountingStore.count - before)
    return counts[0], counts[1]


def reads_of(plan: Plan) -> tuple[float, float]:
    """Return the most images read of a wave over the images that there are, and how often a scene is read in the run, halos aside."""
    worst, read = 0.0, 0
    for batch in range(plan.tiling.first_batch, plan.tiling.batches):
        count = sum(len(images_in(group)) for group in plan.groups_of(batch))
        worst, read = max(worst, count / len(images_in(plan.pairs_of(batch)))), read + count
    return worst, read / len(images_in(plan.pairs))


def measure(folder: Path, area: Area, blocks: int, workers: int = 2) -> tuple[list[Figure], dict[str, Any]]:
    """Plan a glacier, drive its first blocks with a null kernel, and return figures, and what they are made of."""
    folder.mkdir(parents=True, exist_ok=True)
    listings = {null: folder / f"items_{'null' if null else 'real'}.json" for null in (False, True)}
    scenes = max(write_items(path, area, NODE if null else PIXEL) for null, path in listings.items())
    planning, plan = timed(lambda: make_plan(make_workflow(listings[False], "memory://scale/cube.zarr", area, null=False)))
    told = describe(plan)
    writing, text = timed(lambda: write_plan(plan))
    reading, again = timed(lambda: read_plan(text))
    assert again == plan
    building = {"as planned": build_seconds(plan), "of 16 tiles": build_seconds(replace(plan, wave_side=4))}
    worst, often = reads_of(plan)
    output = folder / "cube.zarr"
    for path in (output, Path(f"{output}.run")):
        shutil.rmtree(path, ignore_errors=True)
    null = make_plan(make_workflow(listings[True], f"file://{output.absolute()}", area, null=True))
    assert (len(null.pairs), null.tiling.tile_rows, null.tiling.tile_columns) == (
        len(plan.pairs),
        plan.tiling.tile_rows,
        plan.tiling.tile_columns,
    )
    with processes(folder, workers) as client:
        run = drive_null(null, client, blocks)
    requests = requests_of_block(null)
    for path in (output, Path(f"{output}.run")):
        shutil.rmtree(path, ignore_errors=True)
    overhead = run["driver_ms"] + run["scheduler_ms"]
    figures = [
        Figure("tasks of the scheduler at any time", run["tasks"], at_most=TASKS, digits=0),
        Figure("overhead of a block: driver and scheduler, processor time", overhead, at_most=OVERHEAD, unit="ms", digits=1),
        Figure("graph of a wave as planned", building["as planned"], at_most=BUILD, unit="s"),
        Figure("graph of a wave of 16 tiles", building["of 16 tiles"], at_most=BUILD, unit="s"),
        Figure("memory of the driver, last third over the middle one", run["driver_growth"], at_most=GROWTH),
        Figure("memory of the scheduler, last third over the middle one", run["scheduler_growth"], at_most=GROWTH),
        Figure("images read in a wave over those there are, worst wave", worst, at_most=READS),
        Figure("times that a scene is read in the run, halos aside", often, digits=1),
        Figure("planning, search in a file included", planning, unit="s", digits=1),
        Figure("plan.json: writing", writing, unit="s", digits=1),
        Figure("plan.json: reading", reading, unit="s", digits=1),
        Figure("plan.json", len(text) / 1e6, unit="MB", digits=1),
        Figure("memory of the driver, peak", run["driver_MB"], unit="MB", digits=0),
        Figure("what the driver keeps of all blocks that are done", tally_bytes(plan) / 1e6, unit="MB", digits=1),
        Figure("memory of the scheduler, peak", run["scheduler_MB"], unit="MB", digits=0),
        Figure("processor time of the workers for a block", run["workers_ms"], unit="ms", digits=1),
        Figure("of which writing it", run["writing_ms"], unit="ms", digits=1),
        Figure("wall time of a block", run["wall_ms"], unit="ms", digits=1),
        Figure("requests to the store for a block, match", requests[0], digits=0),
        Figure("requests to the store for a block, velocity", requests[1], digits=0),
    ]
    kept = ("pairs", "tiles", "batches", "blocks", "waves", "bytes_to_read", "bytes_to_write", "vectors")
    return figures, {"scenes": scenes, **{name: told[name] for name in kept}, "run": run, "wave_side": plan.wave_side}


def main() -> None:
    """Measure and print; leave with 1 if a limit was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/scale"))
    parser.add_argument("--quick", action="store_true", help="a corner of the glacier and one year")
    parser.add_argument("--blocks", type=int, default=3000, help="how many blocks are driven; 0 = all, in both phases")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    area = CORNER if options.quick else GLACIER
    figures, told = measure(options.folder, area, 0 if options.quick else options.blocks, options.workers)
    caption = (
        f"{area.width:g} x {area.height:g} km, {area.years:g} years: {told['scenes']} scenes, {told['pairs']} pairs, "
        f"{told['blocks']} blocks in {told['waves']} waves; {told['run']['blocks']} blocks driven"
    )
    show_figures("What running costs", figures, caption)
    if options.json:
        write_json(options.json, {"figures": as_records(figures), **told})
    raise SystemExit(exit_code(figures))


if __name__ == "__main__":
    main()
