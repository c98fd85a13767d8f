"""A store whose requests fail now and then, or for good: SeaweedFS where it is installed, behind a proxy that spoils answers."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import boto3
import numpy as np
import rasterio
import s3fs

from benchmarks.fault_bench import SCENES, Bench, Reader, bytes_of
from benchmarks.memory import write_archive
from benchmarks.report import Figure
from ftrack.cluster import open_client
from ftrack.errors import Retry
from ftrack.plan import Plan, make_plan
from ftrack.run import run_plan
from ftrack.tasks import measure_wave
from ftrack.tiling import Wave, wave_window

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT / "tests"))
from fault_proxy import FAULTS, FaultProxy, fault_proxy  # noqa: E402

BUCKET = "cubes"
CUBE = f"s3://{BUCKET}/cube.zarr"
WIDE = 1536


@contextmanager
def object_store(bench: Bench, **settings: Any) -> Iterator[tuple[FaultProxy, Any]]:
    """Run an S3 server with an empty bucket and a proxy in front of it; give the proxy and a client that goes past it."""
    s3fs.S3FileSystem.clear_instance_cache()
    folder = bench.folder / "stack"
    with mock.patch.dict(os.environ, {"FTRACK_STACK": str(folder)}):
        _stack("up", "--only", "s3")
        try:
            keys = json.loads((folder / "state.json").read_text())["environment"]
            server = keys["AWS_ENDPOINT_URL"]
            with fault_proxy(server, **settings) as proxy:
                place = urlsplit(proxy.url).netloc
                keys |= {"AWS_ENDPOINT_URL": proxy.url, "AWS_S3_ENDPOINT": place, "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE"}
                with mock.patch.dict(os.environ, keys):
                    yield proxy, boto3.Session().client("s3", endpoint_url=server)
        finally:
            _stack("down")


def _stack(*words: str) -> None:
    subprocess.run([sys.executable, str(PROJECT / "deploy" / "local_stack.py"), *words], check=True)


def store(bench: Bench) -> list[Figure]:
    """Write into an S3 server of which 1 in 10 requests fails, then into one that fails for good, until it is mended."""
    with object_store(bench, rate=0.1, seed=bench.options.seed) as (proxy, direct):
        with Reader(CUBE, bench.cube) as reader:
            report = bench.run(bench.workflow(CUBE))
        proxy.rate = 0.0
        equal = bytes_in(direct, "cube.zarr/") == bench.bytes
        kinds = " ".join(f"{fault} {proxy.count(fault)}" for fault in FAULTS)
        faults, requests = proxy.count(), len(proxy.asked)
    return [
        Figure(f"store with faults ({kinds}): share of requests", faults / requests, 0.07, 0.13),
        Figure("store with faults: requests", requests, digits=0),
        Figure("store with faults: failed blocks", len(report.failed), at_most=0, digits=0),
        Figure("store with faults: same bytes", equal, 1, digits=0),
        Figure("store with faults, reader: looked while nothing was published", reader.nothing, digits=0),
        Figure("store with faults, reader: saw the whole cube", reader.whole, at_least=1, digits=0),
        Figure("store with faults, reader: saw a part", len(reader.parts), at_most=0, digits=0),
        *_broken(bench),
    ]


def _broken(bench: Bench) -> list[Figure]:
    """Spoil every request for a chunk, then, once some blocks are there, every request; mend the store and run again."""

    def listen(event: Any) -> None:
        if event.kind == "block" and event.done >= 3:
            proxy.rate, proxy.only = 1.0, ""

    with object_store(bench, rate=1.0, only="/c/") as (proxy, direct):
        plan = make_plan(bench.workflow(CUBE))
        # Less patience than usual: what is shown is how it ends, not how long it takes.
        hasty = mock.patch.multiple("ftrack.store", LONGEST_WAIT=0.1, REQUEST_ATTEMPTS=2)
        with hasty, open_client(plan.workflow.cluster) as client:
            spoiled = run_plan(plan, client)
            # An answer that is cut short has been a success at the server: what lies there is then whole.
            chunks = {key: digest for key, digest in bytes_in(direct, "cube.zarr").items() if "/c/" in key}
            proxy.rate = 0.0
            try:
                ended = bool(run_plan(plan, client, listen).failed)
            except Retry:
                ended = True
            proxy.rate = 0.0
            published = "zarr.json" in bytes_in(direct, "cube.zarr/")
            mended = run_plan(plan, client)
        equal = bytes_in(direct, "cube.zarr/") == bench.bytes
    good = {f"/{name}": digest for name, digest in bench.bytes.items()}
    good |= {f".run/{name}": digest for name, digest in bytes_of(Path(f"{bench.reference}.run")).items()}
    wrong = [key for key, digest in chunks.items() if good.get(key) != digest]
    return [
        Figure("every chunk spoiled: failed blocks", len(spoiled.failed), bench.blocks, unit=f"of {bench.blocks}", digits=0),
        Figure("every chunk spoiled: chunks that are not those of the undisturbed run", len(wrong), at_most=0, digits=0),
        Figure("store that fails for good: ends with an error", ended, 1, digits=0),
        Figure("store that fails for good: published", published, at_most=0, digits=0),
        Figure("store that was mended: same bytes", equal and mended.published, 1, digits=0),
    ]


def bytes_in(direct: Any, prefix: str) -> dict[str, str]:
    """Return a digest of every object below a prefix."""
    found = {}
    for page in direct.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        for entry in page.get("Contents", []):
            content = direct.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
            found[entry["Key"].removeprefix(prefix)] = hashlib.sha256(content).hexdigest()
    return found


def reads(bench: Bench) -> list[Figure]:
    """Read wave by wave from an S3 server; compare the bytes on the wire with those of the blocks of files that a wave needs."""
    listing, places = json.loads(write_archive(bench.folder / "wide", SCENES, WIDE).read_text()), list[str]()
    with object_store(bench) as (proxy, direct):
        for item in listing["features"]:
            path = Path(item["assets"]["nir"]["href"])
            direct.upload_file(str(path), BUCKET, path.name)
            places.append(path.name)
            item["assets"]["nir"]["href"] = f"s3://{BUCKET}/{path.name}"
        remote = bench.folder / "remote.json"
        remote.write_text(json.dumps(listing))
        workflow = bench.workflow(bench.fresh("reads.zarr"))
        scenes = workflow.scenes.model_copy(update={"catalog": str(remote)})
        plan = make_plan(workflow.model_copy(update={"scenes": scenes, "run": workflow.run.model_copy(update={"tile": 192})}))
        waves, needed = [], []
        with open_client(workflow.cluster):
            for wave in plan.waves:
                proxy.asked.clear()
                measure_wave(plan, wave, range(len(plan.pairs_of(wave.batch)))).compute()
                needed.append(sum(_needed(bench.folder / "wide" / place, plan, wave) for place in sorted(places)))
                waves.append([one for one in proxy.asked if one.method == "GET" and one.path.split("?")[0].endswith(".tif")])
    wire = [sum(one.size for one in asked) / bytes_of_wave for asked, bytes_of_wave in zip(waves, needed, strict=True)]
    return [
        Figure(f"bytes on the wire over those of the blocks that are needed, worst of {len(waves)} waves", max(wire), at_most=1.15),
        Figure("bytes on the wire over different bytes, worst wave", max(map(_share, waves)), at_most=1.15),
        Figure("the same over the whole run", _share([one for asked in waves for one in asked])),
        Figure("requests per scene and wave", sum(map(len, waves)) / SCENES / len(waves), digits=1),
    ]


def _needed(path: Path, plan: Plan, wave: Wave) -> int:
    """Return the bytes of those blocks of an image on the plan's lattice of pixels in which pixels of a wave lie."""
    window = wave_window(plan.tiling, wave, plan.reach, plan.margin)
    with rasterio.open(path) as image:
        left, top = (round(v) for v in ~image.transform * (plan.grid.left, plan.grid.top))
        touched = [
            (row, column)
            for (row, column), block in image.block_windows(1)
            if window.rows.start + top < block.row_off + block.height and block.row_off < window.rows.stop + top
            if window.columns.start + left < block.col_off + block.width and block.col_off < window.columns.stop + left
        ]
        return sum(int(image.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=1)) for row, column in touched)


def _share(asked: Sequence[Any]) -> float:
    """Return the bytes of some answers over the bytes that differ."""
    seen: dict[str, np.ndarray] = {}
    for one in asked:
        first, last = (int(number) for number in one.range.removeprefix("bytes=").split("-"))
        bits = seen.setdefault(one.path.split("?")[0], np.zeros(2**24, bool))
        bits[first : min(last + 1, first + one.size)] = True
    return sum(one.size for one in asked) / sum(int(bits.sum()) for bits in seen.values())
