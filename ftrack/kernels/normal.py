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

from ftrack.kernels.compiled import filling, inner
from ftrack.kernels.deform import AFTER, BEFORE, BITS, DERIVATIVE, FRACTIONS, REACH, TAPS
from ftrack.kernels.lanes import Loop, fma_of, load, number, spread
from ftrack.kernels.planes import Vector
from ftrack.kernels.staging import beyond, level, stage

PLANES = 20
"""Sums of a block, in the order of the names below."""

N, R, X, Y, W, RR, RX, RY, RW, XX, XY, YY, XW, YW, WW, XD, YD, ND, MD, KEPT = range(PLANES)
"""Pixels; reference, gradients, secondary drawn back; their products; squared gradients times displacement along x and y, pixels
times each; pixels times the share of white noise that interpolation keeps there."""

SUMS = 15
"""The first of them, which are sums over pixels."""

WIDEST = 8
"""Side of the parts in which a block is drawn back, at most, px: as many pixels of a row are worked on at once."""

NARROWEST = 4
"""Side of the parts in which a block is drawn back, at the least, px, where displacement changes within it."""

BEYOND = BEFORE + AFTER
"""Pixels more than those of the result that an interpolation needs along each axis."""

ROW = ir.VectorType(ir.FloatType(), WIDEST)
"""A row of a part."""

_ZERO, _ONE = (ir.Constant(ROW, [value] * WIDEST) for value in (0.0, 1.0))

_PLACES = ir.VectorType(ir.IntType(32), WIDEST)


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
    levels: Any,
    rows: Any,
    columns: Any,
    field: Any,
    out: Any,
    out_at: Any,
) -> Any:
    """Draw a part of the secondary back and add the sums of its products to those of its block, float64, which begin at ``out_at``.

    ``r_at`` is the place of the first pixel of the part, ``s_at`` that of the first pixel which interpolation needs. ``x_at`` and ``y_at``
    are the places of its weights, those of the gradient behind those of the value; the levels are taken out of the images. ``field`` is
    along what the part is drawn back: float64 displacement along x and y, noise that is kept along both, and ``_slopes``.
    """
    i8 = types.int64
    signature = types.void(reference, i8, i8, secondary, i8, i8, weights, i8, i8, levels, i8, i8, field, out, i8)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        r, s, taps, total = (context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 3, 6, 13))
        r, s = builder.gep(r, [args[1]]), builder.gep(s, [args[4]])
        room = [cgutils.alloca_once(builder, ROW, size=WIDEST + BEYOND) for _ in range(4)]
        across, down = (
            [spread(builder, builder.load(builder.gep(taps, [builder.add(at, number(k))])), ROW) for k in range(2 * TAPS)]
            for at in args[7:9]
        )
        single = [builder.extract_value(args[9], k) for k in range(2)]
        levels = [spread(builder, level, ROW) for level in single]
        _interpolate_along(builder, (s, args[5]), across, builder.add(args[10], number(BEYOND)), room)
        _interpolate_down(builder, (r, args[2]), down, args[10], levels, room)
        sums = [*_add_products(builder, room, args[10], _inside(builder, args[11])), _ZERO]
        double, added = ir.DoubleType(), []
        for first in (0, WIDEST):
            doubles = builder.fpext(_added(builder, sums[first : first + WIDEST]), ir.VectorType(double, WIDEST))
            added += [Vector(builder, builder.extract_element(doubles, number(k))) for k in range(WIDEST)]
        given = [Vector(builder, builder.extract_value(args[12], k)) for k in range(8)]
        whole = [Vector(builder, builder.fpext(level, double)) for level in single]
        for p, values in enumerate(_put_back(_bend(added[:SUMS], given[4:]), whole, given[:4])):
            place = builder.gep(total, [builder.add(args[14], number(p))])
            builder.store(sum(values, Vector(builder, builder.load(place))).value, place)
        return context.get_dummy_value()

    return signature, build


_part_sums: Any = intrinsic(_make_part_sums)


def _row_at(builder: Any, room: Any, row: Any, more: int = 0) -> Any:
    return builder.gep(room, [builder.add(row, number(more))])


def _weighted(builder: Any, weights: list[Any], values: list[Any]) -> Any:
    fma, total = fma_of(builder, ROW), builder.fmul(weights[0], values[0])
    for weight, value in zip(weights[1:], values[1:], strict=True):
        total = builder.call(fma, [weight, value, total])
    return total


def _interpolate_along(builder: Any, pixels: Any, weights: list[Any], rows: Any, room: list[Any]) -> None:
    """Write the loop that interpolates values and gradients along x."""
    (base, step), loop = pixels, Loop(builder, rows, 1, [])
    at = builder.mul(loop.index, step)
    values = [load(builder, base, builder.add(at, number(k)), ROW) for k in range(TAPS)]
    for k in range(2):
        builder.store(_weighted(builder, weights[k * TAPS : (k + 1) * TAPS], values), _row_at(builder, room[k], loop.index))
    loop.close([])


def _interpolate_down(builder: Any, reference: Any, weights: list[Any], rows: Any, levels: list[Any], room: list[Any]) -> None:
    """Write the loop that interpolates along y, and takes the gradients of the reference; those of both images are added.

    The secondary and the gradients along x take the places of what was interpolated along x; the reference and the gradients along
    y follow.
    """
    loop, (base, step) = Loop(builder, rows, 1, []), reference
    at = builder.mul(loop.index, step)
    value, slope = ([builder.load(_row_at(builder, part, loop.index, k)) for k in range(TAPS)] for part in room[:2])
    w = builder.fsub(_weighted(builder, weights[:TAPS], value), levels[1])
    r = builder.fsub(load(builder, base, at, ROW), levels[0])
    across, down = (_differences(builder, base, at, way) for way in (number(1), step))
    x = builder.fadd(_weighted(builder, weights[:TAPS], slope), across)
    y = builder.fadd(_weighted(builder, weights[TAPS:], value), down)
    for part, out in zip((w, x, r, y), room, strict=True):
        builder.store(part, _row_at(builder, out, loop.index))
    loop.close([])


def _differences(builder: Any, base: Any, at: Any, way: Any) -> Any:
    """Return the gradient of the reference along one axis."""
    steps = [builder.mul(way, number(k)) for k in range(1, REACH + 1)]
    near = [[load(builder, base, move(at, step), ROW) for move in (builder.add, builder.sub)] for step in steps]
    weights = [ir.Constant(ROW, [float(np.float32(factor))] * WIDEST) for factor in DERIVATIVE]
    return _weighted(builder, weights, [builder.fsub(after, before) for after, before in near])


def _inside(builder: Any, columns: Any) -> Any:
    """Return which lanes are pixels of the part."""
    lanes = ir.Constant(_PLACES, list(range(WIDEST)))
    return builder.icmp_unsigned("<", lanes, spread(builder, builder.trunc(columns, _PLACES.element), _PLACES))


def _add_products(builder: Any, room: list[Any], rows: Any, inside: Any) -> list[Any]:
    """Write the loop over the rows of the part, with a register for every sum; pixels that are not known count nothing."""
    loop = Loop(builder, rows, 1, [_ZERO] * SUMS)
    w, x, r, y = (builder.load(_row_at(builder, part, loop.index)) for part in room)
    total = builder.fadd(builder.fadd(r, w), builder.fadd(x, y))
    known = builder.and_(inside, builder.fcmp_ordered("==", builder.fsub(total, total), _ZERO))
    r, x, y, w = (builder.select(known, value, _ZERO) for value in (r, x, y, w))
    single = {N: builder.select(known, _ONE, _ZERO), R: r, X: x, Y: y, W: w}
    double = {RR: (r, r), RX: (r, x), RY: (r, y), RW: (r, w), XX: (x, x), XY: (x, y), YY: (y, y), XW: (x, w), YW: (y, w), WW: (w, w)}
    fma, now = fma_of(builder, ROW), list(loop.carried)
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
        own = [lane + (WIDEST if lane & distance else 0) for lane in range(WIDEST)]
        other = [lane ^ distance for lane in own]
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [builder.fadd(*(builder.shuffle_vector(a, b, ir.Constant(_PLACES, order)) for order in (own, other))) for a, b in pairs]
        distance *= 2
    return vectors[0]


def _bend(total: list[Any], slopes: list[Any]) -> list[Any]:
    """Take the mean of both gradients and make it, to first order, what it would be if each pixel were drawn back along the field.

    Gradients of the mean of both images make one step as good as two (Benhimane & Malis 2004).
    """
    a, b, c, d = 0.5 + 0.5 * slopes[0], 0.5 * slopes[2], 0.5 * slopes[1], 0.5 + 0.5 * slopes[3]
    bent = list(total)
    for p, q in ((X, Y), (RX, RY), (XW, YW)):
        x, y = total[p], total[q]
        bent[p], bent[q] = a * x + b * y, c * x + d * y
    xx, xy, yy = total[XX], total[XY], total[YY]
    bent[XX] = a * a * xx + 2.0 * a * b * xy + b * b * yy
    bent[XY] = a * c * xx + (a * d + b * c) * xy + b * d * yy
    bent[YY] = c * c * xx + 2.0 * c * d * xy + d * d * yy
    return bent


def _put_back(total: list[Any], levels: list[Any], drawn: list[Any]) -> list[tuple[Any, ...]]:
    """Return what a part adds to each sum of its block: its own, and what it lacks with the levels of both images taken out."""
    (r, s), (dx, dy, x_kept, y_kept), n = levels, drawn, total[N]
    levelled = {
        WW: 2.0 * s * total[W] + s * s * n,
        RW: r * total[W] + s * total[R] + r * s * n,
        RR: 2.0 * r * total[R] + r * r * n,
        RX: r * total[X],
        RY: r * total[Y],
        XW: s * total[X],
        YW: s * total[Y],
        R: r * n,
        W: s * n,
    }
    more = {
        XD: total[XX] * dx + total[XY] * dy,
        YD: total[XY] * dx + total[YY] * dy,
        ND: n * dx,
        MD: n * dy,
        KEPT: n * x_kept * y_kept,
    }
    return [(total[p], levelled[p]) if p in levelled else (total[p],) for p in range(SUMS)] + [(more[p],) for p in range(SUMS, PLANES)]


def sum_blocks(
    images: tuple[np.ndarray, np.ndarray],
    corner: tuple[int, int],
    field: np.ndarray,
    place: tuple[int, int, int],
    tables: tuple[np.ndarray, np.ndarray],
    used: tuple[np.ndarray, np.ndarray],
    even: float,
    side: int,
    out: np.ndarray,
) -> None:
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
    tables : (float32 (FRACTIONS * 2 * TAPS,), float64 (FRACTIONS,))
        ``TABLE`` and ``KEPT_BETWEEN``.
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
    staged = np.empty((WIDEST + 2 * REACH) ** 2, np.float32), np.empty((WIDEST + BEYOND) ** 2, np.float32)
    halves = 2 * out.shape[1] + 1
    rooms = (staged, np.empty((2, 2, out.shape[1] + 1)), np.empty(halves, np.int64), np.empty(halves))
    _sum_blocks(images, corner, field, place, tables, used, even, side, rooms, out)


@filling
def _sum_blocks(images, corner, field, place, tables, used, even, side, rooms, out):
    flat, shapes = (images[0].reshape(-1), images[1].reshape(-1)), (images[0].shape, images[1].shape)
    (room, edges, nodes, parts), sums = rooms, out.reshape(-1)
    spacing, closely = 2 * place[2], even < np.inf
    for h in range(nodes.size):
        nodes[h], parts[h] = _between(h * side - 2 * place[1], spacing)
    for i in range(out.shape[0]):
        if not used[0][i]:
            continue
        for k in range(i + 1 if i > 0 and used[0][i - 1] else i, i + 2 if closely else i):
            row, t = _between(2 * (k * side - place[0]), spacing)
            for d in range(2):
                for j in range(edges.shape[2]):
                    edges[k % 2, d, j] = _inside_cell(field[d], row, t, nodes[2 * j], parts[2 * j])
        row, t = _between((2 * i + 1) * side - 2 * place[0], spacing)
        for j in range(out.shape[1]):
            if not used[1][j]:
                continue
            at = (i * out.shape[1] + j) * PLANES
            for p in range(PLANES):
                sums[at + p] = 0.0
            slopes = _slopes(edges[i % 2], edges[(i + 1) % 2], j, side) if closely else (0.0, 0.0, 0.0, 0.0)
            down, along = _parts(slopes[1], slopes[3], side, even), _parts(slopes[0], slopes[2], side, even)
            for a in range(down):
                for b in range(along):
                    (y, high), (x, width) = _part(a, down, side), _part(b, along, side)
                    top, left, size = i * side + y, j * side + x, (high, width)
                    if down * along == 1:
                        moved = _both_inside(field, row, t, nodes[2 * j + 1], parts[2 * j + 1])
                    else:
                        y, x = 2 * (top - place[0]) + size[0], 2 * (left - place[1]) + size[1]
                        (v, q), (u, p) = _between(y, spacing), _between(x, spacing)
                        moved = _both_inside(field, v, q, u, p)
                    first = corner[0] + top, corner[1] + left
                    _sum_part(flat, shapes, first, size, (moved, slopes), tables, room, sums, at)


@inner
def _between(at, spacing):
    """Return the node before a place in half pixels, and how far this lies on the way to the next."""
    node = at // spacing
    return node, np.float64(at - node * spacing) / spacing


@inner
def _both_inside(field, i, t, j, s):
    return _inside_cell(field[0], i, t, j, s), _inside_cell(field[1], i, t, j, s)


@inner
def _inside_cell(field, i, t, j, s):
    """Interpolate a field linearly."""
    above = field[i, j] + s * (field[i, j + 1] - field[i, j])
    below = field[i + 1, j] + s * (field[i + 1, j + 1] - field[i + 1, j])
    return above + t * (below - above)


@inner
def _parts(a, b, side, even):
    """Return in how many parts along an axis a block is drawn back, from half the change of both components per pixel."""
    parts = -(-side // WIDEST)
    change = 2.0 * max(abs(a), abs(b)) * side
    return 2 * parts if change > even * parts and side >= 2 * parts * NARROWEST else parts


@inner
def _part(k, parts, side):
    """Return where a part of a block begins along an axis, and how long it is."""
    if parts == 1:
        return 0, side
    return k * side // parts, (k + 1) * side // parts - k * side // parts


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
def _sum_part(flat, shapes, corner, size, moved, tables, room, out, out_at):
    """Add the sums of a part of a block."""
    (weights, kept), (moved, slopes), (y, x) = tables, moved, corner
    dx, dy = np.int64(np.rint(moved[0] * FRACTIONS)), np.int64(np.rint(moved[1] * FRACTIONS))
    x_rest, y_rest = dx & (FRACTIONS - 1), dy & (FRACTIONS - 1)
    v, u = y + (dy >> BITS), x + (dx >> BITS)
    if beyond(shapes[0], y, x, size) or beyond(shapes[1], v, u, size):
        return
    r, r_at, r_step = stage(flat[0], shapes[0], y - REACH, x - REACH, size[0] + 2 * REACH, WIDEST + 2 * REACH, room[0])
    s, s_at, s_step = stage(flat[1], shapes[1], v - BEFORE, u - BEFORE, size[0] + BEYOND, WIDEST + BEYOND, room[1])
    r_at += REACH * (r_step + 1)
    r_level, s_level = level(r, r_at, r_step, size), level(s, s_at + BEFORE * (s_step + 1), s_step, size)
    if r_level != r_level or s_level != s_level:
        return
    x_at, y_at = x_rest * 2 * TAPS, y_rest * 2 * TAPS
    along = (dx / FRACTIONS, dy / FRACTIONS, kept[x_rest], kept[y_rest], slopes[0], slopes[1], slopes[2], slopes[3])
    levels = (r_level, s_level)
    _part_sums(r, r_at, r_step, s, s_at, s_step, weights, x_at, y_at, levels, size[0], size[1], along, out, out_at)
