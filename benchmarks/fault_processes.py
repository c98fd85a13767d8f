"""Drivers and workers that are killed, runs that are cut in other ways or twice at once, and bits that flip."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil

from benchmarks.fault_bench import SPACING, THREADS, TILE, Bench, Reader, bytes_of
from benchmarks.report import Figure
from ftrack.cluster import open_client
from ftrack.cube import open_cube
from ftrack.plan import make_plan
from ftrack.records import read_records
from ftrack.run import run_plan
from ftrack.verify import verify_cube


def ways(bench: Bench) -> list[Figure]:
    """Cut and compute the same run in other ways."""
    same = []
    same.append(bench.run(bench.workflow(bench.fresh("processes.zarr"), kind="local", workers=2, threads=1, memory="2GB")))
    for name, side in (("alone.zarr", 1), ("wide.zarr", 3)):
        workflow = bench.workflow(bench.fresh(name))
        with mock.patch("ftrack.forecast.LARGEST_SIDE", side):
            same.append(bench.run(workflow))
    workflow = bench.workflow(bench.fresh("shuffled.zarr"))
    plan = make_plan(workflow)
    waves = bench.random.sample(plan.waves, len(plan.waves))
    with mock.patch("ftrack.plan.Plan.waves", tuple(waves)), open_client(workflow.cluster) as client:
        same.append(run_plan(plan, client))
    equal = [bytes_of(Path(report.output)) == bench.bytes for report in same]
    return [Figure("processes, single tiles, wide waves, shuffled: cubes of the same bytes", sum(equal), 4, unit="of 4", digits=0)]


def driver(bench: Bench) -> list[Figure]:
    """Kill the process that drives a run at a random moment, and run again, while a reader looks on."""
    count = bench.options.kills
    equal = again = part = nothing = whole = 0
    recorded, redone = list[int](), list[int]()
    for number in range(count):
        output = bench.fresh(f"driver-{number}.zarr")
        with Reader(str(output), bench.cube) as reader:
            killed = bench.start(bench.workflow(output))
            _kill_after(killed, Path(f"{output}.run", "blocks"), bench.random.randint(1, 2 * bench.blocks), bench.random.uniform(0, 0.1))
            records, chunks = _times(output, "blocks/*.json"), _times(output, "motion/*/c/*/*/*", "*/c/*/*/*")
            equal += bench.start(bench.workflow(output)).wait() == 0 and bytes_of(output) == bench.bytes
        recorded.append(len(records))
        redone.append(len({(".run" in str(path), *path.parts[-3:]) for path, then in chunks.items() if path.stat().st_mtime_ns != then}))
        again += sum(path.stat().st_mtime_ns != then for path, then in records.items())
        nothing, whole, part = nothing + reader.nothing, whole + reader.whole, part + len(reader.parts)
        for what in reader.parts:
            print("the reader saw:", what)
    return [
        Figure("driver killed: cubes of the same bytes", equal, count, unit=f"of {count}", digits=0),
        Figure(f"driver killed: records there at the kill, of {2 * bench.blocks}, median", float(np.median(recorded)), digits=0),
        Figure("driver killed: recorded blocks computed again", again, at_most=0, digits=0),
        Figure(f"driver killed: blocks in flight computed again, most ({THREADS} threads)", max(redone), at_most=THREADS, digits=0),
        Figure("reader: looked while nothing was published", nothing, digits=0),
        Figure("reader: saw the whole cube", whole, at_least=1, digits=0),
        Figure("reader: saw a part", part, at_most=0, digits=0),
    ]


def _kill_after(process: subprocess.Popen[bytes], blocks: Path, records: int, seconds: float) -> None:
    """Kill a driver when there are so many records, and a moment more."""
    while process.poll() is None and len(list(blocks.glob("*.json"))) < records:
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()


def _times(output: Path, *patterns: str) -> dict[Path, int]:
    """Return when files of a cube or of its run were written."""
    return {path: path.stat().st_mtime_ns for place in (output, Path(f"{output}.run")) for one in patterns for path in place.glob(one)}


def workers(bench: Bench) -> list[Figure]:
    """End a worker every 2 s, by turns with an exit and with a segmentation fault."""
    deaths, failed, equal, runs = 0, 0, 0, 0
    settings: dict[str, Any] = {"kind": "local", "workers": 4, "threads": 1, "memory": "2GB"}
    while deaths < bench.options.deaths:
        output = bench.fresh("workers.zarr")
        plan = make_plan(bench.workflow(output, **settings))
        with open_client(plan.workflow.cluster) as client, _killer(bench, bench.options.deaths - deaths) as killed:
            report = run_plan(plan, client)
        deaths, runs = deaths + len(killed), runs + 1
        failed += len(report.failed) + (not report.published)
        equal += bytes_of(output) == bench.bytes
    return [
        Figure("workers ended", deaths, bench.options.deaths, digits=0),
        Figure("workers ended: runs with a failure", failed, at_most=0, unit=f"of {runs}", digits=0),
        Figure("workers ended: cubes of the same bytes", equal, runs, unit=f"of {runs}", digits=0),
    ]


@contextmanager
def _killer(bench: Bench, most: int) -> Iterator[list[int]]:
    """End one worker process every 2 s until so many have been ended."""
    killed: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        while len(killed) < most and not ended.wait(2):
            found = [p for p in psutil.Process().children() if "spawn_main" in " ".join(_command(p)) and p.pid not in killed]
            if found:
                victim = bench.random.choice(found)
                victim.send_signal(signal.SIGSEGV if len(killed) % 2 else signal.SIGKILL)
                killed.append(victim.pid)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline()) if process.status() != psutil.STATUS_ZOMBIE else []
    except psutil.Error:
        return []


def rot(bench: Bench) -> list[Figure]:
    """Flip one bit in each of many chunks, look for them, and read them."""
    output = bench.fresh("rot.zarr")
    shutil.copytree(bench.reference, output)
    chunks = [path for path in sorted(output.rglob("c/*/*/*")) if path.is_file()]
    damaged = bench.random.sample(chunks, min(bench.options.flips, len(chunks)))
    for path in damaged:
        content = bytearray(path.read_bytes())
        content[bench.random.randrange(len(content))] ^= 1 << bench.random.randrange(8)
        path.write_bytes(content)
    found = [problem for problem in verify_cube(str(output)).problems if "damaged" in problem]
    cube = open_cube(str(output), chunks=None)
    side = TILE // SPACING
    raised = 0
    for path in damaged:
        name, _, _, row, column = path.relative_to(output).parts
        part = {"y": slice(int(row) * side, (int(row) + 1) * side), "x": slice(int(column) * side, (int(column) + 1) * side)}
        try:
            cube[name].isel(part).load()
        except (RuntimeError, ValueError):
            raised += 1
    count = len(damaged)
    return [
        Figure("bits flipped: found by verify", len(found), count, unit=f"of {count}", digits=0),
        Figure("bits flipped: reading raises", raised, count, unit=f"of {count}", digits=0),
    ]


def twins(bench: Bench) -> list[Figure]:
    """Start two runs of one plan at once."""
    output = bench.fresh("twins.zarr")
    both = [bench.start(bench.workflow(output)) for _ in range(2)]
    codes = [process.wait() for process in both]
    plan = make_plan(bench.workflow(output))
    records = read_records(plan.folder, plan.run_id)
    return [
        Figure("two runs at once: that end well", codes.count(0), 2, unit="of 2", digits=0),
        Figure("two runs at once: same bytes", bytes_of(output) == bench.bytes, 1, digits=0),
        Figure("two runs at once: blocks recorded as failed", sum(not record.done for record in records.values()), at_most=0, digits=0),
    ]
