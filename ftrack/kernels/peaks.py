"""The peaks of a correlation surface: how far the second is below the first, and where the first lies between offsets."""

from __future__ import annotations

import numpy as np
from numba import njit

from ftrack.kernels.scan import NONE, QUANTUM
from ftrack.kernels.vectors import NONE as ABSENT
from ftrack.kernels.vectors import highest_maximum

EXCLUSION = 2
"""Offsets this near to the peak belong to it and are not searched for a second one, px."""

HIGHEST_RATIO = np.float32(100.0)
"""Peak ratio where there is no second positive peak."""


@njit(nogil=True, cache=True, error_model="numpy")
def second_peaks(
    values: np.ndarray, peak: np.ndarray, peak_dy: np.ndarray, peak_dx: np.ndarray, ratio: np.ndarray, bounded: np.ndarray
) -> None:
    """Find the second-highest local maximum of every surface.

    Parameters
    ----------
    values : int16 (..., dy, dx) as (node, dy, dx)
        Surfaces in steps of ``QUANTUM``.
    peak, peak_dy, peak_dx : (node,)
        The highest coefficient and its offset; NaN = no surface.
    ratio : float32 (node,)
        Result: peak over second peak, ``HIGHEST_RATIO`` if there is no second, NaN without surface.
    bounded : uint8 (node,)
        Result: 0 the peak has eight neighbours, 1 it lies on the rim of the search, 2 it has a neighbour without value.
    """
    height, width = values.shape[1], values.shape[2]
    for k in range(values.shape[0]):
        ratio[k], bounded[k] = np.nan, 0
        if np.isnan(peak[k]):
            continue
        y0, x0 = peak_dy[k], peak_dx[k]
        surface = values[k]
        if y0 in (0, height - 1) or x0 in (0, width - 1):
            bounded[k] = 1
        elif _has_missing(surface, y0, x0):
            bounded[k] = 2
        second = np.int16(0)
        for y in range(height):
            row = surface[y]
            highest = NONE
            for x in range(width):
                highest = max(highest, row[x])
            if highest <= second:
                continue
            for x in range(width):
                near = abs(y - y0) <= EXCLUSION and abs(x - x0) <= EXCLUSION
                if row[x] > second and not near and _is_maximum(surface, y, x):
                    second = row[x]
        ratio[k] = HIGHEST_RATIO if second <= 0 else min(HIGHEST_RATIO, peak[k] * QUANTUM / np.float32(second))


@njit(nogil=True, cache=True, error_model="numpy")
def _has_missing(surface: np.ndarray, y: int, x: int) -> bool:
    for v in range(y - 1, y + 2):
        for u in range(x - 1, x + 2):
            if surface[v, u] == NONE:
                return True
    return False


@njit(nogil=True, cache=True, error_model="numpy")
def _is_maximum(surface: np.ndarray, y: int, x: int) -> bool:
    value = surface[y, x]
    for v in range(max(0, y - 1), min(surface.shape[0], y + 2)):
        for u in range(max(0, x - 1), min(surface.shape[1], x + 2)):
            if surface[v, u] > value:
                return False
    return True


@njit(nogil=True, cache=True, error_model="numpy")
def fit_peak(surface: np.ndarray, y: int, x: int, gaussian: bool, pixels: float) -> tuple[float, float, float, float]:
    """Fit a parabola (or, through logarithms, a Gaussian) along each axis through the peak.

    Returns the offsets (dy, dx) from the integer peak and their one-sigma errors, px. The errors follow from the
    curvature of the peak and the noise that a coefficient below one implies; NaN where there is no maximum.
    """
    c = np.float64(surface[y, x]) / QUANTUM
    dy, sy = fit_axis(surface[y - 1, x] / QUANTUM, c, surface[y + 1, x] / QUANTUM, gaussian, pixels)
    dx, sx = fit_axis(surface[y, x - 1] / QUANTUM, c, surface[y, x + 1] / QUANTUM, gaussian, pixels)
    return dy, dx, sy, sx


@njit(nogil=True, cache=True, error_model="numpy")
def fit_axis(before: float, centre: float, after: float, gaussian: bool, pixels: float) -> tuple[float, float]:
    """Fit a parabola or a Gaussian to three coefficients: offset from the middle one and its one-sigma error, px."""
    curvature = 2.0 * centre - before - after
    if not (curvature > 0.0 and centre > 0.0):
        return np.nan, np.nan
    noise = np.sqrt(max(0.0, 1.0 - centre * centre) / (centre * curvature * pixels))
    if gaussian and before > 0.0 and after > 0.0:
        b, c, a = np.log(before), np.log(centre), np.log(after)
        if 2.0 * c - a - b > 0.0:
            return 0.5 * (a - b) / (2.0 * c - a - b), noise
    return 0.5 * (after - before) / curvature, noise


@njit(nogil=True, cache=True, error_model="numpy")
def judge_row(numbers, surfaces, todo, span, found):
    """Find the peaks of one row of nodes.

    Parameters
    ----------
    numbers : float32 (n,)
        Holds the surfaces, ``ABSENT`` where there is no coefficient and in the last column.
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
    none = np.float32(ABSENT)
    for k in range(todo.size):
        if not todo[k]:
            continue
        top, bottom, left, right = span[0, k], span[1, k], span[2, k], span[3, k]
        begin = at + k * height * width
        rows = numbers[highest + k * height + top : highest + k * height + bottom]
        y0, best = 0, none
        for y in range(rows.size):
            if rows[y] > best:
                y0, best = y, rows[y]
        if best == none:
            continue
        y0 += top
        x0 = left
        while numbers[begin + y0 * width + x0] != best:
            x0 += 1
        bound = 0
        for v in range(3):
            for u in range(3):
                y, x = y0 + v - 1, x0 + u - 1
                if y < top or y >= bottom or x < left or x >= right:
                    bound = 1
                    continue
                value = numbers[begin + y * width + x]
                if value != none:
                    found[k, 5 + 3 * v + u] = value
                elif bound == 0:
                    bound = 2
        found[k, 0], found[k, 1], found[k, 2], found[k, 4] = best, dy + y0, dx + x0, bound
        second, likely = np.float32(0), -1
        for y in range(rows.size):
            if rows[y] > second and abs(y + top - y0) > EXCLUSION:
                likely, second = y, rows[y]
        second = np.float32(0)
        for turn in range(-1, rows.size):
            y = turn if turn >= 0 else likely
            if y < 0 or rows[y] <= second:
                continue
            row = begin + (top + y) * width
            above, below = row - width if y > 0 else row, row + width if y + 1 < rows.size else row
            near = EXCLUSION if abs(top + y - y0) <= EXCLUSION else -1
            value = highest_maximum(numbers, above, row, below, left, right, x0 - near, x0 + near + 1)
            second = max(second, value)
        found[k, 3] = min(HIGHEST_RATIO, best / second) if second > 0 else HIGHEST_RATIO
