"""Chips that the rim of the imagery cuts: what both images have is a rectangle, so only products need the shared sums."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.boxes import FAINTEST, FLAT, LEVEL
from ftrack.kernels.chain import HEIGHT
from ftrack.kernels.compiled import compiled, inner, shared
from ftrack.kernels.strip import CHIP, START
from ftrack.kernels.vectors import LANES

ROOM = 9
"""Rows of numbers that the moments of a chip need."""

LOST = 1e-10
"""A spread below this share of the power of all pixels looked at may be lost in differences of sums."""


@compiled
def find_rectangles(r_total, s_total, layout, span, some, gaps, rims):
    """Find the chips that have gaps in their pixels or in those they are compared with, and whether what is valid is a rectangle.

    Parameters
    ----------
    r_total, s_total : int32 (y + 1, x + 1)
        How many valid pixels lie above and to the left of every corner.
    layout : (far, side, step, counts, starts)
        The secondary begins ``far`` px above and left of the reference; for the others see ``ftrack.kernels.layout.Layout``.
    span : int64 (row, 4, column)
        First and last row and first and last column of every window, px.
    some : bool (chip, row, column)
        Chips to look at.
    gaps : bool (chip, row, column)
        Result.
    rims : int32 (chip, row, column, 8)
        Result: first and last row and first and last column of the valid pixels in the chip, and of those in the
        secondary, counted from the chip's first pixel. Chips without gaps, or with others, are left as they are.
    """
    far, side, step, counts, starts = layout
    for c in range(some.shape[0]):
        size = side * counts[c]
        for i in range(some.shape[1]):
            for j in range(some.shape[2]):
                if not some[c, i, j]:
                    continue
                y, x = side * (starts[c] + i * step), side * (starts[c] + j * step)
                v, u = y + far, x + far
                top, bottom, left, right = v + span[i, 0, j], v + span[i, 1, j] - 1 + size, u + span[i, 2, j], u + span[i, 3, j] - 1 + size
                own, others = _count(r_total, y, y + size, x, x + size), _count(s_total, top, bottom, left, right)
                gaps[c, i, j] = own < size * size or others < (bottom - top) * (right - left)
                if gaps[c, i, j] and own > 0 and others > 0:
                    a = _bounds(r_total, y, y + size, x, x + size)
                    b = _bounds(s_total, top, bottom, left, right)
                    if own == (a[1] - a[0]) * (a[3] - a[2]) and others == (b[1] - b[0]) * (b[3] - b[2]):
                        for k in range(4):
                            rims[c, i, j, k] = a[k] - (y, y, x, x)[k]
                            rims[c, i, j, 4 + k] = b[k] - (v, v, u, u)[k]


@compiled
def find_bounds(image):
    """Return first and last row and first and last column of the smallest rectangle that holds all numbers, zeros if there are none."""
    top, bottom, left, right = 0, image.shape[0], 0, image.shape[1]
    while top < bottom and not _any_number(image[top]):
        top += 1
    if top == bottom:
        return 0, 0, 0, 0
    while not _any_number(image[bottom - 1]):
        bottom -= 1
    while not _any_number(image[top:bottom, left]):
        left += 1
    while not _any_number(image[top:bottom, right - 1]):
        right -= 1
    return top, bottom, left, right


@inner
def _any_number(values):
    k = 0
    while k < values.size and np.isnan(values[k]):
        k += 1
    return k < values.size


@inner
def _count(total, top, bottom, left, right):
    return total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]


@shared
def _bounds(total, top, bottom, left, right):
    """Return the smallest rectangle that holds all valid pixels of one that has some."""
    while _count(total, top, top + 1, left, right) == 0:
        top += 1
    while _count(total, bottom - 1, bottom, left, right) == 0:
        bottom -= 1
    while _count(total, top, bottom, left, left + 1) == 0:
        left += 1
    while _count(total, top, bottom, right - 1, right) == 0:
        right -= 1
    return top, bottom, left, right


@inner
def fill_rims(numbers, shape, places, table, nodes, gaps, i):
    """Write what turns the sums of products of cut chips into coefficients, for all whose last row of blocks is row ``i``.

    The coefficient is (sum - A) B; A and B of every offset lie at ``places.rims``, (chip, column, 2, row, column of offsets).
    """
    height, width = shape.bands * shape.group, shape.panels * shape.vectors * LANES
    for b in range(1, table.shape[0]):
        c, above = table[b, CHIP], i + 1 - table[b, HEIGHT] - table[b, START]
        if c < 0 or above < 0 or above % shape.step or above // shape.step >= nodes.todo.shape[1]:
            continue
        n, size = above // shape.step, table[b, HEIGHT] * shape.side
        room = np.empty((ROOM, 0))
        for m in range(nodes.todo.shape[2]):
            if not nodes.todo[c, n, m] or nodes.rims[c, n, m, 1] == 0:
                continue
            if room.size == 0:
                room = np.empty((ROOM, size + width + 1))
            y, x = above + table[b, START], m * shape.step + table[b, START]
            y, x = y * shape.side, x * shape.side
            at = (places.r + y * places.r_step + x, places.s + y * places.s_step + x)
            box = places.mean + (c * places.height + y) * places.pitch + x, places.inverse + (c * places.height + y) * places.pitch + x
            out = places.rims + 2 * (c * nodes.todo.shape[2] + m) * height * width
            fewest = max(np.ceil(gaps.least * size * size), 1.0)
            plain = (*box, places.pitch, nodes.total[c, n, m], nodes.scale[c, n, m])
            steps, moved = (places.r_step, places.s_step, size, fewest), (shape.dy, shape.dx)
            if _fill_rim(numbers, at, steps, nodes.rims[c, n, m], moved, nodes.span[n, :, m], plain, (out, height, width), room):
                gaps.far[c, n, m] = True


@shared
def _fill_rim(numbers, at, steps, rims, moved, span, plain, target, room):
    """Write A and B of one chip; return whether single precision is not enough for it."""
    r_step, s_step, size, fewest = steps
    out, height, width = target
    r0, r1, c0, c1 = rims[0], rims[1], rims[2], rims[3]
    s0, s1, t0, t1 = rims[4] - moved[0], rims[5] - moved[0], rims[6] - moved[1], rims[7] - moved[1]
    whole = r0 == 0 and c0 == 0 and r1 == size and c1 == size
    power, lost, last, edges = np.zeros(2), False, -2, (0, 0, 0, 0)
    for y in range(span[0], span[1]):
        top, bottom = max(r0, s0 - y), min(r1, s1 - y)
        left, right = span[2], span[3]
        mean, inverse = out + y * width, out + (height + y) * width
        if whole and top == r0 and bottom == r1:
            if t0 <= left:
                left = max(left, t1 - size + 1)
            elif t1 - size >= right - 1:
                right = min(right, t0)
            _copy_plain(numbers, plain, y, (span[2], left), (mean, inverse))
            _copy_plain(numbers, plain, y, (right, span[3]), (mean, inverse))
        count = right - left
        if count <= 0:
            continue
        if bottom <= top:
            _clear(numbers, (mean + left, inverse + left), count)
            continue
        if edges != (top, bottom, left, right):
            power[0] = _sum_reference(numbers, at[0], r_step, (top, bottom, c0, c1), (t0, t1, left, count), room)
        fresh = last != y - 1 or edges[2:] != (left, right)
        edges, last = (top, bottom, left, right), y
        power[1] = _sum_secondary(numbers, at[1] + y * s_step + left, s_step, (r0, r1, c0, c1), fresh, count, power[1], room)
        lost |= _combine(room, power, (c1 - c0, count, fewest), numbers, (mean + left, inverse + left))
    return lost


@inner
def _copy_plain(numbers, plain, y, columns, out):
    """Write A and B where all pixels are valid."""
    mean, inverse, pitch, total, scale = plain
    if columns[1] > columns[0]:
        a, b = np.uintp(mean + y * pitch + columns[0]), np.uintp(inverse + y * pitch + columns[0])
        p, q = np.uintp(out[0] + columns[0]), np.uintp(out[1] + columns[0])
        for x in range(np.uintp(columns[1] - columns[0])):
            numbers[p + x] = total * numbers[a + x]
            numbers[q + x] = scale * numbers[b + x]


@inner
def _clear(numbers, out, count):
    p, q = np.uintp(out[0]), np.uintp(out[1])
    for x in range(np.uintp(count)):
        numbers[p + x] = np.float32(0)
        numbers[q + x] = np.float32(0)


@inner
def _sum_reference(numbers, at, step, chip, offsets, room):
    """Fill number, sum and sum of squares of the pixels of the reference that are compared, for every offset of a row."""
    top, bottom, c0, c1 = chip
    first, last, left, count = offsets
    one, two = room[5], room[6]
    one[: c1 + 1], two[: c1 + 1] = 0.0, 0.0
    for y in range(top, bottom):
        row = np.uintp(at + y * step + c0)
        a, b = one[c0 + 1 : c1 + 1], two[c0 + 1 : c1 + 1]
        for x in range(np.uintp(c1 - c0)):
            value = np.float64(numbers[row + x])
            a[x] += value
            b[x] += value * value
    for x in range(c0, c1):
        one[x + 1] += one[x]
        two[x + 1] += two[x]
    for k in range(count):
        low, high = max(c0, first - left - k), min(c1, last - left - k)
        high = max(low, high)
        room[2, k], room[3, k], room[4, k] = (bottom - top) * (high - low), one[high] - one[low], two[high] - two[low]
    return two[c1]


@inner
def _sum_secondary(numbers, at, step, chip, fresh, count, power, room):
    """Fill running sums of the secondary's pixels and squares along a row of offsets; return the largest power seen."""
    r0, r1, c0, c1 = chip
    width = np.uintp(c1 - c0 + count - 1)
    a, b = room[0], room[1]
    if fresh:
        a[:width], b[:width] = 0.0, 0.0
    else:
        gone = np.uintp(at + (r0 - 1) * step + c0)
        for x in range(width):
            value = np.float64(numbers[gone + x])
            a[x] -= value
            b[x] -= value * value
    for y in range(r0 if fresh else r1 - 1, r1):
        row = np.uintp(at + y * step + c0)
        for x in range(width):
            value = np.float64(numbers[row + x])
            a[x] += value
            b[x] += value * value
    one, two = room[7], room[8]
    one[0], two[0] = 0.0, 0.0
    for x in range(width):
        one[x + 1] = one[x] + a[x]
        two[x + 1] = two[x] + b[x]
    return max(power, two[width])


@inner
def _combine(room, power, sizes, numbers, out):
    """Write A and B of a row of offsets (Padfield 2012, eq. 27); return whether a mean is too large or a spread is lost."""
    width, count, fewest = sizes
    pixels, r_sum, r_square = room[2], room[3], room[4]
    s_sum, s_square, s_sum_after, s_square_after = room[7], room[8], room[7, width:], room[8, width:]
    p, q, lost = np.uintp(out[0]), np.uintp(out[1]), 0
    r_least, s_least = LOST * power[0], LOST * power[1]
    for x in range(np.uintp(count)):
        n, r1, r2 = pixels[x], r_sum[x], r_square[x]
        s1, s2 = s_sum_after[x] - s_sum[x], s_square_after[x] - s_square[x]
        share = 1.0 / max(n, 1.0)
        r_mean, s_mean = r1 * share, s1 * share
        r, s = r2 - r1 * r_mean, s2 - s1 * s_mean
        enough = n >= fewest
        lost += enough & ((r1 * r_mean > LEVEL * LEVEL * r) | (s1 * s_mean > LEVEL * LEVEL * s) | (r < r_least) | (s < s_least))
        fine = enough & (r > FLAT * FLAT * r2) & (s > FLAT * FLAT * s2) & (r > FAINTEST * n) & (s > FAINTEST * n)
        numbers[p + x] = np.float32(r1 * s_mean)
        numbers[q + x] = np.float32(1.0 / np.sqrt(r * s if fine else 1.0)) if fine else np.float32(0)
    return lost > 0
