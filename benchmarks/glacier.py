"""A whole glacier on paper: the scenes of two orbits over it, and its workflow, as it would be or with a kernel that does nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyproj

from benchmarks.null import NullMatcher
from ftrack.config import Workflow

LEFT, TOP, EPSG = 500_000.0, 7_700_000.0, 32622
FIRST = datetime(2012, 1, 1, 15, tzinfo=UTC)
ORBITS = ((25, 0.0), (95, 3.0))
REPEAT, LONGEST = 10, 160
PIXEL, NODE = 10.0, 80.0
OTHERS = 20
"""Files of a scene that nobody asks for; catalogues name that many."""


class Area(NamedTuple):
    """Side lengths in km, years, and km that the western one of two scenes of a pass covers."""

    width: float
    height: float
    years: float

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north on the map."""
        return (LEFT, TOP - 1000 * self.height, LEFT + 1000 * self.width, TOP)


GLACIER, CORNER = Area(100.0, 80.0, 13.0), Area(11.0, 11.0, 1.0)


def write_items(path: Path, area: Area, resolution: float) -> int:
    """Write the items of two orbits, two neighbouring tiles in every pass, and return how many there are."""
    back = pyproj.Transformer.from_crs(EPSG, 4326, always_xy=True)
    count = int(area.years * 365.25 // REPEAT)
    items = [
        _item(
            back,
            (LEFT + tile * 450 * area.width, 1000 * (0.55 * area.width), 1000 * area.height),
            (orbit, tile),
            first + REPEAT * k,
            resolution,
        )
        for k in range(count)
        for orbit, first in ORBITS
        for tile in (0, 1)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return len(items)


def _item(
    back: pyproj.Transformer, box: tuple[float, float, float], place: tuple[int, int], day: float, resolution: float
) -> dict[str, Any]:
    (left, width, height), (orbit, tile) = box, place
    ragged = 20.0 * (day % 7)
    west, south, east, north = back.transform_bounds(left + ragged, TOP - height, left + width, TOP - ragged)
    place_of = {
        "proj:shape": [round(height / resolution), round(width / resolution)],
        "proj:transform": [resolution, 0.0, left, 0.0, -resolution, TOP],
    }
    number, where = f"{int(day):05d}_{orbit:03d}_{tile}", "https://images.example.com/sentinel-2-level-2a"
    files = {name: {"href": f"{where}/{number}/{name}.tif", **place_of} for name in ("nir", *(f"band{k:02d}" for k in range(OTHERS)))}
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": f"S2_{number}",
        "collection": "scale",
        "links": [],
        "geometry": {"type": "Polygon", "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]]},
        "bbox": [west, south, east, north],
        "properties": {
            "datetime": (FIRST + timedelta(days=day, seconds=12 * tile)).isoformat(),
            "platform": "sentinel-2a",
            "sat:relative_orbit": orbit,
            "grid:code": f"MGRS-22WE{'AB'[tile]}",
            "proj:code": f"EPSG:{EPSG}",
        },
        "assets": files,
    }


def make_workflow(listing: Path, output: str, area: Area, null: bool) -> Workflow:
    """Return the workflow of a glacier: as it would be, or with one pixel to a node and a kernel that does nothing."""
    workflow = Workflow.read(
        {
            "name": "scale",
            "scenes": {"catalog": str(listing), "asset": "nir"},
            "grid": {"bounds": area.bounds, "resolution": NODE if null else PIXEL},
            "pairs": {"min_days": 1, "max_days": LONGEST},
            "prefilter": {"kind": "none" if null else "highpass"},
            "matcher": {"spacing": 1 if null else 8},
            **({"outliers": {"passes": 0}, "fill": {"min_neighbours": 0}} if null else {}),
            "run": {"tile": 64 if null else 512, "keep_motion": True},
            "output": output,
            "cluster": {"kind": "scheduler", "address": "tcp://127.0.0.1:1", "workers": 2, "memory": "8GB"},
        }
    )
    return workflow.model_copy(update={"matcher": NullMatcher(spacing=1)}) if null else workflow
