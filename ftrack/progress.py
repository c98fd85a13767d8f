"""How far every tile of a run is, and what it has measured so far: told from records and displacement while the run goes on."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pyproj
import shapely

from ftrack.errors import FtrackError
from ftrack.grid import Grid
from ftrack.plan import Plan, read_plan
from ftrack.records import motion_of, read_records
from ftrack.schema import DAYS_PER_YEAR
from ftrack.store import get, read_block
from ftrack.tiling import Block, region_of


class TileProgress(NamedTuple):
    """One tile of a run.

    Attributes
    ----------
    row, column : int
        The tile.
    outline : shapely.Polygon
        Where it lies, in longitude and latitude.
    done, failed, total : int
        Blocks that are measured, that failed, and that there are: one for every batch of pairs.
    """

    row: int
    column: int
    outline: shapely.Polygon
    done: int
    failed: int
    total: int

    @property
    def whole(self) -> bool:
        """True if all of it is measured."""
        return self.done == self.total


class Sketch(NamedTuple):
    """What a tile has measured: outlines of cells in longitude and latitude, and the median speed in each, m/yr on the map."""

    cells: tuple[shapely.Polygon, ...]
    speed: tuple[float, ...]


def plan_of(folder: str) -> Plan | None:
    """Return the plan of the run whose records lie in a folder, or None if there is none."""
    text = get(folder, "plan.json")
    return None if text is None else read_plan(text.decode(), f"{folder}/plan.json")


def progress_of(plan: Plan) -> tuple[TileProgress, ...]:
    """Return how far the tiles of a run are, row by row.

    Raises
    ------
    Stop, Retry
        The records cannot be read.
    """
    records = read_records(plan.folder, plan.run_id, {part.run_id for part in plan.earlier})
    done, failed = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    for (phase, name), record in records.items():
        if phase == "match":
            _, row, column = (int(part) for part in name.split("-"))
            (failed if record.status == "failed" else done)[row, column] += 1
    tiling = plan.tiling
    total = tiling.batches - tiling.first_batch
    places = [(row, column) for row in range(tiling.tile_rows) for column in range(tiling.tile_columns)]
    edges = [region_of(tiling, Block(tiling.first_batch, *place)) for place in places]
    outlines = _outlines(plan.nodes, [(edge.rows.start, edge.rows.stop, edge.columns.start, edge.columns.stop) for edge in edges])
    return tuple(TileProgress(*place, outline, done[place], failed[place], total) for place, outline in zip(places, outlines, strict=True))


def sketch_of(plan: Plan, row: int, column: int, side: int = 8) -> Sketch | None:
    """Return roughly what the first pairs have measured in a tile, in at most ``side`` by ``side`` cells.

    Misregistration has not been taken off yet. None if the displacement is not there any more.
    """
    block = Block(plan.tiling.first_batch, row, column)
    region = region_of(plan.tiling, block)
    try:
        found = read_block(motion_of(plan.folder, len(plan.earlier)), ["dx", "dy"], tuple(region))
    except (FtrackError, OSError, KeyError):
        return None
    days = np.array([pair.temporal_baseline for pair in plan.pairs_of(block.batch)])[:, None, None]
    step = max(1, -(-max(found["dx"].shape[1:]) // side))
    corners, speeds = [], []
    for top in range(0, found["dx"].shape[1], step):
        for left in range(0, found["dx"].shape[2], step):
            inside = np.s_[:, top : top + step, left : left + step]
            speed = np.hypot(found["dx"][inside], found["dy"][inside]) / days * DAYS_PER_YEAR * plan.grid.resolution
            if np.isfinite(speed).any():
                height, width = speed.shape[1:]
                first, second = region.rows.start + top, region.columns.start + left
                corners.append((first, first + height, second, second + width))
                speeds.append(float(np.nanmedian(speed)))
    return Sketch(tuple(_outlines(plan.nodes, corners)), tuple(speeds))


def _outlines(nodes: Grid, edges: list[tuple[int, int, int, int]]) -> list[shapely.Polygon]:
    """Return rectangles of nodes (first and last row, first and last column) in longitude and latitude."""
    if not edges:
        return []
    top, bottom, left, right = np.array(edges).T
    columns, rows = np.stack([left, right, right, left], 1), np.stack([top, top, bottom, bottom], 1)
    x, y = nodes.left + columns * nodes.resolution, nodes.top - rows * nodes.resolution
    lon, lat = pyproj.Transformer.from_crs(nodes.crs, "EPSG:4326", always_xy=True).transform(x, y)
    return list(shapely.polygons(np.stack([lon, lat], 2)))
