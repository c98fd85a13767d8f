"""One pass over a strip of nodes: from the products of blocks to the peaks of all chips, row by row of blocks."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.chain import DOWN, FIRST, HEIGHT, RIGHT, SECOND, WIDTH
from ftrack.kernels.compiled import filling, inner, shared
from ftrack.kernels.gaps import advance_gaps
from ftrack.kernels.masked import advance_masked, extend_planes, sum_blocks
from ftrack.kernels.peaks import judge_row, keep_surface
from ftrack.kernels.products import block_products
from ftrack.kernels.products import offsets_for as offsets_for
from ftrack.kernels.rims import fill_rims
from ftrack.kernels.scores import normalise
from ftrack.kernels.sliding import fill
from ftrack.kernels.squares import TOGETHER, advance_squares, judge_squares
from ftrack.kernels.strip import BACK, CHIP, LINE, MASK, PLANE, RING, START, factors_of
from ftrack.kernels.vectors import LANES, NONE, make_merge

_add, _push, _add_levelled, _push_levelled = (make_merge(push, levelled) for levelled in (False, True) for push in (False, True))


@inner
def _take_out(numbers, at, step, level, rows, columns, out):
    # Places that are unsigned need no check for being counted from the end, so this loop runs in vectors.
    for y in range(rows):
        a, b = np.uintp(at + y * step), np.uintp(out + y * columns)
        for x in range(np.uintp(columns)):
            numbers[b + x] = np.float32(numbers[a + x] - level)


@filling
def sweep_strip(numbers, shape, places, table, nodes, gaps, kept, result):
    """Find the peaks of the nodes of one strip whose chips have no gaps.

    Parameters
    ----------
    numbers : float32 (n,)
        Holds everything that ``places`` says.
    shape : Shape
        How the strip is cut.
    places : Places
        Where things are.
    table : int64 (box, 13)
        A chain with further columns; see ``ftrack.kernels.strip``.
    nodes : Nodes
        What is to be done.
    gaps : Gaps
        Where there are pixels.
    kept : (int64 (chip, column), float32 (n,), float64 (n,), float32 (n,))
        Room, see ``ftrack.kernels.rims.room_for_rims``.
    result : (found, keep)
        Filled: float32 (chip, row, column, 14), see ``ftrack.kernels.peaks.judge_row``, and float32 (chip, row,
        column, offset, offset), which takes the surfaces unless it is empty.
    """
    _begin(numbers, shape, places, nodes.todo.shape[0] * nodes.todo.shape[2])
    for i in range(shape.rows):
        fill_rims(numbers, shape, places, table, nodes, gaps, kept, i)
        for part in range(shape.panels * shape.bands):
            _advance(numbers, shape, places, table, nodes, i, part)
        _write_row(numbers, shape, places, table, nodes.todo, nodes.span, i, result)


@filling
def sweep_squares(numbers, shape, places, table, nodes, gaps, kept, squares, result):
    """Do the same where all chips are squares of squares; see ``ftrack.kernels.squares``. The result is that of all nodes."""
    _begin(numbers, shape, places, nodes.todo.shape[0] * TOGETHER)
    fill(numbers, squares.room, shape.group * shape.vectors * LANES, np.float32(0))
    for i in range(shape.rows):
        fill_rims(numbers, shape, places, table, nodes, gaps, kept, i)
        for j in range(0, squares.columns, TOGETHER):
            advance_squares(numbers, shape, places, nodes, squares, i, j)
            judge_squares(numbers, shape, places, nodes, squares, gaps.far, i, j, result)


@filling
def sweep_masked(numbers, shape, places, table, nodes, gaps, blocks, result):
    """Find the peaks of the nodes of one strip by sums over the pixels that both images have; see ``sweep_strip``.

    ``blocks``, float32 (3, row, column), is room for the sums of the blocks of the reference.
    """
    _begin(numbers, shape, places, nodes.todo.shape[0] * nodes.todo.shape[2])
    y = np.int64(0)
    sum_blocks(numbers, shape, places, nodes, gaps, blocks)
    for i in range(shape.rows):
        y = extend_planes(numbers, shape, places, nodes, gaps, (i, y))
        for part in range(shape.panels * shape.bands):
            advance_masked(numbers, shape, places, table, nodes, gaps, blocks, (i, part))
        _write_row(numbers, shape, places, table, nodes.todo, nodes.span, i, result)


@filling
def sweep_gaps(numbers, shape, places, table, nodes, gaps, result):
    """Do the same in double precision."""
    _begin(numbers, shape, places, nodes.todo.shape[0] * nodes.todo.shape[2])
    for i in range(shape.rows):
        for part in range(shape.panels * shape.bands):
            advance_gaps(numbers, shape, places, table, nodes, gaps, (i, part))
        _write_row(numbers, shape, places, table, nodes.todo, nodes.span, i, result)


@inner
def _begin(numbers, shape, places, surfaces):
    """Write that no coefficients are known, and that there are none before the first and behind every row of the surfaces."""
    _clear_tails(numbers, shape, places, surfaces)
    _clear_highest(numbers, shape, places, surfaces)


@inner
def _clear_highest(numbers, shape, places, nodes):
    fill(numbers, places.highest, nodes * shape.bands * shape.group, np.float32(NONE))


@shared
def _clear_tails(numbers, shape, places, nodes):
    """Write that there are no coefficients before the first and behind every row of the surfaces of a number of nodes."""
    width = shape.panels * shape.vectors * LANES + LANES
    for row in range(nodes * shape.bands * shape.group + 1):
        fill(numbers, places.surface + row * width, LANES, np.float32(NONE))


@shared
def _write_row(numbers, shape, places, table, chosen, spans, i, result):
    """Write the peaks, and the surfaces if they are kept, of the chips whose last row of blocks is row ``i``."""
    found, keep = result
    height, width, size = shape.bands * shape.group, shape.panels * shape.vectors * LANES + LANES, chosen.shape[2]
    for b in range(1, table.shape[0]):
        c, above = table[b, CHIP], i + 1 - table[b, HEIGHT] - table[b, START]
        if c < 0 or above < 0 or above % shape.step or above // shape.step >= chosen.shape[1]:
            continue
        node = above // shape.step
        surface, highest = places.surface + LANES + c * size * height * width, places.highest + c * size * height
        todo, span = chosen[c, node], spans[node]
        judge_row(numbers, (surface, highest, height, width, shape.dy, shape.dx), todo, span, found[c, node])
        if keep.size:
            for j in range(size):
                if todo[j]:
                    window = (span[0, j], span[1, j], span[2, j], span[3, j])
                    keep_surface(numbers, surface + j * height * width, width, window, keep[c, node, j])
    _clear_highest(numbers, shape, places, chosen.shape[0] * size)


@shared
def _advance(numbers, shape, places, table, nodes, i, part):
    """Work through row ``i`` of the blocks of a cell at one part of the offsets."""
    side, step, _, columns, panels, vectors, bands, group, _, _ = shape
    needed, todo, span, levels, weight = nodes.needed, nodes.todo, nodes.span, nodes.levels, nodes.weight
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
                node = c * todo.shape[2] + m
                row = node * height + dy0 + y0
                mean, inverse, pitch, total, scale = factors_of(shape, places, nodes, (c, n, m), (top * side, left * side), (dy0 + y0, dx0))
                normalise(
                    numbers, out + y0 * reach, mean, inverse, pitch, total, scale,
                    y1 - y0, reach, span[n, 2, m] - dx0, span[n, 3, m] - dx0,
                    places.surface + LANES + row * width + dx0, width, places.highest + row,
                )  # fmt: skip
