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
from ftrack.kernels.compiled import filling, inner, making, shared
from ftrack.kernels.lanes import LANES
from ftrack.kernels.sliding import (
    COLUMNS,
    LINES,
    ROOM,
    count_columns,
    fill,
    measure_part,
    measure_secondary,
    measure_whole,
    sum_columns,
    sum_secondary,
)
from ftrack.kernels.spreads import make_combine
from ftrack.kernels.strip import CHIP, START, Nodes, Shape

_combine, _combine_one = make_combine(False), make_combine(True)


def room_for_rims(shape: Shape, table: np.ndarray, nodes: Nodes) -> tuple[np.ndarray, ...]:
    """Return room for what nodes above each other share, its place for every chip and column, negative = none, first, and for sums."""
    at = np.full((nodes.todo.shape[0], nodes.todo.shape[2]), -1)
    pitch = shape.columns * shape.side + 2 * (shape.panels * shape.vectors * LANES + LANES)
    most, count = _number_columns(shape, table, nodes, at)
    rows = 2 * most * shape.panels * shape.vectors * LANES
    return at * rows, np.empty(count * rows + LANES, np.float32), np.empty(ROOM * pitch), np.empty(LINES * pitch, np.float32)


@filling
def _number_columns(shape, table, nodes, at):
    """Number the columns of chips in which nodes above each other share rows; return how many rows at the most, and how many columns."""
    along, most, count = shape.step * shape.side, 0, 0
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
    return most, count


@shared
def fill_rims(numbers, shape, places, table, nodes, gaps, kept, i):
    """Write A and B for every offset of all cut chips whose last row of blocks is row ``i``.

    They lie at ``places.rims``, (chip, column, 2, row, column of offsets). ``kept`` is what ``room_for_rims`` gives.
    """
    height, width = shape.bands * shape.group, shape.panels * shape.vectors * LANES
    moved, along, rooms = (shape.dy, shape.dx), shape.step * shape.side, (kept[2], kept[3], kept[2].size // ROOM)
    for b in range(1, table.shape[0]):
        c, above = table[b, CHIP], i + 1 - table[b, HEIGHT] - table[b, START]
        if c < 0 or above < 0 or above % shape.step or above // shape.step >= nodes.todo.shape[1]:
            continue
        n, m, size = above // shape.step, np.int64(0), table[b, HEIGHT] * shape.side
        top, left = (above + table[b, START]) * shape.side, table[b, START] * shape.side
        sizes = (size, max(np.ceil(gaps.least * size * size), 1.0))
        while m < nodes.todo.shape[2]:
            if not nodes.todo[c, n, m] or nodes.rims[c, n, m, 1] == 0:
                m += 1
                continue
            rims, span, far = nodes.rims[c, n, m], nodes.span[n, :, m], gaps.far[c, n]
            last = _last_alike(nodes.todo[c, n], nodes.rims[c, n], nodes.span[n], moved, size, m)
            x, what = left + m * along, (rims, moved, span, sizes)
            reference, secondary = (places.r + top * places.r_step + x, places.r_step), (places.s + top * places.s_step + x, places.s_step)
            target = (places.rims + 2 * (c * nodes.todo.shape[2] + m) * height * width, height, width)
            if _is_whole(rims, size):
                box = (c * places.height + top) * places.pitch + x
                plain = (places.mean + box, places.inverse + box, places.pitch, nodes.total[c, n, m], nodes.scale[c, n, m])
                far[m] |= _fill_whole(numbers, reference, what, plain, target, rooms)
            elif _has_all_columns(rims, moved, span):
                _fill_beside(numbers, reference, secondary, what, (last - m, along), target, far[m:last], rooms)
            elif _runs_down(rims, moved, span, size, along):
                known = (
                    n > 0 and nodes.todo[c, n - 1, m] and _runs_down(nodes.rims[c, n - 1, m], moved, nodes.span[n - 1, :, m], size, along)
                )
                known = known and _goes_on(nodes.rims[c, n - 1 : n + 1, m], nodes.span[n - 1 : n + 1, :, m])
                rows = (kept[1], kept[0][c, m], n, along, known)
                far[m] |= _fill_down(numbers, reference, secondary, what, rows, target, rooms)
            else:
                far[m] |= _fill_alone(numbers, reference, secondary, what, target, rooms)
            m = last


@inner
def _is_whole(rims, size):
    return rims[0] == 0 and rims[1] == size and rims[2] == 0 and rims[3] == size


@inner
def _has_all_columns(rims, moved, span):
    """Return whether the secondary has all columns that the chip's pixels are compared with."""
    return rims[6] - moved[1] <= span[2] + rims[2] and rims[7] - moved[1] >= span[3] - 1 + rims[3]


@shared
def _last_alike(todo, rims, span, moved, size, first):
    """Return the end of the nodes from one on, which the rim cuts, that are compared with the same rows."""
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


@inner
def _pixels(rims):
    """Return first and last row and column of a cut chip."""
    return np.int64(rims[0]), np.int64(rims[1]), np.int64(rims[2]), np.int64(rims[3])


@inner
def _where(rims, moved):
    """Return first and last row and column of the secondary, counted from what the chip is compared with at the first offset."""
    return rims[4] - moved[0], rims[5] - moved[0], rims[6] - moved[1], rims[7] - moved[1]


@shared
def _fill_whole(numbers, reference, what, plain, target, rooms):
    """Write A and B of one chip that is not cut itself; return whether a spread is lost."""
    (rims, moved, span, (size, fewest)), (out, height, width), (_, lines, pitch) = what, target, rooms
    (s0, s1, t0, t1), lost, rows, edges = _where(rims, moved), False, (0, 0), (0, 0, 0, 0)
    upwards = s1 - span[1] + 1 < size
    for k in range(span[1] - span[0]):
        y = span[1] - 1 - k if upwards else span[0] + k
        top, bottom, left, right = max(0, s0 - y), min(size, s1 - y), span[2], span[3]
        mean, inverse = out + y * width, out + (height + y) * width
        if top == 0 and bottom == size:
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
            _clear(numbers, mean + left, inverse + left, count)
            continue
        if edges != (top, bottom, left, right):
            if edges[2:] != (left, right):
                some = 0 if t0 <= left and t1 >= right - 1 + size else count
                count_columns(rooms, (0, size), (t0 - left, t1 - left, some), count)
            edges, rows = (top, bottom, left, right), sum_columns(numbers, reference, (top, bottom, 0, size), rows, rooms)
            _measure((bottom - top, 0, size), (t0, t1, left, count), fewest, rooms)
            _count_times(rooms, np.float64(size * size) / (bottom - top), count)
        boxes = (plain[0] + y * plain[2] + left, plain[1] + y * plain[2] + left)
        lost |= _multiply_boxes(numbers, boxes, size, (mean + left, inverse + left), count, lines, pitch)
    return lost


@inner
def _measure(chip, offsets, fewest, rooms):
    """Write sum and inverse spread of the reference at every offset of a row."""
    (rows, c0, c1), (first, last, left, count) = chip, offsets
    if first <= left + c0 and last >= left + count - 1 + c1:
        one, inverse = measure_whole(rows, c1 - c0, fewest, rooms)
        fill(rooms[1], 0, count, one)
        fill(rooms[1], rooms[2], count, inverse)
    else:
        measure_part(chip, offsets, fewest, rooms)


@inner
def _count_times(rooms, times, count):
    """Write how many times as many pixels a whole chip has as are compared at every offset of a row."""
    room, lines, pitch = rooms
    at, share = np.uintp(2 * pitch), np.uintp((COLUMNS + 1) * pitch)
    for x in range(np.uintp(count)):
        lines[at + x] = np.float32(times * room[share + x])


@inner
def _copy_plain(numbers, plain, y, columns, out):
    """Write A and B where all pixels are valid."""
    mean, inverse, pitch, total, scale = plain
    if columns[1] > columns[0]:
        at = y * pitch + columns[0]
        p, q = out[0] + columns[0], out[1] + columns[0]
        _combine_one(numbers, total, scale, numbers, mean + at, inverse + at, numbers, p, q, columns[1] - columns[0])


@shared
def _multiply_boxes(numbers, boxes, size, out, count, lines, pitch):
    """Write A and B of a row of offsets of a whole chip; return whether a spread is lost."""
    m, s, p, q = np.uintp(boxes[0]), np.uintp(boxes[1]), np.uintp(out[0]), np.uintp(out[1])
    second, third, lost = np.uintp(pitch), np.uintp(2 * pitch), 0
    one, none, full, most = np.float32(1), np.float32(0), np.float32(size * size), np.float32(LEVEL * LEVEL)
    for x in range(np.uintp(count)):
        numbers[p + x] = lines[x] * numbers[m + x] * lines[third + x]
    for x in range(np.uintp(count)):
        part, level, mine = lines[third + x] - one, numbers[m + x] * numbers[s + x], lines[second + x]
        power = full * level * level
        rest = one - power * part
        far = power * (part + one) > most * rest
        lost += (mine != mine) | (far & (mine > none))
        numbers[q + x] = none if far else mine * numbers[s + x] / np.sqrt(none if far else rest)
    return lost > 0


@making
def _fill_beside(numbers, reference, secondary, what, group, target, far, rooms):
    """Write A and B of cut chips beside each other that are compared with the same rows; set where a spread is lost."""
    (rims, moved, span, (_, fewest)), (many, along), (out, height, width), (_, lines, pitch) = what, group, target, rooms
    (r0, r1, c0, c1), left, offsets = _pixels(rims), span[2], span[3] - span[2]
    (s0, s1, _, _), count, last = _where(rims, moved), (many - 1) * along + offsets, span[0] - 2
    parts = np.empty((2, many, span[1] - span[0]), np.float32)
    for k in range(many):
        _measure_rows(numbers, (reference[0] + k * along, reference[1]), (r0, r1, c0, c1), (s0, s1, span[0]), fewest, parts[:, k], rooms)
    count_columns(rooms, (c0, c1), (0, 0, 0), count)
    for y in range(span[0], span[1]):
        rows = _measure_others(numbers, secondary, (r0, r1, c0, c1), (s0, s1), (y, left), last < y - 1, count, fewest, rooms)
        last = y if rows > 0 else last
        for k in range(many):
            mean = out + (2 * k * height + y) * width + left
            inverse, at = mean + height * width, k * along
            if rows > 0:
                one, spread = parts[0, k, y - span[0]], parts[1, k, y - span[0]]
                far[k] |= _combine_one(lines, one, spread, lines, 3 * pitch + at, 4 * pitch + at, numbers, mean, inverse, offsets)
            else:
                _clear(numbers, mean, inverse, offsets)


@shared
def _measure_rows(numbers, reference, chip, rows, fewest, parts, rooms):
    """Write sum and inverse spread of a chip for every row of offsets, all of its columns being compared."""
    (r0, r1, c0, c1), (s0, s1, first) = chip, rows
    offsets, known, edges, one, inverse = parts.shape[1], (0, 0), (0, 0), np.float32(0), np.float32(0)
    upwards = s1 - first - offsets + 1 < r1
    for k in range(offsets):
        y = offsets - 1 - k if upwards else k
        top, bottom = max(r0, s0 - first - y), min(r1, s1 - first - y)
        if bottom > top and edges != (top, bottom):
            edges, known = (top, bottom), sum_columns(numbers, reference, (top, bottom, c0, c1), known, rooms)
            one, inverse = measure_whole(bottom - top, c1 - c0, fewest, rooms)
        parts[0, y], parts[1, y] = one, inverse


@shared
def _fill_alone(numbers, reference, secondary, what, target, rooms):
    """Write A and B of one cut chip, first the reference's part; return whether a spread is lost."""
    (rims, moved, span, (_, fewest)), (out, height, width), (_, lines, pitch) = what, target, rooms
    (r0, r1, c0, c1), left, count = _pixels(rims), span[2], span[3] - span[2]
    (s0, s1, t0, t1), lost, last, known, edges = _where(rims, moved), False, span[0] - 2, (0, 0), (0, 0)
    upwards = s1 - span[1] + 1 < r1
    count_columns(rooms, (c0, c1), (t0 - left, t1 - left, count), count)
    for k in range(span[1] - span[0]):
        y = span[1] - 1 - k if upwards else span[0] + k
        top, bottom = max(r0, s0 - y), min(r1, s1 - y)
        mean, inverse = out + y * width + left, out + (height + y) * width + left
        if bottom <= top:
            _clear(numbers, mean, inverse, count)
            continue
        if edges != (top, bottom):
            edges, known = (top, bottom), sum_columns(numbers, reference, (top, bottom, c0, c1), known, rooms)
            _measure((bottom - top, c0, c1), (t0, t1, left, count), fewest, rooms)
        _write(numbers, lines, mean, inverse, count, pitch)
    for y in range(span[0], span[1]):
        rows = _measure_others(numbers, secondary, (r0, r1, c0, c1), (s0, s1), (y, left), last < y - 1, count, fewest, rooms)
        if rows > 0:
            mean, inverse, last = out + y * width + left, out + (height + y) * width + left, y
            lost |= _combine(numbers, mean, inverse, lines, 3 * pitch, 4 * pitch, numbers, mean, inverse, count)
    return lost


@shared
def _measure_others(numbers, secondary, chip, others, offset, fresh, count, fewest, rooms):
    """Write mean and inverse spread of what cut chips are compared with at a row of offsets; return of how many rows that is, if any."""
    (r0, r1, c0, c1), (y, left), (_, lines, pitch) = chip, offset, rooms
    rows = min(r1, others[1] - y) - max(r0, others[0] - y)
    if rows > 0:
        row = secondary[0] + y * secondary[1] + left + c0
        sum_secondary(numbers, row, secondary[1], (r0, r1), fresh, count + c1 - c0 - 1, rooms)
        measure_secondary((rows, c1 - c0), count, fewest, lines, (3 * pitch, 4 * pitch), rooms)
    return rows


@inner
def _clear(numbers, mean, inverse, count):
    """Write that there is nothing to compare."""
    fill(numbers, mean, count, np.float32(0))
    fill(numbers, inverse, count, np.float32(0))


@inner
def _write(numbers, lines, mean, inverse, count, pitch):
    p, q, second = np.uintp(mean), np.uintp(inverse), np.uintp(pitch)
    for x in range(np.uintp(count)):
        numbers[p + x] = lines[x]
    for x in range(np.uintp(count)):
        numbers[q + x] = lines[second + x]


@shared
def _fill_down(numbers, reference, secondary, what, kept, target, rooms):
    """Write A and B of a chip of which only columns are cut; return whether a spread is lost.

    The secondary's part is summed anew after as many rows as lie between nodes, so it is the same for all nodes above each other.
    """
    (rims, moved, span, (size, fewest)), (rows, place, n, along, known), (_, lines, pitch) = what, kept, rooms
    (out, height, width), (_, _, t0, t1), left, count = target, _where(rims, moved), span[2], span[3] - span[2]
    (_, _, c0, c1), lost, parts = _pixels(rims), False, (span[1] - span[0] + along - 1) // along
    inverse = place + parts * along * width
    count_columns(rooms, (c0, c1), (t0 - left, t1 - left, count), count)
    sum_columns(numbers, reference, (0, size, c0, c1), (0, 0), rooms)
    measure_part((size, c0, c1), (t0, t1, left, count), fewest, rooms)
    for q in range(parts - 1 if known else 0, parts):
        for k in range(along):
            row = secondary[0] + (span[0] + q * along + k) * secondary[1] + left + c0
            sum_secondary(numbers, row, secondary[1], (0, size), k == 0, count + c1 - c0 - 1, rooms)
            line = ((n + q) % parts * along + k) * width
            measure_secondary((size, c1 - c0), count, fewest, rows, (place + line, inverse + line), rooms)
    for y in range(span[1] - span[0]):
        line = ((n + y // along) % parts * along + y % along) * width
        mean = out + (span[0] + y) * width + left
        lost |= _combine(lines, 0, pitch, rows, place + line, inverse + line, numbers, mean, mean + height * width, count)
    return lost
