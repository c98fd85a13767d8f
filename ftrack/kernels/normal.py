"""Sums of products over small blocks, from which the normal equations of every chip are put together.

The secondary, drawn back along a first field of displacement, is explained by the reference, a constant and the
gradients (Lucas & Kanade 1981). All chips, of whatever size, share the sums of their blocks, so a solution costs a few
hundred operations a pixel, not thousands a chip. Pixels that either image lacks are left out. A block is drawn back
by one displacement, or in parts where it is large, so that its pixels share the weights of the interpolation. Its
brightness is taken out before single-precision products are formed and put back in double precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ftrack.kernels.compiled import compiled, inner, shared
from ftrack.kernels.deform import AFTER, BEFORE, BITS, DERIVATIVE, FRACTIONS, REACH, TAPS
from ftrack.kernels.lanes import LANES, PLACES, VECTOR, Loop, fma_of, load, number, spread

PLANES = 20
"""Sums of a block, in the order of the names below."""

N, R, X, Y, W, RR, RX, RY, RW, XX, XY, YY, XW, YW, WW, XD, YD, ND, MD, KEPT = range(PLANES)
"""Pixels; reference, gradients, secondary drawn back; their products; squared gradients times displacement along x and y, pixels
times each; pixels times the share of white noise that interpolation keeps there."""

SUMS = 15
"""The first of them, which are sums over pixels."""

WIDEST = LANES - 2 * REACH
"""Side of the parts in which a block is drawn back, at most, px."""

NARROWEST = 4
"""Side of the parts in which a block is drawn back, at the least, px, where displacement changes within it."""

BEYOND = BEFORE + AFTER
"""Pixels more than those of the result that an interpolation needs along each axis."""

ACROSS = LANES + BEYOND
"""Pixels of the secondary that a row needs."""

_ZERO, _ONE = (ir.Constant(VECTOR, [value] * LANES) for value in (0.0, 1.0))


def _make_part_sums(
    typing_context: Any,
    reference: Any,
    r_at: Any,
    r_step: Any,
    secondary: Any,
    s_at: Any,
    s_step: Any,
    weights: Any,
    x_at: Any,
    y_at: Any,
    r_level: Any,
    s_level: Any,
    rows: Any,
    columns: Any,
    out: Any,
) -> Any:
    """Draw a part of the secondary back and fill the sums of its products, float64 (LANES,).

    ``r_at`` and ``s_at`` are the places of the first pixels that are needed: ``REACH`` above and left of the part, and
    ``BEFORE`` more. ``x_at`` and ``y_at`` are the places of the weights of the interpolation; the levels are taken out of the images.
    """
    i8 = types.int64
    signature = types.void(reference, i8, i8, secondary, i8, i8, weights, i8, i8, types.float32, types.float32, i8, i8, out)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        r, s, taps, total = (context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 3, 6, 13))
        r, s = builder.gep(r, [args[1]]), builder.gep(s, [args[4]])
        room = [cgutils.alloca_once(builder, VECTOR, size=WIDEST + 2 * REACH + BEYOND) for _ in range(4)]
        across, down = (
            [spread(builder, builder.load(builder.gep(taps, [builder.add(at, number(k))]))) for k in range(TAPS)] for at in args[7:9]
        )
        levels, rows = [spread(builder, level) for level in args[9:11]], builder.add(args[11], number(2 * REACH))
        _interpolate_along(builder, (s, args[5]), across, builder.add(rows, number(BEYOND)), room[0])
        _interpolate_down(builder, (r, args[2]), down, rows, levels, room)
        sums = _add_products(builder, room[1:], args[11], _inside(builder, args[12]))
        doubles = ir.VectorType(ir.DoubleType(), LANES)
        place = builder.bitcast(total, doubles.as_pointer())
        builder.store(builder.fpext(_added(builder, [*sums, _ZERO]), doubles), place).align = 8
        return context.get_dummy_value()

    return signature, build


_part_sums: Any = intrinsic(_make_part_sums)


def _row_at(builder: Any, room: Any, row: Any, more: int = 0) -> Any:
    return builder.gep(room, [builder.add(row, number(more))])


def _weighted(builder: Any, weights: list[Any], values: list[Any]) -> Any:
    fma, total = fma_of(builder), builder.fmul(weights[0], values[0])
    for weight, value in zip(weights[1:], values[1:], strict=True):
        total = builder.call(fma, [weight, value, total])
    return total


def _interpolate_along(builder: Any, pixels: Any, weights: list[Any], rows: Any, out: Any) -> None:
    """Write the loop that interpolates along x."""
    base, step = pixels
    loop = Loop(builder, rows, 1, [])
    row = loop.index
    at = builder.mul(row, step)
    value = _weighted(builder, weights, [load(builder, base, builder.add(at, number(k))) for k in range(TAPS)])
    builder.store(value, _row_at(builder, out, row))
    loop.close([])


def _interpolate_down(builder: Any, reference: Any, weights: list[Any], rows: Any, levels: list[Any], room: list[Any]) -> None:
    """Write the loop that interpolates along y; the reference, the secondary, both less their level, and their sum follow in ``room``."""
    loop, (base, step) = Loop(builder, rows, 1, []), reference
    row = loop.index
    along = [builder.load(_row_at(builder, room[0], row, k)) for k in range(TAPS)]
    warped = builder.fsub(_weighted(builder, weights, along), levels[1])
    pixels = builder.fsub(load(builder, base, builder.mul(row, step)), levels[0])
    for value, out in zip((pixels, warped, builder.fadd(pixels, warped)), room[1:], strict=True):
        builder.store(value, _row_at(builder, out, row))
    loop.close([])


def _gradients(builder: Any, both: Any, row: Any) -> tuple[Any, Any]:
    """Return the gradients of the mean of both images; those of the mean make one step as good as two (Benhimane & Malis 2004)."""
    fma, middle = fma_of(builder), builder.load(_row_at(builder, both, row, REACH))
    along = down = _ZERO
    for k, factor in enumerate(DERIVATIVE, 1):
        weight = ir.Constant(VECTOR, [float(np.float32(0.5 * factor))] * LANES)
        after, before = (
            builder.shuffle_vector(middle, middle, ir.Constant(PLACES, [(lane + way * k) % LANES for lane in range(LANES)]))
            for way in (1, -1)
        )
        below, above = (builder.load(_row_at(builder, both, row, REACH + way * k)) for way in (1, -1))
        along = builder.call(fma, [weight, builder.fsub(after, before), along])
        down = builder.call(fma, [weight, builder.fsub(below, above), down])
    return along, down


def _inside(builder: Any, columns: Any) -> Any:
    """Return which lanes are pixels of the part."""
    lanes = ir.Constant(PLACES, list(range(-REACH, LANES - REACH)))
    return builder.icmp_unsigned("<", lanes, spread(builder, builder.trunc(columns, PLACES.element), PLACES))


def _add_products(builder: Any, room: list[Any], rows: Any, inside: Any) -> list[Any]:
    """Write the loop over the rows of the part, with a register for every sum; pixels that are not known count nothing."""
    loop = Loop(builder, rows, 1, [_ZERO] * SUMS)
    row = loop.index
    r, w = (builder.load(_row_at(builder, part, row, REACH)) for part in room[:2])
    x, y = _gradients(builder, room[2], row)
    total = builder.fadd(builder.fadd(r, w), builder.fadd(x, y))
    known = builder.and_(inside, builder.fcmp_ordered("==", builder.fsub(total, total), _ZERO))
    r, x, y, w = (builder.select(known, value, _ZERO) for value in (r, x, y, w))
    single = {N: builder.select(known, _ONE, _ZERO), R: r, X: x, Y: y, W: w}
    double = {RR: (r, r), RX: (r, x), RY: (r, y), RW: (r, w), XX: (x, x), XY: (x, y), YY: (y, y), XW: (x, w), YW: (y, w), WW: (w, w)}
    fma, now = fma_of(builder), list(loop.carried)
    for p, value in single.items():
        now[p] = builder.fadd(now[p], value)
    for p, (a, b) in double.items():
        now[p] = builder.call(fma, [a, b, now[p]])
    loop.close(now)
    return now


def _added(builder: Any, vectors: list[Any]) -> Any:
    """Add the lanes of each of as many vectors as they have lanes."""
    distance = 1
    while len(vectors) > 1:
        own = [lane + (LANES if lane & distance else 0) for lane in range(LANES)]
        other = [lane ^ distance for lane in own]
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [builder.fadd(*(builder.shuffle_vector(a, b, ir.Constant(PLACES, order)) for order in (own, other))) for a, b in pairs]
        distance *= 2
    return vectors[0]


@compiled
def sum_blocks(images, corner, field, place, tables, used, even, side, out):
    """Draw the secondary back and fill the sums of all blocks.

    Parameters
    ----------
    images : (reference, secondary)
        float32 (y, x); what is not a finite number is no data.
    corner : (int, int)
        Pixel of both images that is the first of the first block.
    field : float32 (2, row, column)
        Displacement along x and y at nodes that reach around all blocks, px; finite.
    place : (int, int, int)
        Row and column of the pixel corner of the first node, counted from the first pixel, and pixels between nodes.
    tables : (float32 (FRACTIONS * TAPS,), float64 (FRACTIONS,))
        ``WEIGHTS`` and ``KEPT_BETWEEN``.
    used : (bool (block row,), bool (block column,))
        Rows and columns of blocks that a chip uses; the others are left alone.
    even : float
        A part of a block is halved along an axis on which displacement changes by more than this within it, px; if it is infinite, no
        change within a block is followed.
    side : int
        Side of a block, px.
    out : float64 (block row, block column, PLANES)
        Result; a block whose pixels are all missing is zero.
    """
    flat, shapes = (images[0].reshape(-1), images[1].reshape(-1)), (images[0].shape, images[1].shape)
    total, moved, spacing = np.empty(LANES), np.empty(2), 2 * place[2]
    room = np.empty(LANES * LANES, np.float32), np.empty(ACROSS * ACROSS, np.float32)
    edges, closely = np.empty((2, 2, out.shape[1] + 1)), even < np.inf
    for i in range(out.shape[0]):
        if not used[0][i]:
            continue
        for k in range(i + 1 if i > 0 and used[0][i - 1] else i, i + 2 if closely else i):
            for j in range(edges.shape[2]):
                y, x = 2 * (k * side - place[0]), 2 * (j * side - place[1])
                for d in range(2):
                    edges[k % 2, d, j] = _at(field[d], y, x, spacing)
        for j in range(out.shape[1]):
            if not used[1][j]:
                continue
            out[i, j] = 0.0
            slopes = _slopes(edges[i % 2], edges[(i + 1) % 2], j, side) if closely else (0.0, 0.0, 0.0, 0.0)
            down, along = _parts(slopes[1], slopes[3], side, even), _parts(slopes[0], slopes[2], side, even)
            for a in range(down):
                for b in range(along):
                    top, left = i * side + a * side // down, j * side + b * side // along
                    size = (a + 1) * side // down - a * side // down, (b + 1) * side // along - b * side // along
                    y, x = 2 * (top - place[0]) + size[0], 2 * (left - place[1]) + size[1]
                    for d in range(2):
                        moved[d] = _at(field[d], y, x, spacing)
                    first = corner[0] + top, corner[1] + left
                    _sum_part(flat, shapes, first, size, (moved, slopes), tables, room, total, out[i, j])


@inner
def _parts(a, b, side, even):
    """Return in how many parts along an axis a block is drawn back, from half the change of both components per pixel."""
    parts = -(-side // WIDEST)
    change = 2.0 * max(abs(a), abs(b)) * side
    return 2 * parts if change > even * parts and side >= 2 * parts * NARROWEST else parts


@inner
def _slopes(above, below, j, side):
    """Return half the change per pixel along x and y of the displacement along x, and of that along y."""
    scale = 0.25 / side
    u_x = (above[0, j + 1] - above[0, j] + below[0, j + 1] - below[0, j]) * scale
    v_x = (above[1, j + 1] - above[1, j] + below[1, j + 1] - below[1, j]) * scale
    u_y = (below[0, j] - above[0, j] + below[0, j + 1] - above[0, j + 1]) * scale
    v_y = (below[1, j] - above[1, j] + below[1, j + 1] - above[1, j + 1]) * scale
    return u_x, u_y, v_x, v_y


@inner
def _at(field, y, x, spacing):
    """Interpolate a field linearly, at a place in half pixels from the first node."""
    i, j = y // spacing, x // spacing
    t, s = np.float64(y - i * spacing) / spacing, np.float64(x - j * spacing) / spacing
    above = field[i, j] + s * (field[i, j + 1] - field[i, j])
    below = field[i + 1, j] + s * (field[i + 1, j + 1] - field[i + 1, j])
    return above + t * (below - above)


@inner
def _sum_part(flat, shapes, corner, size, moved, tables, room, total, out):
    """Add the sums of a part of a block."""
    (weights, kept), (moved, slopes) = tables, moved
    dx, dy = np.int64(np.rint(moved[0] * FRACTIONS)), np.int64(np.rint(moved[1] * FRACTIONS))
    y, x = corner[0] - REACH, corner[1] - REACH
    x_rest, y_rest = dx & (FRACTIONS - 1), dy & (FRACTIONS - 1)
    v, u = y - BEFORE + (dy >> BITS), x - BEFORE + (dx >> BITS)
    rows = size[0] + 2 * REACH
    r, r_at, r_step = _stage(flat[0], shapes[0], y, x, rows, LANES, room[0])
    s, s_at, s_step = _stage(flat[1], shapes[1], v, u, rows + BEYOND, ACROSS, room[1])
    r_level = _level(r, r_at + REACH * (r_step + 1), r_step, size)
    s_level = _level(s, s_at + (REACH + BEFORE) * (s_step + 1), s_step, size)
    if r_level != r_level or s_level != s_level:
        return
    _part_sums(r, r_at, r_step, s, s_at, s_step, weights, x_rest * TAPS, y_rest * TAPS, r_level, s_level, size[0], size[1], total)
    _bend(total, slopes)
    _put_back(total, np.float64(r_level), np.float64(s_level), out)
    dx, dy, n = dx / FRACTIONS, dy / FRACTIONS, total[N]
    out[XD] += total[XX] * dx + total[XY] * dy
    out[YD] += total[XY] * dx + total[YY] * dy
    out[ND] += n * dx
    out[MD] += n * dy
    out[KEPT] += n * kept[x_rest] * kept[y_rest]


@inner
def _stage(pixels, shape, y, x, rows, columns, room):
    """Return where a window of an image lies, in the image itself or, with what lies beyond its edges missing, in a copy."""
    if y >= 0 and x >= 0 and y + rows <= shape[0] and x + columns <= shape[1]:
        return pixels, y * shape[1] + x, shape[1]
    _copy(pixels, shape, y, x, rows, columns, room)
    return room, 0, columns


@shared
def _copy(pixels, shape, y, x, rows, columns, room):
    for i in range(rows):
        for j in range(columns):
            inside = 0 <= y + i < shape[0] and 0 <= x + j < shape[1]
            room[i * columns + j] = pixels[(y + i) * shape[1] + x + j] if inside else np.float32(np.nan)


@shared
def _level(pixels, at, step, size):
    """Return about the brightness of an image in a part: that of its middle, or of its first pixel that is there, or NaN."""
    value = pixels[at + size[0] // 2 * step + size[1] // 2]
    if np.isfinite(value):
        return value
    for y in range(size[0]):
        for x in range(size[1]):
            value = pixels[at + y * step + x]
            if np.isfinite(value):
                return value
    return np.float32(np.nan)


@inner
def _bend(total, slopes):
    """Make the gradients, to first order, those that the mean of both images would have if each pixel were drawn back along the field."""
    a, b, c, d = 1.0 + slopes[0], slopes[2], slopes[1], 1.0 + slopes[3]
    for p, q in ((X, Y), (RX, RY), (XW, YW)):
        x, y = total[p], total[q]
        total[p], total[q] = a * x + b * y, c * x + d * y
    xx, xy, yy = total[XX], total[XY], total[YY]
    total[XX] = a * a * xx + 2.0 * a * b * xy + b * b * yy
    total[XY] = a * c * xx + (a * d + b * c) * xy + b * d * yy
    total[YY] = c * c * xx + 2.0 * c * d * xy + d * d * yy


@inner
def _put_back(total, r, s, out):
    """Add the sums of a part, with the levels of the reference and of the secondary put back."""
    n = total[N]
    for p in range(SUMS):
        out[p] += total[p]
    out[WW] += 2.0 * s * total[W] + s * s * n
    out[RW] += r * total[W] + s * total[R] + r * s * n
    out[RR] += 2.0 * r * total[R] + r * r * n
    out[RX] += r * total[X]
    out[RY] += r * total[Y]
    out[XW] += s * total[X]
    out[YW] += s * total[Y]
    out[R] += r * n
    out[W] += s * n
