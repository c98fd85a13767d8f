"""One pass over a cell of nodes: from the products of blocks to the peaks of all chips, row by row of blocks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from ftrack.kernels.chain import DOWN, FIRST, HEIGHT, RIGHT, SECOND, WIDTH
from ftrack.kernels.peaks import judge_row
from ftrack.kernels.vectors import GROUPS, LANES, NONE, WIDEST, make_merge, make_products, normalise

LINE, MASK, BACK, RING, PLANE, CHIP, START = range(6, 13)
"""Further columns of a chain: first line of sums and how many (less one) are kept along x, how many rows a merge along
y looks back and where they begin, place of the differences of means, chip that is this box, -1 = none, and where it begins."""

_add, _push, _add_levelled, _push_levelled = (make_merge(push, levelled) for levelled in (False, True) for push in (False, True))
_8x1, _8x2, _8x3 = (make_products(8, vectors) for vectors in (1, 2, 3))
_4x1, _4x2, _4x3 = (make_products(4, vectors) for vectors in (1, 2, 3))
_1x1, _1x2, _1x3 = (make_products(1, vectors) for vectors in (1, 2, 3))


class Shape(NamedTuple):
    """How a cell is cut: sides and steps of blocks, its rows and columns, and the parts of its offsets."""

    side: int
    step: int
    rows: int
    columns: int
    panels: int
    vectors: int
    bands: int
    group: int
    dy: int
    dx: int


class Places(NamedTuple):
    """Where things are in the one array of numbers: places and lengths of a row."""

    r: int
    r_step: int
    s: int
    s_step: int
    mean: int
    inverse: int
    height: int
    pitch: int
    lines: int
    ring: int
    surface: int
    highest: int
    room: int


class Nodes(NamedTuple):
    """What is to be done in a cell.

    ``needed`` are the boxes that chips are made of, bool (box, block row, block column), ``todo`` the chips, bool (chip,
    row, column), ``span`` the first and last row and first and last column of each node's window among the cell's
    offsets, int64 (row, 4, column). ``levels`` is taken out of the blocks of both images, float64 (2, block row, block
    column) or empty; ``weight`` goes with it, see ``ftrack.kernels.moments.Chips``, as do ``total`` and ``scale``; chips with gaps
    have there the mean levels of the secondary and of the reference.
    """

    needed: np.ndarray
    todo: np.ndarray
    span: np.ndarray
    levels: np.ndarray
    weight: np.ndarray
    total: np.ndarray
    scale: np.ndarray


def offsets_for(height: int, width: int) -> tuple[int, int, int, int]:
    """Return how offsets are cut into parts: panels along x, vectors of a panel, bands along y, rows of a band."""
    panels = -(-width // WIDEST)
    vectors = -(-width // (panels * LANES))
    return panels, vectors, -(-height // GROUPS[vectors]), GROUPS[vectors]


@njit(nogil=True, cache=True, error_model="numpy")
def block_products(r, r_at, r_step, s, s_at, s_step, side, vectors, sums, sums_at):
    """Sum the products of a block of ``r`` with ``GROUPS[vectors]`` times ``16 * vectors`` shifted blocks of ``s``.

    Images are float32, row after row; ``*_at`` index the block's first pixel and ``*_step`` are the lengths of a row.
    """
    if side % 8 == 0:
        if vectors == 1:
            _8x1(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)
        elif vectors == 2:
            _8x2(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)
        else:
            _8x3(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)
    elif side % 4 == 0:
        if vectors == 1:
            _4x1(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)
        elif vectors == 2:
            _4x2(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)
        else:
            _4x3(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)
    elif vectors == 1:
        _1x1(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)
    elif vectors == 2:
        _1x2(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)
    else:
        _1x3(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)


@njit(nogil=True, cache=True, error_model="numpy")
def _take_out(numbers, at, step, level, rows, columns, out):
    for y in range(rows):
        source, target = numbers[at + y * step : at + y * step + columns], numbers[out + y * columns : out + (y + 1) * columns]
        for x in range(columns):
            target[x] = np.float32(source[x] - level)


@njit(nogil=True, cache=True, error_model="numpy")
def sweep_cell(numbers, shape, places, table, nodes, found, keep):
    """Find the peaks of the nodes of one cell.

    Parameters
    ----------
    numbers : float32 (n,)
        Holds everything that ``places`` says.
    shape : Shape
        How the cell is cut.
    places : Places
        Where things are.
    table : int64 (box, 13)
        A chain with further columns; see ``LINE``.
    nodes : Nodes
        What is to be done.
    found : float32 (chip, row, column, 14)
        Result; see ``ftrack.kernels.peaks.judge_row``.
    keep : float32 (chip, row, column, offset, offset)
        Takes the surfaces unless it is empty.
    """
    clear_tails(numbers, shape, places, nodes.todo.shape[0] * nodes.todo.shape[2])
    for i in range(shape.rows):
        numbers[places.highest : places.highest + nodes.todo.shape[0] * nodes.todo.shape[2] * shape.bands * shape.group] = np.float32(NONE)
        for part in range(shape.panels * shape.bands):
            _advance(numbers, shape, places, table, nodes, i, part)
        write_row(numbers, shape, places, table, nodes, i, (found, keep))


@njit(nogil=True, cache=True, error_model="numpy")
def clear_tails(numbers, shape, places, nodes):
    """Write that there are no coefficients before the first and behind every row of the surfaces of a number of nodes."""
    width = shape.panels * shape.vectors * LANES + LANES
    for row in range(nodes * shape.bands * shape.group + 1):
        end = places.surface + row * width
        numbers[end : end + LANES] = np.float32(NONE)


@njit(nogil=True, cache=True, error_model="numpy")
def write_row(numbers, shape, places, table, nodes, i, result):
    """Write the peaks, and the surfaces if they are kept, of the chips whose last row of blocks is row ``i``."""
    found, keep = result
    height, width, size = shape.bands * shape.group, shape.panels * shape.vectors * LANES + LANES, nodes.todo.shape[2]
    for b in range(1, table.shape[0]):
        c, above = table[b, CHIP], i + 1 - table[b, HEIGHT] - table[b, START]
        if c < 0 or above < 0 or above % shape.step or above // shape.step >= nodes.todo.shape[1]:
            continue
        node = above // shape.step
        surface, highest = places.surface + LANES + c * size * height * width, places.highest + c * size * height
        todo, span = nodes.todo[c, node], nodes.span[node]
        judge_row(numbers, (surface, highest, height, width, shape.dy, shape.dx), todo, span, found[c, node])
        if keep.size:
            for j in range(size):
                if todo[j]:
                    for y in range(span[0, j], span[1, j]):
                        for x in range(span[2, j], span[3, j]):
                            value = numbers[surface + (j * height + y) * width + x]
                            keep[c, node, j, y - span[0, j], x - span[2, j]] = value if value != np.float32(NONE) else np.nan


@njit(nogil=True, cache=True, error_model="numpy")
def _advance(numbers, shape, places, table, nodes, i, part):
    """Work through row ``i`` of the blocks of a cell at one part of the offsets."""
    side, step, _, columns, panels, vectors, bands, group, _, _ = shape
    needed, todo, span, levels, weight, total, scale = nodes
    reach = vectors * LANES
    line, dy0, dx0 = group * reach, part // panels * group, part % panels * reach
    height, width = bands * group, panels * reach + LANES
    parts, levelled, none = panels * bands, levels.size > 0, np.float32(0)
    for j in range(columns):
        if not needed[0, i, j]:
            continue
        r = places.r + i * side * places.r_step + j * side
        s = places.s + (i * side + dy0) * places.s_step + dx0 + j * side
        out = places.lines + (j & table[0, MASK]) * line
        if levelled:
            room, across = places.room + side * side, side + reach
            _take_out(numbers, r, places.r_step, levels[0, i, j], side, side, places.room)
            _take_out(numbers, s, places.s_step, levels[1, i, j], side + group - 1, across, room)
            block_products(numbers, places.room, side, numbers, room, across, side, vectors, numbers, out)
        else:
            block_products(numbers, r, places.r_step, numbers, s, places.s_step, side, vectors, numbers, out)
        for b in range(1, table.shape[0]):
            left, top = j + 1 - table[b, WIDTH], i + 1 - table[b, HEIGHT]
            if left < 0:
                continue
            first, second = table[b, FIRST], table[b, SECOND]
            one = places.lines + (table[first, LINE] + (left & table[first, MASK])) * line
            other = places.lines + (table[second, LINE] + (left + table[b, RIGHT] & table[second, MASK])) * line
            out = places.lines + (table[b, LINE] + (left & table[b, MASK])) * line
            wanted = top >= 0 and needed[b, max(top, 0), left]
            plane = table[b, PLANE] + (top * side + dy0) * places.pitch + left * side + dx0
            if table[b, DOWN] == 0:
                if wanted and levelled:
                    _add_levelled(numbers, one, other, out, one, weight[b, top, left], plane, places.pitch, group, reach)
                elif wanted:
                    _add(numbers, one, other, out, one, none, one, 0, 1, line)
            else:
                above = i + 1 - table[first, HEIGHT]
                ring = places.ring + (((table[b, RING] + i % table[b, BACK]) * parts + part) * columns + left) * line
                if wanted and levelled:
                    _push_levelled(numbers, ring, other, out, one, weight[b, top, left], plane, places.pitch, group, reach)
                elif wanted or (above >= 0 and needed[first, above, left]):
                    _push(numbers, ring, other, out, one, none, one, 0, 1, line)
            c, down, right = table[b, CHIP], top - table[b, START], left - table[b, START]
            if not wanted or c < 0 or down < 0 or right < 0 or down % step or right % step:
                continue
            n, m = down // step, right // step
            if n >= todo.shape[1] or m >= todo.shape[2] or not todo[c, n, m]:
                continue
            y0, y1 = max(span[n, 0, m] - dy0, 0), min(span[n, 1, m] - dy0, group)
            if y1 > y0:
                mean = ((c * places.height) + top * side + dy0 + y0) * places.pitch + left * side + dx0
                node = c * todo.shape[2] + m
                row = node * height + dy0 + y0
                normalise(
                    numbers, out + y0 * reach, places.mean + mean, places.inverse + mean, places.pitch, total[c, n, m], scale[c, n, m],
                    y1 - y0, reach, span[n, 2, m] - dx0, span[n, 3, m] - dx0,
                    places.surface + LANES + row * width + dx0, width, places.highest + row,
                )  # fmt: skip
