"""Displacement below one pixel for every chip, from the sums of its blocks: least squares on the grey values.

The secondary W has been drawn back along a first field u. With the reference R, the gradients of their mean, a gain and
an offset, ``W = gain * (R + gradient . (u - d)) + offset`` is solved for the displacement d of each chip. Noise makes
gradients look steeper than they are; how much follows from the correlation, and is taken out of the normal matrix
(errors in variables, Fuller 1987), so that neither the solution nor its error is too small.
"""

from __future__ import annotations

import numpy as np

from ftrack.kernels.compiled import inner, shared
from ftrack.kernels.deform import NOISE_IN_DERIVATIVE
from ftrack.kernels.normal import KEPT, MD, ND, PLANES, RR, RW, RX, RY, WW, XD, XW, XX, XY, YD, YW, YY, N, R, W, X, Y

FEWER, FIELDS = 10, 15
"""What a solution is, and how much of it where nothing is asked of single blocks: dx, dy, their one-sigma errors (px), correlation of
the fitted chips, noise in the squared gradients per pixel; sums of the squared gradients (xx, xy, yy) and pixels; then what is left
of one block along the gradients in x and in y, in units of white noise of the power that is left of the chip, and how it changes
with dx, dy (x with dx, y with dy, either with the other)."""

LEAST_SHARE = 0.75
"""Share of the squared gradients that is signal, at the least: what differs between images of real ground is not only white noise."""


@shared
def add_blocks(sums, blocks, chip, row, down, total):
    """Add the blocks of the chips of one size of a row of nodes, in an order that the node alone decides.

    Parameters
    ----------
    sums : float64 (block row, block column, PLANES)
        From ``ftrack.kernels.normal.sum_blocks``.
    blocks : (side, step, counts, starts)
        See ``ftrack.kernels.layout.Layout``.
    chip, row : int
        Which chips, of which row of nodes.
    down : float64 (block column, PLANES)
        Room.
    total : float64 (column, PLANES)
        Result.
    """
    step, count, start = blocks[1], blocks[2][chip], blocks[3][chip]
    top, flat, added = start + row * step, down.reshape(-1), total.reshape(-1)
    flat[:] = 0.0
    for k in range(count):
        line = sums[top + k].reshape(-1)
        for q in range(flat.size):
            flat[q] += line[q]
    if step == 1:
        added[:] = 0.0
        for k in range(count):
            part = flat[(start + k) * PLANES :]
            for q in range(added.size):
                added[q] += part[q]
        return
    for j in range(total.shape[0]):
        left = start + j * step
        for p in range(PLANES):
            total[j, p] = 0.0
        for k in range(count):
            for p in range(PLANES):
                total[j, p] += down[left + k, p]


@shared
def solve_chip(q, block, centre, found):
    """Solve for the displacement of one chip; False where there is none.

    Parameters
    ----------
    q : float64 (PLANES,)
        Sums over its blocks.
    block : float64 (PLANES,)
        Sums of one block of them.
    centre : (float, float)
        Displacement (dx, dy), px, from which that of the blocks is counted.
    found : float64 (FIELDS,) or (FEWER,)
        Result.
    """
    n, each = q[N], 1.0 / q[N]
    r, x, y, w = q[R] * each, q[X] * each, q[Y] * each, q[W] * each
    rr, rx, ry, rw, ww = q[RR] - n * r * r, q[RX] - n * r * x, q[RY] - n * r * y, q[RW] - n * r * w, q[WW] - n * w * w
    if not (rr > 0.0 and ww > 0.0 and rw > 0.0):
        return False
    gain, along, down, steady = np.sqrt(ww / rr), rx / rr, ry / rr, rw / rr
    a, b, c = q[XX] - n * x * x - rx * along, q[XY] - n * x * y - ry * along, q[YY] - n * y * y - ry * down
    e, f = q[XW] - n * x * w - rw * along, q[YW] - n * y * w - rw * down
    determinant = a * c - b * b
    if not determinant > 0.0:
        return False
    left = ww - rw * steady - (e * (c * e - b * f) + f * (a * f - b * e)) / determinant
    correlation = np.sqrt(min(max(1.0 - left / ww, 0.0), 1.0))
    if found.size > FEWER:
        u, v = (c * e - b * f) / determinant, (a * f - b * e) / determinant
        own = steady - u * along - v * down
        fit = (w - own * r - u * x - v * y, own, u, v)
        found[10], found[11], found[12], found[13], found[14] = _left_of(block, fit, left * each, 2.0 * gain / (1.0 + gain))
    variance = (1.0 - correlation) * rr * each
    noise = 0.5 * variance * NOISE_IN_DERIVATIVE
    a, c = max(a - noise * n, LEAST_SHARE * a), max(c - noise * n, LEAST_SHARE * c)
    determinant = a * c - b * b
    if not determinant > 0.0:
        b, determinant = 0.0, a * c
    # The gradients are those of the mean of both images, so they are (1 + gain) / 2 times those of the reference.
    slope, inverse = 0.5 * (1.0 + gain), 1.0 / determinant
    (dx, dy), over = centre, slope / gain
    u = q[XD] - q[XX] * dx - q[XY] * dy - noise * (q[ND] - n * dx) - over * e
    v = q[YD] - q[XY] * dx - q[YY] * dy - noise * (q[MD] - n * dy) - over * f
    found[0] = dx + (c * u - b * v) * inverse
    found[1] = dy + (a * v - b * u) * inverse
    # What interpolation takes from the noise lies at wavelengths that hardly matter for the displacement.
    variance *= 2.0 / (1.0 + q[KEPT] * each)
    # Noise of the gradients meets that of the images: the squared gradients count with it in the middle of the sandwich.
    more = noise * n * inverse
    found[2] = slope * np.sqrt(2.0 * variance * (c + more * (c * c + b * b)) * inverse)
    found[3] = slope * np.sqrt(2.0 * variance * (a + more * (a * a + b * b)) * inverse)
    found[4] = correlation
    found[5] = noise
    found[6], found[7], found[8], found[9] = q[XX], q[XY], q[YY], n
    return found[0] == found[0] and found[1] == found[1]


@inner
def _left_of(q, fit, power, steps):
    """Return what a fit leaves of a block along the gradients, see ``FIELDS``; a pixel of displacement is ``steps`` gradients."""
    level, gain, u, v = fit
    if not (power > 0.0 and q[XX] > 0.0 and q[YY] > 0.0):
        return 1.0, 1.0, 0.0, 0.0, 0.0
    x = q[XW] - level * q[X] - gain * q[RX] - u * q[XX] - v * q[XY]
    y = q[YW] - level * q[Y] - gain * q[RY] - u * q[XY] - v * q[YY]
    each = 1.0 / power
    by_x, by_y = np.sqrt(q[XX] * each), np.sqrt(q[YY] * each)
    return x * each / by_x, y * each / by_y, steps * by_x, steps * by_y, steps * steps * q[XY] * each
