"""What a run survives: drivers, workers and stores are disturbed, and the cube is compared with that of a run left alone.

    python -m benchmarks.faults                     # everything: some 15 minutes on two cores
    python -m benchmarks.faults driver --kills 5    # one part, shortened
    python -m benchmarks.faults --json faults.json

Parts: ``ways`` (threads, processes, other waves, shuffled), ``driver`` (SIGKILL, with a reader that looks on), ``workers``
(ended by exit and by a segmentation fault), ``store`` (an S3 server that fails now and then, or always), ``rot`` (flipped
bits), ``twins`` (two runs of one plan), ``memory`` and ``reads``. All of it happens in ``--folder``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import boto3
import numpy as np
import psutil
import s3fs
from moto.server import ThreadedMotoServer

from benchmarks.memory import measure, write_archive
from benchmarks.report import Figure, as_records, exit_code, show_figures, write_json
from ftrack.cluster import open_client
from ftrack.config import Workflow, write_workflow
from ftrack.cube import open_cube
from ftrack.errors import FtrackError, Retry, Stop
from ftrack.plan import make_plan
from ftrack.records import read_records
from ftrack.run import Report, run_plan
from ftrack.schema import Status
from ftrack.verify import verify_cube

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from fault_proxy import FAULTS, FaultProxy, fault_proxy

SCENES, SIZE = 5, 576
COMMAND = [sys.executable, "-c", "from ftrack.cli import main; main()", "run"]
BUCKET = "ice"


class Bench:
    """An archive, where things are put, and the cube that nothing disturbed."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options
        self.listing = write_archive(folder / "archive", SCENES, SIZE)
        self.random = random.Random(options.seed)
        self.reference = folder / "reference.zarr"
        self.clear(self.reference)
        begun = time.monotonic()
        assert self.run(self.workflow(self.reference)).published
        self.seconds = time.monotonic() - begun
        self.bytes = bytes_of(self.reference)

    def workflow(self, output: Path | str, **cluster: Any) -> Workflow:
        """Return the workflow of all parts: small blocks, so that much can be cut off."""
        return Workflow.read(
            {
                "scenes": {"catalog": str(self.listing), "asset": "nir"},
                "pairs": {"max_days": 11},
                "prefilter": {"kind": "highpass", "sigma": 3.0},
                "matcher": {"kind": "ncc", "chip_sizes": [16], "spacing": 8, "search_radius": 6},
                "run": {"tile": 96},
                "output": str(output),
                "cluster": {"kind": "threads", "threads": 2, **cluster},
            }
        )

    def run(self, workflow: Workflow) -> Report:
        """Run a workflow in this process."""
        plan = make_plan(workflow)
        with open_client(workflow.cluster) as client:
            return run_plan(plan, client)

    def clear(self, output: Path) -> None:
        """Remove a cube and its records."""
        for path in (output, Path(f"{output}.run")):
            shutil.rmtree(path, ignore_errors=True)

    def fresh(self, name: str) -> Path:
        """Return a place for a cube at which there is nothing."""
        output = self.folder / name
        self.clear(output)
        return output

    def start(self, workflow: Workflow) -> subprocess.Popen[bytes]:
        """Start a workflow as a user does."""
        file = self.folder / f"{Path(workflow.output).name}.yaml"
        file.write_text(write_workflow(workflow))
        return subprocess.Popen([*COMMAND, str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def bytes_of(cube: Path) -> dict[str, str]:
    """Return a digest of every file of a cube by its place in it."""
    files = (path for path in sorted(cube.rglob("*")) if path.is_file() and path.suffix != ".partial")
    return {str(path.relative_to(cube)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Reader(threading.Thread):
    """Opens a cube every 20 ms and counts what it sees: nothing, all of it, or a part."""

    def __init__(self, cube: Path) -> None:
        super().__init__(daemon=True)
        self.cube, self.nothing, self.whole, self.part, self.ended = cube, 0, 0, 0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.02):
            try:
                status = open_cube(str(self.cube), chunks=None)["status"]
            except FtrackError:
                self.nothing += 1
                continue
            try:
                complete = self.whole > 20 or not bool((status == Status.NOT_COMPUTED).any())
            except Exception:
                complete = False
            self.whole, self.part = self.whole + complete, self.part + (not complete)

    def __enter__(self) -> Reader:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()


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
    """Kill the process that drives a run at a random moment, and run again."""
    equal = again = most = nothing = whole = part = 0
    for number in range(bench.options.kills):
        output = bench.fresh(f"driver-{number}.zarr")
        with Reader(output) as reader:
            process = bench.start(bench.workflow(output))
            before = _kill_within(process, Path(f"{output}.run", "blocks"), bench)
            final = bench.start(bench.workflow(output))
            equal += final.wait() == 0 and bytes_of(output) == bench.bytes
            touched = sum(path.stat().st_mtime_ns != before[path] for path in before)
            again, most = again + touched, max(most, len(before))
            time.sleep(0.2)
        nothing, whole, part = nothing + reader.nothing, whole + reader.whole, part + reader.part
    return [
        Figure("driver killed: cubes of the same bytes", equal, bench.options.kills, unit=f"of {bench.options.kills}", digits=0),
        Figure("driver killed: recorded blocks computed again", again, at_most=0, digits=0),
        Figure("driver killed: most blocks recorded at the kill", most, digits=0),
        Figure("reader: looked while nothing was published", nothing, digits=0),
        Figure("reader: saw the whole cube", whole, at_least=1, digits=0),
        Figure("reader: saw a part", part, at_most=0, digits=0),
    ]


def _kill_within(process: subprocess.Popen[bytes], blocks: Path, bench: Bench) -> dict[Path, int]:
    """Kill a driver after a random number of records; return the records with the time at which they were written."""
    wanted = bench.random.randint(0, 2 * 36)
    while process.poll() is None and len(list(blocks.glob("*.json"))) < wanted:
        time.sleep(0.01)
    time.sleep(bench.random.uniform(0, 0.1))
    process.send_signal(signal.SIGKILL)
    process.wait()
    return {path: path.stat().st_mtime_ns for path in blocks.glob("*.json")}


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


@contextmanager
def object_store(**settings: Any) -> Iterator[tuple[FaultProxy, Any]]:
    """Run an S3 server with a bucket and a proxy in front of it; give the proxy and a client that goes past it."""
    s3fs.S3FileSystem.clear_instance_cache()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    try:
        with fault_proxy(f"http://{host}:{port}", **settings) as proxy:
            place = urlsplit(proxy.url).netloc
            keys |= {"AWS_ENDPOINT_URL": proxy.url, "AWS_S3_ENDPOINT": place, "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE"}
            with mock.patch.dict(os.environ, keys):
                direct = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
                direct.create_bucket(Bucket=BUCKET)
                yield proxy, direct
    finally:
        server.stop()


def store(bench: Bench) -> list[Figure]:
    """Write into an S3 server of which 1 in 10 requests fails; then into one that fails for good after a while."""
    with object_store(rate=0.1, seed=bench.options.seed) as (proxy, direct):
        report = bench.run(bench.workflow(f"s3://{BUCKET}/cube.zarr"))
        proxy.rate = 0.0
        equal = bytes_in(direct, "cube.zarr/") == bench.bytes
        kinds = " ".join(f"{fault} {proxy.count(fault)}" for fault in FAULTS)
        faults, requests = proxy.count(), len(proxy.asked)
    with object_store() as (proxy, direct):
        plan = make_plan(bench.workflow(f"s3://{BUCKET}/cube.zarr"))
        outcome = _break_for_good(plan, proxy)
        published = "cube.zarr/zarr.json" in {entry["Key"] for entry in direct.list_objects_v2(Bucket=BUCKET).get("Contents", [])}
    return [
        Figure(f"store with faults ({kinds}): share of requests", faults / requests, 0.07, 0.13),
        Figure("store with faults: requests", requests, digits=0),
        Figure("store with faults: failed blocks", len(report.failed), at_most=0, digits=0),
        Figure("store with faults: same bytes", equal, 1, digits=0),
        Figure("store that fails for good: ends with an error", outcome, 1, digits=0),
        Figure("store that fails for good: published", published, at_most=0, digits=0),
    ]


def _break_for_good(plan: Any, proxy: FaultProxy) -> bool:
    """Run until some blocks are done and the store is gone; return whether the run ends as failed or with an error."""

    def listen(event: Any) -> None:
        if event.kind == "block" and event.done >= 3:
            proxy.faults, proxy.rate = ("503", "reset"), 1.0

    with mock.patch("ftrack.store.LONGEST_WAIT", 0.2), open_client(plan.workflow.cluster) as client:
        try:
            return bool(run_plan(plan, client, listen).failed)
        except Retry:
            return True


def bytes_in(direct: Any, prefix: str) -> dict[str, str]:
    """Return a digest of every object below a prefix."""
    found = {}
    for page in direct.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        for entry in page.get("Contents", []):
            content = direct.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
            found[entry["Key"].removeprefix(prefix)] = hashlib.sha256(content).hexdigest()
    return found


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
    side = 96 // 8
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


def memory(bench: Bench) -> list[Figure]:
    """Run with workers of 2 GiB, batches of 64 pairs and tiles of 512 px, and ask for more than fits."""
    listing = write_archive(bench.folder / "large", 34, 1100)
    options = SimpleNamespace(gaps=2, spacing=8, tile=512, workers=1, memory="2GiB", verbose=False)
    found = measure(listing, bench.folder / "memory", options)  # type: ignore[arg-type]
    workflow = bench.workflow(bench.fresh("refused.zarr"), kind="local", workers=1, threads=1, memory="600MB")
    try:
        make_plan(workflow)
        refused = 0
    except Stop:
        refused = 1
    share = found["peak_of_a_process_MB"] * 1e6 / 2**31
    return [
        Figure(f"worker of 2 GiB, {found['pairs']} pairs, tiles of 512 px: peak", 100 * share, at_most=60, unit="%", digits=0),
        Figure("the same as predicted for a block", found["predicted_block_MB"], unit="MB", digits=0),
        Figure("plan over the limit: refused", refused, 1, digits=0),
    ]


def reads(bench: Bench) -> list[Figure]:
    """Read scenes from an S3 server, and compare the bytes that went over the wire with the different bytes among them."""
    with object_store() as (proxy, direct):
        listing = json.loads(bench.listing.read_text())
        for item in listing["features"]:
            path = Path(item["assets"]["nir"]["href"])
            direct.upload_file(str(path), BUCKET, path.name)
            item["assets"]["nir"]["href"] = f"s3://{BUCKET}/{path.name}"
        remote = bench.folder / "remote.json"
        remote.write_text(json.dumps(listing))
        workflow = bench.workflow(bench.fresh("reads.zarr"))
        workflow = workflow.model_copy(update={"scenes": workflow.scenes.model_copy(update={"catalog": str(remote)})})
        plan = make_plan(workflow)
        proxy.asked.clear()
        with open_client(workflow.cluster) as client:
            report = run_plan(plan, client)
        asked = [one for one in proxy.asked if one.method == "GET" and one.path.split("?")[0].endswith(".tif")]
    return [
        Figure(f"scenes from a store, {len(plan.waves)} waves: all blocks there", report.published, 1, digits=0),
        Figure("bytes read over different bytes of the run", _share(asked), at_most=1.15),
        Figure("requests per scene and wave", len(asked) / SCENES / len(plan.waves), digits=1),
    ]


def _share(asked: Sequence[Any]) -> float:
    """Return the bytes of some answers over the bytes that differ."""
    seen: dict[str, np.ndarray] = {}
    for one in asked:
        first, last = (int(number) for number in one.range.removeprefix("bytes=").split("-"))
        bits = seen.setdefault(one.path.split("?")[0], np.zeros(2**24, bool))
        bits[first : min(last + 1, first + one.size)] = True
    return sum(one.size for one in asked) / sum(int(bits.sum()) for bits in seen.values())


PARTS: dict[str, Callable[[Bench], list[Figure]]] = {
    part.__name__: part for part in (ways, driver, workers, store, rot, twins, memory, reads)
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Disturb runs, print what was found; return 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="what to do; all of it by default")
    parser.add_argument("--folder", type=Path, default=Path("build/faults"))
    parser.add_argument("--kills", type=int, default=20, help="drivers that are killed")
    parser.add_argument("--deaths", type=int, default=10, help="workers that are ended")
    parser.add_argument("--flips", type=int, default=200, help="bits that are flipped")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.folder.absolute(), options)
    figures: list[Figure] = []
    for name in options.parts or PARTS:
        found = PARTS[name](bench)
        show_figures(name, found)
        figures += found
    if options.json:
        write_json(options.json, {"figures": as_records(figures)})
    return exit_code(figures)


if __name__ == "__main__":
    raise SystemExit(main())
