"""How much memory a run takes, and that it does not grow with the number of scenes.

    python benchmarks/memory.py                      # 24 scenes of 4096 x 4096 px, 2 workers
    python benchmarks/memory.py --scenes 48          # twice as many
    python benchmarks/memory.py --size 2048 --gaps 3 # smaller images; pairs over up to 3 gaps
    python benchmarks/memory.py --small              # one worker of 2 GiB, 64 pairs of 24 images, tiles of 512 px

Images are written once to ``--folder``. The resident memory of this process and of all its children is sampled while
the run goes on; the peak of their sum and that of a worker are printed with what the plan predicted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyproj
import rasterio
from affine import Affine
from scipy.ndimage import gaussian_filter

from ftrack.cluster import open_client
from ftrack.config import Workflow
from ftrack.forecast import SHARE
from ftrack.plan import describe, make_plan
from ftrack.run import run_plan
from ftrack.workers import size_workers

LEFT, TOP, RESOLUTION, EPSG = 500_000.0, 7_700_000.0, 10.0, 32622
DAYS = 5


def write_archive(folder: Path, scenes: int, size: int) -> Path:
    """Write images of one texture, each rolled a little further, and the list of their items; return the list."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    patch = gaussian_filter(rng.normal(size=(1024, 1024)), 1.2, mode="wrap")
    patch = (5000 + 4000 * patch / patch.std() / 4).astype("uint16")
    items = []
    for number in range(scenes):
        path = folder / f"scene_{number:03d}.tif"
        if not path.exists():
            pixels = np.tile(np.roll(patch, (number, 2 * number), (0, 1)), (-(-size // 1024), -(-size // 1024)))[:size, :size]
            write_image(path, pixels)
        items.append(item_of(path, number, size))
    listing = folder / "items.json"
    listing.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return listing


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write one tiled GeoTIFF; it appears whole or not at all."""
    part = path.with_suffix(".part")
    shape = {"count": 1, "height": pixels.shape[0], "width": pixels.shape[1], "dtype": "uint16", "nodata": 0}
    place = {"crs": f"EPSG:{EPSG}", "transform": Affine(RESOLUTION, 0, LEFT, 0, -RESOLUTION, TOP)}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
    with rasterio.open(part, "w", driver="GTiff", **shape, **place, **tiles) as image:
        image.write(pixels, 1)
    part.replace(path)


def item_of(path: Path, number: int, size: int) -> dict[str, Any]:
    """Return the STAC item of an image."""
    back = pyproj.Transformer.from_crs(EPSG, 4326, always_xy=True)
    west, south, east, north = back.transform_bounds(LEFT, TOP - size * RESOLUTION, LEFT + size * RESOLUTION, TOP)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": f"M_{number:03d}",
        "collection": "memory",
        "links": [],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, east, north],
        "properties": {
            "datetime": (datetime(2020, 1, 1, 15, tzinfo=UTC) + timedelta(days=DAYS * number)).isoformat(),
            "platform": "sentinel-2a",
            "sat:relative_orbit": 25,
            "proj:code": f"EPSG:{EPSG}",
            "proj:shape": [size, size],
            "proj:transform": [RESOLUTION, 0.0, LEFT, 0.0, -RESOLUTION, TOP],
        },
        "assets": {"nir": {"href": str(path.absolute())}},
    }


class Sampler(threading.Thread):
    """Samples the resident memory of this process and its children until it is stopped."""

    def __init__(self, seconds: float = 0.1) -> None:
        super().__init__(daemon=True)
        self.seconds, self.peak, self.largest, self.stopped = seconds, 0, 0, threading.Event()

    def run(self) -> None:
        here = psutil.Process()
        while not self.stopped.wait(self.seconds):
            workers = [memory_of(process) for process in here.children(recursive=True)]
            self.peak = max(self.peak, memory_of(here) + sum(workers))
            self.largest = max([self.largest, *workers])


def memory_of(process: psutil.Process) -> int:
    """Return the resident memory of a process, 0 if it has ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def measure(listing: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run a workflow over the archive and return what was predicted and measured."""
    output = folder / "cube.zarr"
    for path in (output, Path(f"{output}.run")):
        shutil.rmtree(path, ignore_errors=True)
    workflow = Workflow.read(
        {
            "scenes": {"catalog": str(listing), "asset": "nir"},
            "pairs": {"min_days": 1, "max_days": DAYS * options.gaps},
            "matcher": {"spacing": options.spacing, "search_radius": getattr(options, "radius", 16)},
            "run": {"tile": options.tile},
            "output": str(output),
            "cluster": {"workers": options.workers, "memory": options.memory},
        }
    )
    plan = make_plan(workflow)
    told = describe(plan)
    sampler = Sampler()
    begun = time.monotonic()
    with open_client(workflow.cluster) as client:
        sampler.start()
        report = run_plan(plan, client, lambda event: print(event.phase, event.done, event.total, flush=True) if options.verbose else None)
        sampler.stopped.set()
        sampler.join()
    seconds = time.monotonic() - begun
    return {
        "scenes": told["scenes"],
        "pairs": told["pairs"],
        "images_at_once": plan.forecast.images,
        "wave_side": plan.wave_side,
        "published": report.published,
        "predicted_block_MB": round(told["memory"]["block"] / 1e6),
        "predicted_wave_MB": round(told["memory"]["wave"] / 1e6),
        "predicted_worker_MB": round(told["memory"]["worker"] / 1e6),
        "peak_of_a_process_MB": round(sampler.largest / 1e6),
        "limit_of_a_worker_MB": round(SHARE * size_workers(workflow.cluster).memory / 1e6),
        "peak_of_all_MB": round(sampler.peak / 1e6),
        "seconds": round(seconds),
        "vectors_per_second": round(told["vectors"] / seconds),
    }


def main() -> None:
    """Measure and print one line of JSON; leave with 1 if the limit was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/memory"))
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--gaps", type=int, default=1, help="longest pair, in intervals between scenes")
    parser.add_argument("--spacing", type=int, default=8)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", default="", help="of each worker, such as 2GB")
    parser.add_argument("--limit", type=float, default=3000.0, help="MB that the whole run may take")
    parser.add_argument("--radius", type=int, default=16, help="search radius, px")
    parser.add_argument("--small", action="store_true", help="one worker of 2 GiB, as many images as are in memory at a time, 64 pairs")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    if options.small:
        options.scenes, options.size, options.gaps, options.workers, options.memory = 24, 1536, 3, 1, "2GiB"
    listing = write_archive(options.folder / f"archive_{options.size}", options.scenes, options.size)
    found = measure(listing, options.folder, options)
    print(json.dumps(found))
    over = found["peak_of_a_process_MB"] > min(found["limit_of_a_worker_MB"], found["predicted_worker_MB"])
    if not found["published"] or over or found["peak_of_all_MB"] > options.limit:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
