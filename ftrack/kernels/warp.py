"""Resampling at exact positions: values do not depend on the block in which they are computed."""

from __future__ import annotations

import math

import numpy as np

from ftrack.kernels.compiled import compiled

STEP = 32
"""Pixels between the places where a map projection is evaluated exactly; cubic interpolation fills in between."""


@compiled
def _lagrange(t: float, weights: np.ndarray) -> None:
    """Fill the weights of four equally spaced values at -1, 0, 1, 2 for a place ``t`` between 0 and 1."""
    weights[0] = -t * (t - 1.0) * (t - 2.0) / 6.0
    weights[1] = (t + 1.0) * (t - 1.0) * (t - 2.0) / 2.0
    weights[2] = -(t + 1.0) * t * (t - 2.0) / 2.0
    weights[3] = (t + 1.0) * t * (t - 1.0) / 6.0


@compiled
def fill_positions(nodes: np.ndarray, row: int, column: int, out: np.ndarray) -> None:
    """Interpolate positions that are known at every ``STEP``-th pixel of a lattice.

    Parameters
    ----------
    nodes : (rows, columns) float64
        Node (0, 0) is pixel ``((row // STEP - 1) * STEP, (column // STEP - 1) * STEP)`` of the lattice; there is
        one node before the pixels and there are two after the node that precedes the last pixel.
    row, column : int
        Pixel of the lattice at ``out[0, 0]``.
    out : (height, width) float64
        Positions at the pixels.
    """
    height, width = out.shape
    line = np.empty(nodes.shape[1])
    weights = np.empty(4)
    for i in range(height):
        k = (row + i) // STEP - row // STEP
        _lagrange(((row + i) % STEP) / STEP, weights)
        for n in range(line.size):
            line[n] = weights[0] * nodes[k, n] + weights[1] * nodes[k + 1, n] + weights[2] * nodes[k + 2, n] + weights[3] * nodes[k + 3, n]
        for j in range(width):
            n = (column + j) // STEP - column // STEP
            _lagrange(((column + j) % STEP) / STEP, weights)
            out[i, j] = weights[0] * line[n] + weights[1] * line[n + 1] + weights[2] * line[n + 2] + weights[3] * line[n + 3]


@compiled
def _fill_simple(u: float, radius: int, scale: float, weights: np.ndarray) -> int:
    """Fill normalised weights of the pixels around position ``u``, linear or cubic (Keys 1981, a = -1/2); return the first of them."""
    first, count = _reach(u, radius * scale)
    total = 0.0
    for k in range(count):
        d = abs((first + k - u) / scale)
        w = 1.0 - d
        if radius > 1:
            w = (1.5 * d - 2.5) * d * d + 1.0 if d < 1.0 else ((2.5 - 0.5 * d) * d - 4.0) * d + 2.0
        weights[k] = w
        total += w
    for k in range(count):
        weights[k] /= total
    return first


@compiled
def _fill_sinc(u: float, radius: int, scale: float, turns: np.ndarray, weights: np.ndarray) -> int:
    """Fill normalised weights of a sinc in a Hann window around position ``u``; return the first pixel.

    Of windows of this width it delays low frequencies least: slopes stay where they are. Sines of evenly spaced angles
    follow from the first by rotation; ``turns`` holds sine and cosine of both steps.
    """
    first, count = _reach(u, radius * scale)
    angle = math.pi * (first - u) / scale
    sin, cos = math.sin(angle), math.cos(angle)
    slow_sin, slow_cos = math.sin(angle / radius), math.cos(angle / radius)
    total = 0.0
    for k in range(count):
        d = (first + k - u) / scale
        w = sin * (1.0 + slow_cos) / d if abs(d) > 1e-7 else 2.0 * math.pi
        weights[k] = w
        total += w
        sin, cos = sin * turns[1] + cos * turns[0], cos * turns[1] - sin * turns[0]
        slow_sin, slow_cos = slow_sin * turns[3] + slow_cos * turns[2], slow_cos * turns[3] - slow_sin * turns[2]
    for k in range(count):
        weights[k] /= total
    return first


@compiled
def _reach(u: float, reach: float) -> tuple[int, int]:
    """Return the first pixel nearer than ``reach`` to ``u``, and how many there are."""
    first = math.floor(u - reach) + 1
    return first, math.ceil(u + reach) - first


@compiled
def _combine(source: np.ndarray, top: int, left: int, across: np.ndarray, along: np.ndarray, sums: np.ndarray) -> float:
    """Return the weighted sum of pixels, NaN where one of them is missing or beyond the source."""
    if top < 0 or left < 0 or top + across.size > source.shape[0] or left + along.size > source.shape[1]:
        return math.nan
    sums[: along.size] = 0.0
    for k in range(across.size):
        line, weight = source[top + k, left : left + along.size], across[k]
        for n in range(along.size):
            sums[n] += weight * line[n]
    value = 0.0
    for n in range(along.size):
        value += along[n] * sums[n]
    return value


@compiled
def resample(source: np.ndarray, rows: np.ndarray, columns: np.ndarray, radius: int, scale: float, out: np.ndarray) -> None:
    """Interpolate an image with gaps at given positions.

    Where the wide kernel meets a gap or the edge of the source, linear interpolation takes its place;
    where that needs a missing pixel too, the result is missing.

    Parameters
    ----------
    source : (rows, columns) float32
        NaN where there are no data.
    rows, columns : (height, width) float64
        Positions in pixels of the source, 0 at its upper left corner: the centre of the first pixel is 0.5.
    radius : int
        1 linear, 2 cubic, more for a windowed sinc: 4 takes eight pixels in each direction.
    scale : float
        Pixel size of the result over that of the source, at least 1: the kernel widens with it, so that nothing is aliased.
    out : (height, width) float32
        Values, NaN where there are none.
    """
    most = int(2 * radius * scale) + 3
    across, along, sums = np.empty(most), np.empty(most), np.empty(most)
    step, slow = math.pi / scale, math.pi / scale / radius
    turns = np.array([math.sin(step), math.cos(step), math.sin(slow), math.cos(slow)])
    height, width = source.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            u, v = rows[i, j] - 0.5, columns[i, j] - 0.5
            value = math.nan
            if u >= -scale and v >= -scale and u <= height + scale and v <= width + scale:
                tall, wide = _reach(u, radius * scale)[1], _reach(v, radius * scale)[1]
                if radius > 2:
                    top, left = _fill_sinc(u, radius, scale, turns, across), _fill_sinc(v, radius, scale, turns, along)
                else:
                    top, left = _fill_simple(u, radius, scale, across), _fill_simple(v, radius, scale, along)
                value = _combine(source, top, left, across[:tall], along[:wide], sums)
                if math.isnan(value) and radius > 1:
                    tall, wide = _reach(u, scale)[1], _reach(v, scale)[1]
                    top, left = _fill_simple(u, 1, scale, across), _fill_simple(v, 1, scale, along)
                    value = _combine(source, top, left, across[:tall], along[:wide], sums)
            out[i, j] = value
