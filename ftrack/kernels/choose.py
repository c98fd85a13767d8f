"""The smallest chip that is certain, node by node, and its displacement below one pixel."""

from __future__ import annotations

import numpy as np
from numba import njit

from ftrack.kernels.peaks import fit_peak
from ftrack.kernels.refine import refine_chip, room_for

# The codes of ftrack.schema.Status, as compiled code needs them.
MEASURED, NO_DATA, EDGE, NO_TEXTURE, LOW_CORRELATION = 0, 2, 3, 4, 5
AMBIGUOUS, SEARCH_LIMIT, DIVERGED, ERROR_TOO_LARGE = 6, 7, 8, 9

LEAST_SQUARES, PARABOLA, GAUSSIAN = 0, 1, 2

NEAR = 0.75
"""A solution within this many pixels of the whole-pixel peak needs no further proof."""

BETTER = 1.25
"""A solution farther away must lower the variance left unexplained by this factor."""

AGREEMENT = 1.5
"""A chip is confirmed where the peak of the next larger chip lies within this many pixels of its own."""


SLACK = 0.05
"""Share of the variance that interpolation itself may leave unexplained."""


@njit(nogil=True, cache=True, error_model="numpy")
def choose_chips(surfaces, quality, images, geometry, limits, wanted, out):
    """Fill the measurement of every wanted node.

    Parameters
    ----------
    surfaces : (values, peak, peak_dy, peak_dx, valid, flat)
        As ``ftrack.kernels.correlate.Surfaces``, (chip, row, column, ...), chips ascending.
    quality : (ratio, bounded)
        Peak ratio and bound of the peak, (chip, row, column); see ``second_peaks``.
    images : (reference, secondary, weights)
        Padded images, float32, NaN = no data; the weights of interpolation.
    geometry : (sizes, corner, spacing, radius, margin)
        Chip sizes, px; place of the first node in the padded reference, px; node spacing; search radius; how far
        the secondary reaches beyond the reference.
    limits : (min_valid, min_correlation, min_peak_ratio, max_error, subpixel)
        Limits of a measurement, and how the peak is refined.
    wanted : bool (row, column)
        Nodes to fill.
    out : float32 (8, row, column)
        Result, in the order of ``ftrack.schema.MOTION``.
    """
    sizes = geometry[0]
    room = np.empty(room_for(sizes[-1]))
    for i in range(wanted.shape[0]):
        for j in range(wanted.shape[1]):
            if not wanted[i, j]:
                continue
            for c in range(sizes.size):
                status = _judge(surfaces, quality, limits, sizes, c, i, j)
                if status == MEASURED:
                    status = _measure(surfaces, quality, images, geometry, limits, (c, i, j), room, out)
                out[7, i, j] = status
                if status == MEASURED:
                    break


@njit(nogil=True, cache=True, error_model="numpy")
def _judge(surfaces, quality, limits, sizes, c, i, j):
    """Say whether the peak of one chip can be trusted, or why not."""
    _, peak, peak_dy, peak_dx, valid, flat = surfaces
    ratio, bounded = quality
    if valid[c, i, j] < limits[0]:
        return NO_DATA
    if flat[c, i, j]:
        return NO_TEXTURE
    if np.isnan(peak[c, i, j]):
        return NO_DATA
    if peak[c, i, j] < limits[1]:
        return LOW_CORRELATION
    if bounded[c, i, j] == 1:
        return SEARCH_LIMIT
    if bounded[c, i, j] == 2:
        return EDGE
    if ratio[c, i, j] < limits[2]:
        return AMBIGUOUS
    if c + 1 < sizes.size and not np.isnan(peak[c + 1, i, j]):
        off = max(abs(peak_dy[c, i, j] - peak_dy[c + 1, i, j]), abs(peak_dx[c, i, j] - peak_dx[c + 1, i, j]))
        if off > AGREEMENT:
            return AMBIGUOUS
    return MEASURED


@njit(nogil=True, cache=True, error_model="numpy")
def _explains(likeness, peak, distance):
    """Say whether a solution explains the chip well enough for its distance from the whole-pixel peak."""
    left, left_before = 1.0 - likeness * likeness, 1.0 - peak * peak
    return left_before >= BETTER * left if distance > NEAR else left <= BETTER * left_before + SLACK


@njit(nogil=True, cache=True, error_model="numpy")
def _measure(surfaces, quality, images, geometry, limits, where, room, out):
    """Refine one peak and write it down, or say why it cannot be."""
    values, peak, peak_dy, peak_dx, _, _ = surfaces
    sizes, corner, spacing, radius, margin = geometry
    c, i, j = where
    size = sizes[c]
    y, x = peak_dy[c, i, j], peak_dx[c, i, j]
    pixels = np.float64(size * size) * surfaces[4][c, i, j]
    dy, dx, sy, sx = fit_peak(values[c, i, j], y, x, limits[4] == GAUSSIAN, pixels)
    if limits[4] == LEAST_SQUARES:
        top, left = corner + i * spacing - size // 2, corner + j * spacing - size // 2
        start = (y - radius + (dy if abs(dy) <= 1.0 else 0.0), x - radius + (dx if abs(dx) <= 1.0 else 0.0))
        corners = (top + margin, left + margin, top + margin + radius, left + margin + radius)
        dy, dx, sy, sx, likeness = refine_chip(images[0], images[1], corners, size, start, room, images[2])
        dy, dx = dy - (y - radius), dx - (x - radius)
        if np.isnan(dy) or np.isnan(dx) or not _explains(likeness, peak[c, i, j], max(abs(dy), abs(dx))):
            return DIVERGED
    elif not (abs(dy) <= 1.0 and abs(dx) <= 1.0):
        return DIVERGED
    if not (sx <= limits[3] and sy <= limits[3]):
        return ERROR_TOO_LARGE
    out[0, i, j], out[1, i, j] = x - radius + dx, y - radius + dy
    out[2, i, j], out[3, i, j] = peak[c, i, j], quality[0][c, i, j]
    out[4, i, j], out[5, i, j] = sx, sy
    out[6, i, j] = size
    return MEASURED
