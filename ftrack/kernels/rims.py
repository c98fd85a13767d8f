"""Chips that the rim of the imagery cuts: what both images have is a rectangle, so only products need the shared sums."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.boxes import FAINTEST, FLAT, LEVEL
from ftrack.kernels.chain import HEIGHT
from ftrack.kernels.compiled import inner, reordered, shared
from ftrack.kernels.strip import CHIP, START
from ftrack.kernels.vectors import LANES

ROOM, LINES = 10, 5
"""Rows of numbers in double and in single precision that the moments of chips need."""

LOST = 1e-10
"""A spread below this share of the power of all pixels looked at may be lost in differences of sums."""


@inner
def fill_rims(numbers, shape, places, table, nodes, gaps, i):
    """Write what turns the sums of products of cut chips into coefficients, for all whose last row of blocks is row ``i``.

    The coefficient is (sum - A) B; A and B of every offset lie at ``places.rims``, (chip, column, 2, row, column of offsets).
    """
    height, width = shape.bands * shape.group, shape.panels * shape.vectors * LANES
    pitch, moved, along = shape.columns * shape.side + width + 1, (shape.dy, shape.dx), shape.step * shape.side
    for b in range(1, table.shape[0]):
        c, above = table[b, CHIP], i + 1 - table[b, HEIGHT] - table[b, START]
        if c < 0 or above < 0 or above % shape.step or above // shape.step >= nodes.todo.shape[1]:
            continue
        n, m, size = above // shape.step, 0, table[b, HEIGHT] * shape.side
        y, x0 = (above + table[b, START]) * shape.side, table[b, START] * shape.side
        sizes, room, lines = (size, max(np.ceil(gaps.least * size * size), 1.0)), np.empty(0), np.empty(0, np.float32)
        while m < nodes.todo.shape[2]:
            last = _last_alike(nodes.todo[c, n], nodes.rims[c, n], nodes.span[n], moved, size, m)
            if last > m and room.size == 0:
                room, lines = np.empty(ROOM * pitch), np.empty(LINES * pitch, np.float32)
            for k in range(m, last):
                x = x0 + k * along
                box = (c * places.height + y) * places.pitch + x
                plain = (places.mean + box, places.inverse + box, places.pitch, nodes.total[c, n, k], nodes.scale[c, n, k])
                target = (places.rims + 2 * (c * nodes.todo.shape[2] + k) * height * width, height, width)
                at = (places.r + y * places.r_step + x, places.r_step)
                what = (nodes.rims[c, n, k], moved, nodes.span[n, :, k], sizes)
                gaps.far[c, n, k] |= _fill_rim(numbers, at, what, plain, target, (room, lines, pitch))
            if last > m and not _is_whole(nodes.rims[c, n, m], size):
                target = (places.rims + 2 * (c * nodes.todo.shape[2] + m) * height * width, height, width)
                at = (places.s + y * places.s_step + x0 + m * along, places.s_step)
                what = (nodes.rims[c, n, m], moved, nodes.span[n, :, m], sizes)
                _multiply_secondary(numbers, at, what, (last - m, along), target, gaps.far[c, n, m:last], (room, lines, pitch))
            m = max(last, m + 1)


@inner
def _is_whole(rims, size):
    return rims[0] == 0 and rims[1] == size and rims[2] == 0 and rims[3] == size


@inner
def _has_all_columns(rims, moved, span):
    """Return whether the secondary has all columns that the chip's pixels are compared with."""
    return rims[6] - moved[1] <= span[2] + rims[2] and rims[7] - moved[1] >= span[3] - 1 + rims[3]


@shared
def _last_alike(todo, rims, span, moved, size, first):
    """Return the end of the nodes from one on that are compared with the same rows; the node itself if the rim does not cut it."""
    if not todo[first] or rims[first, 1] == 0:
        return first
    last = first + 1
    if _is_whole(rims[first], size) or not _has_all_columns(rims[first], moved, span[:, first]):
        return last
    while last < todo.size and todo[last] and _has_all_columns(rims[last], moved, span[:, last]):
        for k in range(4):
            if span[k, last] != span[k, first] or rims[last, k] != rims[first, k]:
                return last
        if rims[last, 4] != rims[first, 4] or rims[last, 5] != rims[first, 5]:
            return last
        last += 1
    return last


@shared
def _fill_rim(numbers, at, what, plain, target, rooms):
    """Write A and B of one chip, or the reference's part in them if its own pixels are cut; return whether a spread is lost."""
    rims, moved, span, sizes = what
    out, height, width = target
    room, lines, pitch = rooms
    r0, r1, c0, c1 = rims[0], rims[1], rims[2], rims[3]
    s0, s1, t0, t1 = rims[4] - moved[0], rims[5] - moved[0], rims[6] - moved[1], rims[7] - moved[1]
    whole, upwards = _is_whole(rims, sizes[0]), s1 - span[1] + 1 < r1
    lost, rows, edges = False, (0, 0), (0, 0, 0, 0)
    for k in range(span[1] - span[0]):
        y = span[1] - 1 - k if upwards else span[0] + k
        top, bottom = max(r0, s0 - y), min(r1, s1 - y)
        left, right = span[2], span[3]
        mean, inverse = out + y * width, out + (height + y) * width
        if whole and top == r0 and bottom == r1:
            if t0 <= left:
                left = max(left, t1 - r1 + 1)
            elif t1 - r1 >= right - 1:
                right = min(right, t0)
            _copy_plain(numbers, plain, y, (span[2], left), (mean, inverse))
            _copy_plain(numbers, plain, y, (right, span[3]), (mean, inverse))
        count = right - left
        if count <= 0:
            continue
        if bottom <= top:
            _fill(numbers, mean + left, count, np.float32(0))
            _fill(numbers, inverse + left, count, np.float32(0))
            continue
        if edges != (top, bottom, left, right):
            edges, rows = (top, bottom, left, right), _sum_columns(numbers, at, (top, bottom, c0, c1), rows, room, pitch)
            lost |= _measure_reference((bottom - top, c0, c1), (t0, t1, left, count), sizes, rooms)
        if whole:
            boxes = (plain[0] + y * plain[2] + left, plain[1] + y * plain[2] + left)
            lost |= _multiply_boxes(numbers, boxes, sizes[0], (mean + left, inverse + left), count, rooms)
        else:
            _write(numbers, lines, mean + left, inverse + left, count, pitch)
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
        for x in range(np.uintp(columns[1] - columns[0])):
            numbers[q + x] = scale * numbers[b + x]


@shared
def _fill(numbers, at, count, value):
    at = np.uintp(at)
    for x in range(np.uintp(count)):
        numbers[at + x] = value


@inner
def _write(numbers, lines, mean, inverse, count, pitch):
    p, q, second = np.uintp(mean), np.uintp(inverse), np.uintp(pitch)
    for x in range(np.uintp(count)):
        numbers[p + x] = lines[x]
    for x in range(np.uintp(count)):
        numbers[q + x] = lines[second + x]


@shared
def _add_row(numbers, at, count, room, pitch):
    """Add a row of pixels, and their squares, to the sums of columns."""
    at, second = np.uintp(at), np.uintp(pitch)
    for x in range(np.uintp(count)):
        room[x] += np.float64(numbers[at + x])
    for x in range(np.uintp(count)):
        room[second + x] += np.float64(numbers[at + x]) * np.float64(numbers[at + x])


@shared
def _replace_row(numbers, gone, at, count, room, pitch):
    """Do the same, and take another row out."""
    gone, at, second = np.uintp(gone), np.uintp(at), np.uintp(pitch)
    for x in range(np.uintp(count)):
        room[x] += np.float64(numbers[at + x]) - np.float64(numbers[gone + x])
    for x in range(np.uintp(count)):
        fresh, old = np.float64(numbers[at + x]), np.float64(numbers[gone + x])
        room[second + x] += fresh * fresh - old * old


@inner
def _sum_columns(numbers, at, chip, rows, room, pitch):
    """Sum the pixels of the columns of a chip, and their squares, going on from the rows that are summed already."""
    top, bottom, c0, c1 = chip
    low, high = rows
    if low < top or high > bottom or low == high:
        low, high = top, top
        _fill(room, 0, c1 - c0, 0.0)
        _fill(room, pitch, c1 - c0, 0.0)
    for y in range(low - 1, top - 1, -1):
        _add_row(numbers, at[0] + y * at[1] + c0, c1 - c0, room, pitch)
    for y in range(high, bottom):
        _add_row(numbers, at[0] + y * at[1] + c0, c1 - c0, room, pitch)
    return top, bottom


@reordered
def _total(values):
    total = 0.0
    for x in range(values.size):
        total += values[x]
    return total


@inner
def _invert(n, one, two, least, fewest):
    """Return the inverse root of the summed squared deviations of pixels; NaN if it is lost, zero if there are too few or no texture."""
    power = one * one / max(n, 1.0)
    spread = two - power
    lost = (power > LEVEL * LEVEL * spread) | (spread < least)
    fine = (n >= fewest) & (spread > FLAT * FLAT * two) & (spread > FAINTEST * n)
    inverse = np.float32(1) / np.sqrt(np.float32(spread if fine else 1.0))
    inverse = inverse if fine else np.float32(0)
    return np.float32(np.nan) if (n >= fewest) & lost else inverse


@shared
def _measure_reference(chip, offsets, sizes, rooms):
    """Write sum and inverse spread of the pixels that are compared at every offset of a row; return whether a spread is lost.

    The sums of the columns of the chip are known. How many pixels the chip has for each of these is written too.
    """
    rows, c0, c1 = chip
    first, last, left, count = offsets
    size, fewest = sizes
    room, lines, pitch = rooms
    second, third = np.uintp(pitch), np.uintp(2 * pitch)
    if first <= left + c0 and last >= left + count - 1 + c1:
        n, one, two = np.float64(rows * (c1 - c0)), _total(room[: c1 - c0]), _total(room[pitch : pitch + c1 - c0])
        inverse = _invert(n, one, two, LOST * two, fewest)
        _fill(lines, 0, count, np.float32(one))
        _fill(lines, pitch, count, inverse)
        _fill(lines, 2 * pitch, count, np.float32(size * size / n))
        return np.isnan(inverse)
    one, two = room[2 * pitch : 3 * pitch], room[3 * pitch : 4 * pitch]
    one[0], two[0] = 0.0, 0.0
    for x in range(c1 - c0):
        one[x + 1] = one[x] + room[x]
        two[x + 1] = two[x] + room[pitch + x]
    n, r1, r2 = room[4 * pitch : 5 * pitch], room[5 * pitch : 6 * pitch], room[6 * pitch : 7 * pitch]
    for k in range(count):
        low, high = max(0, first - left - k - c0), min(c1, last - left - k) - c0
        low, high = min(low, c1 - c0), max(min(low, c1 - c0), high)
        n[k], r1[k], r2[k] = rows * (high - low), one[high] - one[low], two[high] - two[low]
    least, lost = LOST * two[c1 - c0], 0
    for x in range(np.uintp(count)):
        lines[x] = np.float32(r1[x])
    for x in range(np.uintp(count)):
        lines[third + x] = np.float32(size * size / max(n[x], 1.0))
    for x in range(np.uintp(count)):
        inverse = _invert(n[x], r1[x], r2[x], least, fewest)
        lines[second + x] = inverse
        lost += inverse != inverse
    return lost > 0


@shared
def _multiply_boxes(numbers, boxes, size, out, count, rooms):
    """Write A and B of a row of offsets of a whole chip; return whether a mean of the secondary is too large.

    Where there are no pixels the boxes hold zeros, which add nothing to their sums.
    """
    _, lines, pitch = rooms
    m, s, p, q = np.uintp(boxes[0]), np.uintp(boxes[1]), np.uintp(out[0]), np.uintp(out[1])
    second, third, lost = np.uintp(pitch), np.uintp(2 * pitch), 0
    one, none, full, most = np.float32(1), np.float32(0), np.float32(size * size), np.float32(LEVEL * LEVEL)
    for x in range(np.uintp(count)):
        numbers[p + x] = lines[x] * numbers[m + x] * lines[third + x]
    for x in range(np.uintp(count)):
        part, level = lines[third + x] - one, numbers[m + x] * numbers[s + x]
        power = full * level * level
        rest = one - power * part
        far = power * (part + one) > most * rest
        lost += far & (lines[second + x] > none)
        numbers[q + x] = none if far else lines[second + x] * numbers[s + x] / np.sqrt(none if far else rest)
    return lost > 0


@shared
def _multiply_secondary(numbers, at, what, group, target, far, rooms):
    """Put the secondary's part to the reference's in A and B of a group of cut chips; set where single precision is not enough."""
    rims, moved, span, (_, fewest) = what
    (many, along), (out, height, width), (room, lines, pitch) = group, target, rooms
    r0, r1, c0, c1 = rims[0], rims[1], rims[2], rims[3]
    s0, s1 = rims[4] - moved[0], rims[5] - moved[0]
    offsets, chip = span[3] - span[2], c1 - c0
    count, last = (many - 1) * along + offsets, span[0] - 2
    columns, power = np.uintp(9 * pitch), np.uintp(8 * pitch)
    _fill(room, columns, count, np.float64(chip))
    if many == 1:
        _count_columns(room, columns, (c0, c1), (rims[6] - moved[1] - span[2], rims[7] - moved[1] - span[2], count))
    for y in range(span[0], span[1]):
        rows = min(r1, s1 - y) - max(r0, s0 - y)
        if rows <= 0:
            continue
        row = at[0] + y * at[1] + span[2] + c0
        if last == y - 1:
            _replace_row(numbers, row + (r0 - 1) * at[1], row + (r1 - 1) * at[1], count + chip - 1, room, pitch)
        else:
            _fill(room, 0, count + chip - 1, 0.0)
            _fill(room, pitch, count + chip - 1, 0.0)
            _fill(room, power, count, 0.0)
            for k in range(r0, r1):
                _add_row(numbers, row + k * at[1], count + chip - 1, room, pitch)
        last = y
        one, two = _slide(room, pitch, 0, chip, count), _slide(room, pitch, 1, chip, count)
        _measure_secondary(room, lines, pitch, (one, two, columns, power), rows, fewest, count)
        for k in range(many):
            mean = out + (2 * k * height + y) * width + span[2]
            far[k] |= _multiply(numbers, lines, pitch, k * along, mean, mean + height * width, offsets)


@inner
def _count_columns(room, at, columns, offsets):
    """Write how many columns of a chip the secondary has at every offset of a row."""
    c0, c1 = columns
    first, last, count = offsets
    for x in range(count):
        room[at + np.uintp(x)] = max(min(c1, last - x) - max(c0, first - x), 0)


@shared
def _slide(room, pitch, plane, width, count):
    """Sum every ``width`` neighbours of a plane of sums; return the place of the result."""
    here, there, out, done, step = plane * pitch, (4 + plane) * pitch, (2 + plane) * pitch, 0, 1
    while 2 * step <= width:
        if width & step:
            _gather(room, here + done, out, count, done > 0)
            done += step
        _add_shifted(room, here, step, there, count + width - 2 * step)
        here, there, step = there, (10 + 2 * plane) * pitch - there, 2 * step
    _gather(room, here + done, out, count, done > 0)
    return np.uintp(out)


@shared
def _gather(room, at, out, count, more):
    at, out = np.uintp(at), np.uintp(out)
    if more:
        for x in range(np.uintp(count)):
            room[out + x] += room[at + x]
    else:
        for x in range(np.uintp(count)):
            room[out + x] = room[at + x]


@shared
def _add_shifted(room, at, shift, out, count):
    at, other, out = np.uintp(at), np.uintp(at + shift), np.uintp(out)
    for x in range(np.uintp(count)):
        room[out + x] = room[at + x] + room[other + x]


@shared
def _measure_secondary(room, lines, pitch, at, rows, fewest, count):
    """Write mean and inverse spread of the pixels that are compared at every offset of a row."""
    one, two, columns, power = at
    mean, inverse, height = np.uintp(3 * pitch), np.uintp(4 * pitch), np.float64(rows)
    for x in range(np.uintp(count)):
        room[power + x] = max(room[power + x], room[two + x])
    for x in range(np.uintp(count)):
        lines[mean + x] = np.float32(room[one + x] / max(height * room[columns + x], 1.0))
    for x in range(np.uintp(count)):
        lines[inverse + x] = _invert(height * room[columns + x], room[one + x], room[two + x], LOST * room[power + x], fewest)


@shared
def _multiply(numbers, lines, pitch, at, mean, inverse, count):
    """Multiply a row of A and B with the secondary's part in them; return whether a spread is lost."""
    p, q, m, s = np.uintp(mean), np.uintp(inverse), np.uintp(3 * pitch + at), np.uintp(4 * pitch + at)
    lost = 0
    for x in range(np.uintp(count)):
        numbers[p + x] *= lines[m + x]
    for x in range(np.uintp(count)):
        value = numbers[q + x] * lines[s + x]
        numbers[q + x] = value
        lost += value != value
    return lost > 0
