"""What is valid of chips and of the pixels that they are compared with, where it is a rectangle."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.certain import is_settled
from ftrack.kernels.compiled import filling, inner, shared

NONE, PLAIN, LEVELLED, MASKED, GAPPY = range(5)
"""How the sums of a chip are formed: not at all, as they are, with the means taken out, or over the pixels that both images have, in
single or double precision."""

FAR = 2**40
"""Farther than any window reaches, px."""


@filling
def choose_chips(windows, ground, layout, chips, limits, found, span, mode, rims, extent):
    """Choose the chips that are searched, and find how their sums are formed: those with gaps in what is compared otherwise.

    Parameters
    ----------
    windows : (dy, dx, radius)
        Int64 (row, column); see ``ftrack.kernels.layout.Windows``.
    ground : (bounds, r_total, s_total)
        First and last row and first and last column of both images, int64 (2, 4), px from the first chip's corner, and how many valid
        pixels lie above and to the left of every corner, int32 (y + 1, x + 1), empty where images have no gaps.
    layout : (far, side, step, counts, starts)
        The secondary begins ``far`` px above and left of the reference; for the others see ``ftrack.kernels.layout.Layout``.
    chips : (usable, wanted, far)
        Bool (chip, row, column): those with pixels and texture, those wanted, and those with a mean too large for the spread.
    limits, found : (float, float), float32 (chip, row, column, 14)
        Chips are left out where a smaller one is settled, see ``ftrack.kernels.certain``. NaN is written for those wanted; may be empty.
    span, mode, rims
        Results, see ``ftrack.kernels.tiles.Search``. Rims are first and last row and first and last column of the valid pixels in the
        chip, and of those in the secondary, counted from the chip's first pixel, where both are rectangles but not whole.
    extent : int64 (9,)
        Result, see ``ftrack.kernels.tiles.Extent``.
    """
    (dy, dx, radius), (bounds, r_total, s_total), (far, side, step, counts, starts), (usable, wanted, bright) = (
        windows,
        ground,
        layout,
        chips,
    )
    begun, gappy = found.size > 0, r_total.size > 0
    for k in range(9):
        extent[k] = FAR if k < 4 else -FAR if k < 8 else 0
    for i in range(mode.shape[1]):
        for j in range(mode.shape[2]):
            reach, some, settled = radius[i, j], False, False
            top, bottom, left, right = dy[i, j] - reach, dy[i, j] + reach + 1, dx[i, j] - reach, dx[i, j] + reach + 1
            span[i, 0, j], span[i, 1, j], span[i, 2, j], span[i, 3, j] = top, bottom, left, right
            for c in range(mode.shape[0]):
                for k in range(found.shape[3] if begun and wanted[c, i, j] else 0):
                    found[c, i, j, k] = np.float32(np.nan)
            for c in range(mode.shape[0]):
                settled = settled or (begun and c > 1 and is_settled(found, c - 2, i, j, limits))
                mode[c, i, j] = NONE
                if settled or not usable[c, i, j] or not wanted[c, i, j]:
                    continue
                y, x, size = side * (starts[c] + i * step), side * (starts[c] + j * step), side * counts[c]
                chip, other = (y, y + size, x, x + size), (y + top, y + bottom - 1 + size, x + left, x + right - 1 + size)
                if not _meets(other, bounds[1]):
                    continue
                some, mode[c, i, j] = True, LEVELLED if bright[c, i, j] else PLAIN
                if gappy or not _lies_in(chip, bounds[0]) or not _lies_in(other, bounds[1]):
                    gaps = _find_rectangle(bounds, (r_total, s_total), far, chip, other, rims[c, i, j])
                    for k in range(8 if bright[c, i, j] else 0):
                        rims[c, i, j, k] = 0
                    if gaps and rims[c, i, j, 1] == 0:
                        mode[c, i, j] = GAPPY if bright[c, i, j] else MASKED
            if some:
                for k in range(4):
                    extent[k], extent[4 + k] = min(extent[k], span[i, k, j]), max(extent[4 + k], span[i, k, j])
                extent[8] = max(extent[8], bottom - top)


@shared
def _find_rectangle(bounds, totals, far, chip, other, rims):
    """Return whether a chip or what it is compared with has gaps; write what is valid where it is a rectangle."""
    (y, _, x, _), (top, bottom, left, right) = chip, other
    v, u, size = y + far, x + far, chip[1] - y
    a = _valid(totals[0], bounds[0], np.int64(0), chip)
    b = _valid(totals[1], bounds[1], far, (top + far, bottom + far, left + far, right + far))
    gaps = a[0] < size * size or b[0] < (bottom - top) * (right - left)
    fits = a[0] == (a[2] - a[1]) * (a[4] - a[3]) and b[0] == (b[2] - b[1]) * (b[4] - b[3])
    if gaps and a[0] > 0 and b[0] > 0 and fits:
        for k in range(4):
            rims[k], rims[4 + k] = a[1 + k] - (y, y, x, x)[k], b[1 + k] - (v, v, u, u)[k]
    return gaps


@inner
def _meets(part, bounds):
    return part[1] > bounds[0] and part[0] < bounds[1] and part[3] > bounds[2] and part[2] < bounds[3]


@inner
def _lies_in(part, bounds):
    return part[0] >= bounds[0] and part[1] <= bounds[1] and part[2] >= bounds[2] and part[3] <= bounds[3]


def find_bounds(image: np.ndarray) -> tuple[int, int, int, int]:
    """Return first and last row and first and last column of the smallest rectangle that holds all numbers, zeros if there are none."""
    top, bottom, left, right = 0, image.shape[0], 0, image.shape[1]
    while top < bottom and np.isnan(image[top]).all():
        top += 1
    if top == bottom:
        return 0, 0, 0, 0
    while np.isnan(image[bottom - 1]).all():
        bottom -= 1
    while np.isnan(image[top:bottom, left]).all():
        left += 1
    while np.isnan(image[top:bottom, right - 1]).all():
        right -= 1
    return top, bottom, left, right


@inner
def _count(total, top, bottom, left, right):
    return total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]


@shared
def _valid(total, bounds, far, part):
    """Return how many pixels of a part of an image are valid, and the smallest rectangle that holds them."""
    top, bottom, left, right = part
    if total.size == 0:
        top, bottom = max(top, bounds[0] + far), min(bottom, bounds[1] + far)
        left, right = max(left, bounds[2] + far), min(right, bounds[3] + far)
        return max(bottom - top, 0) * max(right - left, 0), top, bottom, left, right
    count = _count(total, top, bottom, left, right)
    if 0 < count < (bottom - top) * (right - left):
        top, bottom, left, right = _bounds(total, top, bottom, left, right)
    return count, top, bottom, left, right


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
