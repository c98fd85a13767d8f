"""Cells: rectangles of nodes whose offsets are worked on together, so that blocks share their products."""

from __future__ import annotations

import numpy as np
from numba import njit

from ftrack.kernels.boxes import LEVEL, fill_boxes, room_for_boxes
from ftrack.kernels.chain import DOWN, HEIGHT
from ftrack.kernels.peaks import judge_row
from ftrack.kernels.sweep import (
    LEVELLED,
    PLAIN,
    mark_needed,
    merge_row,
    multiply_row,
    offsets_for,
    ring_places,
    score_row,
    zeros32,
)
from ftrack.kernels.vectors import LANES, NONE

CACHE = 700_000
"""Bytes of sums that a cell may keep, so that they stay in the processor's cache."""


def measure_cell(cell, tile, search, result):
    """Find the peaks of the nodes of one cell.

    Parameters
    ----------
    cell : (int, int, int, int)
        First and last row and first and last column of nodes.
    tile : ((r, r_step, s, s_step, far), geometry, (level, weight, total, scale))
        Images without gaps, row after row, and the lengths of a row; the secondary begins ``far`` px before the
        reference. ``geometry`` is (side, step, counts, starts, chain, of_chip, pixel_chain, of_box); see
        ``ftrack.kernels.layout`` and ``ftrack.kernels.chain``. The rest is of ``ftrack.kernels.moments.Chips``.
    search : (dy, dx, radius, mode)
        Windows, int64 (row, column), and how the sums of each chip are formed, uint8 (chip, row, column), 0 = not at
        all. Chips that prove to have means too large for plain sums are set to ``LEVELLED``.
    result : (peak, dy, dx, ratio, bounded, around, keep)
        Filled; see ``ftrack.kernels.layout.Peaks``. ``keep`` takes the surfaces unless it is empty.
    """
    images, geometry, _ = tile
    side, step, counts, starts, chain, of_chip, pixel_chain, of_box = geometry
    union, plain, levelled = union_of(cell, search)
    if not plain and not levelled:
        return
    part = offsets_for(union[1] - union[0], union[3] - union[2])
    rows, columns = (cell[1] - cell[0] - 1) * step + counts[-1], (cell[3] - cell[2] - 1) * step + counts[-1]
    pitch = (columns * side + part[0] * part[1] * LANES + LANES - 1) // LANES * LANES
    size = (rows * side + part[2] * part[3], pitch)
    corner = (cell[0] * step * side + images[4] + union[0]) * images[3] + cell[2] * step * side + images[4] + union[2]
    area, place = size[0] * size[1], np.full(pixel_chain.shape[0], -1)
    mean, inverse, none = zeros32(counts.size * area + LANES), zeros32(counts.size * area + LANES), zeros32(0)
    region, room = (images[2], corner, images[3]), room_for_boxes(pixel_chain) * pitch + 2 * LANES
    extent = (union, part, corner, size)
    if plain:
        work = (zeros32(room), zeros32(room))
        if fill_boxes(region, size, pixel_chain, of_box[of_chip], place, work, (mean, inverse, none)):
            levelled |= _mark_far(cell, union, search, geometry, mean, inverse, size)
        sweep_cell(PLAIN, cell, extent, tile, search, (mean, inverse, none), result)
    if levelled:
        for b in range(1, chain.shape[0]):
            place[of_box[b]] = (b - 1) * area
        differences = zeros32((chain.shape[0] - 1) * area + LANES)
        fill_boxes(region, size, pixel_chain, of_box[of_chip], place, (np.zeros(room), zeros32(room)), (mean, inverse, differences))
        sweep_cell(LEVELLED, cell, extent, tile, search, (mean, inverse, differences), result)


@njit(nogil=True, cache=True, error_model="numpy")
def union_of(cell, search):
    """Return the first and last dy and dx of all windows of a cell, and whether any chip has plain or levelled sums."""
    dy, dx, radius, mode = search
    y0, y1, x0, x1, plain, levelled = 2**40, -(2**40), 2**40, -(2**40), False, False
    for i in range(cell[0], cell[1]):
        for j in range(cell[2], cell[3]):
            wanted = False
            for c in range(mode.shape[0]):
                plain |= mode[c, i, j] == PLAIN
                levelled |= mode[c, i, j] == LEVELLED
                wanted |= mode[c, i, j] == PLAIN or mode[c, i, j] == LEVELLED
            if wanted:
                y0, y1 = min(y0, dy[i, j] - radius[i, j]), max(y1, dy[i, j] + radius[i, j] + 1)
                x0, x1 = min(x0, dx[i, j] - radius[i, j]), max(x1, dx[i, j] + radius[i, j] + 1)
    return (y0, y1, x0, x1), plain, levelled


@njit(nogil=True, cache=True, error_model="numpy")
def _mark_far(cell, union, search, geometry, mean, inverse, size):
    """Set chips to ``LEVELLED`` that are compared with a box whose mean is too large for its spread; return whether any is."""
    dy, dx, radius, mode = search
    side, step, counts, starts = geometry[:4]
    found = False
    for c in range(counts.size):
        most = np.float32(LEVEL * LEVEL / (counts[c] * side) ** 2)
        for i in range(cell[0], cell[1]):
            for j in range(cell[2], cell[3]):
                if mode[c, i, j] != PLAIN:
                    continue
                reach = radius[i, j]
                y0 = (starts[c] + (i - cell[0]) * step) * side + dy[i, j] - reach - union[0]
                x0 = (starts[c] + (j - cell[2]) * step) * side + dx[i, j] - reach - union[2]
                if _any_far(mean, inverse, (c * size[0] + y0) * size[1] + x0, size[1], 2 * reach + 1, most):
                    mode[c, i, j] = LEVELLED
                    found = True
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def _any_far(mean, inverse, at, step, width, most):
    far = 0
    for y in range(width):
        m, s = mean[at + y * step : at + y * step + width], inverse[at + y * step : at + y * step + width]
        for x in range(width):
            far += m[x] * s[x] * m[x] * s[x] > most
        if far:
            return True
    return False


@njit(nogil=True, cache=True, error_model="numpy")
def sweep_cell(kind, cell, extent, tile, search, boxes, result):
    """Form the sums of one kind for all nodes of a cell and find their peaks; see ``measure_cell``."""
    images, geometry, reference = tile
    side, step, counts, starts, chain, of_chip = geometry[:6]
    union, (panels, vectors, bands, group), corner, size = extent
    reach, parts = vectors * LANES, panels * bands
    line, height, width = group * reach, bands * group, panels * reach
    todo, span = _list_nodes(kind, cell, union, search)
    rows, columns = (todo.shape[1] - 1) * step + counts[-1], (todo.shape[2] - 1) * step + counts[-1]
    needed = np.zeros((chain.shape[0], rows, columns), np.bool_)
    mark_needed(todo, chain, of_chip, starts, step, needed)
    back, begin, ring_rows = ring_places(chain)
    lines = zeros32(chain.shape[0] * columns * line).reshape((chain.shape[0], columns * line))
    ring = zeros32(ring_rows * parts * columns * line)
    chip_size = todo.shape[2] * height
    surface, highest = zeros32(counts.size * chip_size * width), zeros32(counts.size * chip_size)
    nothing = np.zeros(todo.shape[2], np.float32)
    room = zeros32(side * side + (side + group) * (side + reach))
    level = np.zeros((2, columns if kind == LEVELLED else 0))
    block0, block1 = cell[0] * step, cell[2] * step
    for i in range(rows):
        if not _any(needed[0, i]):
            continue
        if kind == LEVELLED:
            _find_levels(images, reference[0], side, (block0 + i, block1), level)
        for p in range(highest.size):
            highest[p] = np.float32(NONE)
        for p in range(parts):
            dy0, dx0 = p // panels * group, p % panels * reach
            block = (block0 + i) * side * images[1] + block1 * side
            place = corner + (i * side + dy0) * images[3] + dx0
            multiply_row(images[:4], block, place, needed[0, i], (side, vectors, line), level, room, lines[0])
            for b in range(1, chain.shape[0]):
                ring_at = ((begin[b] + i % back[b]) * parts + p) * columns * line if chain[b, DOWN] > 0 else -1
                plane = -1
                if kind == LEVELLED:
                    plane = ((b - 1) * size[0] + (i - chain[b, HEIGHT] + 1) * side + dy0) * size[1] + dx0
                weight = reference[1][b, block0 : block0 + rows, block1 : block1 + columns]
                merge_row(b, i, chain, needed, lines, ring, ring_at, weight, boxes[2], plane, (side, size[1], group, reach, line))
            for c in range(counts.size):
                above = i + 1 - counts[c] - starts[c]
                if above < 0 or above % step or above // step >= todo.shape[1]:
                    continue
                node = above // step
                where = slice(cell[2], cell[3])
                total = reference[2][c, cell[0] + node, where] if kind == PLAIN else nothing
                scale = reference[3][c, cell[0] + node, where]
                at = (c * size[0] + (starts[c] + above) * side + dy0) * size[1] + dx0
                score_row(
                    lines[of_chip[c]], todo[c, node], (starts[c], step, line), (total, scale), (boxes[0], boxes[1], at, side, size[1]),
                    span[node], (dy0, dx0, group, reach, width, height), surface[c * chip_size * width :], highest[c * chip_size :],
                )  # fmt: skip
        for c in range(counts.size):
            above = i + 1 - counts[c] - starts[c]
            if above >= 0 and above % step == 0 and above // step < todo.shape[1]:
                node = above // step
                values = (surface[c * chip_size * width : (c + 1) * chip_size * width], highest[c * chip_size : (c + 1) * chip_size])
                write_row(values, todo[c, node], span[node], (height, width), (union[0], union[2]), (c, cell[0] + node, cell[2]), result)


@njit(nogil=True, cache=True, error_model="numpy")
def _list_nodes(kind, cell, union, search):
    """Return which chips of a cell to do, and the first and last row and column of each window among the cell's offsets."""
    dy, dx, radius, mode = search
    n, m = cell[1] - cell[0], cell[3] - cell[2]
    todo, span = np.zeros((mode.shape[0], n, m), np.bool_), np.zeros((n, 4, m), np.int64)
    for i in range(n):
        for j in range(m):
            y, x = cell[0] + i, cell[2] + j
            reach = radius[y, x]
            span[i, 0, j], span[i, 1, j] = dy[y, x] - reach - union[0], dy[y, x] + reach + 1 - union[0]
            span[i, 2, j], span[i, 3, j] = dx[y, x] - reach - union[2], dx[y, x] + reach + 1 - union[2]
            for c in range(mode.shape[0]):
                todo[c, i, j] = mode[c, y, x] == kind
    return todo, span


@njit(nogil=True, cache=True, error_model="numpy")
def _any(flags):
    found = False
    for flag in flags:
        found |= flag
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def _find_levels(images, reference, side, first, level):
    """Find what is taken out of one row of blocks: the mean of the reference and of the secondary at offset zero."""
    s, s_step, far = images[2:]
    i, j0 = first
    for j in range(level.shape[1]):
        level[0, j] = reference[i, j0 + j]
        total, count = 0.0, 0
        for y in range(side):
            at = (far + i * side + y) * s_step + far + (j0 + j) * side
            for x in range(side):
                total += s[at + x]
                count += s[at + x] != np.float32(0)
        level[1, j] = total / count if count else reference[i, j0 + j]


@njit(nogil=True, cache=True, error_model="numpy")
def write_row(values, todo, span, shape, origin, where, result):
    """Write the peaks, and the surfaces if they are kept, of one row of the nodes of a cell."""
    peak, dy, dx, ratio, bounded, around, keep = result
    c, i, j0 = where
    here = slice(j0, j0 + todo.size)
    found = (peak[c, i, here], dy[c, i, here], dx[c, i, here], ratio[c, i, here], bounded[c, i, here], around[c, i, here])
    judge_row(values[0], values[1], todo, span, shape, origin, found)
    if keep.size:
        for k in range(todo.size):
            if todo[k]:
                for y in range(span[0, k], span[1, k]):
                    for x in range(span[2, k], span[3, k]):
                        value = values[0][(k * shape[0] + y) * shape[1] + x]
                        if value != np.float32(NONE):
                            keep[c, i, j0 + k, y - span[0, k], x - span[2, k]] = value


@njit(nogil=True, cache=True, error_model="numpy")
def columns_that_fit(geometry, height, width):
    """Return how many node columns a cell may have so that its sums stay in the processor's cache."""
    panels, vectors, bands, group = offsets_for(height, width)
    surface = 4 * panels * vectors * LANES * bands * group
    rows = ring_places(geometry[4])[2] + geometry[2].size
    return max(8, min(64, CACHE // (surface * rows)))


def measure_cells(tile, search, result):
    """Find the peaks of all nodes of a tile; see ``measure_cell``.

    Cells are halved as long as that saves offsets that belong to no window.
    """
    geometry = tile[1]
    rows, columns = search[0].shape
    widest = 2 * search[2].max() + 1
    most = columns_that_fit(geometry, widest, widest)
    pieces = (columns + most - 1) // most
    cells = [(0, rows, k * columns // pieces, (k + 1) * columns // pieces) for k in range(pieces)]
    while cells:
        cell = cells.pop()
        whole = _cost(cell, search, geometry)
        if whole == 0:
            continue
        if cell[1] - cell[0] >= cell[3] - cell[2]:
            middle = (cell[0] + cell[1]) // 2
            one, other = (cell[0], middle, cell[2], cell[3]), (middle, cell[1], cell[2], cell[3])
        else:
            middle = (cell[2] + cell[3]) // 2
            one, other = (cell[0], cell[1], cell[2], middle), (cell[0], cell[1], middle, cell[3])
        small = cell[1] - cell[0] + cell[3] - cell[2] <= 2
        if not small and _cost(one, search, geometry) + _cost(other, search, geometry) < whole:
            cells.append(one)
            cells.append(other)
        else:
            measure_cell(cell, tile, search, result)


@njit(nogil=True, cache=True, error_model="numpy")
def _cost(cell, search, geometry):
    """Return roughly how many products a cell needs, with what it costs to begin one; zero if there is nothing to do."""
    union, plain, levelled = union_of(cell, search)
    if not plain and not levelled:
        return 0
    step, most = geometry[1], geometry[2][-1]
    blocks = ((cell[1] - cell[0] - 1) * step + most) * ((cell[3] - cell[2] - 1) * step + most)
    return 3000 + blocks * (union[1] - union[0] + 2) * (union[3] - union[2] + 6)
