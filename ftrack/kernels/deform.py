"""Gradients of an image, and the other image drawn back along a field of displacement: exact positions, one interpolation a pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from scipy import ndimage

TAPS = 8
"""Pixels that an interpolation takes along each axis."""

FRACTIONS = 256
"""Steps per pixel at which weights are tabulated; ``warp`` tells at which displacement it really looked."""

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

_FLOAT, _INDEX = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, TAPS)


def _tabulate() -> np.ndarray:
    """Return the weights of cubic spline interpolation, cut to ``TAPS`` pixels: float32 (FRACTIONS + 1, TAPS).

    Each is a response of the spline to one pixel (Unser 1999). It passes less noise than a windowed sinc of that width.
    """
    pulse = np.zeros(16 * TAPS)
    pulse[8 * TAPS] = 1.0
    distance = np.arange(FRACTIONS + 1)[:, None] / FRACTIONS - (np.arange(TAPS) - BEFORE)
    weights = ndimage.map_coordinates(pulse, [8 * TAPS + distance], order=3)
    weights[np.abs(distance) >= TAPS // 2] = 0.0
    table: np.ndarray = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return table


WEIGHTS = _tabulate()


def _make_interpolation(typing_context: Any, image: Any, at: Any, step: Any, weights: Any, across: Any, along: Any) -> Any:
    """Weigh 8 x 8 pixels: rows by ``weights[across:]``, columns by ``weights[along:]``; all three arrays are flat."""
    i8 = types.int64
    signature = types.float32(image, i8, i8, weights, i8, i8)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pixels = context.make_array(signature.args[0])(context, builder, args[0]).data
        table = context.make_array(signature.args[3])(context, builder, args[3]).data
        fma_type = ir.FunctionType(_VECTOR, [_VECTOR, _VECTOR, _VECTOR])
        fma = cgutils.get_or_insert_function(builder.module, fma_type, f"llvm.fma.v{TAPS}f32")
        total = ir.Constant(_VECTOR, [0.0] * TAPS)
        for k in range(TAPS):
            row = _load(builder, pixels, builder.add(args[1], builder.mul(args[2], ir.Constant(_INDEX, k))))
            weight = builder.load(builder.gep(table, [builder.add(args[4], ir.Constant(_INDEX, k))]))
            total = builder.call(fma, [row, _spread(builder, weight), total])
        total = builder.fmul(total, _load(builder, table, args[5]))
        return _add_lanes(builder, total)

    return signature, build


_interpolate: Any = intrinsic(_make_interpolation)


def _load(builder: Any, base: Any, offset: Any) -> Any:
    value = builder.load(builder.bitcast(builder.gep(base, [offset]), _VECTOR.as_pointer()))
    value.align = 4
    return value


def _spread(builder: Any, number: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    single = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(single, undefined, ir.Constant(ir.VectorType(ir.IntType(32), TAPS), [0] * TAPS))


def _add_lanes(builder: Any, vector: Any) -> Any:
    """Add the lanes of a vector, halves upon halves."""
    undefined, lanes = ir.Constant(_VECTOR, ir.Undefined), TAPS
    while lanes > 1:
        lanes //= 2
        order = [k + lanes if k < lanes else k for k in range(TAPS)]
        vector = builder.fadd(vector, builder.shuffle_vector(vector, undefined, ir.Constant(ir.VectorType(ir.IntType(32), TAPS), order)))
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
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
    height, width = image.shape
    pixels, table = image.reshape(-1), weights.reshape(-1)
    n = warped.shape[1]
    lines, rounded = np.empty((2, 2, n), np.float32), np.empty((2, n), np.float32)
    x_steps, y_steps = rounded[0].view(np.int32), rounded[1].view(np.int32)
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
        _round_steps(lines[0, 0], lines[0, 1], t, rounded[0], moved[0, r])
        _round_steps(lines[1, 0], lines[1, 1], t, rounded[1], moved[1, r])
        row, v0 = warped[r], corner[0] + r - BEFORE
        for x in range(n):
            u = corner[1] + x + ((np.int64(x_steps[x]) - WHOLE) >> BITS) - BEFORE
            v = v0 + ((np.int64(y_steps[x]) - WHOLE) >> BITS)
            if u < 0 or v < 0 or u + TAPS > width or v + TAPS > height:
                row[x] = np.nan
            else:
                across, along = np.int64(y_steps[x] & (FRACTIONS - 1)) * TAPS, np.int64(x_steps[x] & (FRACTIONS - 1)) * TAPS
                row[x] = _interpolate(pixels, v * width + u, width, table, across, along)


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
def _round_steps(line: np.ndarray, change: np.ndarray, t: Any, rounded: np.ndarray, moved: np.ndarray) -> None:
    """Fill the displacement of one row of pixels, rounded to whole fractions of a pixel: as their number, and in px."""
    for k in range(rounded.size):
        rounded[k] = (line[k] + t * change[k]) * np.float32(FRACTIONS) + ROUNDING
    for k in range(rounded.size):
        moved[k] = (rounded[k] - ROUNDING) * np.float32(1.0 / FRACTIONS)
