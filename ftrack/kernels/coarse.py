"""Peaks of one chip size on small images: for one offset after the other, the sums of all chips are formed together.

Images are levelled first: less the mean around each pixel, and zero where there are no data. So what is missing adds
nothing to a sum, and a coefficient is the lower the more is missing. All sums run in an order that depends on the
node alone.
"""

from __future__ import annotations

import numpy as np

from ftrack.kernels.boxes import FAINTEST
from ftrack.kernels.coarse_sums import find_highest, find_second, make_columns, make_rows
from ftrack.kernels.compiled import filling, inner, shared
from ftrack.kernels.lanes import LANES, on_a_line

EXCLUSION = 2
"""Offsets this near to the peak belong to it and are not searched for a second one, px."""

ROWS = 24
"""Rows of nodes whose coefficients are kept together, so that they stay in the processor's caches."""

CHIP = 16
"""Side of the chips, px."""

BAND = 40
"""Rows that are levelled together, for the same reason."""

NONE = np.float32(-3.0)
"""Stands where an offset is not searched."""


_columns_1, _columns_2 = (make_columns(side, CHIP // side) for side in (1, 2))
_rows_1, _rows_2 = (make_rows(CHIP // side) for side in (1, 2))


def level(image: np.ndarray, reach: int, out: np.ndarray, there: np.ndarray) -> None:
    """Take the mean of the valid pixels around every pixel out of it.

    Sums are formed of sums of two, then of two of these, so that few are needed and rounding stays small.

    Parameters
    ----------
    image : float32 (y, x)
        NaN = no data.
    reach : int
        Pixels on every side that have a share in the mean, a power of two.
    out : float32 (y - 2 * reach, x - 2 * reach)
        Result; zero where there are no data.
    there : float32 (y - 2 * reach, x - 2 * reach)
        Result; 1 where there are data, else 0.
    """
    _level(image, reach, out, there, np.empty((4, BAND + 2 * reach, image.shape[1])), np.empty((5, image.shape[1])))


@filling
def _level(image, reach, out, there, rooms, lines):
    side, width, most = 2 * reach, out.shape[1], rooms.shape[1] - 2 * reach
    for begin in range(0, out.shape[0], most):
        height = min(most, out.shape[0] - begin)
        for y in range(height + side):
            row = image[begin + y]
            for x in range(row.size):
                fine = row[x] == row[x]
                lines[0, x], lines[1, x] = np.float64(row[x]) if fine else 0.0, 1.0 if fine else 0.0
                lines[2, x], lines[3, x] = lines[0, x], lines[1, x]
            for p in range(2):
                sums, last = lines[4 if _slide(lines[p], lines[4], side) else p], lines[2 + p, side:]
                first, second = rooms[p, y], rooms[2 + p, y]
                for x in range(width):
                    first[x] = sums[x] + last[x]
                    second[x] = sums[x] + last[x]
        for p in range(2):
            _sum_down(rooms[2 + p, : height + side], side, width)
        for y in range(height):
            total, last_total, count, last_count = rooms[2, y], rooms[0, y + side], rooms[3, y], rooms[1, y + side]
            row, line, flags = image[begin + y + reach, reach : reach + width], out[begin + y], there[begin + y]
            for x in range(width):
                fine, mean = row[x] == row[x], (total[x] + last_total[x]) / (count[x] + last_count[x])
                left = np.float64(row[x]) - mean
                flags[x] = np.float32(1) if fine else np.float32(0)
                line[x] = left if fine & (abs(left) > 1e-6 * abs(mean)) else 0.0


@shared
def _slide(line, other, side):
    """Sum every ``side`` neighbours, a power of two; both rows are overwritten, and it is returned whether the other has the sums."""
    step, count, turned = 1, line.size, False
    while step < side:
        count -= step
        row, ahead, out = (other, other[step:], line) if turned else (line, line[step:], other)
        for x in range(count):
            out[x] = row[x] + ahead[x]
        step, turned = 2 * step, not turned
    return turned


@shared
def _sum_down(plane, side, width):
    """Sum every ``side`` rows below each other, a power of two."""
    step = 1
    while step < side:
        for y in range(plane.shape[0] - 2 * step + 1):
            _add(plane[y, :width], plane[y + step, :width])
        step *= 2


@shared
def _add(row, below):
    for x in range(row.size):
        row[x] += below[x]


def measure(image: np.ndarray, there: np.ndarray, side: int, least: float, out: np.ndarray) -> None:
    """Fill the inverse root of the summed squares of the square chip that begins at each pixel.

    Parameters
    ----------
    image, there : float32 (y, x)
        See `level`.
    side : int
        Side of the chips, px, a power of two.
    least : float
        Least number of pixels with data in a chip.
    out : float32 (y - side + 1, x - side + 1)
        Result; zero where there is no texture, or too few pixels.
    """
    _measure(image, there, side, least, out, np.empty((2, *image.shape), np.float32), np.empty((3, image.shape[1]), np.float32))


@filling
def _measure(image, there, side, least, out, rooms, lines):
    rows, (height, width) = image.shape[0], out.shape
    for y in range(rows):
        row, flags = image[y], there[y]
        for x in range(row.size):
            lines[0, x], lines[1, x] = row[x] * row[x], flags[x]
        for p in range(2):
            sums, into = lines[2 if _slide(lines[p], lines[2], side) else p], rooms[p, y, :width]
            for x in range(width):
                into[x] = sums[x]
    for p in range(2):
        _sum_down(rooms[p], side, width)
    for y in range(height):
        total, count, line = rooms[0, y], rooms[1, y], out[y]
        for x in range(width):
            fine = (count[x] >= np.float32(least)) & (total[x] > np.float32(FAINTEST))
            line[x] = np.float32(1) / np.sqrt(total[x]) if fine else np.float32(0)


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
def _sum_columns(a, b, places, side, rows, pitch, size, out, at):
    """Sum the products of the blocks that lie one below the other in every chip."""
    if side == 1:
        _columns_1(a, places[0], b, places[1], rows, pitch, size, out, at)
    else:
        _columns_2(a, places[0], b, places[1], rows, pitch, size, out, at)


@shared
def _sum_row(side, sums, at, scale, scale_at, inverse, inverse_at, size, out, out_at, apart):
    """Sum these sums from block to block of every chip of a row."""
    if side == 1:
        _rows_1(sums, at, scale, scale_at, inverse, inverse_at, size, out, out_at, apart)
    else:
        _rows_2(sums, at, scale, scale_at, inverse, inverse_at, size, out, out_at, apart)


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
    planes, surface = tuple(_aligned(shape) for shape in shapes), _aligned((most, lanes // LANES, down * across, LANES))
    lines = _aligned(((blocks + count) * pitch + LANES,)), np.zeros(pitch, np.float32), np.ones(pitch, np.float32)
    best = (np.zeros(lanes, np.float32), np.zeros(lanes, np.float32)), (np.zeros(lanes, np.int32), np.zeros(2 * lanes, np.int32))
    places = np.zeros((2, side * side), np.int64), np.zeros(down + side, np.int64), np.zeros(across + side, np.int64)
    rooms = (planes, surface, lines, places, best)
    _find_in(images, inverses, (spacing, side, far), cell, union, span, alike, (most, blocks, below, c_rows, c_pitch, pitch), rooms, found)


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Return zeros that begin on a line of the processor's cache."""
    size = int(np.prod(shape))
    return on_a_line(np.zeros(size + LANES, np.float32))[:size].reshape(shape)


@filling
def _find_in(images, inverses, distances, cell, union, span, alike, sizes, rooms, found):
    """Find the peaks of the nodes of a cell in some rows of nodes after the other."""
    spacing, side, far = distances
    most, blocks, below, c_rows, c_pitch, pitch = sizes
    (a, b, c, own), surface, (sums, line, ones), (places, down_at, across_at), best = rooms
    step, count = spacing // side, CHIP // side
    top, bottom, left, right = cell
    down, across, width, lanes, begin = union[1] - union[0], union[3] - union[2], right - left, own.shape[1], (count - 1) * pitch
    size = ((width - 1) * step + count + LANES - 1) // LANES * LANES
    flat_a, flat_b, flat_c, flat_own, flat = a.reshape(-1), b.reshape(-1), c.reshape(-1), own.reshape(-1), surface.reshape(-1)
    for p in range(side * side):
        places[0, p] = p * a.shape[1]
    for v in range(down + side):
        down_at[v] = v % side * side * b.shape[1] + v // side * pitch
    for u in range(across + side):
        across_at[u] = u % side * b.shape[1] + u // side
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
            for v in range(side):
                for u in range(side):
                    places[1, v * side + u] = down_at[dy + v] + across_at[dx + u]
            _sum_columns(flat_a, flat_b, places, side, high, pitch, size, sums, begin)
            scale_at = (dy % spacing * spacing + dx % spacing) * c.shape[1] + dy // spacing * c_pitch + dx // spacing
            for n in range(rows):
                at, inverse_at, out_at = begin + n * step * pitch, scale_at + n * c_pitch, n * down * across * lanes + o * LANES
                if step == 1:
                    _sum_row(side, sums, at, flat_own, n * lanes, flat_c, inverse_at, lanes, flat, out_at, down * across)
                else:
                    _sum_row(side, sums, at, ones, 0, ones, 0, size, line, 0, 1)
                    for m in range(width):
                        surface[n, m // LANES, o, m % LANES] = line[m * step] * own[n, m] * flat_c[inverse_at + m]
        for n in range(rows):
            if not alike:
                _limit(surface[n], span[first + n, :, left:right], union)
            _judge(surface[n], across, span[first + n, :, left:right], union, best, found[:, first + n, left:right])


@inner
def _limit(surface, span, union):
    """Write ``NONE`` outside the windows of the nodes."""
    across = union[3] - union[2]
    for m in range(span.shape[1]):
        for o in range(surface.shape[1]):
            y, x = union[0] + o // across, union[2] + o % across
            if y < span[0, m] or y >= span[1, m] or x < span[2, m] or x >= span[3, m]:
                surface[m // LANES, o, m % LANES] = NONE


@inner
def _judge(surface, across, span, union, rooms, found):
    """Find the highest coefficients of a row of nodes, and parabolas through them."""
    flat, count, lanes = surface.reshape(-1), surface.shape[1], surface.shape[0] * LANES
    (best, second), (where, places) = rooms
    find_highest(flat, count, lanes, best, where)
    at_y, at_x = places[:lanes], places[lanes:]
    for m in range(lanes):
        at_y[m], at_x[m] = where[m] // np.int32(across), where[m] % np.int32(across)
    find_second(flat, count // across, across, lanes, places, second, EXCLUSION)
    for m in range(span.shape[1]):
        y, x, o, part, k = union[0] + at_y[m], union[2] + at_x[m], where[m], surface[m // LANES], m % LANES
        found[0, m], found[1, m], found[2, m], found[3, m] = best[m], second[m], y, x
        if y == span[0, m] or y == span[1, m] - 1 or x == span[2, m] or x == span[3, m] - 1:
            found[4, m], found[5, m] = np.nan, np.nan
        else:
            found[4, m] = y + _vertex(part[o - across, k], best[m], part[o + across, k])
            found[5, m] = x + _vertex(part[o - 1, k], best[m], part[o + 1, k])


@inner
def _vertex(before, centre, after):
    """Return where the parabola through three numbers has its maximum, counted from the middle one; NaN where there is none."""
    curvature = 2.0 * np.float64(centre) - before - after
    return 0.5 * (np.float64(after) - before) / curvature if curvature > 0.0 else np.nan
