"""The pass over a cell for chips with gaps: sums over the pixels that both images have (Padfield 2012)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from ftrack.kernels.boxes import FAINTEST, FLAT
from ftrack.kernels.chain import DOWN, FIRST, HEIGHT, RIGHT, SECOND, WIDTH
from ftrack.kernels.sweep import BACK, CHIP, LINE, MASK, RING, START, block_products, write_row
from ftrack.kernels.vectors import LANES, NONE

PLANES = 6
"""Sums that a chip with gaps needs: products, pairs, first and second moments of both images."""


class Gaps(NamedTuple):
    """Where the blocks and windows of a cell have pixels, bool (y, x), the least share of pairs, and room for sums, float64 (n,).

    The secondary begins at the cell's first offset; ``ring`` is the place of the rows that are looked back on.
    """

    r: np.ndarray
    s: np.ndarray
    least: float
    sums: np.ndarray
    ring: int


@njit(nogil=True, cache=True, error_model="numpy")
def sweep_gaps(numbers, shape, places, table, nodes, gaps, result):
    """Find the peaks of the nodes of one cell; see ``ftrack.kernels.sweep.sweep_cell``, ``result`` is (found, keep)."""
    side, rows, columns, parts, vectors = shape.side, shape.rows, shape.columns, shape.panels * shape.bands, shape.vectors
    reach = vectors * LANES
    line = shape.group * reach
    sums, block = gaps.sums, PLANES * line
    for i in range(rows):
        for k in range(nodes.todo.shape[0] * nodes.todo.shape[2] * shape.bands * shape.group):
            numbers[places.highest + k] = np.float32(NONE)
        for part in range(parts):
            dy0, dx0 = part // shape.panels * shape.group, part % shape.panels * reach
            for j in range(columns):
                if not nodes.needed[0, i, j]:
                    continue
                _multiply(numbers, (i, j, dy0, dx0), shape, places, nodes.levels, gaps, (j & table[0, MASK]) * block)
                for b in range(1, table.shape[0]):
                    left, top = j + 1 - table[b, WIDTH], i + 1 - table[b, HEIGHT]
                    if left < 0:
                        continue
                    first, second = table[b, FIRST], table[b, SECOND]
                    one = (table[first, LINE] + (left & table[first, MASK])) * block
                    other = (table[second, LINE] + (left + table[b, RIGHT] & table[second, MASK])) * block
                    out = (table[b, LINE] + (left & table[b, MASK])) * block
                    wanted = top >= 0 and nodes.needed[b, max(top, 0), left]
                    if table[b, DOWN] > 0:
                        above = i + 1 - table[first, HEIGHT]
                        ring = gaps.ring + (((table[b, RING] + i % table[b, BACK]) * parts + part) * columns + left) * block
                        if wanted or (above >= 0 and nodes.needed[first, above, left]):
                            _add(sums, ring, other, out, block)
                            _copy(sums, one, ring, block)
                    elif wanted:
                        _add(sums, one, other, out, block)
                    if wanted and table[b, CHIP] >= 0:
                        _score(numbers, sums[out : out + block], (b, top, left, dy0, dx0), shape, places, table, nodes, gaps.least)
        write_row(numbers, shape, places, table, nodes, i, result)


@njit(nogil=True, cache=True, error_model="numpy")
def _add(sums, a, b, out, n):
    for k in range(n):
        sums[out + k] = sums[a + k] + sums[b + k]


@njit(nogil=True, cache=True, error_model="numpy")
def _copy(sums, a, out, n):
    for k in range(n):
        sums[out + k] = sums[a + k]


@njit(nogil=True, cache=True, error_model="numpy")
def _multiply(numbers, at, shape, places, levels, gaps, out):
    """Sum the six planes of one block; both images are centred first, and put back in double precision."""
    i, j, dy0, dx0 = at
    side, reach, group = shape.side, shape.vectors * LANES, shape.group
    across, line = side + reach, shape.group * reach
    a, b = levels[0, i, j], levels[1, i, j]
    room, size = places.room + 3 * side * side, (side + group) * across
    _prepare(
        numbers, places.r + i * side * places.r_step + j * side, places.r_step, a, gaps.r[i * side :, j * side :], (side, side), places.room
    )
    s = places.s + (i * side + dy0) * places.s_step + j * side + dx0
    _prepare(numbers, s, places.s_step, b, gaps.s[i * side + dy0 :, j * side + dx0 :], (side + group, across), room)
    sums, n = gaps.sums, side * side
    for p in range(PLANES):
        which, against = (0, 2, 0, 1, 2, 2)[p], (0, 2, 2, 2, 0, 1)[p]
        block_products(numbers, places.room + which * n, side, room + against * size, across, side, shape.vectors, room + 3 * size)
        for d in range(line):
            sums[out + p * line + d] = numbers[room + 3 * size + d]
    for d in range(out, out + line):
        both, rm, ms = sums[d + line], sums[d + 2 * line], sums[d + 4 * line]
        sums[d] += a * ms + b * rm + a * b * both
        sums[d + 3 * line] += 2.0 * a * rm + a * a * both
        sums[d + 5 * line] += 2.0 * b * ms + b * b * both
        sums[d + 2 * line] = rm + a * both
        sums[d + 4 * line] = ms + b * both


@njit(nogil=True, cache=True, error_model="numpy")
def _prepare(numbers, at, step, level, valid, size, out):
    """Write values less their level, their squares, and where there are any; zero elsewhere."""
    rows, columns = size
    area = rows * columns
    for y in range(rows):
        for x in range(columns):
            k = out + y * columns + x
            value = np.float32((numbers[at + y * step + x] - level) * valid[y, x])
            numbers[k], numbers[k + area], numbers[k + 2 * area] = value, value * value, valid[y, x]


@njit(nogil=True, cache=True, error_model="numpy")
def _score(numbers, sums, at, shape, places, table, nodes, least):
    """Turn the sums of a chip into coefficients (Padfield 2012, eq. 27)."""
    b, top, left, dy0, dx0 = at
    c, down, right = table[b, CHIP], top - table[b, START], left - table[b, START]
    if down < 0 or right < 0 or down % shape.step or right % shape.step:
        return
    n, m = down // shape.step, right // shape.step
    if n >= nodes.todo.shape[1] or m >= nodes.todo.shape[2] or not nodes.todo[c, n, m]:
        return
    reach = shape.vectors * LANES
    line, width, height = shape.group * reach, shape.panels * reach + LANES, shape.bands * shape.group
    size = (table[b, WIDTH] * shape.side) ** 2
    x0, x1 = nodes.span[n, 2, m] - dx0, nodes.span[n, 3, m] - dx0
    for g in range(max(nodes.span[n, 0, m] - dy0, 0), min(nodes.span[n, 1, m] - dy0, shape.group)):
        row = (c * nodes.todo.shape[2] + m) * height + dy0 + g
        best = np.float32(NONE)
        for x in range(reach):
            k = g * reach + x
            score, pairs = np.float32(NONE), sums[k + line]
            if x0 <= x < x1 and pairs >= least * size:
                rm, ms = sums[k + 2 * line], sums[k + 4 * line]
                r, s = sums[k + 3 * line] - rm * rm / pairs, sums[k + 5 * line] - ms * ms / pairs
                flat = r <= FLAT * FLAT * sums[k + 3 * line] or s <= FLAT * FLAT * sums[k + 5 * line]
                if not flat and r > FAINTEST * pairs and s > FAINTEST * pairs:
                    score = np.float32((sums[k] - rm * ms / pairs) / np.sqrt(r * s))
            numbers[places.surface + LANES + row * width + dx0 + x] = score
            best = max(best, score)
        numbers[places.highest + row] = max(numbers[places.highest + row], best)
