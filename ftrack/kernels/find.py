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

from ftrack.kernels.boxes import Boxes, fill_boxes, room_for_boxes
from ftrack.kernels.cells import cut_cells, end_of, measure_cell
from ftrack.kernels.folded import fold_images
from ftrack.kernels.layout import Layout, Peaks, Windows, everywhere
from ftrack.kernels.moments import Chips, copy_valid, measure_chips, summed
from ftrack.kernels.rectangles import find_rectangles
from ftrack.kernels.squares import in_squares
from ftrack.kernels.tiles import GAPPY, LEVELLED, MASKED, PLAIN, Cell, Result, Search, Tables, Tile, images_of, tables_of
from ftrack.kernels.vectors import LANES

__all__ = ["Peaks", "Windows", "everywhere", "find_peaks", "prepare", "search"]

MARGIN = 96
"""Pixels beyond the last offset that vectors may read."""


SPARE = 2
"""Rooms for numbers that are kept for the next search, at the most."""

_spare: list[np.ndarray] = []
_lock = RLock()


class Ground(NamedTuple):
    """Two images made ready to be searched, any number of times.

    ``usable`` are the chips with pixels and texture, bool (chip, row, column). The secondary has the size ``shape`` and lies at ``at``,
    see `prepare`; ``missing`` says that it or the reference has gaps, and ``totals`` are how many valid pixels lie above and to
    the left of every corner of both, or nothing where that is not needed.
    """

    tile: Tile
    tables: Tables
    usable: np.ndarray
    shape: tuple[int, int]
    at: tuple[int, int]
    missing: bool
    totals: tuple[np.ndarray, ...]


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
    tables, span = tables_of(layout), _span(layout, windows)
    size = (layout.shape[0] * layout.side, layout.shape[1] * layout.side)
    r, r_valid = np.zeros(size, np.float32), np.zeros(size, np.bool_)
    copy_valid(reference, *at[0], r, r_valid)
    chips = measure_chips(r, r_valid, layout, tables.blocks[:, :6], tables.of_chip)
    shape = (secondary.shape[0], secondary.shape[1])
    reaches, inside = _reaches(shape, at[1], layout, span)
    usable = (chips.valid >= min_valid) & ~chips.flat & reaches
    some = span.swapaxes(0, 1)[:, usable.any(0)]
    far = int(np.abs(some).max(initial=0)) + 1
    s_shape = (size[0] + 2 * far + MARGIN, _apart(size[1] + 2 * far + MARGIN))
    union = np.array([some[0].min(), some[1].max(), some[2].min(), some[3].max()]) if some.size else np.zeros(4, np.int64)
    boxes = _place_boxes(size, s_shape, union, len(layout.counts))
    tile = Tile(np.zeros(0, np.float32), r_valid, np.zeros(s_shape, np.bool_), far, layout, chips, min_valid, boxes)
    tile = tile._replace(numbers=_aligned(_room(tile, _search(span, chips, usable), tables)[0]))
    tile.numbers[: r.size] = r.ravel()
    s = tile.numbers[r.size : r.size + tile.s_valid.size].reshape(s_shape)
    s[:] = 0
    gaps = copy_valid(secondary, far + at[1][0], far + at[1][1], s, tile.s_valid)
    missing = gaps > 0 or not r_valid.all()
    totals = (summed(r_valid), summed(tile.s_valid)) if missing or not inside[usable].all() else ()
    if (usable & ~chips.far).any():
        _fill_boxes(tile, tables)
        if in_squares(layout):
            fold_images(tile.numbers, ((0, *size), (r.size, *s_shape)), 3 * images_of(tile))
    return Ground(tile, tables, usable, shape, at[1], missing, totals)


def search(ground: Ground, windows: Windows, wanted: np.ndarray, keep: np.ndarray | None = None) -> Peaks:
    """Find the peaks of wanted chips in windows within those that the images were prepared for; see `find_peaks`."""
    tile, tables, layout, chips = ground.tile, ground.tables, ground.tile.layout, ground.tile.chips
    span = _span(layout, windows)
    reaches, inside = _reaches(ground.shape, ground.at, layout, span)
    usable = ground.usable & wanted & reaches
    found = np.full((*usable.shape, 14), np.nan, np.float32)
    result = Result(found, np.zeros((0,) * 5, np.float32) if keep is None else keep)
    if usable.any():
        search = _search(span, chips, usable)
        room, cells = _room(tile, search, tables)
        if room > tile.numbers.size:
            tile = tile._replace(numbers=np.concatenate([tile.numbers, np.zeros(room - tile.numbers.size, np.float32)]))
        find_gaps(tile, search, usable if ground.missing else usable & ~inside, ground.totals)
        for cell, union in cells:
            measure_cell(tile, search, cell, union, tables, result, (PLAIN, LEVELLED))
        if (search.mode >= MASKED).any():
            copy_gaps(tile)
            for cell, union in cells:
                measure_cell(tile, search, cell, union, tables, result, (MASKED, GAPPY))
    some = ~np.isnan(found[..., 0])
    whole_numbers = np.where(some[..., None], found, 0)[..., [1, 2, 4]]
    return Peaks(
        chips.valid,
        chips.flat,
        found[..., 0].copy(),
        whole_numbers[..., 0].astype(np.int32),
        whole_numbers[..., 1].astype(np.int32),
        found[..., 3].copy(),
        whole_numbers[..., 2].astype(np.uint8),
        found[..., 5:].reshape(*usable.shape, 3, 3).copy(),
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
    return search(prepare((reference, secondary), ((0, 0), before), layout, windows, min_valid), windows, wanted, keep)


def _span(layout: Layout, windows: Windows) -> np.ndarray:
    """Return first and last row and first and last column of every window, int64 (row, 4, column)."""
    dy, dx, radius = (np.broadcast_to(np.asarray(w, np.int64), (layout.rows, layout.columns)) for w in windows)
    return np.stack([dy - radius, dy + radius + 1, dx - radius, dx + radius + 1], 1)


def _search(span: np.ndarray, chips: Chips, usable: np.ndarray) -> Search:
    return Search(span, np.where(chips.far, LEVELLED, PLAIN).astype(np.uint8) * usable, np.zeros((*usable.shape, 8), np.int32))


def _room(tile: Tile, search: Search, tables: Tables) -> tuple[int, list[tuple[Cell, np.ndarray]]]:
    """Return how many numbers a search needs, and its cells."""
    cells = cut_cells(search)
    ends = (end_of(tile, cell, union, tables) for cell, union in cells)
    return max(ends, default=tile.boxes.end), cells


def _place_boxes(size: tuple[int, int], s_shape: tuple[int, int], union: np.ndarray, chips: int) -> Boxes:
    """Return where means and inverse spreads will lie behind the images and what goes with these; ``union`` holds all windows."""
    height = size[0] + int(union[1] - union[0])
    pitch = _apart(size[1] + int(union[3] - union[2]))
    mean = -(-4 * (size[0] * size[1] + s_shape[0] * s_shape[1]) // LANES) * LANES
    inverse = mean + chips * height * pitch
    far = np.zeros((chips, height), np.int64)
    return Boxes(mean, inverse, int(union[0]), int(union[2]), height, pitch, far, inverse + chips * height * pitch + LANES)


def _fill_boxes(tile: Tile, tables: Tables) -> None:
    """Fill means and inverse spreads, and where a mean is too large for the spread."""
    boxes, step = tile.boxes, tile.s_valid.shape[1]
    first = tile.r_valid.size + (tile.far + boxes.dy) * step + tile.far + boxes.dx
    region = (first, step, boxes.height, boxes.pitch, boxes.mean, boxes.inverse)
    planes = np.full((len(tables.pixels), 2), -1)
    planes[tables.of_box[tables.of_chip], 0] = np.arange(len(tables.of_chip))
    room = room_for_boxes(tables.remember, boxes.pitch, np.float32)
    fill_boxes(tile.numbers, region, tables.pixels, tables.remember, planes, *room, boxes.far)


def _apart(width: int) -> int:
    """Return how long rows are made, so that those below each other do not take each other's place in the processor's caches."""
    return -(-(width - 5 * LANES) // (8 * LANES)) * 8 * LANES + 5 * LANES


def _aligned(n: int) -> np.ndarray:
    """Return room for numbers that begins on a line of the processor's cache, so that vectors do not lie across two.

    Room that nobody looks at any longer is used again, since the system would have to clear fresh pages.
    """
    with _lock:
        fits = [k for k, room in enumerate(_spare) if room.size >= n + LANES]
        room = _spare.pop(fits[0]) if fits else None
    room = np.zeros(n + LANES, np.float32) if room is None else room
    skip = -room.ctypes.data % (4 * LANES) // 4
    numbers = room[skip : skip + n]
    weakref.finalize(numbers, _keep, room).atexit = False
    return numbers


def _keep(room: np.ndarray) -> None:
    with _lock:
        _spare.append(room)
        _spare.sort(key=lambda room: room.size)
        del _spare[:-SPARE]


def _reaches(shape: tuple[int, int], at: tuple[int, int], layout: Layout, span: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the window of a chip reaches the secondary at all, and where it lies inside: bool (chip, row, column)."""
    some, whole = np.ones((2, len(layout.counts), layout.rows, layout.columns), np.bool_)
    for c, (count, start) in enumerate(zip(layout.counts, layout.starts, strict=True)):
        for axis, nodes in enumerate((layout.rows, layout.columns)):
            first = (start + layout.step * np.arange(nodes)) * layout.side - at[axis]
            first = first[:, None] if axis == 0 else first
            low, high = first + span[:, 2 * axis], first + span[:, 2 * axis + 1] - 1 + count * layout.side
            some[c] &= (high > 0) & (low < shape[axis])
            whole[c] &= (low >= 0) & (high <= shape[axis])
    return some, whole


def find_gaps(tile: Tile, search: Search, some: np.ndarray, totals: tuple[np.ndarray, ...]) -> None:
    """Change how the sums of chips are formed where they, or the pixels they are compared with, have gaps: bool (chip, row, column)."""
    if not some.any():
        return
    layout, gaps = tile.layout, np.zeros_like(some)
    places = (tile.far, layout.side, layout.step, layout.counts.astype(np.int64), layout.starts.astype(np.int64))
    find_rectangles(*totals, places, search.span, some, gaps, search.rims)
    search.rims[tile.chips.far] = 0
    whole = gaps & (search.rims[..., 1] == 0)
    search.mode[whole] = np.where(tile.chips.far, GAPPY, MASKED)[whole]


def copy_gaps(tile: Tile) -> None:
    """Write, behind the images, where their pixels are valid, and their squares."""
    n, size = tile.r_valid.size, tile.r_valid.size + tile.s_valid.size
    images, valid, squares = tile.numbers[: 3 * size].reshape(3, -1)
    valid[:n], valid[n:] = tile.r_valid.ravel(), tile.s_valid.ravel()
    np.square(images, out=squares)
