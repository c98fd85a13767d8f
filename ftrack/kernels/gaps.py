"""The pass over a cell for chips with gaps: sums over the pixels that both images have (Padfield 2012)."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.boxes import FAINTEST, FLAT
from ftrack.kernels.chain import DOWN, FIRST, HEIGHT, RIGHT, SECOND, WIDTH
from ftrack.kernels.compiled import inner, shared
from ftrack.kernels.products import block_products
from ftrack.kernels.strip import BACK, CHIP, LINE, MASK, RING, START
from ftrack.kernels.vectors import LANES, NONE

PLANES = 6
"""Sums that a chip with gaps needs: products, pairs, first and second moments of both images."""


SMALL = 4
"""Blocks of a side below this are summed in double precision: chips may hold few pixels that differ little among themselves."""

LOST = 3e-6
"""A spread below this share of the power of centred pixels is lost in the rounding of single precision."""


@shared
def advance_gaps(numbers, shape, places, table, nodes, gaps, where):
    """Work through one row of the blocks of a strip at one part of the offsets, ``where`` = (row, part)."""
    i, part = where
    parts, reach, columns = shape.panels * shape.bands, shape.vectors * LANES, shape.columns
    needed, todo, sums = nodes.needed, nodes.todo, gaps.sums
    block = PLANES * shape.group * reach
    dy0, dx0 = part // shape.panels * shape.group, part % shape.panels * reach
    for j in range(columns):
        if not needed[0, i, j]:
            continue
        if shape.side < SMALL:
            _multiply_exactly(numbers, (i, j, dy0, dx0), shape, places, gaps, (j & table[0, MASK]) * block)
        else:
            _multiply(numbers, (i, j, dy0, dx0), shape, places, nodes.levels, gaps, (j & table[0, MASK]) * block)
        for b in range(1, table.shape[0]):
            left, top = j + 1 - table[b, WIDTH], i + 1 - table[b, HEIGHT]
            if left < 0:
                continue
            first, second = table[b, FIRST], table[b, SECOND]
            one = (table[first, LINE] + (left & table[first, MASK])) * block
            other = (table[second, LINE] + (left + table[b, RIGHT] & table[second, MASK])) * block
            out = (table[b, LINE] + (left & table[b, MASK])) * block
            wanted = top >= 0 and needed[b, max(top, 0), left]
            if table[b, DOWN] > 0:
                above = i + 1 - table[first, HEIGHT]
                ring = gaps.ring + (((table[b, RING] + i % table[b, BACK]) * parts + part) * columns + left) * block
                if wanted or (above >= 0 and needed[first, above, left]):
                    _add(sums, ring, other, out, block)
                    _copy(sums, one, ring, block)
            elif wanted:
                _add(sums, one, other, out, block)
            c, down, right = table[b, CHIP], top - table[b, START], left - table[b, START]
            if not wanted or c < 0 or down < 0 or right < 0 or down % shape.step or right % shape.step:
                continue
            n, m = down // shape.step, right // shape.step
            if n < todo.shape[1] and m < todo.shape[2] and todo[c, n, m]:
                least = gaps.least * (table[b, WIDTH] * shape.side) ** 2
                _score(numbers, sums, (out, c, n, m, dy0, dx0), shape, places, nodes, least)


# Places that are unsigned need no check for being counted from the end, so these loops run in vectors.


@inner
def _add(sums, a, b, out, n):
    a, b, out = np.uintp(a), np.uintp(b), np.uintp(out)
    for k in range(np.uintp(n)):
        sums[out + k] = sums[a + k] + sums[b + k]


@inner
def _copy(sums, a, out, n):
    a, out = np.uintp(a), np.uintp(out)
    for k in range(np.uintp(n)):
        sums[out + k] = sums[a + k]


@inner
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
    _put_back(numbers, plane, line, np.float64(a), np.float64(b), gaps.sums, out)


@inner
def _multiply_exactly(numbers, at, shape, places, gaps, out):
    """Sum the six planes of one small block in double precision."""
    i, j, dy0, dx0 = at
    side, reach, group = shape.side, np.uintp(shape.vectors * LANES), shape.group
    line = np.uintp(group) * reach
    for k in range(np.uintp(PLANES) * line):
        gaps.sums[np.uintp(out) + k] = 0.0
    for y in range(side):
        for x in range(side):
            r = places.r + (i * side + y) * places.r_step + j * side + x
            value, valid = np.float64(numbers[r]), np.float64(numbers[r + gaps.r])
            for g in range(group):
                s = np.uintp(places.s + (i * side + y + dy0 + g) * places.s_step + j * side + x + dx0)
                mask, target = s + np.uintp(gaps.s), np.uintp(out) + np.uintp(g) * reach
                for k in range(reach):
                    gaps.sums[target + k] += value * np.float64(numbers[s + k])
                target += line
                for k in range(reach):
                    gaps.sums[target + k] += valid * np.float64(numbers[mask + k])
                target += line
                for k in range(reach):
                    gaps.sums[target + k] += value * np.float64(numbers[mask + k])
                target += line
                for k in range(reach):
                    gaps.sums[target + k] += value * value * np.float64(numbers[mask + k])
                target += line
                for k in range(reach):
                    gaps.sums[target + k] += valid * np.float64(numbers[s + k])
                target += line
                for k in range(reach):
                    gaps.sums[target + k] += valid * np.float64(numbers[s + k]) * np.float64(numbers[s + k])


@inner
def _put_back(numbers, at, n, a, b, sums, out):
    """Turn the six sums of centred values into those of the values themselves; ``a`` and ``b`` are what was taken out."""
    rs, both, rm, rrm, ms, mss = at, at + n, at + 2 * n, at + 3 * n, at + 4 * n, at + 5 * n
    _combine(numbers, (rs, ms, rm, both), (a, b, a * b), sums, out, n)
    _combine(numbers, (both, both, both, both), (0.0, 0.0, 0.0), sums, out + n, n)
    _combine(numbers, (rm, both, both, both), (a, 0.0, 0.0), sums, out + 2 * n, n)
    _combine(numbers, (rrm, rm, both, both), (2.0 * a, a * a, 0.0), sums, out + 3 * n, n)
    _combine(numbers, (ms, both, both, both), (b, 0.0, 0.0), sums, out + 4 * n, n)
    _combine(numbers, (mss, ms, both, both), (2.0 * b, b * b, 0.0), sums, out + 5 * n, n)


@inner
def _combine(numbers, at, factors, sums, out, n):
    p, q, r, s, out = np.uintp(at[0]), np.uintp(at[1]), np.uintp(at[2]), np.uintp(at[3]), np.uintp(out)
    u, v, w = factors
    for k in range(np.uintp(n)):
        sums[out + k] = numbers[p + k] + u * numbers[q + k] + v * numbers[r + k] + w * numbers[s + k]


@inner
def _prepare(numbers, at, step, valid, level, size, out):
    """Write values less their level, their squares, and where there are any; zero elsewhere."""
    rows, columns = size
    for y in range(rows):
        a, m = np.uintp(at + y * step), np.uintp(valid + y * step)
        one, two, three = np.uintp(out + y * columns), np.uintp(out + (rows + y) * columns), np.uintp(out + (2 * rows + y) * columns)
        for x in range(np.uintp(columns)):
            numbers[one + x] = (numbers[a + x] - level) * numbers[m + x]
        for x in range(np.uintp(columns)):
            numbers[two + x] = numbers[one + x] * numbers[one + x]
        for x in range(np.uintp(columns)):
            numbers[three + x] = numbers[m + x]


@inner
def _score(numbers, sums, at, shape, places, nodes, least):
    """Turn the sums of a chip into coefficients; ``least`` is how many pairs an offset needs."""
    out, c, n, m, dy0, dx0 = at
    reach, span = shape.vectors * LANES, nodes.span
    line, width, height = shape.group * reach, shape.panels * reach + LANES, shape.bands * shape.group
    levels = np.float64(nodes.scale[c, n, m]), np.float64(nodes.total[c, n, m])
    x0, x1 = max(span[n, 2, m] - dx0, 0), min(span[n, 3, m] - dx0, reach)
    for g in range(max(span[n, 0, m] - dy0, 0), min(span[n, 1, m] - dy0, shape.group)):
        row = (c * nodes.todo.shape[2] + m) * height + dy0 + g
        target = np.uintp(places.surface + LANES + row * width + dx0)
        for x in range(np.uintp(reach)):
            numbers[target + x] = np.float32(NONE)
        if x1 > x0:
            best = _normalise(sums, (out + g * reach + x0, line, x1 - x0), max(least, 1.0), levels, numbers, target + np.uintp(x0))
            numbers[places.highest + row] = max(numbers[places.highest + row], best)


@inner
def _normalise(sums, at, fewest, levels, numbers, out):
    """Turn one row of the six sums into coefficients (Padfield 2012, eq. 27); return the highest.

    There is none where the spread is lost in the rounding of the sums, which were formed about ``levels``.
    """
    rs, line, n = np.uintp(at[0]), np.uintp(at[1]), np.uintp(at[2])
    both, rm, rrm, ms, mss = rs + line, rs + line + line, rs + np.uintp(3) * line, rs + np.uintp(4) * line, rs + np.uintp(5) * line
    a, b = levels
    for x in range(n):
        pairs, r1, r2, s1, s2 = sums[both + x], sums[rm + x], sums[rrm + x], sums[ms + x], sums[mss + x]
        share = 1.0 / max(pairs, 1.0)
        r, s = r2 - r1 * r1 * share, s2 - s1 * s1 * share
        r_power, s_power = r2 - a * (2.0 * r1 - a * pairs), s2 - b * (2.0 * s1 - b * pairs)
        least = FAINTEST * pairs
        fine = (pairs >= fewest) & (r > LOST * r_power + least) & (s > LOST * s_power + least)
        fine &= (r > FLAT * FLAT * r2) & (s > FLAT * FLAT * s2)
        score = (sums[rs + x] - r1 * s1 * share) / np.sqrt(r * s if fine else 1.0)
        numbers[out + x] = np.float32(score) if fine else np.float32(NONE)
    best = np.float32(NONE)
    for x in range(n):
        best = max(best, numbers[out + x])
    return best
