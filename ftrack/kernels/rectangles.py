"""What is valid of chips and of the pixels that they are compared with, where it is a rectangle."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.compiled import filling, inner, shared


@filling
def find_rectangles(r_total, s_total, bounds, layout, span, some, gaps, rims):
    """Find the chips that have gaps in their pixels or in those they are compared with, and whether what is valid is a rectangle.

    Parameters
    ----------
    r_total, s_total : int32 (y + 1, x + 1)
        How many valid pixels lie above and to the left of every corner; empty where images have no gaps.
    bounds : int64 (2, 4)
        First and last row and first and last column of both images, px from the first chip's corner.
    layout : (far, side, step, counts, starts)
        The secondary begins ``far`` px above and left of the reference; for the others see ``ftrack.kernels.layout.Layout``.
    span : int64 (row, 4, column)
        First and last row and first and last column of every window, px.
    some : bool (chip, row, column)
        Chips to look at.
    gaps : bool (chip, row, column)
        Result.
    rims : int32 (chip, row, column, 8)
        Result: first and last row and first and last column of the valid pixels in the chip, and of those in the
        secondary, counted from the chip's first pixel. Chips without gaps, or with others, are left as they are.
    """
    far, side, step, counts, starts = layout
    for c in range(some.shape[0]):
        size = side * counts[c]
        for i in range(some.shape[1]):
            for j in range(some.shape[2]):
                if not some[c, i, j]:
                    continue
                y, x = side * (starts[c] + i * step), side * (starts[c] + j * step)
                v, u = y + far, x + far
                top, bottom, left, right = v + span[i, 0, j], v + span[i, 1, j] - 1 + size, u + span[i, 2, j], u + span[i, 3, j] - 1 + size
                a = _valid(r_total, bounds[0], np.int64(0), (y, y + size, x, x + size))
                b = _valid(s_total, bounds[1], far, (top, bottom, left, right))
                gaps[c, i, j] = a[0] < size * size or b[0] < (bottom - top) * (right - left)
                fits = a[0] == (a[2] - a[1]) * (a[4] - a[3]) and b[0] == (b[2] - b[1]) * (b[4] - b[3])
                if gaps[c, i, j] and a[0] > 0 and b[0] > 0 and fits:
                    for k in range(4):
                        rims[c, i, j, k] = a[1 + k] - (y, y, x, x)[k]
                        rims[c, i, j, 4 + k] = b[1 + k] - (v, v, u, u)[k]


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
