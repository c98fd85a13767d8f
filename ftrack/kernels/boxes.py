"""Means, spreads and differences of all boxes of the secondary that chips are compared with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ftrack.kernels.chain import DOWN, FIRST, HEIGHT, RIGHT, SECOND, WIDTH
from ftrack.kernels.compiled import filling, inner, shared
from ftrack.kernels.vectors import LANES, merge_boxes

FLAT = 1e-6
"""Texture is missing where the standard deviation is below this share of the brightness."""

FAINTEST = 1e-30
"""Texture is missing where the variance is below this; its products would leave the range of single precision."""

LEVEL = 3.0
"""Sums of products keep their accuracy where a mean is below this many standard deviations."""


class Boxes(NamedTuple):
    """Where means and inverse spreads of the secondary's boxes lie in the one array of numbers, (chip, row, column).

    The first belongs to the offset ``dy, dx`` of the first node; ``height`` and ``pitch`` are the numbers of rows and
    columns, ``end`` is the place behind the last. ``far``, int64 (chip, row), has a bit set for every piece
    of a row, ``piece_of`` its length, where some box has a mean too large for its spread, see ``LEVEL``.
    """

    mean: int
    inverse: int
    dy: int
    dx: int
    height: int
    pitch: int
    far: np.ndarray
    end: int

    def seen_from(self, y: int, x: int) -> dict[str, int]:
        """Return how a cell whose first node and offset together lie at ``y, x`` finds them."""
        moved = (y - self.dy) * self.pitch + x - self.dx
        return {"mean": self.mean + moved, "inverse": self.inverse + moved, "height": self.height, "pitch": self.pitch}


@filling
def fill_boxes(numbers, region, chain, rows_of, planes, sums, squares, slot):
    """Fill mean and inverse root of the summed squared deviations of the boxes at every place of a region, for every chip.

    Parameters
    ----------
    numbers : float32 (n,)
        Holds the image, and takes the results.
    region : (at, step, rows, columns, mean, inverse)
        Place of the region's first pixel and length of a row of the image; rows and columns of the region, columns a
        multiple of 16; places of the results, (chip, row, column). A box is given at its upper left pixel where it
        lies inside; the inverse is zero where the box is flat.
    chain : int64 (box, 6)
        Boxes made of pixels; see ``ftrack.kernels.chain``.
    rows_of : int64 (box, 2)
        How many rows of a kind of box are remembered, and the first of them; see ``rows_to_remember``.
    planes : int64 (box, 2)
        Number of the chip that is this box, and the place of the plane of differences between the means of the box's
        parts; -1 = none.
    sums, squares : float64 (n,), float32 (n,)
        Room for the rows and one more.
    slot : int64 (box,)
        Room for which of them is written to.
    """
    at, step, rows, columns, mean, inverse = region
    spare = (rows_of[-1, 1] + rows_of[-1, 0]) * columns
    slot[:] = 0
    for y in range(rows):
        base = slot[0] * columns
        _begin_row(numbers[at + y * step : at + y * step + columns], sums[base : base + columns], squares[base : base + columns])
        for b in range(chain.shape[0]):
            top = y - chain[b, HEIGHT] + 1
            if top < 0:
                continue
            line, count = (rows_of[b, 1] + slot[b]) * columns, columns - chain[b, WIDTH] + 1
            if b > 0:
                first, second = chain[b, FIRST], chain[b, SECOND]
                row = slot[first] - (chain[second, HEIGHT] if chain[b, DOWN] > 0 else 0)
                one = (rows_of[first, 1] + (row if row >= 0 else row + rows_of[first, 0])) * columns
                other = (rows_of[second, 1] + slot[second]) * columns + chain[b, RIGHT]
                n1, n2 = chain[first, WIDTH] * chain[first, HEIGHT], chain[second, WIDTH] * chain[second, HEIGHT]
                weight = np.float32(n1 * n2 / (n1 + n2))
                if planes[b, 1] < 0:
                    merge_boxes(sums, one, other, line, squares, weight, 1.0 / n1, 1.0 / n2, squares, spare, count)
                else:
                    place = planes[b, 1] + top * columns
                    merge_boxes(sums, one, other, line, squares, weight, 1.0 / n1, 1.0 / n2, numbers, place, count)
            if planes[b, 0] >= 0:
                place = (planes[b, 0] * rows + top) * columns
                size = chain[b, WIDTH] * chain[b, HEIGHT]
                m, s = mean + place, inverse + place
                invert(sums[line : line + count], squares[line : line + count], size, numbers[m : m + count], numbers[s : s + count])
        for b in range(chain.shape[0]):
            slot[b] = slot[b] + 1 if slot[b] + 1 < rows_of[b, 0] else 0


@filling
def find_far(numbers, places, where, pieces, some, span, far):
    """Find the chips that are compared with a box whose mean is too large for its spread; see ``LEVEL``.

    Parameters
    ----------
    numbers : float32 (n,)
        Holds means and inverses, at ``places`` = (mean, inverse, length of a row).
    where : (y, x, step, size)
        Rows and columns before the first chip, pixels between chips and along the side of a chip.
    pieces : int64 (row,)
        What ``ftrack.kernels.stacked`` has found.
    some : bool (row, column)
        Chips to look at.
    span : int64 (row, 4, column)
        First and last row and column of the windows.
    far : bool (row, column)
        Result.
    """
    mean, inverse, pitch = places
    top, first, step, size = where
    most, piece = most_of(size * size), piece_of(pitch)
    for i in range(some.shape[0]):
        low, high, there = pieces.size, np.int64(0), np.int64(0)
        for j in range(some.shape[1]):
            if some[i, j]:
                low, high = min(low, top + i * step + span[i, 0, j]), max(high, top + i * step + span[i, 1, j])
        for row in range(low, high):
            there |= pieces[row]
        for j in range(some.shape[1] if there != 0 else 0):
            y, x, width = top + i * step, first + j * step + span[i, 2, j], span[i, 3, j] - span[i, 2, j]
            one, last = x // piece, (x + width - 1) // piece
            looked_at = (2 << last) - (1 << one)
            if not some[i, j] or not there & looked_at:
                continue
            for row in range(y + span[i, 0, j], y + span[i, 1, j]):
                if pieces[row] & looked_at and _any_far(numbers, mean + row * pitch + x, inverse + row * pitch + x, width, most):
                    far[i, j] = True
                    break


@inner
def piece_of(columns):
    """Return how long the pieces of a row are, so that there are no more than bits of an integer."""
    return columns // 60 + 1


def rows_to_remember(chain: np.ndarray) -> np.ndarray:
    """Return how many rows of each kind of box the sums look back on, and the number of the first: int64 (box, 2)."""
    rows = np.ones((len(chain), 2), np.int64)
    for first, second, _, down, *_ in chain[1:]:
        if down:
            rows[first, 0] = max(rows[first, 0], chain[second, HEIGHT] + 1)
    rows[:, 1] = np.cumsum(rows[:, 0]) - rows[:, 0]
    return rows


def room_for_boxes(rows_of: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return room for the sums and squares that `fill_boxes` remembers, and for where it writes them."""
    size = int(rows_of[-1].sum() + 1) * columns + 2 * LANES
    return np.zeros(size), np.zeros(size, np.float32), np.zeros(len(rows_of), np.int64)


@inner
def _begin_row(pixels, sums, squares):
    for x in range(pixels.size):
        sums[x] = pixels[x]
    for x in range(pixels.size):
        squares[x] = np.float32(0)


@inner
def invert(sums, squares, size, mean, inverse):
    """Write one row of means and inverse spreads; return how many boxes have a mean too large for their spread."""
    far, most = 0, most_of(size)
    share, n, least, faintest = np.float32(1.0 / size), np.float32(size), np.float32(FLAT * FLAT), np.float32(size * FAINTEST)
    for x in range(sums.size):
        m = np.float32(sums[x]) * share
        q = squares[x]
        textured = (q > least * (q + n * m * m)) & (q > faintest)
        i = np.float32(1) / np.sqrt(q) if textured else np.float32(0)
        mean[x] = m
        inverse[x] = i
        far += abs(m * i) > most
    return far


@inner
def most_of(size):
    """Return how large the mean of ``size`` pixels may be times the inverse root of their summed squared deviations."""
    return np.float32(LEVEL / np.sqrt(size))


@shared
def _any_far(numbers, mean, inverse, count, most):
    a, b, far = np.uintp(mean), np.uintp(inverse), 0
    for x in range(np.uintp(count)):
        far += abs(numbers[a + x] * numbers[b + x]) > most
    return far > 0


@shared
def find_pieces(mean, inverse, most, piece):
    """Return a bit for every piece of a row that says whether some box there is far; see ``Boxes``."""
    pieces = 0
    for first in range(0, mean.size, piece):
        far = 0
        for x in range(first, min(first + piece, mean.size)):
            far += abs(mean[x] * inverse[x]) > most
        pieces |= np.int64(far > 0) << (first // piece)
    return pieces
