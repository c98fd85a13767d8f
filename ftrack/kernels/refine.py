"""Displacement below one pixel by least squares on the grey values themselves.

Inverse-compositional Gauss-Newton (Baker & Matthews 2004): the chip of the reference, its gradients and a
constant explain the secondary at the present displacement. The displacement may vary linearly inside the chip,
so shear does not blur the solution; gain and offset of the brightness are unknowns of their own. The gradients
are those of the reference, so noise of the secondary does not bias the result.
"""

from __future__ import annotations

import numpy as np
from numba import njit

ITERATIONS = 10
CONVERGED = 3e-3
"""Step, px, below which the solution stands."""

REACH = 3.0
"""Farthest that a solution may lie from its start, px: where a chip is sheared, the peak follows its brightest part."""

STRETCH = 0.5
"""Expected size of the displacement's change from the centre to the edge of a chip, px: it keeps poor chips from bending."""

FRACTIONS = 2048
"""Steps per pixel at which interpolation weights are tabulated."""

TERMS = 8
"""Chip, constant, gradients along x and y, and each gradient times the x and y position."""

DERIVATIVE = (1.0 / 12.0, -8.0 / 12.0, 8.0 / 12.0, -1.0 / 12.0)
"""Weights of the pixels -2, -1, +1, +2 in the fourth-order first derivative."""

NOISE_IN_DERIVATIVE = 130.0 / 144.0
"""Sum of the squared weights: how much white noise adds to the mean squared gradient."""

TAPS = 6


@njit(nogil=True, cache=True, error_model="numpy")
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


def _tabulate() -> np.ndarray:
    table = np.empty((FRACTIONS + 1, TAPS))
    for k in range(FRACTIONS + 1):
        cubic_weights(k / FRACTIONS, table[k])
    return table


WEIGHTS = _tabulate()


@njit(nogil=True, cache=True, error_model="numpy")
def warp_patch(image, top, left, size, move, weights, lines, out):
    """Interpolate a square patch whose pixels are displaced linearly; NaN where a needed pixel is missing or outside.

    Each row of the image is interpolated along x at the places where the patch's columns cross it, then each column
    along y (Catmull & Smith 1980): the places are exact, at a sixth of the products of an interpolation in the plane.

    Parameters
    ----------
    image : float32 (y, x)
        Image.
    top, left, size : int
        First pixel and side of the patch before the motion.
    move : float64 (6,)
        dx, dy at the patch's centre, px, then d(dx)/dx, d(dx)/dy, d(dy)/dx, d(dy)/dy.
    weights : float64 (FRACTIONS + 1, 6)
        ``WEIGHTS``.
    lines : float64 (n,)
        Room for the rows interpolated along x, at least ``size * (2 * size + 8)``.
    out : float64 (size * size,)
        Result.
    """
    half = 0.5 * (size - 1)
    dx, dy, a, b, c, d = move[0], move[1], move[2], move[3], move[4], move[5]
    lean = (abs(c) + abs(d)) * half
    first = int(np.floor(top + dy - lean)) - 2
    count = int(np.floor(top + size - 1 + dy + lean)) + 4 - first
    if not (abs(a) + abs(b) + abs(c) + abs(d) < 1.0) or first < 0 or first + count > image.shape[0] or count * size > lines.size:
        for k in range(out.size):
            out[k] = np.nan
        return
    for r in range(count):
        line, target = image[first + r], lines[r * size : (r + 1) * size]
        for x in range(size):
            u = x - half
            v = (first + r - top - half - dy - c * u) / (1.0 + d)
            place = left + x + dx + a * u + b * v
            at = int(np.floor(place))
            if at < 2 or at + 3 >= line.size:
                target[x] = np.nan
                continue
            w = weights[int((place - at) * FRACTIONS + 0.5)]
            target[x] = (
                w[0] * line[at - 2] + w[1] * line[at - 1] + w[2] * line[at]
                + w[3] * line[at + 1] + w[4] * line[at + 2] + w[5] * line[at + 3]
            )  # fmt: skip
    for y in range(size):
        for x in range(size):
            place = top + y + dy + c * (x - half) + d * (y - half) - first
            at = int(np.floor(place))
            w = weights[int((place - at) * FRACTIONS + 0.5)]
            k = (at - 2) * size + x
            out[y * size + x] = (
                w[0] * lines[k] + w[1] * lines[k + size] + w[2] * lines[k + 2 * size]
                + w[3] * lines[k + 3 * size] + w[4] * lines[k + 4 * size] + w[5] * lines[k + 5 * size]
            )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy")
def _fill_terms(image: np.ndarray, top: int, left: int, size: int, terms: np.ndarray) -> None:
    """Fill the eight terms of every pixel of a chip; all are zero where one is missing."""
    a, b, c, d = DERIVATIVE
    half = 0.5 * (size - 1)
    level, count = 0.0, 0
    for y in range(top, top + size):
        for x in range(left, left + size):
            if not np.isnan(image[y, x]):
                level += image[y, x]
                count += 1
    level = level / max(count, 1)
    for y in range(size):
        for x in range(size):
            v, u, k = top + y, left + x, y * size + x
            gx = a * image[v, u - 2] + b * image[v, u - 1] + c * image[v, u + 1] + d * image[v, u + 2]
            gy = a * image[v - 2, u] + b * image[v - 1, u] + c * image[v + 1, u] + d * image[v + 2, u]
            known = gx + gy + image[v, u]
            if np.isnan(known):
                for t in range(TERMS):
                    terms[t, k] = 0.0
                continue
            px, py = (x - half) / half, (y - half) / half
            terms[0, k], terms[1, k], terms[2, k], terms[3, k] = image[v, u] - level, 1.0, gx, gy
            terms[4, k], terms[5, k], terms[6, k], terms[7, k] = gx * px, gx * py, gy * px, gy * py


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _dot(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for k in range(a.size):
        total += a[k] * b[k]
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def _drop_missing(terms: np.ndarray, warped: np.ndarray) -> bool:
    """Take pixels without a value out of all sums; return whether any was newly taken out."""
    dropped = False
    for k in range(warped.size):
        if np.isnan(warped[k]):
            warped[k] = 0.0
            if terms[1, k] != 0.0:
                dropped = True
                for t in range(TERMS):
                    terms[t, k] = 0.0
        elif terms[1, k] == 0.0:
            warped[k] = 0.0
    return dropped


@njit(nogil=True, cache=True, error_model="numpy")
def _solve(matrix: np.ndarray, right: np.ndarray, factor: np.ndarray, out: np.ndarray) -> bool:
    """Solve a symmetric positive system by Cholesky; False where it is not positive."""
    n = right.size
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            if i == j:
                if not total > 1e-10 * matrix[i, i]:
                    return False
                factor[i, i] = np.sqrt(total)
            else:
                factor[i, j] = total / factor[j, j]
    for i in range(n):
        total = right[i]
        for k in range(i):
            total -= factor[i, k] * out[k]
        out[i] = total / factor[i, i]
    for i in range(n - 1, -1, -1):
        total = out[i]
        for k in range(i + 1, n):
            total -= factor[k, i] * out[k]
        out[i] = total / factor[i, i]
    return True


@njit(nogil=True, cache=True, error_model="numpy")
def room_for(size: int) -> int:
    """Return how many numbers of working room a chip of this size needs."""
    return (TERMS + 1) * size * size + size * (2 * size + 8)


@njit(nogil=True, cache=True, error_model="numpy")
def refine_chip(reference, secondary, corners, size, start, room, weights):
    """Solve for the displacement of one chip.

    Parameters
    ----------
    reference, secondary : float32 (y, x)
        Images, NaN = no data; the reference needs two pixels more around the chip.
    corners : (int, int, int, int)
        Row and column of the chip's first pixel in the reference, and of the same place in the secondary.
    size : int
        Side of the chip, px.
    start : (float, float)
        Displacement (dy, dx) to start from, px, within a pixel of the truth.
    room : float64 (room_for(size),)
        Room to work in.
    weights : float64 (FRACTIONS + 1, 6)
        ``WEIGHTS``.

    Returns
    -------
    dy, dx, dy_error, dx_error, likeness : float
        Displacement of the chip's centre and one-sigma errors, px, and the correlation of the warped
        chips; NaN where there is no solution within ``REACH``.
    """
    nothing = (np.nan, np.nan, np.nan, np.nan, np.nan)
    pixels = size * size
    terms, warped = room[: TERMS * pixels].reshape((TERMS, pixels)), room[TERMS * pixels : (TERMS + 1) * pixels]
    lines = room[(TERMS + 1) * pixels :]
    matrix, factor = np.zeros((TERMS, TERMS)), np.zeros((TERMS, TERMS))
    right, found, move = np.empty(TERMS), np.empty(TERMS), np.zeros(6)
    half = 0.5 * (size - 1)
    _fill_terms(reference, corners[0], corners[1], size, terms)
    move[0], move[1] = start[1], start[0]
    variance, count, step, fresh = 0.0, 0.0, 1.0, True
    for turn in range(ITERATIONS):
        warp_patch(secondary, corners[2], corners[3], size, move, weights, lines, warped)
        if _drop_missing(terms, warped) or fresh:
            for i in range(TERMS):
                for j in range(i + 1):
                    matrix[i, j] = _dot(terms[i], terms[j])
                    matrix[j, i] = matrix[i, j]
            fresh = False
        count = matrix[1, 1]
        if count < 0.25 * pixels:
            return nothing
        for i in range(TERMS):
            right[i] = _dot(terms[i], warped)
        stiff = variance / STRETCH**2 if turn else 1e-3 * (matrix[2, 2] + matrix[3, 3])
        for i in range(4, TERMS):
            matrix[i, i] += stiff
        solved = _solve(matrix, right, factor, found)
        for i in range(4, TERMS):
            matrix[i, i] -= stiff
        gain = found[0]
        if not solved or not gain > 0.05:
            return nothing
        squares = _dot(warped, warped)
        for i in range(TERMS):
            squares -= found[i] * right[i]
        variance = max(squares, 0.0) / max(count - TERMS, 1.0)
        step = _compose(move, found, gain, half)
        if not (abs(move[0] - start[1]) <= REACH and abs(move[1] - start[0]) <= REACH):
            return nothing
        if step < CONVERGED:
            break
    if not step < 0.05:
        return nothing
    dy_error, dx_error = _errors(matrix, factor, variance / (gain * gain), count, variance / STRETCH**2)
    level = _dot(terms[1], warped) / count
    total = _dot(warped, warped) - count * level * level
    likeness = np.sqrt(max(0.0, 1.0 - variance * (count - TERMS) / total)) if total > 0.0 else 0.0
    return move[1], move[0], dy_error, dx_error, likeness


@njit(nogil=True, cache=True, error_model="numpy")
def _compose(move: np.ndarray, found: np.ndarray, gain: float, half: float) -> float:
    """Take the solution's motion back from the present one; return the size of the step, px."""
    a, b, c, d = move[2], move[3], move[4], move[5]
    sx, sy = found[2] / gain, found[3] / gain
    g = found[4:8] / gain
    move[0] -= (1.0 + a) * sx + b * sy
    move[1] -= c * sx + (1.0 + d) * sy
    move[2] -= ((1.0 + a) * g[0] + b * g[2]) / half
    move[3] -= ((1.0 + a) * g[1] + b * g[3]) / half
    move[4] -= (c * g[0] + (1.0 + d) * g[2]) / half
    move[5] -= (c * g[1] + (1.0 + d) * g[3]) / half
    return max(abs(sx), abs(sy), 0.2 * np.max(np.abs(g)))


@njit(nogil=True, cache=True, error_model="numpy")
def _errors(matrix: np.ndarray, factor: np.ndarray, variance: float, count: float, stiff: float) -> tuple[float, float]:
    """Return the errors of dy and dx: the noise, less its share in the gradients, through the inverse normal matrix."""
    noise = 0.5 * variance * NOISE_IN_DERIVATIVE * count
    unit, column = np.zeros(TERMS), np.zeros(TERMS)
    errors = np.empty(2)
    for i in range(2, TERMS):
        share = noise if i < 4 else noise / 3.0
        shrink = np.sqrt(max(1.0 - share / matrix[i, i], 0.3))
        for j in range(TERMS):
            matrix[i, j] *= shrink
            matrix[j, i] *= shrink
    for i in range(4, TERMS):
        matrix[i, i] += stiff
    for i in range(2):
        for k in range(TERMS):
            unit[k] = 0.0
        unit[2 + i] = 1.0
        errors[i] = np.sqrt(variance * column[2 + i]) if _solve(matrix, unit, factor, column) else np.nan
    return errors[1], errors[0]
