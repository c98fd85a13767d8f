"""The peaks of the exact correlation surfaces of all chips of a tile.

For one offset the two images are multiplied once and summed over small square blocks; chips of every size and node
are then sums of blocks. All sums run in an order that depends on the node alone, so the result does not depend on
the tile, nor on which nodes are worked on together.
"""

from __future__ import annotations

import weakref
from threading import RLock
from typing import NamedTuple

import numpy as np

from ftrack.kernels.boxes import Boxes
from ftrack.kernels.cells import cut_cells, end_of, measure_cell
from ftrack.kernels.certain import NEVER, leave_out
from ftrack.kernels.lanes import on_a_line
from ftrack.kernels.layout import Layout, Peaks, Windows, everywhere
from ftrack.kernels.moments import Chips, copy_valid, measure_chips, summed
from ftrack.kernels.rectangles import GAPPY, LEVELLED, MASKED, PLAIN, choose_chips
from ftrack.kernels.stacked import fill_stacked
from ftrack.kernels.tiles import Cell, Extent, Result, Search, Tables, Tile, images_of, tables_of
from ftrack.kernels.vectors import LANES

__all__ = ["Peaks", "Windows", "everywhere", "find_peaks", "prepare", "search"]

MARGIN = 96
"""Pixels beyond the last offset that vectors may read."""


SPARE = 2
"""Rooms for numbers that are kept for the next search, at the most."""

NOTHING = np.zeros((0, 0, 0, 0), np.float32)
"""Stands for results that nobody asks for."""

_spare: list[np.ndarray] = []
_lock = RLock()


class Ground(NamedTuple):
    """Two images made ready to be searched, any number of times.

    ``usable`` are the chips with pixels and texture, bool (chip, row, column). ``bounds`` are first and last row and first and last
    column of each image, px from the corner of the first node's largest chip, and ``totals`` are how many valid pixels lie above and
    to the left of every corner of both, or empty where these have no gaps.
    """

    tile: Tile
    tables: Tables
    usable: np.ndarray
    bounds: np.ndarray
    totals: tuple[np.ndarray, np.ndarray]


Corners = tuple[tuple[int, int], tuple[int, int]]


def prepare(images: tuple[np.ndarray, np.ndarray], at: Corners, layout: Layout, windows: Windows, min_valid: float) -> Ground:
    """Make two images ready for searches within some windows.

    Parameters
    ----------
    images : (y, x), (v, u)
        Reference and secondary; what is not a finite number, and what lies beyond, is no data.
    at : ((int, int), (int, int))
        Where the first pixel of each image lies, px down and to the right of the corner of the first node's largest chip.
    layout : Layout
        Nodes and chips; its radius does not matter.
    windows : Windows
        All offsets that will be searched at each node.
    min_valid : float
        Least share of valid pixels in a chip, and of valid pairs at an offset.
    """
    reference, secondary = (np.require(image, np.float32, ["C", "W"]) for image in images)
    tables, size = tables_of(layout), (layout.shape[0] * layout.side, layout.shape[1] * layout.side)
    r, r_valid = np.empty(size, np.float32), np.empty(size, np.bool_)
    gaps = copy_valid(reference, *at[0], r, r_valid)
    chips = measure_chips(r, r_valid, layout, tables.blocks, tables.of_chip)
    corners = [(y, y + image.shape[0], x, x + image.shape[1]) for (y, x), image in zip(at, (reference, secondary), strict=True)]
    bounds, totals = np.array(corners, np.int64), (np.zeros((0, 0), np.int32),) * 2
    usable = (chips.valid >= min_valid) & ~chips.flat
    every = _chosen((layout, 0, chips, usable), (bounds, *totals), windows, usable)
    least, greatest, _ = every.extent
    far = max(abs(edge) for edge in (*least, *greatest)) + 1 if greatest[1] > least[0] else 1
    s_shape, union = (size[0] + 2 * far + MARGIN, _apart(size[1] + 2 * far + MARGIN)), every.extent.union
    boxes = _place_boxes(size, s_shape, union, len(layout.counts))
    tile = Tile(np.zeros(0, np.float32), r_valid, np.empty(s_shape, np.bool_), far, layout, chips, min_valid, boxes)
    tile = tile._replace(numbers=_aligned(_room(tile, every, tables)[0]))
    tile.numbers[: r.size] = r.ravel()
    s = tile.numbers[r.size : r.size + tile.s_valid.size].reshape(s_shape)
    gaps += copy_valid(secondary, far + at[1][0], far + at[1][1], s, tile.s_valid)
    if (every.mode.astype(np.bool_) & ~chips.far).any():
        _fill_boxes(tile)
    return Ground(tile, tables, every.mode > 0, bounds, (summed(r_valid), summed(tile.s_valid)) if gaps else totals)


def nothing_found(ground: Ground) -> np.ndarray:
    """Return room for what is found; see ``ftrack.kernels.tiles.Result``."""
    return np.full((*ground.usable.shape, 14), np.nan, np.float32)


def search(
    ground: Ground,
    windows: Windows,
    wanted: np.ndarray,
    found: np.ndarray,
    limits: tuple[float, float] = NEVER,
    keep: np.ndarray | None = None,
) -> None:
    """Find the peaks of wanted chips in windows within those that the images were prepared for; see `find_peaks`.

    They take the place of what is ``found`` already. Of a node where a chip is settled by ``limits``, those that are larger
    than the next may be left out; see ``ftrack.kernels.certain``.
    """
    tile, tables, chips = ground.tile, ground.tables, ground.tile.chips
    wanted = np.broadcast_to(wanted, ground.usable.shape).copy()
    result = Result(found, np.zeros((0,) * 5, np.float32) if keep is None else keep)
    given = (tile.layout, tile.far, chips, ground.usable), (ground.bounds, *ground.totals)
    sought = _chosen(*given, windows, wanted, found, limits)
    room, cells = _room(tile, sought, tables)
    if room > tile.numbers.size:
        tile = tile._replace(numbers=np.concatenate([tile.numbers, np.zeros(room - tile.numbers.size, np.float32)]))
    for cell, union in cells:
        measure_cell(tile, sought, cell, union, tables, result, (PLAIN, LEVELLED))
    if (sought.mode >= MASKED).any():
        some = sought.mode > 0
        leave_out(found, (0, 0), limits, some)
        sought.mode[~some] = 0
        if not (sought.mode >= MASKED).any():
            return
        copy_gaps(tile, sought)
        for cell, union in cells:
            measure_cell(tile, sought, cell, union, tables, result, (MASKED, GAPPY))


def peaks_of(ground: Ground, found: np.ndarray) -> Peaks:
    """Return what is found by what it is."""
    some = ~np.isnan(found[..., 0])
    dy, dx, bounded = (np.where(some, found[..., k], 0) for k in (1, 2, 4))
    return Peaks(
        ground.tile.chips.valid,
        ground.tile.chips.flat,
        found[..., 0].copy(),
        dy.astype(np.int32),
        dx.astype(np.int32),
        found[..., 3].copy(),
        bounded.astype(np.uint8),
        found[..., 5:].reshape(*some.shape, 3, 3).copy(),
    )


def find_peaks(
    reference: np.ndarray,
    secondary: np.ndarray,
    layout: Layout,
    windows: Windows,
    min_valid: float,
    wanted: np.ndarray,
    keep: np.ndarray | None = None,
) -> Peaks:
    """Find the peak of every wanted chip in the window of its node.

    Parameters
    ----------
    reference, secondary : float32 (y, x)
        Images, NaN = no data. The reference begins at the corner of the first node's largest chip; the secondary begins
        ``layout.radius`` px before it, and what lies beyond is no data.
    layout : Layout
        Nodes and chips.
    windows : Windows
        Offsets that each node searches.
    min_valid : float
        Least share of valid pixels in a chip, and of valid pairs at an offset.
    wanted : bool (row, column) or (chip, row, column)
        Chips to work on.
    keep : float32 (chip, row, column, offset, offset), optional
        Filled with the coefficients at all offsets of the windows, NaN where there is none.
    """
    before = (-layout.radius, -layout.radius)
    ground = prepare((reference, secondary), ((0, 0), before), layout, windows, min_valid)
    found = nothing_found(ground)
    search(ground, windows, wanted, found, keep=keep)
    return peaks_of(ground, found)


def _chosen(
    tile: tuple[Layout, int, Chips, np.ndarray],
    ground: tuple[np.ndarray, np.ndarray, np.ndarray],
    windows: Windows,
    wanted: np.ndarray,
    found: np.ndarray = NOTHING,
    limits: tuple[float, float] = NEVER,
) -> Search:
    """Choose the wanted chips that reach the imagery; ``tile`` is (layout, far, chips, those with pixels and texture)."""
    layout, far, chips, usable = tile
    span, extent = np.empty((layout.rows, 4, layout.columns), np.int64), np.empty(9, np.int64)
    mode, rims = np.empty(usable.shape, np.uint8), np.zeros((*usable.shape, 8), np.int32)
    centres = tuple(np.ascontiguousarray(part, np.int64) for part in windows)
    choose_chips(centres, ground, (far, *layout.blocks), (usable, wanted, chips.far), limits, found, span, mode, rims, extent)
    *edges, tallest = extent.tolist()
    return Search(span, mode, rims, Extent(edges[:4], edges[4:], tallest), limits)


def _room(tile: Tile, search: Search, tables: Tables) -> tuple[int, list[tuple[Cell, np.ndarray]]]:
    """Return how many numbers a search needs, and its cells."""
    cells = cut_cells(search)
    ends = (end_of(tile, cell, union, tables) for cell, union in cells)
    return max(ends, default=tile.boxes.end), cells


def _place_boxes(size: tuple[int, int], s_shape: tuple[int, int], union: np.ndarray, chips: int) -> Boxes:
    """Return where means and inverse spreads will lie behind the images and what goes with these; ``union`` holds all windows."""
    height = size[0] + int(union[1] - union[0])
    pitch = _apart(size[1] + int(union[3] - union[2]))
    mean = -(-3 * (size[0] * size[1] + s_shape[0] * s_shape[1]) // LANES) * LANES
    inverse = mean + chips * height * pitch
    far = np.zeros((chips, height), np.int64)
    return Boxes(mean, inverse, int(union[0]), int(union[2]), height, pitch, far, inverse + chips * height * pitch + LANES)


def _fill_boxes(tile: Tile) -> None:
    """Fill means and inverse spreads, and where a mean is too large for the spread."""
    boxes, step = tile.boxes, tile.s_valid.shape[1]
    first = tile.r_valid.size + (tile.far + boxes.dy) * step + tile.far + boxes.dx
    region = (first, step, boxes.height, boxes.pitch, boxes.mean, boxes.inverse)
    fill_stacked(tile.numbers, region, tuple(int(count) * tile.layout.side for count in tile.layout.counts), boxes.far)


def _apart(width: int) -> int:
    """Return how long rows are made, so that those below each other do not take each other's place in the processor's caches."""
    return -(-(width - 5 * LANES) // (8 * LANES)) * 8 * LANES + 5 * LANES


def _aligned(n: int) -> np.ndarray:
    """Return room for numbers that begins on a line of the processor's cache.

    Room that nobody looks at any longer is used again, since the system would have to clear fresh pages.
    """
    with _lock:
        fits = [k for k, room in enumerate(_spare) if room.size >= n + LANES]
        room = _spare.pop(fits[0]) if fits else None
    room = np.zeros(n + LANES, np.float32) if room is None else room
    numbers = on_a_line(room)[:n]
    weakref.finalize(numbers, _keep, room).atexit = False
    return numbers


def _keep(room: np.ndarray) -> None:
    with _lock:
        _spare.append(room)
        _spare.sort(key=lambda room: room.size)
        del _spare[:-SPARE]


def copy_gaps(tile: Tile, search: Search) -> None:
    """Write, behind the images, where their pixels are valid, and their squares, in the rows that chips with gaps need."""
    n, layout, rows = tile.r_valid.size, tile.layout, np.flatnonzero((search.mode >= MASKED).any((0, 2)))
    images, valid, squares = tile.numbers[: 3 * images_of(tile)].reshape(3, -1)
    first, last = int(rows[0]) * layout.step * layout.side, (int(rows[-1]) * layout.step + int(layout.counts.max())) * layout.side
    above, below = int(search.span[:, 0].min()), int(search.span[:, 1].max()) + MARGIN
    for at, there, low, high in ((0, tile.r_valid, first, last), (n, tile.s_valid, tile.far + first + above, tile.far + last + below)):
        low, high, step = max(low, 0), min(high, len(there)), there.shape[1]
        part = slice(at + low * step, at + high * step)
        valid[part] = there[low:high].ravel()
        np.square(images[part], out=squares[part])
