"""The peaks of the exact correlation surfaces of all chips of a tile.

For one offset the two images are multiplied once and summed over small square blocks; chips of every size and node
are then sums of blocks. All sums run in an order that depends on the node alone, so the result does not depend on
the tile, nor on which nodes are worked on together.
"""

from __future__ import annotations

import numpy as np

from ftrack.kernels.cells import (
    GAPPY,
    LEVELLED,
    MASKED,
    PLAIN,
    Result,
    Search,
    Tile,
    cut_cells,
    measure_cell,
    place_all,
    shape_of,
    tables_of,
)
from ftrack.kernels.layout import Layout, Peaks, Windows, everywhere
from ftrack.kernels.moments import copy_valid, measure_chips, summed
from ftrack.kernels.rims import find_rectangles
from ftrack.kernels.vectors import LANES

__all__ = ["Peaks", "Windows", "everywhere", "find_peaks"]

MARGIN = 96
"""Pixels beyond the last offset that vectors may read."""


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
        Images, NaN = no data. The reference begins at the corner of the first node's largest chip and holds the
        blocks of the layout; the secondary begins ``layout.radius`` px before it, and what lies beyond is no data.
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
    shape = (len(layout.counts), layout.rows, layout.columns)
    dy, dx, radius = (np.broadcast_to(np.asarray(w, np.int64), shape[1:]) for w in windows)
    span = np.stack([dy - radius, dy + radius + 1, dx - radius, dx + radius + 1], 1)
    size = (layout.shape[0] * layout.side, layout.shape[1] * layout.side)
    tables = tables_of(layout)
    r, r_valid = np.zeros(size, np.float32), np.zeros(size, np.bool_)
    missing = copy_valid(reference, 0, 0, r, r_valid)
    chips = measure_chips(r, r_valid, layout, tables.blocks[:, :6], tables.of_chip)
    reaches, inside = _reaches(secondary.shape, layout, span)
    usable = (chips.valid >= min_valid) & ~chips.flat & wanted & reaches
    found = np.full((*shape, 14), np.nan, np.float32)
    result = Result(found, np.zeros((0,) * 5, np.float32) if keep is None else keep)
    if usable.any():
        far = int(np.abs(span.swapaxes(0, 1)[:, usable.any(0)]).max())
        s_shape = (size[0] + 2 * far + MARGIN, size[1] + 2 * far + MARGIN)
        search = Search(span, np.where(chips.far, LEVELLED, PLAIN).astype(np.uint8) * usable, np.zeros((*shape, 8), np.int32))
        tile = Tile(np.zeros(0, np.float32), r_valid, np.zeros(s_shape, np.bool_), far, layout, chips, min_valid)
        cells = cut_cells(search)
        room = max(place_all(tile, cell, shape_of(cell, union, layout), tables)[2] for cell, union in cells)
        tile = tile._replace(numbers=_aligned(room))
        tile.numbers[: r.size] = r.ravel()
        s = tile.numbers[r.size : r.size + tile.s_valid.size].reshape(s_shape)
        missing += copy_valid(secondary, far - layout.radius, far - layout.radius, s, tile.s_valid)
        find_gaps(tile, search, usable if missing else usable & ~inside)
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
        found[..., 5:].reshape(*shape, 3, 3).copy(),
    )


def _aligned(n: int) -> np.ndarray:
    """Return zeros that begin on a line of the processor's cache, so that vectors do not lie across two."""
    numbers = np.zeros(n + LANES, np.float32)
    skip = -numbers.ctypes.data % (4 * LANES) // 4
    return numbers[skip : skip + n]


def _reaches(shape: tuple[int, ...], layout: Layout, span: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the window of a chip reaches the secondary at all, and where it lies inside: bool (chip, row, column)."""
    some, whole = np.ones((2, len(layout.counts), layout.rows, layout.columns), np.bool_)
    for c, (count, start) in enumerate(zip(layout.counts, layout.starts, strict=True)):
        for axis, nodes in enumerate((layout.rows, layout.columns)):
            first = layout.radius + (start + layout.step * np.arange(nodes)) * layout.side
            first = first[:, None] if axis == 0 else first
            low, high = first + span[:, 2 * axis], first + span[:, 2 * axis + 1] - 1 + count * layout.side
            some[c] &= (high > 0) & (low < shape[axis])
            whole[c] &= (low >= 0) & (high <= shape[axis])
    return some, whole


def find_gaps(tile: Tile, search: Search, some: np.ndarray) -> None:
    """Change how the sums of chips are formed where they, or the pixels they are compared with, have gaps: bool (chip, row, column)."""
    if not some.any():
        return
    layout, gaps = tile.layout, np.zeros_like(some)
    places = (tile.far, layout.side, layout.step, layout.counts.astype(np.int64), layout.starts.astype(np.int64))
    find_rectangles(summed(tile.r_valid), summed(tile.s_valid), places, search.span, some, gaps, search.rims)
    search.rims[tile.chips.far] = 0
    whole = gaps & (search.rims[..., 1] == 0)
    search.mode[whole] = np.where(tile.chips.far, GAPPY, MASKED)[whole]


def copy_gaps(tile: Tile) -> None:
    """Write, behind the images, where their pixels are valid, and their squares."""
    n, size = tile.r_valid.size, tile.r_valid.size + tile.s_valid.size
    images, valid, squares = tile.numbers[: 3 * size].reshape(3, -1)
    valid[:n], valid[n:] = tile.r_valid.ravel(), tile.s_valid.ravel()
    np.square(images, out=squares)
