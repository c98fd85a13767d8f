"""A run on the map: its tiles, and what has been measured in them so far."""

from __future__ import annotations

from typing import Any, NamedTuple

import ipyleaflet
import numpy as np
import shapely
import shapely.geometry
from matplotlib import colormaps
from matplotlib.colors import to_hex

from ftrack.jobstatus import JobStatus
from ftrack.progress import Sketch, TileProgress
from ftrack.view.panel.atlas import AREA, SHADE

CELLS = 3000
"""Most cells of finished tiles that are drawn."""


class Seen(NamedTuple):
    """What one look at a run finds."""

    status: JobStatus
    tiles: tuple[TileProgress, ...]
    sketches: dict[tuple[int, int], Sketch]


def layers_of(seen: Seen) -> list[ipyleaflet.Layer]:
    """Return tiles, dashed until they are measured, and what has been measured in them."""
    top = top_of(seen)
    colours = colormaps["viridis"]
    cells = [
        _feature(cell, {"fillColor": to_hex(colours(min(v / top, 1.0))), "fillOpacity": 0.85, "stroke": False})
        for sketch in seen.sketches.values()
        for cell, v in zip(sketch.cells, sketch.speed, strict=True)
    ]
    tiles = []
    for tile in seen.tiles:
        line = {"color": AREA, "weight": 3} if tile.failed else {"color": SHADE, "weight": 1}
        tiles.append(_feature(tile.outline, {**line, "dashArray": "" if tile.whole else "3 5", "fill": False}))
    parts = [part for part in (cells, tiles) if part]
    return [ipyleaflet.GeoJSON(data={"type": "FeatureCollection", "features": part}) for part in parts]


def top_of(seen: Seen) -> float:
    """Return the speed of the brightest colour, m/yr."""
    return float(np.percentile([v for sketch in seen.sketches.values() for v in sketch.speed] or [1.0], 98)) or 1.0


def _feature(shape: Any, style: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "properties": {"style": style}, "geometry": shapely.geometry.mapping(shape)}
