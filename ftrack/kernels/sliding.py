"""Sums over the columns of cut chips, and what the correlation needs of them at every offset of a row.

``rooms`` are room for sums in double precision, room for what they come to in single precision, and the length of their
rows. The first two rows of sums are those of columns, of pixels and of their squares.
"""

from __future__ import annotations

import numpy as np

from ftrack.kernels.boxes import FAINTEST, FLAT, LEVEL
from ftrack.kernels.compiled import inner, reordered, shared
from ftrack.kernels.spreads import LOST, add_rows, add_shifted, make_measure

ROOM, LINES = 11, 5
"""Rows of numbers in double and in single precision that the sums need."""

POWER, COLUMNS = 8, 9
"""Rows of sums: the largest sums of squares so far, and how many columns chips have at every offset, with their inverses behind."""

_measure_reference, _measure_secondary = make_measure(True), make_measure(False)


@shared
def fill(numbers, at, count, value):
    """Write the same number at a number of places."""
    at = np.uintp(at)
    for x in range(np.uintp(count)):
        numbers[at + x] = value


@shared
def _replace_row(numbers, gone, at, count, room, pitch):
    """Add a row of pixels, and their squares, to the sums of columns, and take another row out."""
    gone, at, second = np.uintp(gone), np.uintp(at), np.uintp(pitch)
    for x in range(np.uintp(count)):
        room[x] += np.float64(numbers[at + x]) - np.float64(numbers[gone + x])
    for x in range(np.uintp(count)):
        fresh, old = np.float64(numbers[at + x]), np.float64(numbers[gone + x])
        room[second + x] += fresh * fresh - old * old


@shared
def count_columns(rooms, columns, offsets, count):
    """Write how many columns of a chip the secondary has at every offset of a row: all beyond the first ``offsets[2]``."""
    room, _, pitch = rooms
    (c0, c1), (first, last, some) = columns, offsets
    fill(room, COLUMNS * pitch, count, np.float64(c1 - c0))
    fill(room, (COLUMNS + 1) * pitch, count, 1.0 / (c1 - c0))
    for x in range(some):
        n = max(min(c1, last - x) - max(c0, first - x), 0)
        room[COLUMNS * pitch + x], room[(COLUMNS + 1) * pitch + x] = n, 1.0 / max(n, 1)


@shared
def sum_columns(numbers, at, chip, rows, rooms):
    """Sum the pixels of the columns of a chip, and their squares, going on from the rows that are summed already."""
    (top, bottom, c0, c1), (low, high), (room, _, pitch) = chip, rows, rooms
    if low < top or high > bottom or low == high:
        low, high = top, top
        fill(room, 0, c1 - c0, 0.0)
        fill(room, pitch, c1 - c0, 0.0)
    if top < low:
        add_rows(numbers, at[0] + (low - 1) * at[1] + c0, -at[1], low - top, room, pitch, c1 - c0)
    if high < bottom:
        add_rows(numbers, at[0] + high * at[1] + c0, at[1], bottom - high, room, pitch, c1 - c0)
    return top, bottom


@reordered
def _total(values):
    total = 0.0
    for x in range(values.size):
        total += values[x]
    return total


@shared
def measure_whole(rows, columns, fewest, rooms):
    """Return sum and inverse spread of the reference over all columns of a chip; see ``ftrack.kernels.spreads.make_measure``."""
    room, _, pitch = rooms
    n, one, two = np.float64(rows * columns), _total(room[:columns]), _total(room[pitch : pitch + columns])
    power = one * one / n
    spread = two - power
    if n < fewest:
        return np.float32(one), np.float32(0)
    if power > LEVEL * LEVEL * spread or spread < LOST * two:
        return np.float32(one), np.float32(np.nan)
    fine = spread > FLAT * FLAT * two and spread > FAINTEST * n
    return np.float32(one), np.float32(1) / np.sqrt(np.float32(spread)) if fine else np.float32(0)


@shared
def measure_part(chip, offsets, fewest, rooms):
    """Write the same for every offset of a row that only some columns are compared at, which are counted already.

    Sums up to every column are put down backwards, since the first column falls as the offset grows.
    """
    (rows, c0, c1), (first, last, left, count), (room, lines, pitch) = chip, offsets, rooms
    width, at = c1 - c0, 2 * pitch
    one, two = 0.0, 0.0
    for x in range(width):
        room[at + count + width - x], room[at + pitch + count + width - x] = one, two
        one, two = one + room[x], two + room[pitch + x]
    fill(room, at, count + 1, one)
    fill(room, at + pitch, count + 1, two)
    fill(room, at + count + width, count, 0.0)
    fill(room, at + pitch + count + width, count, 0.0)
    low = at + count + width - min(max(first - left - c0, 0), width + count)
    high = at + count + width - min(max(last - left - c0, 0), width + count)
    _measure_reference(room, high, low, pitch, COLUMNS * pitch, two, np.float64(rows), fewest, lines, 0, pitch, count)


@shared
def sum_secondary(numbers, at, step, rows, fresh, count, rooms):
    """Sum the pixels of the columns of the secondary, and their squares, in some rows, from those one row above if not ``fresh``."""
    room, _, pitch = rooms
    if not fresh:
        _replace_row(numbers, at + (rows[0] - 1) * step, at + (rows[1] - 1) * step, count, room, pitch)
        return
    fill(room, 0, count, 0.0)
    fill(room, pitch, count, 0.0)
    fill(room, POWER * pitch, count, 0.0)
    add_rows(numbers, at + rows[0] * step, step, rows[1] - rows[0], room, pitch, count)


@shared
def measure_secondary(chip, count, fewest, out, places, rooms):
    """Write mean and inverse spread of the pixels that are compared at every offset of a row; ``chip`` is (rows, columns)."""
    (rows, width), (room, _, pitch) = chip, rooms
    sums = _slide(room, pitch, width, count)
    power, columns = POWER * pitch, COLUMNS * pitch
    _measure_secondary(room, sums, 0, pitch, columns, power, np.float64(rows), fewest, out, places[0], places[1], count)


@inner
def _slide(room, pitch, width, count):
    """Sum every ``width`` neighbours of the sums of columns; return the place of the result."""
    here, there, out, done, step = 0, 4 * pitch, 2 * pitch, 0, 1
    while 2 * step <= width:
        if width & step:
            _gather(room, here + done, out, pitch, count, done > 0)
            done += step
        add_shifted(room, here, step, there, pitch, count + width - 2 * step)
        here, there, step = there, 10 * pitch - there, 2 * step
    if done == 0:
        return here
    _gather(room, here + done, out, pitch, count, True)
    return out


@shared
def _gather(room, at, out, pitch, count, more):
    if more:
        add_shifted(room, out, at - out, out, pitch, count)
    else:
        for plane in range(2):
            source, target = np.uintp(at + plane * pitch), np.uintp(out + plane * pitch)
            for x in range(np.uintp(count)):
                room[target + x] = room[source + x]
