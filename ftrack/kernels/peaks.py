"""The peaks of a correlation surface: how far the second is below the first, and where the first lies between offsets."""

from __future__ import annotations

import numpy as np
from numba import njit

from ftrack.kernels.scan import NONE, QUANTUM
from ftrack.kernels.vectors import NONE as ABSENT

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
def judge_row(surface, highest, todo, span, shape, origin, out):
    """Find the peaks of one row of nodes.

    Parameters
    ----------
    surface, highest : float32 (n,)
        Coefficients of every node, (node, dy, dx), and the highest of each row; ``ABSENT`` where there is none.
    todo : bool (node,)
        Nodes to judge.
    span : int64 (4, node)
        First and last row and first and last column of each node's window.
    shape : (int, int)
        Rows and columns of a surface.
    origin : (int, int)
        Offset (dy, dx) of the first coefficient, px.
    out : (peak, dy, dx, ratio, bounded, around)
        Result, (node, ...); see ``ftrack.kernels.layout.Peaks``.
    """
    height, width = shape
    peaks, dys, dxs, ratios, bounds, around = out
    for k in range(todo.size):
        if not todo[k]:
            continue
        top, bottom, left, right = span[0, k], span[1, k], span[2, k], span[3, k]
        values = surface[k * height * width : (k + 1) * height * width]
        rows = highest[k * height : (k + 1) * height]
        y0, best = top, np.float32(ABSENT)
        for y in range(top, bottom):
            if rows[y] > best:
                y0, best = y, rows[y]
        if best <= np.float32(-2.0):
            continue
        x0 = left
        while values[y0 * width + x0] != best:
            x0 += 1
        bound = 0
        for v in range(3):
            for u in range(3):
                y, x = y0 + v - 1, x0 + u - 1
                if y < top or y >= bottom or x < left or x >= right:
                    bound = 1
                elif values[y * width + x] == np.float32(ABSENT):
                    bound = bound if bound == 1 else 2
                else:
                    around[k, v, u] = values[y * width + x]
        second = _second_peak(values, rows, (top, bottom, left, right), width, y0, x0)
        peaks[k], dys[k], dxs[k], bounds[k] = best, origin[0] + y0, origin[1] + x0, bound
        ratios[k] = HIGHEST_RATIO if second <= 0 else min(HIGHEST_RATIO, best / second)


@njit(nogil=True, cache=True, error_model="numpy")
def _second_peak(values, rows, window, width, y0, x0):
    """Return the highest local maximum outside the surroundings of the first peak, zero if none is positive."""
    top, bottom, left, right = window
    likely, best = -1, np.float32(0)
    for y in range(top, bottom):
        if abs(y - y0) > EXCLUSION and rows[y] > best:
            likely, best = y, rows[y]
    second = np.float32(0)
    if likely >= 0:
        second = _raise_by_row(values, window, width, likely, (left, right), second)
    for y in range(top, bottom):
        if rows[y] <= second:
            continue
        if abs(y - y0) > EXCLUSION:
            second = _raise_by_row(values, window, width, y, (left, right), second)
        else:
            second = _raise_by_row(values, window, width, y, (left, x0 - EXCLUSION), second)
            second = _raise_by_row(values, window, width, y, (x0 + EXCLUSION + 1, right), second)
    return second


@njit(nogil=True, cache=True, error_model="numpy")
def _raise_by_row(values, window, width, y, columns, second):
    """Return the highest local maximum of part of a row, or ``second`` if that is higher."""
    top, bottom, left, right = window
    for x in range(columns[0], columns[1]):
        value = values[y * width + x]
        if value <= second:
            continue
        highest = True
        for v in range(max(top, y - 1), min(bottom, y + 2)):
            for u in range(max(left, x - 1), min(right, x + 2)):
                highest &= values[v * width + u] <= value
        if highest:
            second = value
    return second
