"""The pass over a cell for chips with gaps: sums over the pixels that both images have (Padfield 2012)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from ftrack.kernels.boxes import FAINTEST, FLAT
from ftrack.kernels.chain import DOWN, FIRST, HEIGHT, RIGHT, SECOND, WIDTH
from ftrack.kernels.sweep import BACK, CHIP, LINE, MASK, RING, START, block_products, clear_tails, write_row
from ftrack.kernels.vectors import LANES, NONE

PLANES = 6
"""Sums that a chip with gaps needs: products, pairs, first and second moments of both images."""


LOST = 3e-6
"""A spread below this share of the power of centred pixels is lost in the rounding of single precision."""


class Gaps(NamedTuple):
    """Where the images have pixels, the least share of pairs, and room for sums, float64 (n,).

    ``r`` and ``s`` are how far behind each pixel of the images stands whether it is valid, 1 or 0; ``ring`` is the
    place of the rows that are looked back on.
    """

    r: int
    s: int
    least: float
    sums: np.ndarray
    ring: int


@njit(nogil=True, cache=True, error_model="numpy")
def sweep_gaps(numbers, shape, places, table, nodes, gaps, result):
    """Find the peaks of the nodes of one cell; see ``ftrack.kernels.sweep.sweep_cell``, ``result`` is (found, keep)."""
    rows, columns, parts = shape.rows, shape.columns, shape.panels * shape.bands
    reach = shape.vectors * LANES
    line = shape.group * reach
    sums, block = gaps.sums, PLANES * line
    clear_tails(numbers, shape, places, nodes.todo.shape[0] * nodes.todo.shape[2])
    for i in range(rows):
        numbers[places.highest : places.highest + nodes.todo.shape[0] * nodes.todo.shape[2] * shape.bands * shape.group] = np.float32(NONE)
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
                            _add(sums[ring : ring + block], sums[other : other + block], sums[out : out + block])
                            _copy(sums[one : one + block], sums[ring : ring + block])
                    elif wanted:
                        _add(sums[one : one + block], sums[other : other + block], sums[out : out + block])
                    if wanted and table[b, CHIP] >= 0:
                        _score(numbers, sums, out, (b, top, left, dy0, dx0), shape, places, table, nodes, gaps.least)
        write_row(numbers, shape, places, table, nodes, i, result)


@njit(nogil=True, cache=True, error_model="numpy")
def _add(a, b, out):
    for k in range(out.size):
        out[k] = a[k] + b[k]


@njit(nogil=True, cache=True, error_model="numpy")
def _copy(a, out):
    for k in range(out.size):
        out[k] = a[k]


@njit(nogil=True, cache=True, error_model="numpy")
def _multiply(numbers, at, shape, places, levels, gaps, out):
    """Sum the six planes of one block; both images are centred first, and put back in double precision."""
    i, j, dy0, dx0 = at
    side, reach, group = shape.side, shape.vectors * LANES, shape.group
    across, line = side + reach, shape.group * reach
    a, b = np.float32(levels[0, i, j]), np.float32(levels[1, i, j])
    room, n, size = places.room + 3 * side * side, side * side, (side + group) * across
    r = places.r + i * side * places.r_step + j * side
    s = places.s + (i * side + dy0) * places.s_step + j * side + dx0
    _prepare(numbers, r, places.r_step, r + gaps.r, a, (side, side), places.room)
    _prepare(numbers, s, places.s_step, s + gaps.s, b, (side + group, across), room)
    plane = room + 3 * size
    for p in range(PLANES):
        which, against = (0, 2, 0, 1, 2, 2)[p], (0, 2, 2, 2, 0, 1)[p]
        block_products(
            numbers, places.room + which * n, side, numbers, room + against * size, across, side, shape.vectors, numbers, plane + p * line
        )
    _put_back(numbers[plane : plane + PLANES * line], np.float64(a), np.float64(b), gaps.sums[out : out + PLANES * line])


@njit(nogil=True, cache=True, error_model="numpy")
def _put_back(centred, a, b, out):
    """Turn the six sums of centred values into those of the values themselves; ``a`` and ``b`` are what was taken out."""
    n = out.size // PLANES
    rs, both, rm, rrm, ms, mss = centred[:n], centred[n:], centred[2 * n :], centred[3 * n :], centred[4 * n :], centred[5 * n :]
    _combine(rs, a, ms, b, rm, a * b, both, out[:n])
    _combine(both, 0.0, both, 0.0, both, 0.0, both, out[n : 2 * n])
    _combine(rm, 0.0, rm, 0.0, rm, a, both, out[2 * n : 3 * n])
    _combine(rrm, 0.0, rm, 2.0 * a, rm, a * a, both, out[3 * n : 4 * n])
    _combine(ms, 0.0, ms, 0.0, ms, b, both, out[4 * n : 5 * n])
    _combine(mss, 0.0, ms, 2.0 * b, ms, b * b, both, out[5 * n :])


@njit(nogil=True, cache=True, error_model="numpy")
def _combine(first, u, second, v, third, w, fourth, out):
    for d in range(out.size):
        out[d] = first[d] + u * second[d] + v * third[d] + w * fourth[d]


@njit(nogil=True, cache=True, error_model="numpy")
def _prepare(numbers, at, step, valid, level, size, out):
    """Write values less their level, their squares, and where there are any; zero elsewhere."""
    rows, columns = size
    area = rows * columns
    for y in range(rows):
        a, m, k = at + y * step, valid + y * step, out + y * columns
        _prepare_row(
            numbers[a : a + columns], numbers[m : m + columns], level,
            numbers[k : k + columns], numbers[k + area : k + area + columns], numbers[k + 2 * area : k + 2 * area + columns],
        )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy")
def _prepare_row(values, valid, level, centred, squared, present):
    for x in range(valid.size):
        centred[x] = (values[x] - level) * valid[x]
    for x in range(valid.size):
        squared[x] = centred[x] * centred[x]
    for x in range(valid.size):
        present[x] = valid[x]


@njit(nogil=True, cache=True, error_model="numpy")
def _score(numbers, sums, out, at, shape, places, table, nodes, least):
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
    fewest = max(least * (table[b, WIDTH] * shape.side) ** 2, 1.0)
    x0, x1 = max(nodes.span[n, 2, m] - dx0, 0), min(nodes.span[n, 3, m] - dx0, reach)
    for g in range(max(nodes.span[n, 0, m] - dy0, 0), min(nodes.span[n, 1, m] - dy0, shape.group)):
        row = (c * nodes.todo.shape[2] + m) * height + dy0 + g
        target, k = places.surface + LANES + row * width + dx0, out + g * reach
        line_of = numbers[target : target + reach]
        for x in range(reach):
            line_of[x] = np.float32(NONE)
        if x1 > x0:
            levels = np.float64(nodes.scale[c, n, m]), np.float64(nodes.total[c, n, m])
            best = _normalise(sums[k + x0 :], line, fewest, levels, numbers[target + x0 : target + x1])
            numbers[places.highest + row] = max(numbers[places.highest + row], best)


@njit(nogil=True, cache=True, error_model="numpy")
def _normalise(sums, line, fewest, levels, out):
    """Turn one row of the six sums into coefficients; return the highest.

    There is none where the spread is lost in the rounding of the sums, which were formed less about ``levels``.
    """
    rs, both, rm, rrm, ms, mss = sums, sums[line:], sums[2 * line :], sums[3 * line :], sums[4 * line :], sums[5 * line :]
    a, b = levels
    for x in range(out.size):
        share = 1.0 / max(both[x], 1.0)
        r, s = rrm[x] - rm[x] * rm[x] * share, mss[x] - ms[x] * ms[x] * share
        r_power, s_power = rrm[x] - a * (2.0 * rm[x] - a * both[x]), mss[x] - b * (2.0 * ms[x] - b * both[x])
        least = FAINTEST * both[x]
        fine = (both[x] >= fewest) & (r > LOST * r_power + least) & (s > LOST * s_power + least)
        fine &= (r > FLAT * FLAT * rrm[x]) & (s > FLAT * FLAT * mss[x])
        score = (rs[x] - rm[x] * ms[x] * share) / np.sqrt(r * s if fine else 1.0)
        out[x] = np.float32(score) if fine else np.float32(NONE)
    best = np.float32(NONE)
    for x in range(out.size):
        best = max(best, out[x])
    return best
