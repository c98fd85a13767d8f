"""Displacement below one pixel for every chip, from the sums of its blocks: least squares on the grey values.

The secondary W has been drawn back along a first field u. With the reference R, the gradients of their mean, a gain and
an offset, ``W = gain * (R + gradient . (u - d)) + offset`` is solved for the displacement d of each chip. Noise makes
gradients look steeper than they are; how much follows from the correlation, and is taken out of the normal matrix
(errors in variables, Fuller 1987), so that neither the solution nor its error is too small.
"""

from __future__ import annotations

from typing import Any

from ftrack.kernels.deform import NOISE_IN_DERIVATIVE
from ftrack.kernels.normal import KEPT, MD, ND, PLANES, RR, RW, RX, RY, WW, XD, XW, XX, XY, YD, YW, YY, N, R, W, X, Y
from ftrack.kernels.planes import larger, root, smaller, where

FEWER, FIELDS = 10, 15
"""What a solution is, and how much of it where nothing is asked of single blocks: dx, dy, their one-sigma errors (px), correlation of
the fitted chips, noise in the squared gradients per pixel; sums of the squared gradients (xx, xy, yy) and pixels; then what is left
of one block along the gradients in x and in y, in units of white noise of the power that is left of the chip, and how it changes
with dx, dy (x with dx, y with dy, either with the other)."""

LEAST_SHARE = 0.75
"""Share of the squared gradients that is signal, at the least: what differs between images of real ground is not only white noise."""


BLOCK, CENTRE, FOUND = PLANES, 2 * PLANES, 2 * PLANES + 2
"""Planes of numbers of chips: first the sums over its blocks, then those of one of them, the displacement (dx, dy), px, from which that of
the blocks is counted, and the solution."""

SOLVED, FIT, KNOWN = FOUND + FIELDS, FOUND + FIELDS + 1, FOUND + FIELDS + 7
"""Planes behind these: 1 where there is a solution; what the fit is (offset, gain, displacement along x and y times the gain, what power is
left, gradients to a pixel of displacement). Then how many planes there are."""


def solve_chips(q: Any) -> None:
    """Solve for the displacement of chips, from and into planes of numbers; see ``ftrack.kernels.planes``."""
    n, each = q[N], 1.0 / q[N]
    r, x, y, w = q[R] * each, q[X] * each, q[Y] * each, q[W] * each
    rr, rx, ry, rw, ww = q[RR] - n * r * r, q[RX] - n * r * x, q[RY] - n * r * y, q[RW] - n * r * w, q[WW] - n * w * w
    there = (rr > 0.0) & (ww > 0.0) & (rw > 0.0)
    gain, along, down, steady = root(ww / rr), rx / rr, ry / rr, rw / rr
    a, b, c = q[XX] - n * x * x - rx * along, q[XY] - n * x * y - ry * along, q[YY] - n * y * y - ry * down
    e, f = q[XW] - n * x * w - rw * along, q[YW] - n * y * w - rw * down
    determinant = a * c - b * b
    there = there & (determinant > 0.0)
    left = ww - rw * steady - (e * (c * e - b * f) + f * (a * f - b * e)) / determinant
    correlation = root(smaller(larger(1.0 - left / ww, 0.0), 1.0))
    u, v = (c * e - b * f) / determinant, (a * f - b * e) / determinant
    own = steady - u * along - v * down
    for k, value in enumerate((w - own * r - u * x - v * y, own, u, v, left * each, 2.0 * gain / (1.0 + gain))):
        q[FIT + k] = value
    variance = (1.0 - correlation) * rr * each
    noise = 0.5 * variance * NOISE_IN_DERIVATIVE
    a, c = larger(a - noise * n, LEAST_SHARE * a), larger(c - noise * n, LEAST_SHARE * c)
    determinant = a * c - b * b
    sound = determinant > 0.0
    b, determinant = where(sound, b, 0.0), where(sound, determinant, a * c)
    # The gradients are those of the mean of both images, so they are (1 + gain) / 2 times those of the reference.
    slope, inverse = 0.5 * (1.0 + gain), 1.0 / determinant
    (dx, dy), over = (q[CENTRE], q[CENTRE + 1]), slope / gain
    u = q[XD] - q[XX] * dx - q[XY] * dy - noise * (q[ND] - n * dx) - over * e
    v = q[YD] - q[XY] * dx - q[YY] * dy - noise * (q[MD] - n * dy) - over * f
    x, y = dx + (c * u - b * v) * inverse, dy + (a * v - b * u) * inverse
    # What interpolation takes from the noise lies at wavelengths that hardly matter for the displacement.
    variance = variance * (2.0 / (1.0 + q[KEPT] * each))
    # Noise of the gradients meets that of the images: the squared gradients count with it in the middle of the sandwich.
    more = noise * n * inverse
    x_error = slope * root(2.0 * variance * (c + more * (c * c + b * b)) * inverse)
    y_error = slope * root(2.0 * variance * (a + more * (a * a + b * b)) * inverse)
    for k, value in enumerate((x, y, x_error, y_error, correlation, noise, q[XX], q[XY], q[YY], n)):
        q[FOUND + k] = value
    q[SOLVED] = where(there & (x == x) & (y == y), 1.0, 0.0)


def look_at_blocks(q: Any) -> None:
    """Fill what the fits of chips leave of a block along the gradients, see ``FIELDS``."""
    level, gain, u, v, power, steps = (q[FIT + k] for k in range(6))
    xx, xy, yy = q[BLOCK + XX], q[BLOCK + XY], q[BLOCK + YY]
    there, each = (power > 0.0) & (xx > 0.0) & (yy > 0.0), 1.0 / power
    x = q[BLOCK + XW] - level * q[BLOCK + X] - gain * q[BLOCK + RX] - u * xx - v * xy
    y = q[BLOCK + YW] - level * q[BLOCK + Y] - gain * q[BLOCK + RY] - u * xy - v * yy
    by_x, by_y = root(xx * each), root(yy * each)
    told = (x * each / by_x, 1.0), (y * each / by_y, 1.0), (steps * by_x, 0.0), (steps * by_y, 0.0), (steps * steps * xy * each, 0.0)
    for k, (value, otherwise) in enumerate(told):
        q[FOUND + FEWER + k] = where(there, value, otherwise)
