"""Sums of products over small blocks, from which the normal equations of every chip are put together.

The secondary, drawn back along a first field of displacement, is explained by the reference, a constant and the
gradients (Lucas & Kanade 1981). All chips, of whatever size, share the sums of their blocks, so a solution costs a few
hundred operations a pixel, not thousands a chip. Pixels that either image lacks are left out. Each block's brightness
is taken out before single-precision products are formed and put back in double precision; what the field changes
inside a block is put back to first order, so that a block was drawn back by one displacement.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ftrack.kernels.compiled import compiled, inner
from ftrack.kernels.deform import KEPT_BETWEEN, REACH, fill_gradients, warp

PLANES = 18
"""Sums of a block, in the order of the names below."""

N, R, X, Y, W, RR, RX, RY, RW, XX, XY, YY, XW, YW, WW, DX, DY, KEPT = range(PLANES)
"""Pixels; reference, gradients, warped secondary; their products; displacement along which the block was drawn back, px; pixels
times the share of white noise that interpolation keeps there."""

SUMS = 15
"""The first of them, which are sums over pixels."""


LANES = 16
"""Pixel columns whose sums are kept in registers together."""

STRIP = 64
"""Rows of pixels that are drawn back and summed together, so that they stay in the processor's caches."""

_FLOAT, _INDEX = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)


def _make_column_sums(
    typing_context: Any, planes: Any, at: Any, step: Any, plane: Any, level: Any, level_at: Any, rows: Any, lines: Any, out: Any
) -> Any:
    """Sum the products of ``LANES`` pixel columns over ``rows`` rows: float32 (column, LANES), the last of which is zero.

    ``step`` and ``plane`` are the sizes of a row and of a plane, ``out`` is the place of the result in ``lines``.
    ``level`` holds, for the first column and three rows ``step`` apart, the brightness and displacement of its block.
    """
    i8 = types.int64
    signature = types.void(planes, i8, i8, i8, level, i8, i8, lines, i8)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arrays = [context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 4, 7)]
        arrays[2] = builder.gep(arrays[2], [args[8]])
        _write_loop(builder, arrays, (args[1], args[5]), (args[2], args[3]), args[6])
        return context.get_dummy_value()

    return signature, build


_column_sums: Any = intrinsic(_make_column_sums)


def _vector_at(builder: Any, base: Any, offset: Any) -> Any:
    value = builder.load(builder.bitcast(builder.gep(base, [offset]), _VECTOR.as_pointer()))
    value.align = 4
    return value


def _write_loop(builder: Any, arrays: Any, starts: Any, steps: Any, rows: Any) -> None:
    """Write the loop over the rows of a block, with a register for every plane."""
    pixels, level, out = arrays
    zero, one = ir.Constant(_VECTOR, [0.0] * LANES), ir.Constant(_VECTOR, [1.0] * LANES)
    fma_type = ir.FunctionType(_VECTOR, [_VECTOR, _VECTOR, _VECTOR])
    fma = cgutils.get_or_insert_function(builder.module, fma_type, f"llvm.fma.v{LANES}f32")
    level_at = [builder.add(starts[1], builder.mul(steps[0], ir.Constant(_INDEX, k))) for k in range(3)]
    brightness, x_level, y_level = (_vector_at(builder, level, at) for at in level_at)
    before = builder.block
    loop, done = builder.append_basic_block("rows"), builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    row = builder.phi(_INDEX)
    row.add_incoming(ir.Constant(_INDEX, 0), before)
    kept = [builder.phi(_VECTOR) for _ in range(SUMS)]
    for phi in kept:
        phi.add_incoming(zero, before)
    first = builder.add(starts[0], builder.mul(row, steps[0]))
    planes = [_vector_at(builder, pixels, builder.add(first, builder.mul(steps[1], ir.Constant(_INDEX, k)))) for k in range(6)]
    reference, gx, gy, warped, x_moved, y_moved = planes
    total = builder.fadd(builder.fadd(reference, warped), builder.fadd(gx, gy))
    change = builder.call(fma, [gx, builder.fsub(x_moved, x_level), builder.fmul(gy, builder.fsub(y_moved, y_level))])
    warped = builder.fsub(warped, change)
    known = builder.fcmp_ordered("ord", total, total)
    r = builder.select(known, builder.fsub(reference, brightness), zero)
    w = builder.select(known, builder.fsub(warped, brightness), zero)
    gx, gy = builder.select(known, gx, zero), builder.select(known, gy, zero)
    single = {N: builder.select(known, one, zero), R: r, X: gx, Y: gy, W: w}
    double = {RR: (r, r), RX: (r, gx), RY: (r, gy), RW: (r, w), XX: (gx, gx), XY: (gx, gy), YY: (gy, gy)}
    double |= {XW: (gx, w), YW: (gy, w), WW: (w, w)}
    now = list(kept)
    for p, value in single.items():
        now[p] = builder.fadd(now[p], value)
    for p, (a, b) in double.items():
        now[p] = builder.call(fma, [a, b, now[p]])
    after = builder.add(row, ir.Constant(_INDEX, 1))
    row.add_incoming(after, builder.block)
    for phi, value in zip(kept, now, strict=True):
        phi.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_signed("<", after, rows), loop, done)
    builder.position_at_end(done)
    for p, value in enumerate(_turned(builder, [*now, zero])):
        place = builder.gep(out, [ir.Constant(_INDEX, p * LANES)])
        builder.store(value, builder.bitcast(place, _VECTOR.as_pointer())).align = 4


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose as many vectors as they have lanes."""
    kind, distance = ir.VectorType(ir.IntType(32), LANES), 1
    while distance < LANES:
        low = [k if k & distance == 0 else LANES + k - distance for k in range(LANES)]
        high = [k + distance if k & distance == 0 else LANES + k for k in range(LANES)]
        for k in range(LANES):
            if k & distance == 0:
                a, b = rows[k], rows[k + distance]
                rows[k], rows[k + distance] = (builder.shuffle_vector(a, b, ir.Constant(kind, order)) for order in (low, high))
        distance *= 2
    return rows


def _make_line_sums(typing_context: Any, lines: Any, at: Any, count: Any, out: Any, out_at: Any) -> Any:
    """Sum ``count`` lines of ``LANES`` numbers, one after the other, in double precision."""
    i8 = types.int64
    signature = types.void(lines, i8, i8, out, i8)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data, result = (context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 3))
        doubles = ir.VectorType(ir.DoubleType(), LANES)
        before = builder.block
        loop, done = builder.append_basic_block("lines"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        line, total = builder.phi(_INDEX), builder.phi(doubles)
        line.add_incoming(ir.Constant(_INDEX, 0), before)
        total.add_incoming(ir.Constant(doubles, [0.0] * LANES), before)
        numbers = _vector_at(builder, data, builder.add(args[1], builder.mul(line, ir.Constant(_INDEX, LANES))))
        now, after = builder.fadd(total, builder.fpext(numbers, doubles)), builder.add(line, ir.Constant(_INDEX, 1))
        line.add_incoming(after, builder.block)
        total.add_incoming(now, builder.block)
        builder.cbranch(builder.icmp_signed("<", after, args[2]), loop, done)
        builder.position_at_end(done)
        builder.store(now, builder.bitcast(builder.gep(result, [args[4]]), doubles.as_pointer())).align = 8
        return context.get_dummy_value()

    return signature, build


_line_sums: Any = intrinsic(_make_line_sums)


def draw_back(
    reference: np.ndarray, image: Any, displacement: Any, used: np.ndarray, side: int, planes: np.ndarray, room: np.ndarray
) -> None:
    """Draw the secondary back and take the gradients of the mean of both images.

    Gradients of the mean make one step as good as two (Benhimane & Malis 2004).

    Parameters
    ----------
    reference : float32 (y + 2 * REACH, x + 2 * REACH)
        The area and ``REACH`` px more on every side, NaN = no data.
    image : (secondary, corner)
        Image that is drawn back, float32 (v, u), NaN = no data; its pixel under the first one of the area where nothing moves.
    displacement : (field, place, weights)
        See ``ftrack.kernels.deform.warp``; ``place`` is counted from the first pixel of the area. The nodes reach around
        the area and ``REACH`` px more.
    used : bool (block row,)
        Rows of blocks of ``side`` px that are needed.
    side : int
        Side of a block, px.
    planes : float32 (6, y, x + LANES)
        Result: reference, gradients to the right and down (px^-1), secondary, and the displacement along x and y at which
        it was taken (px).
    room : float32
        Room for four planes of the reference, which need not be found anew for every strip.
    """
    secondary, corner = image
    field, place, weights = displacement
    rows = np.zeros(reference.shape[0], np.bool_)
    for i in np.flatnonzero(used):
        rows[i * side : (i + 1) * side + 2 * REACH] = True
    warped, mean, *_ = parts = room[: 4 * reference.size].reshape(4, *reference.shape)
    place = (place[0] + REACH, place[1] + REACH, place[2])
    warp(secondary, (corner[0] - REACH, corner[1] - REACH), field, place, weights, rows, warped, parts[2:])
    _fill_planes(reference, warped, parts[2:], mean, (rows, used), side, planes)


@compiled
def _fill_planes(reference, warped, moved, mean, which, side, planes):
    """Put the planes together in the used rows of blocks; ``which`` are the rows that they need, and they themselves."""
    rows, used = which
    width, half = reference.shape[1] - 2 * REACH, np.float32(0.5)
    for y in range(mean.shape[0]):
        if rows[y]:
            a, b, c = reference[y], warped[y], mean[y]
            for x in range(a.size):
                c[x] = half * (a[x] + b[x])
    for i in range(used.size):
        if not used[i]:
            continue
        top = i * side
        fill_gradients(mean[top : top + side + 2 * REACH], planes[1, top : top + side], planes[2, top : top + side])
        for y in range(top, top + side):
            _copy(reference[y + REACH, REACH : REACH + width], planes[0, y])
            _copy(warped[y + REACH, REACH : REACH + width], planes[3, y])
            _copy(moved[0, y + REACH, REACH : REACH + width], planes[4, y])
            _copy(moved[1, y + REACH, REACH : REACH + width], planes[5, y])


def sum_drawn_back(
    reference: np.ndarray,
    secondary: np.ndarray,
    corner: tuple[int, int],
    field: np.ndarray,
    place: tuple[int, int, int],
    weights: np.ndarray,
    used: np.ndarray,
    side: int,
    out: np.ndarray,
) -> None:
    """Draw the secondary back and fill the sums of all blocks, some rows at a time.

    What is given is what ``draw_back`` and ``block_sums`` are given. Blocks beyond the pixels that the reference has are left alone.
    """
    first, last, left, right = _extent(reference, used, side)
    width, some = (right - left) * side, max(1, STRIP // side)
    planes, sums = np.zeros((6, some * side, width + LANES), np.float32), np.zeros((some, right - left, PLANES))
    room = np.empty(4 * (some * side + 2 * REACH) * (width + 2 * REACH), np.float32)
    for i in range(first, last, some):
        count, wanted = min(some, last - i), used[i : i + some]
        y, x = i * side, left * side
        part = np.ascontiguousarray(reference[y : y + count * side + 2 * REACH, x : x + width + 2 * REACH])
        here = (place[0] - y, place[1] - x, place[2])
        draw_back(part, (secondary, (corner[0] + y, corner[1] + x)), (field, here, weights), wanted[:count], side, planes, room)
        block_sums(planes, side, wanted[:count], sums[:count])
        rows = np.flatnonzero(wanted[:count])
        out[i + rows, left:right] = sums[rows]


@inner
def _copy(source, target):
    for x in range(source.size):
        target[x] = source[x]


@compiled
def _extent(reference, used, side):
    """Return the first and last row and column of blocks, of those used, that have any pixel of the reference."""
    first, last, left, right = used.size, 0, (reference.shape[1] - 2 * REACH) // side, 0
    for i in range(used.size):
        if not used[i]:
            continue
        for y in range(i * side + REACH, (i + 1) * side + REACH):
            row = reference[y, REACH : reference.shape[1] - REACH]
            x0, x1 = 0, row.size
            while x0 < x1 and row[x0] != row[x0]:
                x0 += 1
            while x1 > x0 and row[x1 - 1] != row[x1 - 1]:
                x1 -= 1
            if x1 > x0:
                first, last = min(first, i), i + 1
                left, right = min(left, x0 // side), max(right, (x1 - 1) // side + 1)
    return first, last, left, max(left, right)


@compiled
def block_sums(planes, side, used, out):
    """Fill the sums of all blocks of an area.

    Parameters
    ----------
    planes : float32 (6, y, x + LANES)
        From ``draw_back``; NaN = no data.
    side : int
        Side of a block, px.
    used : bool (block row,)
        Rows of blocks that a chip uses.
    out : float64 (block row, block column, PLANES)
        Result.
    """
    rows, columns = out.shape[0], out.shape[1]
    n, across, plane = columns * side, planes.shape[2], planes.shape[1] * planes.shape[2]
    flat = planes.reshape(-1)
    level, lines, total = np.zeros((3, across), np.float32), np.empty((n + LANES) * LANES, np.float32), np.empty(LANES)
    flat_level = level.reshape(-1)
    for i in range(rows):
        if not used[i]:
            continue
        _find_levels(planes, i * side, side, columns, level)
        for x in range(0, n, LANES):
            _column_sums(flat, i * side * across + x, across, plane, flat_level, x, side, lines, x * LANES)
        for j in range(columns):
            x = j * side
            _line_sums(lines, x * LANES, side, total, 0)
            _put_back(total, level[0, x], out[i, j])
            out[i, j, DX], out[i, j, DY] = level[1, x], level[2, x]
            out[i, j, KEPT] = out[i, j, N] * _kept(level[1, x]) * _kept(level[2, x])


@inner
def _kept(displacement):
    """Return the share of the power of white noise that interpolation along one axis keeps."""
    fraction = np.float64(displacement) - np.floor(displacement)
    square = fraction * (1.0 - fraction)
    return 1.0 + square * (KEPT_BETWEEN[0] + square * KEPT_BETWEEN[1])


@inner
def _find_levels(planes, top, side, columns, level):
    """Fill, for every pixel column, about the brightness and the displacement of its block: those of one of its pixels."""
    middle = side // 2
    for j in range(columns):
        left = j * side
        value = planes[0, top + middle, left + middle]
        if value != value:
            for y in range(top, top + side):
                for x in range(left, left + side):
                    if value != value:
                        value = planes[0, y, x]
        if value != value:
            value = np.float32(0)
        dx, dy = planes[4, top + middle, left + middle], planes[5, top + middle, left + middle]
        for x in range(left, left + side):
            level[0, x], level[1, x], level[2, x] = value, dx, dy


@inner
def _put_back(total, level, out):
    """Copy the sums of a block and put its brightness back."""
    for p in range(SUMS):
        out[p] = total[p]
    m, n = np.float64(level), out[N]
    out[WW] += 2.0 * m * out[W] + m * m * n
    out[RW] += m * (out[R] + out[W]) + m * m * n
    out[RR] += 2.0 * m * out[R] + m * m * n
    out[RX] += m * out[X]
    out[RY] += m * out[Y]
    out[XW] += m * out[X]
    out[YW] += m * out[Y]
    out[R] += m * n
    out[W] += m * n
