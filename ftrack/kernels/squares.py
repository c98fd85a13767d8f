"""The pass over a strip where every chip is as many blocks wide as a power of two: sums of squares of blocks, each of four smaller.

A square is finished with its lower right block. Two squares, one above the other, are added first, then two such pairs side by
side; what was above is remembered for every column, and pairs for as many columns as the next square is wide.
Strips of a cell follow one another along x, and each takes over the pairs of its last columns from the one before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ftrack.kernels.certain import is_settled
from ftrack.kernels.compiled import filling, inner
from ftrack.kernels.folded import fold_blocks, pair_products
from ftrack.kernels.lanes import LANES, NONE, fetch
from ftrack.kernels.layout import Layout
from ftrack.kernels.peaks import find_peak, find_second, keep_surface
from ftrack.kernels.rectangles import PLAIN
from ftrack.kernels.scores import make_join
from ftrack.kernels.sliding import fill
from ftrack.kernels.strip import factors_of

_push1, _push2, _push3 = (make_join(vectors, True, False) for vectors in (1, 2, 3))
_score1, _score2, _score3 = (make_join(vectors, False, True) for vectors in (1, 2, 3))
_both1, _both2, _both3 = (make_join(vectors, True, True) for vectors in (1, 2, 3))
_keep3 = make_join(3, True, True, below=False)

LAST, KEPT, PUSHED = 0, 1, 2
"""What becomes of a square: nothing, only the square below it needs it, or one that ends in its row does as well."""

TOGETHER = 8
"""Blocks beside each other that are worked on at one part of the offsets after the other."""


class Squares(NamedTuple):
    """What a strip of squares is told besides.

    ``needed`` is uint8 (part of the offsets, block row, block column): how many sizes of squares that end there are needed,
    blocks among them. ``chip`` is the chip of every size, -1 = none, ``starts`` where each begins. ``shift`` blocks lie
    between the first of the first node and the ``columns`` of the strip; ``behind`` tells whether there is another behind it.
    ``fold`` is the place for pairs of rows of ``TOGETHER`` blocks, see ``ftrack.kernels.folded.fold_blocks``, ``room`` that
    for half the sums of a block, twice; ``seam`` and ``next_seam`` are those of the pairs of the last columns before the strip
    and of its own. ``corner`` is row and column of the first node among those of the result; larger chips are left out where
    one is settled by ``limits``, see ``is_settled``.
    """

    needed: np.ndarray
    chip: np.ndarray
    starts: np.ndarray
    shift: int
    columns: int
    behind: bool
    fold: int
    room: int
    seam: int
    next_seam: int
    corner: tuple[int, int]
    limits: tuple[float, float]


def in_squares(layout: Layout) -> bool:
    """Return whether all chips are squares of squares of blocks of an even side."""
    return layout.side % 2 == 0 and all(int(n) & (int(n) - 1) == 0 for n in layout.counts)


def levels_of(layout: Layout) -> int:
    """Return how often a block is doubled until it is the largest chip."""
    return int(layout.counts[-1]).bit_length() - 1


@filling
def mark_squares(mode, span, kinds, where, shape, chips, todo, moved, needed):
    """Choose the chips of some nodes, and tell how many sizes of squares are needed that end at a block; see ``Squares``.

    Parameters
    ----------
    mode, span
        See ``ftrack.kernels.tiles.Search``.
    kinds : int64 (row, column)
        Kind of the nodes of a rectangle.
    where : (kind, row, column, top, left)
        Which are chosen, where these begin in that rectangle, and where among all nodes.
    shape : Shape
        How they are cut.
    chips : (chip, starts)
        See ``Squares``.
    todo, moved
        Filled: see ``ftrack.kernels.strip.Nodes``.
    needed : uint8 (part of the offsets, block row, block column)
        Result, zero before.
    """
    (kind, row, column, top, left), (chip, starts), step = where, chips, shape.step
    for i in range(todo.shape[1]):
        for j in range(todo.shape[2]):
            for k in range(4):
                moved[i, k, j] = span[top + i, k, left + j] - (shape.dy if k < 2 else shape.dx)
            for c in range(todo.shape[0]):
                todo[c, i, j] = kinds[row + i, column + j] == kind and mode[c, top + i, left + j] == PLAIN
    for part in range(needed.shape[0]):
        dy, dx = part // shape.panels * shape.group, part % shape.panels * shape.vectors * LANES
        for level in range(chip.size - 1, -1, -1):
            c, half = chip[level], 1 << level >> 1
            end = starts[c] + (1 << level) - 1
            for i in range(todo.shape[1] if c >= 0 else 0):
                for j in range(todo.shape[2]):
                    down = moved[i, 0, j] < dy + shape.group and moved[i, 1, j] > dy
                    if todo[c, i, j] and down and moved[i, 2, j] < dx + shape.vectors * LANES and moved[i, 3, j] > dx:
                        at = end + j * step
                        needed[part, end + i * step, at] = max(needed[part, end + i * step, at], level + 1)
            for y in range(half, needed.shape[1] if half > 0 else 0):
                for x in range(half, needed.shape[2]):
                    if needed[part, y, x] > level:
                        needed[part, y, x - half] = max(needed[part, y, x - half], level)
                        needed[part, y - half, x] = max(needed[part, y - half, x], level)
                        needed[part, y - half, x - half] = max(needed[part, y - half, x - half], level)


@inner
def advance_squares(numbers, shape, places, nodes, squares, i, begin):
    """Work on ``TOGETHER`` blocks of row ``i`` of a strip, and on the squares that end with them, at all offsets."""
    side, _, _, _, panels, vectors, bands, group, _, _ = shape
    reach, levels, columns = vectors * LANES, squares.chip.size - 1, squares.columns
    line, parts, many = group * reach, panels * bands, (1 << levels) - 1
    folds = _fold(numbers, shape, places, squares, i, begin)
    end = columns if squares.behind else columns + many
    for part in range(parts):
        seam, dy0, dx0 = (i * parts + part) * many * line, part // panels * group, part % panels * reach
        lines = (places.lines + 2 * part * many * line, squares.seam + seam, squares.next_seam + seam, end, line)
        r, s = places.r + i * side * places.r_step, places.s + (i * side + dy0) * places.s_step + dx0
        for j in range(begin, min(begin + TOGETHER, columns)):
            needed, moved = np.int64(squares.needed[part, i, j]), (j + squares.shift) * side
            if needed > 0:
                if part == 0 and j * side % LANES == 0:
                    _fetch_below(numbers, shape, places, squares, i, j)
                above, out = places.ring + (part * columns + j) * line, _pair(lines, 0, j)
                x = (j - begin) * side
                here = (folds[0] + x, folds[1] + dy0 * folds[2] + dx0 + x, folds[2])
                pair_products(numbers, r + moved, places.r_step, s + moved, places.s_step, here, side, vectors, squares.room, above, out)
            for level in range(1, needed):
                size = 1 << level
                a, b = _pair(lines, level - 1, j - (size >> 1)), _pair(lines, level - 1, j)
                above = places.ring + (((size - 1 + (i & size - 1)) * parts + part) * columns + j) * line
                at = (squares.chip[level], i + 1 - size, j + 1 + squares.shift - size, dy0, dx0, j - begin)
                push = PUSHED if level < levels else LAST
                if level == levels - 1 and j < end - size and not _ends_here(shape.step, nodes.todo, squares, i, j, levels):
                    push = KEPT
                _join(numbers, (a, b, above, _pair(lines, level, j)), push, shape, places, nodes, squares.starts, at)


@inner
def _ends_here(step, todo, squares, i, j, level):
    """Return whether a chip of a size is to be done whose lower left or right quarter is the square that ends in a block."""
    c, top, left = squares.chip[level], i + 1 - (1 << level), j + 1 + squares.shift - (1 << level)
    right, _ = _node_of(step, todo, squares.starts, c, top, left)
    other, _ = _node_of(step, todo, squares.starts, c, top, left + (1 << level >> 1))
    return right >= 0 or other >= 0


@inner
def _fetch_below(numbers, shape, places, squares, i, j):
    """Ask for the pixels that the blocks of the next row add to what is known, and for means and inverses of chips that end with them."""
    side, reach, height = shape.side, shape.panels * shape.vectors * LANES, shape.bands * shape.group
    x, y = (j + squares.shift) * side, (i + 1) * side
    fetch(numbers, places.r + y * places.r_step + x, places.r_step, side, LANES)
    fetch(numbers, places.s + (y + height - 1) * places.s_step + x + reach, places.s_step, side, LANES)
    for level in range(1, squares.chip.size):
        c, size = squares.chip[level], side << level
        if c >= 0:
            at = (c * places.height + y + height - size) * places.pitch + x + side - size + reach
            fetch(numbers, places.mean + at, places.pitch, side, LANES)
            fetch(numbers, places.inverse + at, places.pitch, side, LANES)


@inner
def _fold(numbers, shape, places, squares, i, begin):
    """Write what stands for pairs of rows of blocks if any is needed; return the places for both images and how far apart rows lie."""
    side, reach, rows = shape.side, shape.panels * shape.vectors * LANES, shape.side + shape.bands * shape.group - 2
    pitch, first, last = TOGETHER * side + reach, squares.columns, begin
    for part in range(shape.panels * shape.bands):
        for j in range(begin, min(begin + TOGETHER, squares.columns)):
            if squares.needed[part, i, j] > 0:
                first, last = min(first, j), max(last, j + 1)
    if first < last:
        x, columns, moved = (first + squares.shift) * side, (last - first) * side, (first - begin) * side
        r, s = places.r + i * side * places.r_step + x, places.s + i * side * places.s_step + x
        room = (squares.fold + moved, squares.fold + side * pitch + moved, pitch)
        fold_blocks(numbers, r, places.r_step, s, places.s_step, side, (columns, columns + reach, rows), room)
    return squares.fold, squares.fold + side * pitch, pitch


@inner
def judge_squares(numbers, shape, places, nodes, squares, far, i, begin, result):
    """Find the peaks of the nodes whose chips end with those blocks; forget the highest coefficients.

    Chips whose spread is lost, ``far``, settle nothing.
    """
    (found, keep), (top, left) = result, squares.corner
    height, width = shape.bands * shape.group, shape.panels * shape.vectors * LANES + LANES
    for j in range(begin, min(begin + TOGETHER, squares.columns)):
        most = np.int64(0)
        for part in range(shape.panels * shape.bands):
            most = max(most, np.int64(squares.needed[part, i, j]))
        for level in range(1, most):
            c = squares.chip[level]
            n, m = _node_of(shape.step, nodes.todo, squares.starts, c, i + 1 - (1 << level), j + 1 + squares.shift - (1 << level))
            if n >= 0:
                row = (c * TOGETHER + j - begin) * height
                at, highest = places.surface + LANES + row * width, places.highest + row
                surface, peaks = (at, highest, width, shape.dy, shape.dx), found[c, top + n, left + m]
                window = (nodes.span[n, 0, m], nodes.span[n, 1, m], nodes.span[n, 2, m], nodes.span[n, 3, m])
                find_peak(numbers, surface, window, peaks)
                if c > 0 and not (far[c - 1, n, m] or far[c, n, m]) and is_settled(found, c - 1, top + n, left + m, squares.limits):
                    for larger in range(c + 1, nodes.todo.shape[0]):
                        nodes.todo[larger, n, m] = False
                elif peaks[0] == peaks[0]:
                    find_second(numbers, surface, window, peaks)
                if shape.vectors > 1:
                    fill(numbers, highest, height, np.float32(NONE))
                if keep.size:
                    keep_surface(numbers, at, width, window, keep[c, top + n, left + m])


@inner
def _join(numbers, lines, push, shape, places, nodes, starts, at):
    """Add two pairs side by side, and, if ``push`` says so, the square above; write the coefficients of a chip that is to be done."""
    c, top, left, dy0, dx0, k = at
    a, b, above, below = lines
    n, m = _node_of(shape.step, nodes.todo, starts, c, top, left)
    reach, group = shape.vectors * LANES, shape.group
    zero, y0, y1, first, last = np.float32(0), 0, group, 0, 0
    mean, inverse, pitch, total, scale, surface, width, highest = 0, 0, 0, zero, zero, 0, 0, 0
    score = False
    if n >= 0:
        span = nodes.span
        first, last = span[n, 2, m] - dx0, span[n, 3, m] - dx0
        y0, y1 = max(span[n, 0, m] - dy0, 0), min(span[n, 1, m] - dy0, group)
        score = y1 > y0
        if push > LAST:
            y0, y1 = 0, group
        height, width = shape.bands * group, shape.panels * reach + LANES
        row = (c * TOGETHER + k) * height + dy0 + y0
        mean, inverse, pitch, total, scale = factors_of(
            shape, places, nodes, (c, n, m), (top * shape.side, left * shape.side), (dy0 + y0, dx0)
        )
        surface, highest = places.surface + LANES + row * width + dx0, places.highest + row
    a, b, rows = a + y0 * reach, b + y0 * reach, y1 - y0
    if shape.vectors == 1:
        if score and push > LAST:
            _both1(numbers, a, b, above, below, rows, mean, inverse, pitch, total, scale, first, last, surface, width, highest)
        elif score:
            _score1(numbers, a, b, above, below, rows, mean, inverse, pitch, total, scale, first, last, surface, width, highest)
        elif push > LAST:
            _push1(numbers, a, b, above, below, rows, mean, inverse, pitch, total, scale, first, last, surface, width, highest)
    elif shape.vectors == 2:
        if score and push > LAST:
            _both2(numbers, a, b, above, below, rows, mean, inverse, pitch, total, scale, first, last, surface, width, highest)
        elif score:
            _score2(numbers, a, b, above, below, rows, mean, inverse, pitch, total, scale, first, last, surface, width, highest)
        elif push > LAST:
            _push2(numbers, a, b, above, below, rows, mean, inverse, pitch, total, scale, first, last, surface, width, highest)
    elif score and push == PUSHED:
        _both3(numbers, a, b, above, below, rows, mean, inverse, pitch, total, scale, first, last, surface, width, highest)
    elif score and push == KEPT:
        _keep3(numbers, a, b, above, below, rows, mean, inverse, pitch, total, scale, first, last, surface, width, highest)
    elif score:
        _score3(numbers, a, b, above, below, rows, mean, inverse, pitch, total, scale, first, last, surface, width, highest)
    elif push > LAST:
        _push3(numbers, a, b, above, below, rows, mean, inverse, pitch, total, scale, first, last, surface, width, highest)


@inner
def _node_of(step, todo, starts, c, top, left):
    """Return row and column of the node whose chip a square is, -1 if it is none that is to be done."""
    node = (-1, -1)
    if c >= 0:
        down, right = top - starts[c], left - starts[c]
        if down >= 0 and right >= 0 and down % step == 0 and right % step == 0:
            n, m = down // step, right // step
            if n < todo.shape[1] and m < todo.shape[2] and todo[c, n, m]:
                node = (n, m)
    return node


@inner
def _pair(lines, level, j):
    """Return the place of the pair of squares of a size that ends in a column; the last before and the last of a strip lie in the seam."""
    at, seam, next_seam, end, line = lines
    size = 1 << level
    place = at + (2 * size - 2 + (j & 2 * size - 1)) * line
    if j < 0:
        place = seam + (2 * size - 1 + j) * line
    elif j >= end - size:
        place = next_seam + (2 * size - 1 + j - end) * line
    return place
