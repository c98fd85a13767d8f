"""Sums over the columns of cut chips, and what the correlation needs of them at every offset of a row."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.boxes import FAINTEST, FLAT, LEVEL
from ftrack.kernels.compiled import inner, reordered, shared

ROOM, LINES = 10, 5
"""Rows of numbers in double and in single precision that the sums need: those of columns and of their squares come first."""

LOST = 1e-10
"""A spread below this share of the power of all pixels looked at may be lost in differences of sums."""


@shared
def fill(numbers, at, count, value):
    """Write the same number at a number of places."""
    at = np.uintp(at)
    for x in range(np.uintp(count)):
        numbers[at + x] = value


@shared
def add_row(numbers, at, count, room, pitch):
    """Add a row of pixels, and their squares, to the sums of columns."""
    at, second = np.uintp(at), np.uintp(pitch)
    for x in range(np.uintp(count)):
        room[x] += np.float64(numbers[at + x])
    for x in range(np.uintp(count)):
        room[second + x] += np.float64(numbers[at + x]) * np.float64(numbers[at + x])


@shared
def replace_row(numbers, gone, at, count, room, pitch):
    """Do the same, and take another row out."""
    gone, at, second = np.uintp(gone), np.uintp(at), np.uintp(pitch)
    for x in range(np.uintp(count)):
        room[x] += np.float64(numbers[at + x]) - np.float64(numbers[gone + x])
    for x in range(np.uintp(count)):
        fresh, old = np.float64(numbers[at + x]), np.float64(numbers[gone + x])
        room[second + x] += fresh * fresh - old * old


@shared
def sum_columns(numbers, at, chip, rows, room, pitch):
    """Sum the pixels of the columns of a chip, and their squares, going on from the rows that are summed already."""
    top, bottom, c0, c1 = chip
    low, high = rows
    if low < top or high > bottom or low == high:
        low, high = top, top
        fill(room, 0, c1 - c0, 0.0)
        fill(room, pitch, c1 - c0, 0.0)
    for y in range(low - 1, top - 1, -1):
        add_row(numbers, at[0] + y * at[1] + c0, c1 - c0, room, pitch)
    for y in range(high, bottom):
        add_row(numbers, at[0] + y * at[1] + c0, c1 - c0, room, pitch)
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
def measure_reference(chip, offsets, sizes, rooms):
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
        fill(lines, 0, count, np.float32(one))
        fill(lines, pitch, count, inverse)
        fill(lines, 2 * pitch, count, np.float32(size * size / n))
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
def begin_secondary(room, pitch, columns, offsets, count):
    """Write how many columns of a chip the secondary has at every offset of a row: all beyond the first ``offsets[2]``."""
    c0, c1 = columns
    first, last, some = offsets
    fill(room, 9 * pitch, count, np.float64(c1 - c0))
    for x in range(some):
        room[9 * pitch + x] = max(min(c1, last - x) - max(c0, first - x), 0)


@shared
def sum_secondary(numbers, at, step, rows, fresh, count, room, pitch):
    """Sum the pixels of the columns of the secondary, and their squares, in some rows, from those one row above if not ``fresh``."""
    if not fresh:
        replace_row(numbers, at + (rows[0] - 1) * step, at + (rows[1] - 1) * step, count, room, pitch)
        return
    fill(room, 0, count, 0.0)
    fill(room, pitch, count, 0.0)
    fill(room, 8 * pitch, count, 0.0)
    for k in range(rows[0], rows[1]):
        add_row(numbers, at + k * step, count, room, pitch)


@shared
def measure_secondary(room, pitch, chip, count, fewest, out, places):
    """Write mean and inverse spread of the pixels that are compared at every offset of a row; ``chip`` is (rows, columns)."""
    rows, width = chip
    one, two, columns, power = _slide(room, pitch, 0, width, count), _slide(room, pitch, 1, width, count), 9 * pitch, 8 * pitch
    mean, inverse, height = np.uintp(places[0]), np.uintp(places[1]), np.float64(rows)
    one, two, columns, power = np.uintp(one), np.uintp(two), np.uintp(columns), np.uintp(power)
    for x in range(np.uintp(count)):
        room[power + x] = max(room[power + x], room[two + x])
    for x in range(np.uintp(count)):
        out[mean + x] = np.float32(room[one + x] / max(height * room[columns + x], 1.0))
    for x in range(np.uintp(count)):
        out[inverse + x] = _invert(height * room[columns + x], room[one + x], room[two + x], LOST * room[power + x], fewest)


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
    return out


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
