"""A small archive and workflow for tests of plans and runs: texture that moves, in files of 64-pixel blocks."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from made_scenes import make_item, write_image
from scipy.ndimage import gaussian_filter, shift

from ftrack.config import Workflow

START = datetime(2021, 6, 1, 15, tzinfo=UTC)
SHAPE = (192, 256)
DAYS = (1, 6, 11, 16)
STEP = (1.3, -0.7)
"""Motion (right, down) in px from one image to the next."""


def make_archive(folder: Path, shape: tuple[int, int] = SHAPE, days: tuple[int, ...] = DAYS, apart: int = 0) -> Path:
    """Write images of a texture that moves by ``STEP`` per image, each ``apart`` px east of the one before; return the list of items."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    texture = gaussian_filter(rng.normal(size=(shape[0] + 64, shape[1] + 64)), 1.2)
    items = []
    for number, day in enumerate(days):
        moved = shift(texture, (STEP[1] * number, STEP[0] * number), order=3)[32:-32, 32:-32]
        if min(shape) > 128:
            _change_spots(moved, rng)
        pixels = np.clip(5000 + 8000 * moved, 1, 65535).astype("uint16")
        corner = (560000.0 + 10.0 * apart * number, 7670000.0)
        path = write_image(folder / f"image_{number}.tif", pixels, corner=corner)
        time = (START + timedelta(days=day - 1)).isoformat()
        items.append(make_item(f"S2A_{number}", {"nir": path}, time=time, shape=shape, corner=corner, **{"sat:relative_orbit": 25}))
    listing = folder / "items.json"
    listing.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return listing


def _change_spots(image: np.ndarray, rng: np.random.Generator) -> None:
    """Replace spots all over an image by another texture, so that there are outliers and holes near every edge of a tile."""
    other = gaussian_filter(rng.normal(size=image.shape), 1.2)
    for row, column in zip(rng.integers(0, image.shape[0], 14), rng.integers(0, image.shape[1], 14), strict=True):
        spot = (slice(max(0, row - 9), row + 9), slice(max(0, column - 9), column + 9))
        image[spot] = other[spot]


def list_at(listing: Path, url: str, copy: Path) -> Path:
    """Write the list of items once more, with its files at a server, and return it."""
    items = json.loads(listing.read_text())
    for item in items["features"]:
        for asset in item["assets"].values():
            asset["href"] = f"{url}/scenes/{Path(asset['href']).name}"
    copy.write_text(json.dumps(items))
    return copy


def make_workflow(listing: Path, output: Path | str, **changes: Any) -> Workflow:
    """Return a workflow for the archive; changes are merged into its sections."""
    values: dict[str, Any] = {
        "name": "small",
        "scenes": {"catalog": str(listing), "asset": "nir"},
        "pairs": {"max_days": 11},
        "prefilter": {"kind": "highpass", "sigma": 3.0},
        "matcher": {"kind": "ncc", "chip_sizes": [16], "spacing": 8, "search_radius": 5},
        "outliers": {"error_ratio": 0.0},
        "output": str(output),
        "cluster": {"kind": "threads", "threads": 2},
        "run": {"tile": 96},
    }
    for name, value in changes.items():
        values[name] = {**values.get(name, {}), **value} if isinstance(value, dict) else value
    return Workflow.read(values)


def bytes_of(cube: Path) -> dict[str, str]:
    """Return a digest of every file of a cube, by its place in the cube."""
    return {str(p.relative_to(cube)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(cube.rglob("*")) if p.is_file()}
