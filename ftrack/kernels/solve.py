"""Displacement below one pixel for every chip, from the sums of its blocks: least squares on the grey values.

The secondary W has been drawn back along a first field u. With the reference R, the gradients of their mean, a gain and
an offset, ``W = gain * (R + gradient . (u - d)) + offset`` is solved for the displacement d of each chip. Noise makes
gradients look steeper than they are; how much follows from the correlation, and is taken out of the normal matrix
(errors in variables, Fuller 1987), so that neither the solution nor its error is too small.
"""

from __future__ import annotations

import numpy as np

from ftrack.kernels.compiled import compiled
from ftrack.kernels.deform import NOISE_IN_DERIVATIVE
from ftrack.kernels.normal import DX, DY, KEPT, RR, RW, RX, RY, SUMS, WW, XW, XX, XY, YW, YY, N, R, W, X, Y

FIELDS = 6
"""What a solution is: dx, dy, their one-sigma errors (px), correlation of the fitted chips, noise in the squared gradients per pixel."""

TURNED = 5
"""Sums of squared gradients times displacement along x and y, of displacement alone, and of the noise that interpolation has kept."""

LEAST_SHARE = 0.75
"""Share of the squared gradients that is signal, at the least: what differs between images of real ground is not only white noise."""


@compiled
def add_blocks(sums, top, left, count, centre, total, turned):
    """Add the blocks of a chip: its sums, and its squared gradients times the blocks' displacement less that of the centre."""
    for p in range(SUMS):
        total[p] = 0.0
    for p in range(TURNED):
        turned[p] = 0.0
    for i in range(top, top + count):
        for j in range(left, left + count):
            block = sums[i, j]
            if block[N] == 0.0:
                continue
            dx, dy = block[DX] - centre[0], block[DY] - centre[1]
            for p in range(SUMS):
                total[p] += block[p]
            turned[0] += block[XX] * dx + block[XY] * dy
            turned[1] += block[XY] * dx + block[YY] * dy
            turned[2] += block[N] * dx
            turned[3] += block[N] * dy
            turned[4] += block[KEPT]


@compiled
def solve_chip(q, turned, centre, found):
    """Solve for the displacement of one chip; False where there is none.

    Parameters
    ----------
    q, turned : float64 (PLANES,), (TURNED,)
        From ``add_blocks``.
    centre : (float, float)
        Displacement (dx, dy), px, from which ``turned`` is counted.
    found : float64 (FIELDS,)
        Result.
    """
    n = q[N]
    r, x, y, w = q[R] / n, q[X] / n, q[Y] / n, q[W] / n
    rr, rx, ry, rw, ww = q[RR] - n * r * r, q[RX] - n * r * x, q[RY] - n * r * y, q[RW] - n * r * w, q[WW] - n * w * w
    if not (rr > 0.0 and ww > 0.0 and rw > 0.0):
        return False
    gain = np.sqrt(ww / rr)
    a, b, c = q[XX] - n * x * x - rx * rx / rr, q[XY] - n * x * y - rx * ry / rr, q[YY] - n * y * y - ry * ry / rr
    e, f = q[XW] - n * x * w - rx * rw / rr, q[YW] - n * y * w - ry * rw / rr
    determinant = a * c - b * b
    if not determinant > 0.0:
        return False
    left = ww - rw * rw / rr - (e * (c * e - b * f) + f * (a * f - b * e)) / determinant
    correlation = np.sqrt(min(max(1.0 - left / ww, 0.0), 1.0))
    variance = (1.0 - correlation) * rr / n
    noise = 0.5 * variance * NOISE_IN_DERIVATIVE
    a, c = max(a - noise * n, LEAST_SHARE * a), max(c - noise * n, LEAST_SHARE * c)
    determinant = a * c - b * b
    if not determinant > 0.0:
        b, determinant = 0.0, a * c
    # The gradients are those of the mean of both images, so they are (1 + gain) / 2 times those of the reference.
    slope = 0.5 * (1.0 + gain)
    u, v = turned[0] - noise * turned[2] - slope * e / gain, turned[1] - noise * turned[3] - slope * f / gain
    found[0] = centre[0] + (c * u - b * v) / determinant
    found[1] = centre[1] + (a * v - b * u) / determinant
    # What interpolation takes from the noise lies at wavelengths that hardly matter for the displacement.
    variance *= 2.0 / (1.0 + turned[4] / n)
    # Noise of the gradients meets that of the images: the squared gradients count with it in the middle of the sandwich.
    more = noise * n / determinant
    found[2] = slope * np.sqrt(2.0 * variance * (c + more * (c * c + b * b)) / determinant)
    found[3] = slope * np.sqrt(2.0 * variance * (a + more * (a * a + b * b)) / determinant)
    found[4] = correlation
    found[5] = noise
    return found[0] == found[0] and found[1] == found[1]
