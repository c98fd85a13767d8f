"""Displacement below one pixel by least squares on the grey values themselves.

Inverse-compositional Gauss-Newton (Baker & Matthews 2004): the chip of the reference, its gradients and a
constant explain the secondary at the present displacement; gain and offset of the brightness are unknowns
of their own. The gradients are those of the reference, so noise of the secondary does not bias the result.
"""

from __future__ import annotations

import numpy as np
from numba import njit

ITERATIONS = 8
CONVERGED = 1e-3
"""Step, px, below which the solution stands."""

DERIVATIVE = (1.0 / 12.0, -8.0 / 12.0, 8.0 / 12.0, -1.0 / 12.0)
"""Weights of the pixels -2, -1, +1, +2 in the fourth-order first derivative."""

NOISE_IN_DERIVATIVE = 130.0 / 144.0
"""Sum of the squared weights: how much white noise adds to the mean squared gradient."""

TAPS = 6


@njit(nogil=True, cache=True)
def cubic_weights(fraction: float, weights: np.ndarray) -> None:
    """Fill the six weights of Keys' (1981) fourth-order cubic convolution for a point ``fraction`` beyond the third pixel."""
    for k in range(TAPS):
        t = abs(fraction - (k - 2))
        if t < 1.0:
            weights[k] = (4.0 * t**3 - 7.0 * t**2 + 3.0) / 3.0
        elif t < 2.0:
            weights[k] = (-7.0 * t**3 + 36.0 * t**2 - 59.0 * t + 30.0) / 12.0
        elif t < 3.0:
            weights[k] = (t**3 - 8.0 * t**2 + 21.0 * t - 18.0) / 12.0
        else:
            weights[k] = 0.0


@njit(nogil=True, cache=True)
def shift_patch(image: np.ndarray, top: int, left: int, size: int, dy: float, dx: float, out: np.ndarray) -> None:
    """Interpolate a square patch of the image displaced by (dy, dx); NaN where a needed pixel is missing or outside."""
    iy, ix = int(np.floor(dy)), int(np.floor(dx))
    wy, wx = np.empty(TAPS), np.empty(TAPS)
    cubic_weights(dy - iy, wy)
    cubic_weights(dx - ix, wx)
    y0, x0 = top + iy - 2, left + ix - 2
    if y0 < 0 or x0 < 0 or y0 + size + TAPS > image.shape[0] or x0 + size + TAPS > image.shape[1]:
        out[:] = np.nan
        return
    rows = np.empty((size + TAPS - 1, size))
    for y in range(size + TAPS - 1):
        line = image[y0 + y, x0 : x0 + size + TAPS - 1]
        for x in range(size):
            rows[y, x] = wx[0] * line[x] + wx[1] * line[x + 1] + wx[2] * line[x + 2] + wx[3] * line[x + 3] + wx[4] * line[x + 4] + wx[5] * line[x + 5]
    for y in range(size):
        for x in range(size):
            out[y, x] = (
                wy[0] * rows[y, x] + wy[1] * rows[y + 1, x] + wy[2] * rows[y + 2, x]
                + wy[3] * rows[y + 3, x] + wy[4] * rows[y + 4, x] + wy[5] * rows[y + 5, x]
            )  # fmt: skip


@njit(nogil=True, cache=True)
def _terms(image: np.ndarray, top: int, left: int, size: int, terms: np.ndarray) -> None:
    """Fill chip, constant, and gradients along x and y; NaN where a needed pixel is missing or outside."""
    a, b, c, d = DERIVATIVE
    for y in range(size):
        for x in range(size):
            v, u = top + y, left + x
            terms[0, y, x], terms[1, y, x] = image[v, u], 1.0
            inside = v >= 2 and u >= 2 and v + 2 < image.shape[0] and u + 2 < image.shape[1]
            terms[2, y, x] = a * image[v, u - 2] + b * image[v, u - 1] + c * image[v, u + 1] + d * image[v, u + 2] if inside else np.nan
            terms[3, y, x] = a * image[v - 2, u] + b * image[v - 1, u] + c * image[v + 1, u] + d * image[v + 2, u] if inside else np.nan


@njit(nogil=True, cache=True)
def _normal(terms: np.ndarray, warped: np.ndarray, matrix: np.ndarray, right: np.ndarray) -> int:
    """Sum the normal equations over the pixels where everything is known; return their number."""
    matrix[:] = 0.0
    right[:] = 0.0
    count = 0
    size = warped.shape[0]
    m = np.zeros(15)
    for y in range(size):
        for x in range(size):
            t, gx, gy, w = terms[0, y, x], terms[2, y, x], terms[3, y, x], warped[y, x]
            total = t + gx + gy + w
            if not total == total:
                continue
            count += 1
            m[0] += t * t
            m[1] += t
            m[2] += t * gx
            m[3] += t * gy
            m[4] += gx
            m[5] += gy
            m[6] += gx * gx
            m[7] += gx * gy
            m[8] += gy * gy
            m[9] += t * w
            m[10] += w
            m[11] += gx * w
            m[12] += gy * w
            m[13] += w * w
    matrix[0, 0], matrix[0, 1], matrix[0, 2], matrix[0, 3] = m[0], m[1], m[2], m[3]
    matrix[1, 1], matrix[1, 2], matrix[1, 3] = count, m[4], m[5]
    matrix[2, 2], matrix[2, 3], matrix[3, 3] = m[6], m[7], m[8]
    for i in range(4):
        for j in range(i):
            matrix[i, j] = matrix[j, i]
    right[0], right[1], right[2], right[3], right[4] = m[9], m[10], m[11], m[12], m[13]
    return count


@njit(nogil=True, cache=True)
def _condense(matrix: np.ndarray, right: np.ndarray) -> tuple[float, float, float, float, float, float, float, float, float]:
    """Eliminate gain and offset: return the 2 x 2 system of the gradients, its right side, and what is needed for the gain."""
    n, st = matrix[1, 1], matrix[0, 1]
    tt = matrix[0, 0] - st * st / n
    tx, ty = matrix[0, 2] - st * matrix[1, 2] / n, matrix[0, 3] - st * matrix[1, 3] / n
    xx, xy = matrix[2, 2] - matrix[1, 2] ** 2 / n, matrix[2, 3] - matrix[1, 2] * matrix[1, 3] / n
    yy = matrix[3, 3] - matrix[1, 3] ** 2 / n
    wt, wx = right[0] - st * right[1] / n, right[2] - matrix[1, 2] * right[1] / n
    wy = right[3] - matrix[1, 3] * right[1] / n
    if tt <= 0.0:
        return 0.0, 0.0, 0.0, 0.0, 0.0, tt, tx, ty, wt
    return xx - tx * tx / tt, xy - tx * ty / tt, yy - ty * ty / tt, wx - tx * wt / tt, wy - ty * wt / tt, tt, tx, ty, wt


@njit(nogil=True, cache=True)
def refine_chip(
    reference: np.ndarray, secondary: np.ndarray, corners: tuple[int, int, int, int], size: int, start: tuple[float, float], terms: np.ndarray, warped: np.ndarray
) -> tuple[float, float, float, float, float]:
    """Solve for the displacement of one chip.

    Parameters
    ----------
    reference, secondary : float32 (y, x)
        Images, NaN = no data, whose mean is near zero or at least not large against their contrast.
    corners : (int, int, int, int)
        Row and column of the chip's first pixel in the reference, and of the same place in the secondary.
    size : int
        Side of the chip, px.
    start : (float, float)
        Displacement (dy, dx) to start from, px, within a pixel of the truth.
    terms, warped : float64 (4, size, size), (size, size)
        Room to work in.

    Returns
    -------
    dy, dx, dy_error, dx_error, gain : float
        Displacement and one-sigma errors, px; NaN where there is no solution within 1.5 px of the start.
    """
    nothing = (np.nan, np.nan, np.nan, np.nan, np.nan)
    matrix, right = np.empty((4, 4)), np.empty(5)
    top, left, s_top, s_left = corners
    _terms(reference, top, left, size, terms)
    dy, dx = start
    step = 1.0
    for _ in range(ITERATIONS):
        shift_patch(secondary, s_top, s_left, size, dy, dx, warped)
        count = _normal(terms, warped, matrix, right)
        if count < 0.25 * size * size:
            return nothing
        xx, xy, yy, bx, by, tt, tx, ty, wt = _condense(matrix, right)
        determinant = xx * yy - xy * xy
        if not determinant > 1e-9 * xx * yy or tt <= 0.0:
            return nothing
        px, py = (yy * bx - xy * by) / determinant, (xx * by - xy * bx) / determinant
        gain = (wt - tx * px - ty * py) / tt
        if not gain > 0.05:
            return nothing
        step_x, step_y = px / gain, py / gain
        dx, dy = dx - step_x, dy - step_y
        step = max(abs(step_x), abs(step_y))
        if abs(dx - start[1]) > 1.5 or abs(dy - start[0]) > 1.5:
            return nothing
        if step < CONVERGED:
            break
    if step > 0.05:
        return nothing
    offset = (right[1] - gain * matrix[0, 1] - px * matrix[1, 2] - py * matrix[1, 3]) / count
    squares = right[4] - gain * right[0] - offset * right[1] - px * right[2] - py * right[3]
    variance = max(squares, 0.0) / max(count - 4, 1) / (gain * gain)
    noise = 0.5 * variance * NOISE_IN_DERIVATIVE * count
    xx, yy = max(xx - noise, 0.2 * xx), max(yy - noise, 0.2 * yy)
    xy = min(max(xy, -0.95 * np.sqrt(xx * yy)), 0.95 * np.sqrt(xx * yy))
    determinant = xx * yy - xy * xy
    return dy, dx, np.sqrt(variance * xx / determinant), np.sqrt(variance * yy / determinant), gain
