"""Means, spreads and differences of all boxes of the secondary that chips are compared with."""

from __future__ import annotations

import numpy as np
from numba import njit

from ftrack.kernels.chain import DOWN, FIRST, HEIGHT, RIGHT, SECOND, WIDTH
from ftrack.kernels.vectors import merge_boxes

FLAT = 1e-6
"""Texture is missing where the standard deviation is below this share of the brightness."""

FAINTEST = 1e-30
"""Texture is missing where the variance is below this; its products would leave the range of single precision."""

LEVEL = 6.0
"""Sums of products keep their accuracy where a mean is below this many standard deviations."""


@njit(nogil=True, cache=True, error_model="numpy")
def fill_boxes(region, size, chain, of_chip, difference_at, work, out):
    """Fill mean and inverse root of the summed squared deviations of the boxes at every place of a region, for every chip.

    Parameters
    ----------
    region : (image, at, step)
        Image, float32 (n,), row after row, the region's first pixel and the length of a row.
    size : (int, int)
        Rows and columns of the region; columns a multiple of 16. A box is given at the place of its upper left pixel
        where it lies inside.
    chain, of_chip : int64
        Boxes made of pixels; see ``ftrack.kernels.chain``.
    difference_at : int64 (box,)
        Where in ``differences`` the plane of a merge's difference of means begins; -1 = not kept.
    work : (sums (n,), float32 (n,))
        Room for ``room_for_boxes`` times the columns. In double precision the sums serve images of any brightness.
    out : (mean, inverse, differences)
        Result, float32: (chip * rows * columns,) twice, the inverse zero where the box is flat, and (n,).

    Returns
    -------
    int
        Places where some box has a mean too large for its spread; see ``LEVEL``.
    """
    rows, columns = size
    image, at, step = region
    mean, inverse, differences = out
    sums, squares = work
    depth, first_line = _lines(chain)
    spare = (first_line[-1] + depth[-1]) * columns
    slot = np.zeros(chain.shape[0], np.int64)
    far = 0
    for y in range(rows):
        base = slot[0] * columns
        _begin_row(image[at + y * step : at + y * step + columns], sums[base : base + columns], squares[base : base + columns])
        for b in range(1, chain.shape[0]):
            top = y - chain[b, HEIGHT] + 1
            if top < 0:
                continue
            first, second = chain[b, FIRST], chain[b, SECOND]
            row = slot[first] - (chain[second, HEIGHT] if chain[b, DOWN] > 0 else 0)
            one = (first_line[first] + (row if row >= 0 else row + depth[first])) * columns
            other = (first_line[second] + slot[second]) * columns + chain[b, RIGHT]
            line = (first_line[b] + slot[b]) * columns
            n1, n2 = chain[first, WIDTH] * chain[first, HEIGHT], chain[second, WIDTH] * chain[second, HEIGHT]
            weight = np.float32(n1 * n2 / (n1 + n2))
            count = columns - chain[b, WIDTH] + 1
            kept, place = (squares, spare) if difference_at[b] < 0 else (differences, difference_at[b] + top * columns)
            merge_boxes(sums, one, other, line, squares, one, other, line, 1.0 / n1, 1.0 / n2, weight, kept, place, count)
        for c in range(of_chip.size):
            b = of_chip[c]
            top = y - chain[b, HEIGHT] + 1
            if top >= 0:
                begin, place = (first_line[b] + slot[b]) * columns, (c * rows + top) * columns
                pixels = chain[b, WIDTH] * chain[b, HEIGHT]
                count = columns - chain[b, WIDTH] + 1
                part, put = slice(begin, begin + count), slice(place, place + count)
                far += _invert(sums[part], squares[part], pixels, mean[put], inverse[put])
        for b in range(chain.shape[0]):
            slot[b] = slot[b] + 1 if slot[b] + 1 < depth[b] else 0
    return far


@njit(nogil=True, cache=True, error_model="numpy")
def _begin_row(pixels, sums, squares):
    for x in range(pixels.size):
        sums[x] = pixels[x]
    for x in range(pixels.size):
        squares[x] = np.float32(0)


@njit(nogil=True, cache=True, error_model="numpy")
def _lines(chain):
    """Return how many rows of each box are remembered, and the first of them in the working room."""
    depth = np.ones(chain.shape[0], np.int64)
    for b in range(1, chain.shape[0]):
        if chain[b, DOWN] > 0:
            second = chain[b, SECOND]
            first = chain[b, FIRST]
            depth[first] = max(depth[first], chain[second, HEIGHT] + 1)
    first_line = np.zeros(chain.shape[0], np.int64)
    for b in range(1, chain.shape[0]):
        first_line[b] = first_line[b - 1] + depth[b - 1]
    return depth, first_line


@njit(nogil=True, cache=True, error_model="numpy")
def room_for_boxes(chain):
    """Return how many rows of a region the working room holds."""
    depth, _ = _lines(chain)
    return depth.sum() + 1


@njit(nogil=True, cache=True, error_model="numpy")
def _invert(sums, squares, pixels, mean, inverse):
    """Write one row of means and inverse spreads; return how many boxes have a mean too large for their spread."""
    far = 0
    share, n, least = np.float32(1.0 / pixels), np.float32(pixels), np.float32(FLAT * FLAT)
    most, faintest = np.float32(LEVEL * LEVEL + 1.0), np.float32(FAINTEST)
    for x in range(sums.size):
        m = np.float32(sums[x]) * share
        q = squares[x]
        power = q + n * m * m
        textured = q > least * power and q > n * faintest
        mean[x] = m
        inverse[x] = np.float32(1) / np.sqrt(q) if textured else np.float32(0)
        far += 1 if textured and power > most * q else 0
    return far
