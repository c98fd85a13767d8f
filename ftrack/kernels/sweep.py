"""One pass over a cell of nodes: from the products of blocks to the coefficients of all chips, row by row of blocks."""

from __future__ import annotations

import numpy as np
from numba import njit

from ftrack.kernels.chain import DOWN, FIRST, HEIGHT, RIGHT, SECOND, WIDTH
from ftrack.kernels.vectors import GROUPS, LANES, WIDEST, make_merge, make_products, normalise

PLAIN, LEVELLED, GAPPY = 1, 2, 3
"""How the sums of a chip are formed: as they are, with the means taken out, or over the pixels that both images have."""

_add, _push, _add_levelled, _push_levelled = (make_merge(push, levelled) for levelled in (False, True) for push in (False, True))
_8x1, _8x2, _8x3 = (make_products(8, vectors) for vectors in (1, 2, 3))
_4x1, _4x2, _4x3 = (make_products(4, vectors) for vectors in (1, 2, 3))
_1x1, _1x2, _1x3 = (make_products(1, vectors) for vectors in (1, 2, 3))


@njit(nogil=True, cache=True, error_model="numpy")
def zeros32(n):
    """Return zeros that begin on a line of the processor's cache, so that vectors do not lie across two."""
    whole = np.zeros(n + LANES, np.float32)
    skip = (-whole.ctypes.data % 64) // 4
    return whole[skip : skip + n]


@njit(nogil=True, cache=True, error_model="numpy")
def offsets_for(height, width):
    """Return how offsets are cut into parts: panels along x, vectors of a panel, bands along y, rows of a band."""
    panels = (width + WIDEST - 1) // WIDEST
    vectors = ((width + panels - 1) // panels + LANES - 1) // LANES
    rows = GROUPS[vectors]
    return panels, vectors, (height + rows - 1) // rows, rows


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
def mark_needed(todo, chain, of_chip, starts, step, needed):
    """Mark the boxes (box, block row, block column) that the chips to be done are made of."""
    for c in range(of_chip.size):
        for i in range(todo.shape[1]):
            for j in range(todo.shape[2]):
                if todo[c, i, j]:
                    needed[of_chip[c], starts[c] + i * step, starts[c] + j * step] = True
    for b in range(chain.shape[0] - 1, 0, -1):
        first, second, right, down = chain[b, FIRST], chain[b, SECOND], chain[b, RIGHT], chain[b, DOWN]
        for i in range(needed.shape[1]):
            for j in range(needed.shape[2]):
                if needed[b, i, j]:
                    needed[first, i, j] = True
                    needed[second, i + down, j + right] = True


@njit(nogil=True, cache=True, error_model="numpy")
def ring_places(chain):
    """Return how many rows of blocks each merge along y looks back, and where its rows begin, in rows."""
    back, begin, rows = np.zeros(chain.shape[0], np.int64), np.zeros(chain.shape[0], np.int64), 0
    for b in range(1, chain.shape[0]):
        begin[b] = rows
        if chain[b, DOWN] > 0:
            back[b] = chain[chain[b, SECOND], HEIGHT]
            rows += back[b]
    return back, begin, rows


@njit(nogil=True, cache=True, error_model="numpy")
def multiply_row(images, block, corner, needed, shape, levels, room, lines):
    """Fill the lines of sums of one row of blocks; ``levels`` are taken out of both images before, if there are any."""
    r, r_step, s, s_step = images
    side, vectors, line = shape
    group, reach = GROUPS[vectors], vectors * LANES
    for j in range(needed.size):
        if not needed[j]:
            continue
        r_at, s_at = block + j * side, corner + j * side
        if levels.shape[1] == 0:
            block_products(r, r_at, r_step, s, s_at, s_step, side, vectors, lines, j * line)
            continue
        across = side + reach
        _take_out(r, r_at, r_step, levels[0, j], side, side, room, 0)
        _take_out(s, s_at, s_step, levels[1, j], side + group - 1, across, room, side * side)
        block_products(room, 0, side, room, side * side, across, side, vectors, lines, j * line)


@njit(nogil=True, cache=True, error_model="numpy")
def _take_out(image, at, step, level, rows, columns, out, out_at):
    for y in range(rows):
        source, target = image[at + y * step : at + y * step + columns], out[out_at + y * columns : out_at + (y + 1) * columns]
        for x in range(columns):
            target[x] = np.float32(source[x] - level)


@njit(nogil=True, cache=True, error_model="numpy")
def _copy(a, out):
    for k in range(a.size):
        out[k] = a[k]


@njit(nogil=True, cache=True, error_model="numpy")
def merge_row(b, i, chain, needed, lines, ring, ring_at, weight, differences, plane, shape):
    """Put the boxes of kind ``b`` together whose last row of blocks is row ``i``.

    ``lines`` (box, column * line) are the sums that end in this row; ``ring_at`` is the place of the rows above, -1 for
    merges along x; ``plane`` the place in ``differences`` of the first column's line, -1 if means are not taken out.
    """
    first, second, right = chain[b, FIRST], chain[b, SECOND], chain[b, RIGHT]
    side, pitch, rows, reach, line = shape
    top, top_of_first = i - chain[b, HEIGHT] + 1, i - chain[first, HEIGHT] + 1
    a, other, out = lines[first], lines[second], lines[b]
    none = np.float32(0)
    for j in range(needed.shape[2] - chain[b, WIDTH] + 1):
        at, wanted = j * line, top >= 0 and needed[b, max(top, 0), j]
        if ring_at < 0:
            if wanted and plane < 0:
                _add(a, at, other, at + right * line, a, at, out, at, none, ring, 0, 0, rows, reach)
            elif wanted:
                place = plane + j * side
                _add_levelled(a, at, other, at + right * line, a, at, out, at, weight[top, j], differences, place, pitch, rows, reach)
        elif wanted and plane < 0:
            _push(ring, ring_at + at, other, at, a, at, out, at, none, ring, 0, 0, rows, reach)
        elif wanted:
            place = plane + j * side
            _push_levelled(ring, ring_at + at, other, at, a, at, out, at, weight[top, j], differences, place, pitch, rows, reach)
        elif top_of_first >= 0 and needed[first, top_of_first, j]:
            _copy(a[at : at + line], ring[ring_at + at : ring_at + at + line])


@njit(nogil=True, cache=True, error_model="numpy")
def score_row(lines, todo, places, moments, boxes, span, offsets, surface, highest):
    """Turn the sums of one row of chips into coefficients at one part of the offsets.

    Parameters
    ----------
    lines : float32 (n,)
        Sums of the boxes of this chip, line after line.
    todo : bool (column,)
        Nodes to do.
    places : (int, int, int)
        First column of blocks of the first node's chip, blocks between nodes, length of a line.
    moments : (total, scale)
        Of the reference's chips, float32 (column,).
    boxes : (mean, inverse, at, side, pitch)
        Of the secondary; ``at`` is the place of the first column's line.
    span : int64 (4, column)
        First and last row and first and last column of each node's window among the offsets of the cell.
    offsets : (dy0, dx0, rows, reach, pitch, plane)
        The part, and the shape of the surface of a node.
    surface, highest : float32 (n,)
        Result: coefficients, and the highest of each row of offsets.
    """
    start, step, line = places
    total, scale = moments
    mean, inverse, at, side, pitch = boxes
    dy0, dx0, rows, reach, width, height = offsets
    for j in range(todo.size):
        first, last = max(span[0, j] - dy0, 0), min(span[1, j] - dy0, rows)
        if not todo[j] or last <= first:
            continue
        left = start + j * step
        normalise(
            lines, left * line + first * reach, mean, inverse, at + first * pitch + left * side, pitch, total[j], scale[j],
            last - first, reach, span[2, j] - dx0, span[3, j] - dx0,
            surface, (j * height + dy0 + first) * width + dx0, width, highest, j * height + dy0 + first,
        )  # fmt: skip
