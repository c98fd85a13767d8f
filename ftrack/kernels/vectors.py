"""The inner loops of the correlation, written in vectors of 16 numbers so that sums stay in the processor's registers.

A compiler that sees plain loops spills the sums of a block at many offsets; here the loops are written in LLVM's own
terms. LLVM splits the vectors on processors with narrower ones. Every number of a result is summed in an order that
depends on the size of the block alone, not on the place of its offset in a vector, so results do not depend on how
offsets are put together.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ftrack.kernels.lanes import (
    BITS,
    FLOAT,
    INDEX,
    PLACES,
    VECTOR,
    Loop,
    bits_of,
    fma_of,
    highest_lane,
    larger,
    load,
    number,
    spread,
    store,
)
from ftrack.kernels.lanes import LANES as LANES
from ftrack.kernels.lanes import NONE as NONE

MOST_VECTORS = 3
WIDEST = MOST_VECTORS * LANES
"""Offsets along x that one line of sums holds, at most."""

GROUPS = (0, 12, 8, 6)
"""Rows of offsets that one pass over a block serves, by the number of vectors along x: as many sums as registers hold."""

PAIRS = (0, 6, 8, 7)
"""Pairs of rows of offsets that one pass over a block serves, likewise."""


def make_products(rows: int, vectors: int) -> Any:
    """Return an intrinsic that sums the products of a block with ``GROUPS[vectors]`` times ``vectors * 16`` shifted blocks.

    ``side`` is a multiple of ``rows``; ``sums[g, d] = sum r[y, x] s[y + g, x + d]``.
    """
    group = GROUPS[vectors]

    @intrinsic
    def products(typing_context, r, r_at, r_step, s, s_at, s_step, side, sums, sums_at):
        i8 = types.int64
        signature = types.void(r, i8, i8, s, i8, i8, i8, sums, i8)

        def build(context, builder, signature, args):
            arrays = [context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 3, 7)]
            r_ptr, s_ptr, out = (builder.gep(data, [args[k + 1]]) for data, k in zip(arrays, (0, 3, 7), strict=True))
            r_step, s_step, side = args[2], args[5], args[6]
            zero = ir.Constant(VECTOR, [0.0] * LANES)
            down = Loop(builder, side, rows, [zero] * (group * vectors))
            r_row = builder.gep(r_ptr, [builder.mul(down.index, r_step)])
            s_row = builder.gep(s_ptr, [builder.mul(down.index, s_step)])
            along = Loop(builder, side, 1, down.carried)
            now = _multiply(builder, (r_row, r_step), (s_row, s_step), along, (rows, group, vectors))
            along.close(now)
            down.close(now)
            for n, value in enumerate(now):
                store(builder, value, out, number(n * LANES))
            return context.get_dummy_value()

        return signature, build

    return products


def make_pairs(rows: int, vectors: int) -> Any:
    """Return an intrinsic that sums the products of half the rows of a block with ``PAIRS[vectors]`` times ``vectors * 16`` shifted ones.

    The ``side / 2`` rows of a block, a multiple of ``rows``, lie ``r_step`` apart, lines of offsets ``s_step``. Sums begin
    with those at ``start`` and are written to lines ``line`` apart at ``out``; if ``last`` with those at ``kept`` added,
    which they then take the place of. All are places in one array.
    """
    group = PAIRS[vectors]

    @intrinsic
    def pairs(typing_context, numbers, r_at, r_step, s_at, s_step, side, start, last, kept, out, line):
        i8 = types.int64
        signature = types.void(numbers, i8, i8, i8, i8, i8, i8, types.boolean, i8, i8, i8)

        def build(context, builder, signature, args):
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            r_ptr, s_ptr, start_ptr, kept_ptr, out_ptr = (builder.gep(data, [args[k]]) for k in (1, 3, 6, 8, 9))
            (r_step, s_step, side), line = (args[k] for k in (2, 4, 5)), args[10]
            sums = [load(builder, start_ptr, number(n * LANES)) for n in range(group * vectors)]
            down = Loop(builder, builder.udiv(side, number(2)), rows, sums)
            r_row = builder.gep(r_ptr, [builder.mul(down.index, r_step)])
            s_row = builder.gep(s_ptr, [builder.mul(down.index, s_step)])
            along = Loop(builder, side, 1, down.carried)
            sums = _multiply(builder, (r_row, r_step), (s_row, s_step), along, (rows, group, vectors))
            along.close(sums)
            down.close(sums)
            places = [builder.add(builder.mul(line, number(n // vectors)), number(n % vectors * LANES)) for n in range(len(sums))]
            with builder.if_else(args[7]) as (then, otherwise):
                with then:
                    for value, at in zip(sums, places, strict=True):
                        above = load(builder, kept_ptr, at)
                        store(builder, value, kept_ptr, at)
                        store(builder, builder.fadd(above, value), out_ptr, at)
                with otherwise:
                    for value, at in zip(sums, places, strict=True):
                        store(builder, value, out_ptr, at)
            return context.get_dummy_value()

        return signature, build

    return pairs


def _multiply(builder: Any, r: tuple[Any, Any], s: tuple[Any, Any], along: Loop, sizes: tuple[int, int, int]) -> list[Any]:
    """Add the products of ``rows`` pixels of a column with ``group`` times ``vectors * 16`` shifted ones to the sums carried along."""
    (r_row, r_step), (s_row, s_step), (rows, group, vectors) = r, s, sizes
    fma, sums = fma_of(builder), list(along.carried)
    for q in range(rows + group - 1):
        at = builder.add(builder.mul(s_step, number(q)), along.index)
        shifted = [load(builder, s_row, builder.add(at, number(k * LANES))) for k in range(vectors)]
        for g in range(max(0, q - rows + 1), min(group, q + 1)):
            place = builder.add(builder.mul(r_step, number(q - g)), along.index)
            pixel = spread(builder, builder.load(builder.gep(r_row, [place])))
            for k in range(vectors):
                sums[g * vectors + k] = builder.call(fma, [pixel, shifted[k], sums[g * vectors + k]])
    return sums


def make_merge(push: bool, levelled: bool) -> Any:
    """Return an intrinsic that adds lines of sums: ``out = a + b``, ``+ weight * d`` with the differences of boxes ``d``.

    All are places in one array. Lines are ``rows`` times ``reach`` numbers long; those of ``d`` lie ``pitch`` apart. If
    ``push``, ``a`` is then overwritten with ``kept``.
    """

    @intrinsic
    def merge(typing_context, numbers, a, b, out, kept, weight, d, pitch, rows, reach):
        i8 = types.int64
        signature = types.void(numbers, i8, i8, i8, i8, types.float32, i8, i8, i8, i8)

        def build(context, builder, signature, args):
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            a_ptr, b_ptr, out_ptr, kept_ptr, d_ptr = (builder.gep(data, [args[k]]) for k in (1, 2, 3, 4, 6))
            pitch, rows, reach = args[7:10]
            fma, weight = fma_of(builder), spread(builder, args[5])
            down = Loop(builder, rows, 1, [])
            line, d_line = builder.mul(down.index, reach), builder.mul(down.index, pitch)
            along = Loop(builder, reach, LANES, [])
            at = builder.add(line, along.index)
            total = builder.fadd(load(builder, a_ptr, at), load(builder, b_ptr, at))
            if levelled:
                total = builder.call(fma, [weight, load(builder, d_ptr, builder.add(d_line, along.index)), total])
            if push:
                store(builder, load(builder, kept_ptr, at), a_ptr, at)
            store(builder, total, out_ptr, at)
            along.close([])
            down.close([])
            return context.get_dummy_value()

        return signature, build

    return merge


_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)


def _merge_boxes(typing_context, sums, one, other, out, squares, weight, share1, share2, differences, d_at, count):
    """Merge the sums and squared deviations of two boxes at ``count`` places; keep the difference of their means.

    ``d = sums[one] * share1 - sums[other] * share2``, ``sums[out] = sums[one] + sums[other]`` and
    ``squares[out] = squares[one] + squares[other] + weight * d * d`` (Chan et al. 1983).
    """
    i8, f8 = types.int64, types.float64
    signature = types.void(sums, i8, i8, i8, squares, types.float32, f8, f8, differences, i8, i8)

    def build(context, builder, signature, args):
        data = [context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 4, 8)]
        a, b, total = (builder.gep(data[0], [args[k]]) for k in (1, 2, 3))
        qa, qb, deviations = (builder.gep(data[1], [args[k]]) for k in (1, 2, 3))
        difference = builder.gep(data[2], [args[9]])
        one, other = (spread(builder, share, _DOUBLES) for share in args[6:8])
        weight, fma = spread(builder, args[5]), fma_of(builder)
        loop = Loop(builder, args[10], LANES, [])
        at = loop.index
        first, second = load(builder, a, at, _DOUBLES), load(builder, b, at, _DOUBLES)
        store(builder, builder.fadd(first, second), total, at)
        d = builder.fptrunc(builder.fsub(builder.fmul(first, one), builder.fmul(second, other)), VECTOR)
        store(builder, d, difference, at)
        q = builder.fadd(load(builder, qa, at), load(builder, qb, at))
        store(builder, builder.call(fma, [builder.fmul(weight, d), d, q]), deviations, at)
        loop.close([])
        return context.get_dummy_value()

    return signature, build


def _highest_maximum(typing_context, numbers, above, at, below, first, last, left, right, least):
    """Return the highest local maximum above ``least`` of a row between ``first`` and ``last`` that is not between ``left`` and ``right``.

    ``above``, ``at`` and ``below`` are the places of three rows; ``least`` where there is no maximum.
    """
    i8, i4 = types.int64, ir.IntType(32)
    signature = types.float32(numbers, i8, i8, i8, i8, i8, i8, i8, types.float32)

    def build(context, builder, signature, args):
        rows = [builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[k]]) for k in (1, 2, 3)]
        limits = [spread(builder, builder.trunc(args[k], i4), PLACES) for k in (5, 6, 7)]
        places, least = ir.Constant(PLACES, list(range(LANES))), spread(builder, args[8])
        start = builder.gep(rows[1], [args[4]])
        loop = Loop(builder, builder.sub(args[5], args[4]), LANES, [least])
        at, best = builder.add(loop.index, args[4]), loop.carried[0]
        value = load(builder, start, loop.index)
        place = builder.add(spread(builder, builder.trunc(at, i4), PLACES), places)
        near = builder.and_(builder.icmp_signed(">=", place, limits[1]), builder.icmp_signed("<", place, limits[2]))
        fine = builder.and_(builder.icmp_signed("<", place, limits[0]), builder.not_(near))
        fine = builder.and_(fine, builder.fcmp_ordered(">", value, best))
        before = builder.block
        with builder.if_then(builder.icmp_unsigned("!=", bits_of(builder, fine), BITS(0)), likely=False):
            first = builder.icmp_signed("==", place, spread(builder, builder.trunc(args[4], i4), PLACES))
            last = builder.icmp_signed("==", place, builder.sub(limits[0], ir.Constant(PLACES, [1] * LANES)))
            for row in rows:
                for beside, rim in ((-1, first), (0, None), (1, last)):
                    higher = builder.fcmp_ordered(">=", value, load(builder, row, builder.add(at, number(beside))))
                    fine = builder.and_(fine, builder.or_(higher, rim) if rim else higher)
            higher, within = builder.select(fine, value, best), builder.block
        chosen = builder.phi(VECTOR)
        chosen.add_incoming(best, before)
        chosen.add_incoming(higher, within)
        loop.close([chosen])
        some, before = bits_of(builder, builder.fcmp_ordered(">", chosen, least)), builder.block
        with builder.if_then(builder.icmp_unsigned("!=", some, BITS(0)), likely=False):
            highest, within = highest_lane(builder, chosen), builder.block
        result = builder.phi(FLOAT)
        result.add_incoming(args[8], before)
        result.add_incoming(highest, within)
        return result

    return signature, build


def _place_of_highest(typing_context, numbers, at, count):
    """Return which of ``count`` numbers, at least one, is the first of the highest; the vector that holds the last is read whole."""
    signature = types.int64(numbers, types.int64, types.int64)

    def build(context, builder, signature, args):
        start = builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])
        places, count = ir.Constant(PLACES, list(range(LANES))), spread(builder, builder.trunc(args[2], ir.IntType(32)), PLACES)

        def within(index: Any) -> Any:
            value, place = load(builder, start, index), spread(builder, builder.trunc(index, ir.IntType(32)), PLACES)
            inside = builder.icmp_signed("<", builder.add(place, places), count)
            return builder.select(inside, value, ir.Constant(VECTOR, [-math.inf] * LANES))

        loop = Loop(builder, args[2], LANES, [ir.Constant(VECTOR, [-math.inf] * LANES)])
        best = larger(builder, within(loop.index), loop.carried[0])
        loop.close([best])
        best = spread(builder, highest_lane(builder, best))
        loop = Loop(builder, args[2], LANES, [args[2]])
        bits = bits_of(builder, builder.fcmp_ordered("==", within(loop.index), best))
        lane = builder.zext(builder.cttz(bits, ir.IntType(1)(0)), INDEX)
        found = builder.select(builder.icmp_unsigned("!=", bits, BITS(0)), builder.add(loop.index, lane), args[2])
        found = builder.select(builder.icmp_signed("<", found, loop.carried[0]), found, loop.carried[0])
        loop.close([found])
        return found

    return signature, build


def _window(builder: Any, count: Any) -> tuple[Any, Any, Any]:
    """Return the numbers of lanes, which lanes are among the first ``count``, and a vector of ``NONE``."""
    lanes = ir.Constant(PLACES, list(range(LANES)))
    inside = builder.icmp_signed("<", lanes, spread(builder, builder.trunc(count, PLACES.element), PLACES))
    return lanes, inside, ir.Constant(VECTOR, [NONE] * LANES)


def _place_of_peak(typing_context, numbers, at, width, rows, count):
    """Return the first of the highest of ``rows`` rows of up to 16 numbers, ``width`` apart: ``LANES`` times its row plus its column."""
    i8 = types.int64
    signature = i8(numbers, i8, i8, i8, i8)

    def build(context, builder, signature, args):
        start = builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])
        width, rows, count = args[2:]
        _, inside, none = _window(builder, count)
        loop = Loop(builder, rows, 1, [none])
        best = larger(builder, load(builder, start, builder.mul(loop.index, width)), loop.carried[0])
        loop.close([best])
        best = spread(builder, highest_lane(builder, builder.select(inside, best, none)))
        loop = Loop(builder, rows, 1, [number(0)])
        row = builder.sub(builder.sub(rows, number(1)), loop.index)
        here = builder.fcmp_ordered("==", load(builder, start, builder.mul(row, width)), best)
        bits = bits_of(builder, builder.and_(here, inside))
        lane = builder.zext(builder.cttz(bits, ir.IntType(1)(0)), INDEX)
        place = builder.add(builder.mul(row, number(LANES)), lane)
        place = builder.select(builder.icmp_unsigned("!=", bits, BITS(0)), place, loop.carried[0])
        loop.close([place])
        return place

    return signature, build


def _second_maximum(typing_context, numbers, at, width, rows, count, y, x, near):
    """Return the highest positive local maximum of such rows that is more than ``near`` rows or columns from ``y, x``; else zero."""
    i8 = types.int64
    signature = types.float32(numbers, i8, i8, i8, i8, i8, i8, i8)

    def build(context, builder, signature, args):
        start = builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])
        width, rows, count, y, x, near = args[2:]
        lanes, inside, none = _window(builder, count)
        column, reach = (spread(builder, builder.trunc(value, PLACES.element), PLACES) for value in (x, near))
        before, behind = (builder.icmp_signed(sign, lanes, edge(column, reach)) for sign, edge in (("<", builder.sub), (">", builder.add)))
        far = builder.and_(inside, builder.or_(before, behind))
        first = builder.icmp_signed("==", lanes, ir.Constant(PLACES, [0] * LANES))
        last = builder.icmp_signed("==", lanes, spread(builder, builder.trunc(builder.sub(count, number(1)), PLACES.element), PLACES))

        def beside(row: Any) -> tuple[Any, Any]:
            at = builder.mul(row, width)
            value, left, right = (load(builder, start, builder.add(at, number(k))) for k in (0, -1, 1))
            higher = larger(builder, builder.select(first, none, left), builder.select(last, none, right))
            return value, larger(builder, value, higher)

        value, higher = beside(number(0))
        loop = Loop(builder, rows, 1, [none, value, higher, ir.Constant(VECTOR, [0.0] * LANES)])
        above, value, higher, best = loop.carried
        after, end = builder.add(loop.index, number(1)), builder.sub(rows, number(1))
        coming, below = beside(builder.select(builder.icmp_signed("<", after, rows), after, end))
        most = larger(builder, larger(builder, above, below), higher)
        apart = builder.sub(loop.index, y)
        apart = builder.select(builder.icmp_signed("<", apart, number(0)), builder.neg(apart), apart)
        fine = builder.select(builder.icmp_signed("<=", apart, near), far, inside)
        fine = builder.and_(builder.and_(fine, builder.fcmp_ordered(">=", value, most)), builder.fcmp_ordered(">", value, best))
        best = builder.select(fine, value, best)
        loop.close([higher, coming, below, best])
        return highest_lane(builder, best)

    return signature, build


place_of_peak: Any = intrinsic(_place_of_peak)
second_maximum: Any = intrinsic(_second_maximum)
merge_boxes: Any = intrinsic(_merge_boxes)
highest_maximum: Any = intrinsic(_highest_maximum)
place_of_highest: Any = intrinsic(_place_of_highest)
