"""One map out of a large cube of others: the pairs near ours in time, and no more bytes than there is patience for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr

from ftrack.grid import Grid, grid_of, place
from ftrack.itslive import window_of
from ftrack.means import DATES, average, join_rows

LARGEST_MAP = 5e8
"""Bytes before compression that are read of a cube for one map."""

VALUES = 3e7
"""Values that are averaged at once."""

FEW_NODES, FEW_PAIRS = 8, 20
"""Nodes along the longer side of a map, and pairs, below which it is thinned only if nothing else helps."""


def _near_pairs(cube: xr.Dataset, ours: xr.Dataset) -> np.ndarray:
    """Return which pairs have their middle in the time that ours span, or the few that come nearest."""
    ends = [ours[name].values for name in (*DATES, "mid_date") if name in ours]
    first, last = min(part.min() for part in ends), max(part.max() for part in ends)
    middle = cube["mid_date"].values
    away = np.maximum(first - middle, middle - last) / np.timedelta64(1, "D")
    inside: np.ndarray = np.flatnonzero(away <= 0)
    return inside if inside.size else np.sort(np.argsort(away, kind="stable")[:FEW_PAIRS])


class _Thinned(NamedTuple):
    """Every how many chunks there is a node (0: every node), how many pairs, and the bytes that all would be and that these are."""

    step: int
    pairs: int
    whole: float
    size: float


def _thinned(stored: tuple[int, int, int], total: int, pairs: int, nodes: tuple[int, int], most: float) -> _Thinned:
    """Choose a grid of nodes, and a number of pairs, whose chunks have at most so many bytes."""
    across = [max(1, math.ceil(n / side) + 1) for n, side in zip(nodes, stored[1:], strict=True)]

    def read(number: int) -> int:
        return min(total, min(math.ceil(total / stored[0]), number) * stored[0])

    def size(step: int, number: int) -> float:
        return 4.0 * read(number) * stored[1] * stored[2] * math.prod(math.ceil(n / max(step, 1)) for n in across)

    step, number = 0, pairs
    while size(step, number) > most:
        fewer = number // 2 >= FEW_PAIRS and read(number // 2) < read(number)
        if max(across) // (step + 1) >= FEW_NODES or (not fewer and step < max(across)):
            step += 1
        elif fewer:
            number //= 2
        else:
            break
    return _Thinned(step, number, size(0, pairs), size(step, number))


def near_map(
    cube: xr.Dataset, ours: xr.Dataset, *, most: float = LARGEST_MAP, told: Callable[[str], None] = lambda text: None
) -> xr.Dataset:
    """Return the median velocity of the pairs of a cube that are near ours in time, where ours lies, read within a bound.

    Parameters
    ----------
    cube : Dataset
        As `open_itslive` returns it. Its chunks hold many pairs of few nodes, so that even one map of one pair takes most of it.
    ours : Dataset
        A cube: where and when.
    most : float
        Bytes before compression that are read. Where more would be needed, one node of every few chunks is taken, and fewer pairs.
    told : callable
        Told in words how far the reading is.

    Returns
    -------
    Dataset
        ``vx, vy, v`` (ground m/yr) and ``count`` over ``(y, x)``; the attribute ``shown`` says which pairs and how many nodes.

    Raises
    ------
    Stop
        The cube does not cover ours.
    Retry
        It could not be read.
    """
    grid, near = grid_of(cube), _near_pairs(cube, ours)
    rows, columns = window_of(grid, grid_of(ours))
    stored = cube.attrs["stored_chunks"]
    thin = _thinned(stored, cube.sizes["mid_date"], near.size, (rows.stop - rows.start, columns.stop - columns.start), most)
    near = near[np.linspace(0, near.size - 1, thin.pairs).round().astype(int)]
    step = max(stored[1:]) * thin.step or 1
    y, x = (np.arange(part.start + min(step, part.stop - part.start) // 2, part.stop, step) for part in (rows, columns))
    picked = cube[[name for name in ("vx", "vy", *DATES) if name in cube]].isel(mid_date=near, y=y, x=x)
    height = max(1, int(VALUES / (near.size * x.size)))
    parts = []
    for start in range(0, y.size, height):
        told(f"reading ITS_LIVE, {near.size:,} pairs: row {start:,} of {y.size:,}")
        parts.append(average(picked.isel(y=slice(start, start + height)), method="median"))
    made = join_rows(parts)[["vx", "vy", "v", "count"]]
    size = grid.resolution * step
    left, top = float(grid.x[x[0]]) - size / 2, float(grid.y[y[0]]) + size / 2
    own = Grid(crs=grid.crs, resolution=size, left=left, top=top, height=y.size, width=x.size)
    first, last = (str(cube["mid_date"].values[near[end]])[:10] for end in (0, -1))
    shown = f"median of {near.size:,} of {cube.sizes['mid_date']:,} pairs, {first} to {last}"
    if thin.size < thin.whole:
        shown += f", a node every {size / 1000:g} km; all would be {thin.whole / 1e6:,.1f} MB"
    placed: xr.Dataset = place(made.drop_vars(["x", "y", "spatial_ref"], errors="ignore"), own)
    return placed.assign_attrs(cube.attrs, shown=shown)
