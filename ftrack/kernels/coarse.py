"""Peaks of one chip size on small images: for one offset after the other, the sums of all chips are formed together.

Images are levelled first: less the mean around each pixel, and zero where there are no data. So what is missing adds
nothing to a sum, and a coefficient is the lower the more is missing. All sums run in an order that depends on the
node alone.
"""

from __future__ import annotations

import numpy as np

from ftrack.kernels.boxes import FAINTEST
from ftrack.kernels.coarse_sums import make_columns, make_rows
from ftrack.kernels.compiled import filling, inner, shared
from ftrack.kernels.lanes import LANES

EXCLUSION = 2
"""Offsets this near to the peak belong to it and are not searched for a second one, px."""

ROWS = 24
"""Rows of nodes whose coefficients are kept together, so that they stay in the processor's caches."""

CHIP = 16
"""Side of the chips, px."""

NONE = np.float32(-3.0)
"""Stands where an offset is not searched."""


_columns_1, _columns_2 = (make_columns(side, CHIP // side) for side in (1, 2))
_rows_1, _rows_2 = (make_rows(CHIP // side) for side in (1, 2))


def level(image: np.ndarray, reach: int, out: np.ndarray, there: np.ndarray) -> None:
    """Take the mean of the valid pixels around every pixel out of it.

    Parameters
    ----------
    image : float32 (y, x)
        NaN = no data.
    reach : int
        Pixels on every side that have a share in the mean.
    out : float32 (y - 2 * reach, x - 2 * reach)
        Result; zero where there are no data.
    there : float32 (y - 2 * reach, x - 2 * reach)
        Result; 1 where there are data, else 0.
    """
    _level(image, reach, out, there, np.empty((4, image.shape[1])))


@filling
def _level(image, reach, out, there, rooms):
    total, count, value, some = rooms[0], rooms[1], rooms[2, : out.shape[1]], rooms[3, : out.shape[1]]
    for y in range(out.shape[0]):
        total[:], count[:], value[:], some[:] = 0.0, 0.0, 0.0, 0.0
        for v in range(2 * reach + 1):
            row = image[y + v]
            for x in range(row.size):
                fine = row[x] == row[x]
                total[x] += np.float64(row[x]) if fine else 0.0
                count[x] += np.float64(fine)
        for u in range(2 * reach + 1):
            sums, pixels = total[u : u + value.size], count[u : u + value.size]
            for x in range(value.size):
                value[x] += sums[x]
                some[x] += pixels[x]
        row = image[y + reach, reach : reach + value.size]
        for x in range(value.size):
            fine, mean = row[x] == row[x], value[x] / some[x]
            left = np.float64(row[x]) - mean if fine else 0.0
            there[y, x] = np.float32(fine)
            out[y, x] = left if abs(left) > 1e-6 * abs(mean) else 0.0


def measure(image: np.ndarray, there: np.ndarray, side: int, least: float, out: np.ndarray) -> None:
    """Fill the inverse root of the summed squares of the square chip that begins at each pixel.

    Parameters
    ----------
    image, there : float32 (y, x)
        See `level`.
    side : int
        Side of the chips, px.
    least : float
        Least number of pixels with data in a chip.
    out : float32 (y - side + 1, x - side + 1)
        Result; zero where there is no texture, or too few pixels.
    """
    _measure(image, there, side, least, out, np.empty((4, image.shape[1]), np.float32))


@filling
def _measure(image, there, side, least, out, rooms):
    power, some, total, count = rooms[0], rooms[1], rooms[2, : out.shape[1]], rooms[3, : out.shape[1]]
    for y in range(out.shape[0]):
        power[:], some[:], total[:], count[:] = 0.0, 0.0, 0.0, 0.0
        for v in range(side):
            row, flags = image[y + v], there[y + v]
            for x in range(row.size):
                power[x] += row[x] * row[x]
                some[x] += flags[x]
        for u in range(side):
            squares, pixels = power[u : u + total.size], some[u : u + total.size]
            for x in range(total.size):
                total[x] += squares[x]
                count[x] += pixels[x]
        for x in range(total.size):
            fine = (count[x] >= least) & (total[x] > np.float32(FAINTEST))
            out[y, x] = np.float32(1) / np.sqrt(total[x]) if fine else np.float32(0)


@inner
def _split(image, top, left, side, rows, columns, out):
    """Copy every ``side``-th pixel along both axes, by where they lie in their squares: (side * side, rows * columns)."""
    for v in range(side):
        for u in range(side):
            plane = out[v * side + u]
            for k in range(min(rows, (image.shape[0] - top - v + side - 1) // side)):
                row = image[top + k * side + v]
                for j in range(min(columns, (image.shape[1] - left - u + side - 1) // side)):
                    plane[k * columns + j] = row[left + j * side + u]


@shared
def _sum_columns(a, b, places, side, rows, pitch, out, at):
    """Sum the products of the blocks that lie one below the other in every chip."""
    if side == 1:
        _columns_1(a, places[0], b, places[1], rows, pitch, pitch, out, at)
    else:
        _columns_2(a, places[0], b, places[1], rows, pitch, pitch, out, at)


@shared
def _sum_row(side, sums, at, scale, scale_at, inverse, inverse_at, size, out, out_at):
    """Sum these sums from block to block of every chip of a row."""
    if side == 1:
        _rows_1(sums, at, scale, scale_at, inverse, inverse_at, size, out, out_at)
    else:
        _rows_2(sums, at, scale, scale_at, inverse, inverse_at, size, out, out_at)


def find_coarse(
    images: tuple[np.ndarray, np.ndarray],
    inverses: tuple[np.ndarray, np.ndarray],
    spacing: int,
    far: int,
    cell: tuple[int, int, int, int],
    union: tuple[int, ...],
    span: np.ndarray,
    alike: bool,
    found: np.ndarray,
) -> None:
    """Find the peaks of the nodes of a cell.

    Parameters
    ----------
    images : (float32 (y, x), float32 (v, u))
        Levelled reference and secondary; the secondary begins ``far`` px above and to the left of the reference.
    inverses : (float32 (y, x), float32 (v, u))
        Inverse root of the summed squares of the chip that begins at each pixel; zero where there is none.
    spacing, far : int
        Pixels between nodes; see ``images``.
    cell : (top, bottom, left, right)
        First and last row and first and last column of the nodes.
    union : (int, int, int, int)
        First and last row and first and last column of all their windows, px.
    span : int64 (row, 4, column)
        Those of every window.
    alike : bool
        All windows are the union.
    found : float64 (6, row, column)
        Result: coefficient of the peak and of the second highest, place of the peak (y, x), px, and of the parabolas through it.
        The place is NaN where the peak lies on the rim of its window.
    """
    side = 1 if spacing % 2 else 2
    step, count = spacing // side, CHIP // side
    down, across, width, most = union[1] - union[0], union[3] - union[2], cell[3] - cell[2], min(ROWS, cell[1] - cell[0])
    lanes, pitch = (-(-n // LANES) * LANES for n in (width, (width - 1) * step + count + (across + side - 2) // side + 1))
    blocks = (most - 1) * step + count
    below = blocks + (down + side - 2) // side + 1
    c_rows, c_pitch = most + (down + spacing - 2) // spacing + 1, lanes + (across + spacing - 2) // spacing + 1
    shapes = (
        (side * side, blocks * pitch),
        (side * side, below * pitch + LANES),
        (spacing * spacing, c_rows * c_pitch),
        (most, lanes),
    )
    planes, surface = tuple(np.zeros(shape, np.float32) for shape in shapes), np.zeros((most, down * across, lanes), np.float32)
    lines = np.zeros((blocks + count) * pitch + LANES, np.float32), np.zeros(pitch, np.float32), np.ones(pitch, np.float32)
    best = np.zeros((2, lanes), np.float32), np.zeros((3, lanes), np.int32)
    rooms = (planes, surface, lines, np.zeros((2, side * side), np.int64), best)
    _find_in(images, inverses, (spacing, side, far), cell, union, span, alike, (most, blocks, below, c_rows, c_pitch, pitch), rooms, found)


@filling
def _find_in(images, inverses, distances, cell, union, span, alike, sizes, rooms, found):
    """Find the peaks of the nodes of a cell in some rows of nodes after the other."""
    spacing, side, far = distances
    most, blocks, below, c_rows, c_pitch, pitch = sizes
    (a, b, c, own), surface, (sums, line, ones), places, best = rooms
    step, count = spacing // side, CHIP // side
    top, bottom, left, right = cell
    down, across, width, lanes, begin = union[1] - union[0], union[3] - union[2], right - left, own.shape[1], (count - 1) * pitch
    flat_a, flat_b, flat_c, flat_own, flat = a.reshape(-1), b.reshape(-1), c.reshape(-1), own.reshape(-1), surface.reshape(-1)
    for first in range(top, bottom, most):
        rows = min(most, bottom - first)
        high = (rows - 1) * step + count
        y, x = first * spacing, left * spacing
        _split(images[0], y, x, side, high, pitch, a)
        _split(images[1], y + far + union[0], x + far + union[2], side, high + below - blocks, pitch, b)
        _split(inverses[1], y + far + union[0], x + far + union[2], spacing, rows + c_rows - most, c_pitch, c)
        for n in range(rows):
            for m in range(width):
                own[n, m] = inverses[0][y + n * spacing, x + m * spacing]
        for o in range(down * across):
            dy, dx = o // across, o % across
            for p in range(side * side):
                v, u = dy + p // side, dx + p % side
                places[0, p] = p * a.shape[1]
                places[1, p] = (v % side * side + u % side) * b.shape[1] + v // side * pitch + u // side
            _sum_columns(flat_a, flat_b, places, side, high, pitch, sums, begin)
            scale_at = (dy % spacing * spacing + dx % spacing) * c.shape[1] + dy // spacing * c_pitch + dx // spacing
            for n in range(rows):
                at, inverse_at, out_at = begin + n * step * pitch, scale_at + n * c_pitch, (n * down * across + o) * lanes
                if step == 1:
                    _sum_row(side, sums, at, flat_own, n * lanes, flat_c, inverse_at, lanes, flat, out_at)
                else:
                    _sum_row(side, sums, at, ones, 0, ones, 0, pitch, line, 0)
                    for m in range(width):
                        surface[n, o, m] = line[m * step] * own[n, m] * flat_c[inverse_at + m]
        for n in range(rows):
            if not alike:
                _limit(surface[n], span[first + n, :, left:right], union)
            _judge(surface[n], across, span[first + n, :, left:right], union, best, found[:, first + n, left:right])


@inner
def _limit(surface, span, union):
    """Write ``NONE`` outside the windows of the nodes."""
    across = union[3] - union[2]
    for m in range(span.shape[1]):
        for o in range(surface.shape[0]):
            y, x = union[0] + o // across, union[2] + o % across
            if y < span[0, m] or y >= span[1, m] or x < span[2, m] or x >= span[3, m]:
                surface[o, m] = NONE


@inner
def _judge(surface, across, span, union, rooms, found):
    """Find the highest coefficients of a row of nodes, and parabolas through them."""
    lanes = surface.shape[1]
    (best, second), (where, at_y, at_x) = (rooms[0][0], rooms[0][1]), (rooms[1][0], rooms[1][1], rooms[1][2])
    for m in range(lanes):
        best[m], second[m], where[m] = NONE, NONE, np.int32(0)
    for o in range(surface.shape[0]):
        row = surface[o]
        for m in range(lanes):
            higher = row[m] > best[m]
            best[m] = row[m] if higher else best[m]
            where[m] = np.int32(o) if higher else where[m]
    for m in range(lanes):
        at_y[m], at_x[m] = where[m] // np.int32(across), where[m] % np.int32(across)
    for o in range(surface.shape[0]):
        row, y, x = surface[o], np.int32(o // across), np.int32(o % across)
        for m in range(lanes):
            apart = (abs(at_y[m] - y) > EXCLUSION) | (abs(at_x[m] - x) > EXCLUSION)
            second[m] = row[m] if apart & (row[m] > second[m]) else second[m]
    for m in range(span.shape[1]):
        y, x, o = union[0] + at_y[m], union[2] + at_x[m], where[m]
        found[0, m], found[1, m], found[2, m], found[3, m] = best[m], second[m], y, x
        if y == span[0, m] or y == span[1, m] - 1 or x == span[2, m] or x == span[3, m] - 1:
            found[4, m], found[5, m] = np.nan, np.nan
        else:
            found[4, m] = y + _vertex(surface[o - across, m], best[m], surface[o + across, m])
            found[5, m] = x + _vertex(surface[o - 1, m], best[m], surface[o + 1, m])


@inner
def _vertex(before, centre, after):
    """Return where the parabola through three numbers has its maximum, counted from the middle one; NaN where there is none."""
    curvature = 2.0 * np.float64(centre) - before - after
    return 0.5 * (np.float64(after) - before) / curvature if curvature > 0.0 else np.nan
