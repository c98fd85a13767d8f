"""The pass over a cell for chips with gaps, in single precision: sums over the pixels that both images have (Padfield 2012)."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.boxes import FAINTEST, FLAT
from ftrack.kernels.chain import DOWN, FIRST, HEIGHT, RIGHT, SECOND, WIDTH
from ftrack.kernels.compiled import inner, shared
from ftrack.kernels.products import block_products
from ftrack.kernels.sliding import fill
from ftrack.kernels.strip import BACK, CHIP, LINE, MASK, RING, START
from ftrack.kernels.vectors import LANES, NONE, make_merge

PLANES = 6
"""Sums that a chip with gaps needs: products, pairs, first and second moments of both images."""

MIDDLE = 2.0
"""Sums in single precision keep their accuracy where both means are below this many standard deviations."""

_add, _push = (make_merge(push, False) for push in (False, True))


@shared
def advance_masked(numbers, shape, places, table, nodes, gaps, blocks, where):
    """Work through one row of the blocks of a strip at one part of the offsets, ``where`` = (row, part); see ``sum_blocks``."""
    i, part = where
    parts, reach, columns, none = shape.panels * shape.bands, shape.vectors * LANES, shape.columns, np.float32(0)
    needed, todo = nodes.needed, nodes.todo
    line = PLANES * shape.group * reach
    dy0, dx0 = part // shape.panels * shape.group, part % shape.panels * reach
    for j in range(columns):
        if not needed[0, i, j]:
            continue
        _multiply(numbers, (i, j, dy0, dx0), shape, places, gaps, blocks[:, i, j], places.lines + (j & table[0, MASK]) * line)
        for b in range(1, table.shape[0]):
            left, top = j + 1 - table[b, WIDTH], i + 1 - table[b, HEIGHT]
            if left < 0:
                continue
            first, second = table[b, FIRST], table[b, SECOND]
            one = places.lines + (table[first, LINE] + (left & table[first, MASK])) * line
            other = places.lines + (table[second, LINE] + (left + table[b, RIGHT] & table[second, MASK])) * line
            out = places.lines + (table[b, LINE] + (left & table[b, MASK])) * line
            wanted = top >= 0 and needed[b, max(top, 0), left]
            if table[b, DOWN] > 0:
                above = i + 1 - table[first, HEIGHT]
                ring = places.ring + (((table[b, RING] + i % table[b, BACK]) * parts + part) * columns + left) * line
                if wanted or (above >= 0 and needed[first, above, left]):
                    _push(numbers, ring, other, out, one, none, one, 0, 1, line)
            elif wanted:
                _add(numbers, one, other, out, one, none, one, 0, 1, line)
            c, down, right = table[b, CHIP], top - table[b, START], left - table[b, START]
            if not wanted or c < 0 or down < 0 or right < 0 or down % shape.step or right % shape.step:
                continue
            n, m = down // shape.step, right // shape.step
            if n < todo.shape[1] and m < todo.shape[2] and todo[c, n, m]:
                least = max(np.ceil(gaps.least * (table[b, WIDTH] * shape.side) ** 2), 1.0)
                _score(numbers, (out, c, n, m, dy0, dx0), shape, places, nodes, gaps.far, np.float32(least))


@inner
def _multiply(numbers, at, shape, places, gaps, block, out):
    """Sum the six planes of one block; where either image has no gap, the same sums are known already."""
    i, j, dy0, dx0 = at
    side, reach, group, full = shape.side, shape.vectors * LANES, shape.group, np.float32(shape.side * shape.side)
    line, plane = group * reach, places.height * places.pitch
    r = places.r + i * side * places.r_step + j * side
    s = places.s + (i * side + dy0) * places.s_step + j * side + dx0
    place = places.blocks + (i * side + dy0) * places.pitch + j * side + dx0
    least, most = _extremes(numbers, place, places.pitch, (group, reach))
    if most == 0 or block[0] == 0:
        fill(numbers, out, PLANES * line, np.float32(0))
        return
    for p in range(PLANES):
        which, against = (0, 1, 0, 2, 1, 1)[p], (0, 1, 1, 1, 0, 2)[p]
        if against == 1 and least == full:
            fill(numbers, out + p * line, line, block[(1, 0, 1, 2, 0, 0)[p]])
        elif which == 1 and block[0] == full:
            _copy(numbers, place + (0, 0, 0, 0, 1, 2)[p] * plane, places.pitch, (group, reach), out + p * line)
        else:
            r_at, s_at = r + which * gaps.r, s + against * gaps.s
            block_products(numbers, r_at, places.r_step, numbers, s_at, places.s_step, side, shape.vectors, numbers, out + p * line)


@shared
def sum_blocks(numbers, shape, places, nodes, gaps, blocks):
    """Sum valid pixels, values and squares of every block of the reference, in the order of the products: float32 (3, row, column)."""
    side, zero = shape.side, np.float32(0)
    rows = 8 if side % 8 == 0 else 4 if side % 4 == 0 else 1
    for i in range(shape.rows):
        for j in range(shape.columns):
            if nodes.needed[0, i, j]:
                n, a, b = zero, zero, zero
                for down in range(0, side, rows):
                    for x in range(side):
                        for y in range(rows):
                            at = places.r + (i * side + down + y) * places.r_step + j * side + x
                            n, a, b = n + numbers[at + gaps.r], a + numbers[at], b + numbers[at + 2 * gaps.r]
                blocks[0, i, j], blocks[1, i, j], blocks[2, i, j] = n, a, b


@shared
def extend_planes(numbers, shape, places, nodes, gaps, where):
    """Sum the same of the secondary's blocks at every place that row ``i`` of the blocks is compared with, ``where`` = (i, first row)."""
    i, y = where
    side, reach, group, some = shape.side, shape.vectors * LANES, shape.group, False
    for j in range(shape.columns):
        some |= nodes.needed[0, i, j]
    if not some:
        return y
    y = max(y, i * side)
    last, width = i * side + shape.bands * group, (shape.columns - 1) * side + shape.panels * reach
    ones, tile, plane = places.room, places.room + side * side, places.height * places.pitch
    fill(numbers, ones, side * side, np.float32(1))
    while y < last:
        rows = min(group, last - y)
        for x in range(0, width, reach):
            for k in range(3):
                s = places.s + y * places.s_step + x + (1, 0, 2)[k] * gaps.s
                block_products(numbers, ones, side, numbers, s, places.s_step, side, shape.vectors, numbers, tile)
                out = places.blocks + k * plane + y * places.pitch + x
                for row in range(rows):
                    _copy(numbers, tile + row * reach, reach, (1, min(reach, width - x)), out + row * places.pitch)
        y += rows
    return last


@inner
def _score(numbers, at, shape, places, nodes, far, fewest):
    """Turn the sums of a chip into coefficients, and say where single precision is not enough for them."""
    out, c, n, m, dy0, dx0 = at
    reach, span = shape.vectors * LANES, nodes.span
    line, width, height = shape.group * reach, shape.panels * reach + LANES, shape.bands * shape.group
    x0, x1 = max(span[n, 2, m] - dx0, 0), min(span[n, 3, m] - dx0, reach)
    for g in range(max(span[n, 0, m] - dy0, 0), min(span[n, 1, m] - dy0, shape.group)):
        row = (c * nodes.todo.shape[2] + m) * height + dy0 + g
        target = np.uintp(places.surface + LANES + row * width + dx0)
        for x in range(np.uintp(reach)):
            numbers[target + x] = np.float32(NONE)
        if x1 > x0:
            best, lost = _normalise(numbers, (out + g * reach + x0, line, x1 - x0), fewest, target + np.uintp(x0))
            numbers[places.highest + row] = max(numbers[places.highest + row], best)
            if lost:
                far[c, n, m] = True


# Places that are unsigned need no check for being counted from the end, so these loops run in vectors.


@shared
def _copy(numbers, at, step, size, out):
    for y in range(size[0]):
        source, target = np.uintp(at + y * step), np.uintp(out + y * size[1])
        for x in range(np.uintp(size[1])):
            numbers[target + x] = numbers[source + x]


@inner
def _extremes(numbers, at, step, size):
    least, most = numbers[at], numbers[at]
    for y in range(size[0]):
        source = np.uintp(at + y * step)
        for x in range(np.uintp(size[1])):
            least, most = min(least, numbers[source + x]), max(most, numbers[source + x])
    return least, most


@shared
def _normalise(numbers, at, fewest, out):
    """Turn one row of the six sums into coefficients (Padfield 2012, eq. 27); return the highest, and whether a mean is too large."""
    rs, line, n = np.uintp(at[0]), np.uintp(at[1]), np.uintp(at[2])
    both, rm, rrm, ms, mss = rs + line, rs + line + line, rs + np.uintp(3) * line, rs + np.uintp(4) * line, rs + np.uintp(5) * line
    one, none, faintest, flat = np.float32(1), np.float32(NONE), np.float32(FAINTEST), np.float32(FLAT * FLAT)
    most, lost = np.float32(MIDDLE * MIDDLE), 0
    for x in range(n):
        pairs, r1, r2, s1, s2 = numbers[both + x], numbers[rm + x], numbers[rrm + x], numbers[ms + x], numbers[mss + x]
        share = one / max(pairs, one)
        r_mean, s_mean = r1 * share, s1 * share
        r, s = r2 - r1 * r_mean, s2 - s1 * s_mean
        enough = pairs >= fewest
        lost += enough & ((r1 * r_mean > most * r) | (s1 * s_mean > most * s))
        fine = enough & (r > flat * r2) & (s > flat * s2) & (r > faintest * pairs) & (s > faintest * pairs)
        score = (numbers[rs + x] - r1 * s_mean) / np.sqrt(r if fine else one) / np.sqrt(s if fine else one)
        numbers[out + x] = score if fine else none
    best = none
    for x in range(n):
        best = max(best, numbers[out + x])
    return best, lost > 0
