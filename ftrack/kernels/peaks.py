"""The peaks of a correlation surface: how far the second is below the first, and where the first lies between offsets."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.compiled import shared
from ftrack.kernels.vectors import LANES, NONE, highest_maximum, place_of_highest, place_of_peak, second_maximum

EXCLUSION = 2
"""Offsets this near to the peak belong to it and are not searched for a second one, px."""

FLANK = 5
"""A row this near to the peak, px, may owe its highest coefficient to the flank of the peak, so others are searched first."""

HIGHEST_RATIO = np.float32(100.0)
"""Peak ratio where there is no second positive peak."""


@shared
def judge_row(numbers, surfaces, todo, span, found):
    """Find the peaks of one row of nodes.

    Parameters
    ----------
    numbers : float32 (n,)
        Holds the surfaces, ``NONE`` where there is no coefficient and in the last column; one vector more can be read.
    surfaces : (at, highest, height, width, dy, dx)
        Place of the first node's surface, and of the highest coefficients of its rows; rows and columns of a surface;
        offset of its first coefficient, px.
    todo : bool (node,)
        Nodes to judge.
    span : int64 (4, node)
        First and last row and first and last column of each node's window.
    found : float32 (node, 14)
        Result: peak, dy, dx, ratio, bounded, and the nine coefficients around the peak; see ``ftrack.kernels.layout.Peaks``.
    """
    at, highest, height, width, dy, dx = surfaces
    for k in range(todo.size):
        if todo[k]:
            window = (span[0, k], span[1, k], span[2, k], span[3, k])
            surface = (at + k * height * width, highest + k * height, width, dy, dx)
            find_peak(numbers, surface, window, found[k])
            if found[k, 0] == found[k, 0]:
                find_second(numbers, surface, window, found[k])


@shared
def find_peak(numbers, surface, window, found):
    """Find the highest peak of one node; ``surface`` is (at, highest, width, dy, dx), ``window`` and ``found`` those of the node."""
    begin, highest, width, dy, dx = surface
    top, bottom, left, right = window
    none, rows, count = np.float32(NONE), highest + top, bottom - top
    if right - left <= LANES:
        place = place_of_peak(numbers, begin + top * width + left, width, count, right - left)
        y0, x0 = top + place // LANES, left + place % LANES
    else:
        y0 = top + place_of_highest(numbers, rows, count)
        x0 = left + place_of_highest(numbers, begin + y0 * width + left, right - left)
    best = numbers[begin + y0 * width + x0]
    if best == none:
        return
    bound, inside = 0, top < y0 < bottom - 1 and left < x0 < right - 1
    for v in range(3):
        for u in range(3):
            y, x = y0 + v - 1, x0 + u - 1
            if not inside and (y < top or y >= bottom or x < left or x >= right):
                bound = 1
                continue
            value = numbers[begin + y * width + x]
            if value != none:
                found[5 + 3 * v + u] = value
            elif bound == 0:
                bound = 2
    found[0], found[1], found[2], found[4] = best, dy + y0, dx + x0, bound


@shared
def find_second(numbers, surface, window, found):
    """Find how far the second peak of a node is below the highest that is found."""
    begin, highest, width, dy, dx = surface
    top, bottom, left, right = window
    rows, count = highest + top, bottom - top
    best, y0, x0 = found[0], np.int64(found[1]) - dy, np.int64(found[2]) - dx
    if right - left <= LANES:
        second = second_maximum(numbers, begin + top * width + left, width, count, right - left, y0 - top, x0 - left, EXCLUSION)
    else:
        second = _second_of_wide(numbers, (begin, rows, width), window, y0, x0)
    found[3] = min(HIGHEST_RATIO, best / second) if second > 0 else HIGHEST_RATIO


@shared
def _second_of_wide(numbers, surface, window, y0, x0):
    """Return the second highest maximum of a window that is wider than a vector; ``surface`` is (at, highest of the window, width)."""
    begin, rows, width = surface
    top, bottom, left, right = window
    likely, second, count = -1, np.float32(0), bottom - top
    for first, last in ((top, y0 - FLANK), (y0 + FLANK + 1, bottom)):
        if first < last:
            y = first - top + place_of_highest(numbers, rows + first - top, last - first)
            if likely < 0 or numbers[rows + y] > numbers[rows + likely]:
                likely = y
    for turn in range(-1, count):
        y = turn if turn >= 0 else likely
        if y < 0 or numbers[rows + y] <= second:
            continue
        row = begin + (top + y) * width
        above, below = row - width if y > 0 else row, row + width if y + 1 < count else row
        near = EXCLUSION if abs(top + y - y0) <= EXCLUSION else -1
        second = highest_maximum(numbers, above, row, below, left, right, x0 - near, x0 + near + 1, second)
    return second


@shared
def keep_surface(numbers, at, width, window, keep):
    """Copy the surface of one node; NaN where there is no coefficient."""
    top, bottom, left, right = window
    for y in range(top, bottom):
        for x in range(left, right):
            value = numbers[at + y * width + x]
            keep[y - top, x - left] = value if value != np.float32(NONE) else np.nan
