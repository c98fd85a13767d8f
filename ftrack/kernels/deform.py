"""Gradients of an image, and the other image drawn back along a field of displacement: exact positions, one interpolation a pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from scipy import ndimage

from ftrack.kernels.compiled import compiled, inner

TAPS = 8
"""Pixels that an interpolation takes along each axis."""

FRACTIONS = 256
"""Steps per pixel to which displacement is rounded; ``warp`` tells at which displacement it really looked."""

BITS = 8
"""``FRACTIONS`` is two to this power."""

ROUNDING, WHOLE = np.float32(1.5 * 2.0**23), 0x4B400000
"""A float32 to which this is added has no place for a fraction: it is rounded, and its bits less ``WHOLE`` are the whole number."""

BEFORE, AFTER = TAPS // 2 - 1, TAPS // 2
"""Pixels needed before and after a position."""

REACH = 3
"""Pixels needed on every side for a gradient."""

DERIVATIVE = (45.0 / 60.0, -9.0 / 60.0, 1.0 / 60.0)
"""Weights of the differences over 2, 4 and 6 pixels in the sixth-order first derivative."""

NOISE_IN_DERIVATIVE = 2.0 * (45.0**2 + 9.0**2 + 1.0) / 3600.0
"""Sum of the squared weights: how much white noise adds to the mean squared gradient."""

LANES = 16
"""Pixels that are interpolated together."""

_FLOAT, _INDEX, _STEP = ir.FloatType(), ir.IntType(64), ir.IntType(32)
_VECTOR, _STEPS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_STEP, LANES)


def _cardinal() -> np.ndarray:
    """Return the cubic spline's response to one pixel, cut to ``TAPS`` pixels: float64 (TAPS, 4), powers of the fraction ascending.

    Each is a polynomial between pixels (Unser 1999). It passes less noise than a windowed sinc of that width.
    """
    pulse = np.zeros(16 * TAPS)
    pulse[8 * TAPS] = 1.0
    fraction = np.arange(4) / 4.0 + 0.125
    distance = fraction[:, None] - (np.arange(TAPS) - BEFORE)
    weights = ndimage.map_coordinates(pulse, [8 * TAPS + distance], order=3)
    powers: np.ndarray = np.linalg.solve(fraction[:, None] ** np.arange(4), weights).T
    powers[:, 0] = np.arange(TAPS) == BEFORE
    return powers


POWERS = _cardinal()


def _tabulate() -> np.ndarray:
    """Return the weights of the interpolation at every fraction: float32 (FRACTIONS + 1, TAPS)."""
    fraction = np.arange(FRACTIONS + 1) / FRACTIONS
    weights = (fraction[:, None] ** np.arange(4)) @ POWERS.T
    table: np.ndarray = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return table


WEIGHTS = _tabulate()


def _fit_kept() -> tuple[float, float]:
    """Return the coefficients of q and q^2, ``q = t (1 - t)``, in the sum of squared weights at the fraction t, less one."""
    fraction = np.arange(FRACTIONS + 1) / FRACTIONS
    square = fraction * (1.0 - fraction)
    found = np.linalg.lstsq(np.stack([square, square**2], 1), np.square(WEIGHTS, dtype=float).sum(1) - 1.0, rcond=None)[0]
    return float(found[0]), float(found[1])


KEPT_BETWEEN = _fit_kept()
"""White noise that is interpolated loses some of its power: none at whole pixels, a quarter half-way between two."""


def _make_interpolation(typing_context: Any, image: Any, at: Any, step: Any, moves: Any, x_at: Any, y_at: Any, lane: Any, out: Any) -> Any:
    """Interpolate those of 16 pixels that move by as many whole pixels as pixel ``lane``; return which they are, as bits.

    ``at`` is the place in ``image`` of the first of ``TAPS`` x ``TAPS`` pixels that the first pixel needs if it moves so,
    ``x_at`` and ``y_at`` are the places in ``moves`` of how far pixels move, in fractions; all arrays are flat.
    """
    i8 = types.int64
    signature = types.int64(image, i8, i8, moves, i8, i8, i8, out)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pixels, steps, result = (context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 3, 7))
        same, weights = None, []
        for place in args[4:6]:
            step = _load(builder, steps, place, _STEPS)
            whole = builder.ashr(step, ir.Constant(_STEPS, [BITS] * LANES))
            own = builder.ashr(builder.load(builder.gep(steps, [builder.add(place, args[6])])), ir.Constant(_STEP, BITS))
            alike = builder.icmp_signed("==", whole, _spread(builder, own, _STEPS))
            same = alike if same is None else builder.and_(same, alike)
            fraction = builder.sitofp(builder.and_(step, ir.Constant(_STEPS, [FRACTIONS - 1] * LANES)), _VECTOR)
            weights.append(_weigh(builder, builder.fmul(fraction, ir.Constant(_VECTOR, [1.0 / FRACTIONS] * LANES))))
        rows = [builder.gep(pixels, [builder.add(args[1], builder.mul(args[2], ir.Constant(_INDEX, k)))]) for k in range(TAPS)]
        total = _weighted_sum(builder, rows, weights[0], weights[1])
        before = _load(builder, result, ir.Constant(_INDEX, 0), _VECTOR)
        place = builder.bitcast(result, _VECTOR.as_pointer())
        builder.store(builder.select(same, total, before), place).align = 4
        return builder.zext(builder.bitcast(same, ir.IntType(LANES)), _INDEX)

    return signature, build


_interpolate: Any = intrinsic(_make_interpolation)


def _load(builder: Any, base: Any, offset: Any, kind: Any) -> Any:
    value = builder.load(builder.bitcast(builder.gep(base, [offset]), kind.as_pointer()))
    value.align = 4
    return value


def _spread(builder: Any, number: Any, kind: Any) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    single = builder.insert_element(undefined, number, ir.Constant(_STEP, 0))
    return builder.shuffle_vector(single, undefined, ir.Constant(_STEPS, [0] * LANES))


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR, _VECTOR, _VECTOR])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32"), [a, b, c])


def _weigh(builder: Any, fraction: Any) -> list[Any]:
    """Return the weights of all taps, and one over their sum."""
    weights = []
    for powers in (*POWERS, POWERS.sum(0)):
        value = ir.Constant(_VECTOR, [float(np.float32(powers[3]))] * LANES)
        for power in powers[2::-1]:
            value = _fma(builder, value, fraction, ir.Constant(_VECTOR, [float(np.float32(power))] * LANES))
        weights.append(value)
    weights[TAPS] = builder.fdiv(ir.Constant(_VECTOR, [1.0] * LANES), weights[TAPS])
    return weights


def _weighted_sum(builder: Any, rows: list[Any], across: list[Any], down: list[Any]) -> Any:
    total = ir.Constant(_VECTOR, [0.0] * LANES)
    for column in range(TAPS):
        part = ir.Constant(_VECTOR, [0.0] * LANES)
        for row in range(TAPS):
            part = _fma(builder, down[row], _load(builder, rows[row], ir.Constant(_INDEX, column), _VECTOR), part)
        total = _fma(builder, across[column], part, total)
    return builder.fmul(total, builder.fmul(across[TAPS], down[TAPS]))


@compiled
def fill_gradients(image: np.ndarray, x_gradient: np.ndarray, y_gradient: np.ndarray) -> None:
    """Fill the gradients of the inner part of an image.

    Parameters
    ----------
    image : float32 (y + 2 * REACH, x + 2 * REACH)
        NaN = no data; a gradient that needs a missing pixel is missing.
    x_gradient, y_gradient : float32 (y, x or more)
        Result, per pixel, to the right and down; columns beyond the image are left alone.
    """
    a, b, c = np.float32(DERIVATIVE[0]), np.float32(DERIVATIVE[1]), np.float32(DERIVATIVE[2])
    height, width = image.shape[0] - 2 * REACH, image.shape[1] - 2 * REACH
    for y in range(height):
        row = image[y + REACH]
        l1, l2, l3 = row[2 : 2 + width], row[1 : 1 + width], row[:width]
        r1, r2, r3 = row[4 : 4 + width], row[5 : 5 + width], row[6 : 6 + width]
        u1, u2, u3 = image[y + 2, 3 : 3 + width], image[y + 1, 3 : 3 + width], image[y, 3 : 3 + width]
        d1, d2, d3 = image[y + 4, 3 : 3 + width], image[y + 5, 3 : 3 + width], image[y + 6, 3 : 3 + width]
        gx, gy = x_gradient[y], y_gradient[y]
        for x in range(width):
            gx[x] = a * (r1[x] - l1[x]) + b * (r2[x] - l2[x]) + c * (r3[x] - l3[x])
        for x in range(width):
            gy[x] = a * (d1[x] - u1[x]) + b * (d2[x] - u2[x]) + c * (d3[x] - u3[x])


@compiled
def warp(image, corner, field, place, weights, used, warped, moved):
    """Draw an image back along a field that is linear between nodes.

    Parameters
    ----------
    image : float32 (y, x)
        Image, NaN = no data.
    corner : (int, int)
        Pixel of the image that lies under ``warped[0, 0]`` where nothing moves.
    field : float32 (2, row, column)
        Displacement along x and y at the nodes, px; the nodes reach around all pixels.
    place : (int, int, int)
        Row and column of the pixel corner of the first node, counted from ``warped[0, 0]``, and pixels between nodes.
    weights : float32 (FRACTIONS + 1, TAPS)
        ``WEIGHTS``.
    used : bool (rows,)
        Rows to work on.
    warped : float32 (rows, columns)
        Result, NaN where a needed pixel is missing or beyond the image.
    moved : float32 (2, rows, columns)
        Result: displacement at which each pixel was really taken, px, a multiple of ``1 / FRACTIONS``.
    """
    n, pixels = warped.shape[1], image.reshape(-1)
    lines, padded = np.empty((2, 2, n), np.float32), -(-n // LANES) * LANES
    rounded = np.full((2, padded), ROUNDING, np.float32)
    steps, out = rounded.view(np.int32).reshape(-1), np.empty(LANES, np.float32)
    room = np.empty(TAPS * (TAPS + LANES), np.float32)
    start, spacing = place[0], place[2]
    before = -1
    for r in range(warped.shape[0]):
        if not used[r]:
            continue
        i = (r - start) // spacing
        if i != before:
            before = i
            for d in range(2):
                _spread_nodes(field[d, i], field[d, i + 1], (place[1], spacing), lines[d, 0], lines[d, 1])
        t = (np.float32(r - start - i * spacing) + np.float32(0.5)) / np.float32(spacing)
        _round_steps(lines[0, 0], lines[0, 1], t, rounded[0, :n], moved[0, r])
        _round_steps(lines[1, 0], lines[1, 1], t, rounded[1, :n], moved[1, r])
        for x in range(0, n, LANES):
            most = min(LANES, n - x)
            _draw_pixels(pixels, image.shape, (corner[0] + r - BEFORE, corner[1] + x - BEFORE), steps, (x, x + padded), most, room, out)
            for k in range(most):
                warped[r, x + k] = out[k]


@inner
def _draw_pixels(pixels, shape, corner, steps, places, count, room, out):
    """Interpolate some pixels of a row, turn by turn those that move by as many whole pixels; what lies beyond the image is missing."""
    height, width = shape
    done, lane = 0, 0
    while lane < count:
        v = corner[0] + ((np.int64(steps[places[1] + lane]) - WHOLE) >> BITS)
        u = corner[1] + ((np.int64(steps[places[0] + lane]) - WHOLE) >> BITS)
        if v >= 0 and u >= 0 and v + TAPS <= height and u + TAPS + LANES <= width:
            done |= _interpolate(pixels, v * width + u, width, steps, places[0], places[1], lane, out)
        else:
            across = TAPS + LANES
            for y in range(TAPS):
                for x in range(across):
                    inside = 0 <= v + y < height and 0 <= u + x < width
                    room[y * across + x] = pixels[(v + y) * width + u + x] if inside else np.float32(np.nan)
            done |= _interpolate(room, 0, across, steps, places[0], places[1], lane, out)
        while lane < count and done >> lane & 1:
            lane += 1


@inner
def _spread_nodes(above, below, place, line, change):
    """Interpolate a row of nodes along x to every pixel: its value, and the change to the next row of nodes."""
    start, spacing = place
    scale = np.float32(1.0 / spacing)
    j = -start // spacing
    offset = -start - j * spacing
    a, b = above[j], below[j] - above[j]
    a_slope, b_slope = (above[j + 1] - above[j]) * scale, (below[j + 1] - above[j + 1] - b) * scale
    for x in range(line.size):
        along = np.float32(offset) + np.float32(0.5)
        line[x] = a + a_slope * along
        change[x] = b + b_slope * along
        offset += 1
        if offset == spacing and x + 1 < line.size:
            offset, j = 0, j + 1
            a, b = above[j], below[j] - above[j]
            a_slope, b_slope = (above[j + 1] - above[j]) * scale, (below[j + 1] - above[j + 1] - b) * scale


@inner
def _round_steps(line, change, t, rounded, moved):
    """Fill the displacement of one row of pixels, rounded to whole fractions of a pixel: as their number, and in px."""
    for k in range(rounded.size):
        rounded[k] = (line[k] + t * change[k]) * np.float32(FRACTIONS) + ROUNDING
    for k in range(rounded.size):
        moved[k] = (rounded[k] - ROUNDING) * np.float32(1.0 / FRACTIONS)
