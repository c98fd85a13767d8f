"""Chips that the rim of the imagery cuts: what both images have is a rectangle, so only products need the shared sums.

The coefficient is (sum of products - A) B, with A = (sum of the reference) (mean of the secondary) and B = the product of
their inverse spreads, over the pixels that both have. The secondary holds zeros where it has no pixels, which add nothing.
Where the chip itself is whole, its boxes are known; else the secondary's part is found once for the nodes beside each
other that are compared with the same rows, or for those above each other that are compared with the same columns.
"""

from __future__ import annotations

import numpy as np

from ftrack.kernels.boxes import LEVEL
from ftrack.kernels.chain import HEIGHT
from ftrack.kernels.compiled import inner, shared
from ftrack.kernels.sliding import (
    LINES,
    ROOM,
    begin_secondary,
    fill,
    measure_reference,
    measure_secondary,
    sum_columns,
    sum_secondary,
)
from ftrack.kernels.strip import CHIP, START
from ftrack.kernels.vectors import LANES


@inner
def remember_rims(shape, table, nodes):
    """Return room for what nodes above each other share: its place for every chip and column, -1 = none, its rows, and the room."""
    at, along, most, count = np.full((nodes.todo.shape[0], nodes.todo.shape[2]), -1), shape.step * shape.side, 0, 0
    for b in range(1, table.shape[0]):
        c = table[b, CHIP]
        for n in range(nodes.todo.shape[1] if c >= 0 else 0):
            for m in range(nodes.todo.shape[2]):
                rims, span = nodes.rims[c, n, m], nodes.span[n, :, m]
                if nodes.todo[c, n, m] and _runs_down(rims, (shape.dy, shape.dx), span, table[b, HEIGHT] * shape.side, along):
                    most = max(most, span[1] - span[0] + along)
                    if at[c, m] < 0:
                        at[c, m] = count
                        count += 1
    rows = 2 * most * shape.panels * shape.vectors * LANES
    return at * rows, most, np.empty(count * rows, np.float32)


@inner
def fill_rims(numbers, shape, places, table, nodes, gaps, kept, i):
    """Write A and B for every offset of all cut chips whose last row of blocks is row ``i``.

    They lie at ``places.rims``, (chip, column, 2, row, column of offsets). ``kept`` is what ``remember_rims`` gives.
    """
    height, width = shape.bands * shape.group, shape.panels * shape.vectors * LANES
    pitch, moved, along = shape.columns * shape.side + width + 1, (shape.dy, shape.dx), shape.step * shape.side
    for b in range(1, table.shape[0]):
        c, above = table[b, CHIP], i + 1 - table[b, HEIGHT] - table[b, START]
        if c < 0 or above < 0 or above % shape.step or above // shape.step >= nodes.todo.shape[1]:
            continue
        n, m, size = above // shape.step, 0, table[b, HEIGHT] * shape.side
        top, left = (above + table[b, START]) * shape.side, table[b, START] * shape.side
        sizes, room, lines = (size, max(np.ceil(gaps.least * size * size), 1.0)), np.empty(0), np.empty(0, np.float32)
        while m < nodes.todo.shape[2]:
            last = _last_alike(nodes.todo[c, n], nodes.rims[c, n], nodes.span[n], moved, size, m)
            if last > m and room.size == 0:
                room, lines = np.empty(ROOM * pitch), np.empty(LINES * pitch, np.float32)
            x, first = left + m * along, places.rims + 2 * (c * nodes.todo.shape[2] + m) * height * width
            secondary, rooms = (places.s + top * places.s_step + x, places.s_step), (room, lines, pitch)
            down = last > m and _runs_down(nodes.rims[c, n, m], moved, nodes.span[n, :, m], size, along)
            for k in range(m, last):
                x, out = left + k * along, first + 2 * (k - m) * height * width
                reference, what = (
                    (places.r + top * places.r_step + x, places.r_step),
                    (nodes.rims[c, n, k], moved, nodes.span[n, :, k], sizes),
                )
                if down:
                    known = (
                        n > 0
                        and nodes.todo[c, n - 1, k]
                        and _runs_down(nodes.rims[c, n - 1, k], moved, nodes.span[n - 1, :, k], size, along)
                    )
                    known = known and _goes_on(nodes.rims[c, n - 1 : n + 1, k], nodes.span[n - 1 : n + 1, :, k])
                    shared_rows = (kept[2], kept[0][c, k], n, along, known)
                    gaps.far[c, n, k] |= _fill_down(numbers, reference, secondary, what, shared_rows, (out, height, width), rooms)
                else:
                    box = (c * places.height + top) * places.pitch + x
                    plain = (places.mean + box, places.inverse + box, places.pitch, nodes.total[c, n, k], nodes.scale[c, n, k])
                    gaps.far[c, n, k] |= _fill_rim(numbers, reference, what, plain, (out, height, width), rooms)
            if last > m and not down and not _is_whole(nodes.rims[c, n, m], size):
                what = (nodes.rims[c, n, m], moved, nodes.span[n, :, m], sizes)
                _multiply_secondary(numbers, secondary, what, (last - m, along), (first, height, width), gaps.far[c, n, m:last], rooms)
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


@inner
def _runs_down(rims, moved, span, size, along):
    """Return whether only columns of a chip and of what it is compared with are cut, and nodes above each other share rows."""
    rows = rims[0] == 0 and rims[1] == size and rims[4] - moved[0] <= span[0] and rims[5] - moved[0] >= span[1] - 1 + size
    return rows and not _is_whole(rims, size) and not _has_all_columns(rims, moved, span) and 2 * along <= span[1] - span[0]


@shared
def _goes_on(rims, span):
    """Return whether two nodes above each other are cut and searched in the same columns."""
    same = True
    for k in range(4):
        same = same and span[0, k] == span[1, k] and rims[0, (2, 3, 6, 7)[k]] == rims[1, (2, 3, 6, 7)[k]]
    return same


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
            fill(numbers, mean + left, count, np.float32(0))
            fill(numbers, inverse + left, count, np.float32(0))
            continue
        if edges != (top, bottom, left, right):
            edges, rows = (top, bottom, left, right), sum_columns(numbers, at, (top, bottom, c0, c1), rows, room, pitch)
            lost |= measure_reference((bottom - top, c0, c1), (t0, t1, left, count), sizes, rooms)
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


@inner
def _write(numbers, lines, mean, inverse, count, pitch):
    p, q, second = np.uintp(mean), np.uintp(inverse), np.uintp(pitch)
    for x in range(np.uintp(count)):
        numbers[p + x] = lines[x]
    for x in range(np.uintp(count)):
        numbers[q + x] = lines[second + x]


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
    s0, s1, left = rims[4] - moved[0], rims[5] - moved[0], moved[1] + span[2]
    offsets, last = span[3] - span[2], span[0] - 2
    count = (many - 1) * along + offsets
    begin_secondary(room, pitch, (c0, c1), (rims[6] - left, rims[7] - left, offsets if many == 1 else 0), count)
    for y in range(span[0], span[1]):
        rows = min(r1, s1 - y) - max(r0, s0 - y)
        if rows <= 0:
            continue
        row = at[0] + y * at[1] + span[2] + c0
        sum_secondary(numbers, row, at[1], (r0, r1), last < y - 1, count + c1 - c0 - 1, room, pitch)
        last = y
        measure_secondary(room, pitch, (rows, c1 - c0), count, fewest, lines, (3 * pitch, 4 * pitch))
        for k in range(many):
            mean = out + (2 * k * height + y) * width + span[2]
            far[k] |= _multiply(numbers, lines, pitch, k * along, mean, mean + height * width, offsets)


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


@shared
def _fill_down(numbers, reference, secondary, what, kept, target, rooms):
    """Write A and B of a chip of which only columns are cut; return whether a spread is lost.

    The secondary's part is summed anew after as many rows as lie between nodes, so it is the same for all nodes above each other.
    """
    rims, moved, span, (size, fewest) = what
    (rows, place, n, along, known), (out, height, width), (room, lines, pitch) = kept, target, rooms
    c0, c1, t0, t1, left, count = rims[2], rims[3], rims[6] - moved[1], rims[7] - moved[1], span[2], span[3] - span[2]
    sum_columns(numbers, reference, (0, size, c0, c1), (0, 0), room, pitch)
    lost = measure_reference((size, c0, c1), (t0, t1, left, count), (size, fewest), rooms)
    begin_secondary(room, pitch, (c0, c1), (t0 - left, t1 - left, count), count)
    parts = (span[1] - span[0] + along - 1) // along
    inverse = place + parts * along * width
    for q in range(parts - 1 if known else 0, parts):
        for k in range(along):
            row = secondary[0] + (span[0] + q * along + k) * secondary[1] + left + c0
            sum_secondary(numbers, row, secondary[1], (0, size), k == 0, count + c1 - c0 - 1, room, pitch)
            line = ((n + q) % parts * along + k) * width
            measure_secondary(room, pitch, (size, c1 - c0), count, fewest, rows, (place + line, inverse + line))
    for y in range(span[1] - span[0]):
        line = ((n + y // along) % parts * along + y % along) * width
        mean = out + (span[0] + y) * width + left
        lost |= _combine(numbers, lines, pitch, rows, (place + line, inverse + line), (mean, mean + height * width), count)
    return lost


@shared
def _combine(numbers, lines, pitch, rows, at, out, count):
    """Write a row of A and B from the parts of both images; return whether a spread is lost."""
    p, q, m, s, second, lost = np.uintp(out[0]), np.uintp(out[1]), np.uintp(at[0]), np.uintp(at[1]), np.uintp(pitch), 0
    for x in range(np.uintp(count)):
        numbers[p + x] = lines[x] * rows[m + x]
    for x in range(np.uintp(count)):
        value = lines[second + x] * rows[s + x]
        numbers[q + x] = value
        lost += value != value
    return lost > 0
