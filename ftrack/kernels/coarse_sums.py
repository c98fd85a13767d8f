"""Sums of products of all chips of an image at one offset, and their peaks, in vectors that run along x from chip to chip.

Pixels are kept by where they lie in their blocks, so that equal places of neighbouring blocks lie side by side. A chip is a power of two
of blocks wide and high, and its sum is made of sums of two, then of two of these, in an order that depends on nothing else.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ftrack.kernels.lanes import LANES, NONE, PLACES, VECTOR, Loop, fma_of, larger, load, number, spread, store


def make_columns(side: int, count: int) -> Any:
    """Return an intrinsic that sums the products of ``count`` blocks of ``side * side`` pixels that lie one below the other.

    ``a_at`` and ``b_at`` are the places of the first rows of pixels, by where they lie in their blocks; rows of blocks are ``pitch``
    apart, and ``size`` of their pixels are worked on. The sum that begins at row ``k`` stands at ``out + k * pitch``; the ``count - 1``
    rows before the first are overwritten.
    """
    pairs, levels = side * side, count.bit_length() - 1

    @intrinsic
    def columns(typing_context, a, a_at, b, b_at, rows, pitch, size, out, out_at):
        i8 = types.int64
        signature = types.void(a, a_at, b, b_at, i8, i8, i8, out, i8)

        def build(context, builder, signature, args):
            a_ptr, a_places, b_ptr, b_places, out_ptr = (
                context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 1, 2, 3, 7)
            )
            rows, pitch = args[4], args[5]
            begin = builder.sub(args[8], builder.mul(pitch, number(count - 1)))
            fma, zero = fma_of(builder), ir.Constant(VECTOR, [0.0] * LANES)
            first, second = ([builder.load(builder.gep(places, [number(p)])) for p in range(pairs)] for places in (a_places, b_places))
            along = Loop(builder, args[6], LANES, [])
            down = Loop(builder, rows, 1, [zero] * (count - 1))
            line, total = builder.add(builder.mul(down.index, pitch), along.index), zero
            for p in range(pairs):
                one, other = load(builder, a_ptr, builder.add(first[p], line)), load(builder, b_ptr, builder.add(second[p], line))
                total = builder.call(fma, [one, other, total])
            now, start = [], 0
            for n in range(levels):
                before = down.carried[start : start + 2**n]
                now += [*before[1:], total]
                total = builder.fadd(before[0], total)
                start += 2**n
            store(builder, total, out_ptr, builder.add(begin, line))
            down.close(now)
            along.close([])
            return context.get_dummy_value()

        return signature, build

    return columns


def make_rows(count: int) -> Any:
    """Return an intrinsic that sums ``count`` numbers side by side, at every place of a row, and scales the sums twice.

    The vectors of the result lie ``apart`` vectors apart.
    """

    @intrinsic
    def rows(typing_context, sums, at, scale, scale_at, inverse, inverse_at, size, out, out_at, apart):
        i8 = types.int64
        signature = types.void(sums, i8, scale, i8, inverse, i8, i8, out, i8, i8)

        def build(context, builder, signature, args):
            pointers = [context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 2, 4, 7)]
            sums_ptr, scale_ptr, inverse_ptr, out_ptr = (builder.gep(p, [args[k]]) for p, k in zip(pointers, (1, 3, 5, 8), strict=True))
            along = Loop(builder, args[6], LANES, [])
            at = along.index
            low, high = load(builder, sums_ptr, at), load(builder, sums_ptr, builder.add(at, number(LANES)))
            step = 1
            while step < count:
                order = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [k + step for k in range(LANES)])
                undefined = ir.Constant(VECTOR, ir.Undefined)
                low, high = (
                    builder.fadd(low, builder.shuffle_vector(low, high, order)),
                    builder.fadd(high, builder.shuffle_vector(high, undefined, order)),
                )
                step *= 2
            value = builder.fmul(builder.fmul(low, load(builder, scale_ptr, at)), load(builder, inverse_ptr, at))
            store(builder, value, out_ptr, builder.mul(at, args[9]))
            along.close([])
            return context.get_dummy_value()

        return signature, build

    return rows


@intrinsic
def _highest(typing_context, surface, count, size, best, where):
    """Find the highest of ``count`` numbers at every place of a row, and which it is; those of a vector lie behind each other."""
    i8 = types.int64
    signature = types.void(surface, i8, i8, best, where)

    def build(context, builder, signature, args):
        start, best_ptr, where_ptr = (context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 3, 4))
        along = Loop(builder, args[2], LANES, [])
        first = builder.mul(along.index, args[1])
        down = Loop(builder, args[1], 1, [ir.Constant(VECTOR, [NONE] * LANES), ir.Constant(PLACES, [0] * LANES)])
        value = load(builder, start, builder.add(first, builder.mul(down.index, number(LANES))))
        here = spread(builder, builder.trunc(down.index, PLACES.element), PLACES)
        above = builder.fcmp_ordered(">", value, down.carried[0])
        found = [larger(builder, value, down.carried[0]), builder.select(above, here, down.carried[1])]
        down.close(found)
        store(builder, found[0], best_ptr, along.index)
        store(builder, found[1], where_ptr, along.index)
        along.close([])
        return context.get_dummy_value()

    return signature, build


@intrinsic
def _second(typing_context, surface, down, across, size, place, out, exclusion):
    """Find the highest of ``down * across`` numbers more than ``exclusion`` rows or columns from the places, int32 (2, size) flat."""
    i8 = types.int64
    signature = types.void(surface, i8, i8, i8, place, out, i8)

    def build(context, builder, signature, args):
        start, place_ptr, out_ptr = (context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 4, 5))
        rows, columns, size = args[1:4]
        near = spread(builder, builder.trunc(args[6], PLACES.element), PLACES)
        along = Loop(builder, size, LANES, [])
        begin = builder.mul(along.index, builder.mul(rows, columns))
        y, x = (load(builder, place_ptr, builder.add(along.index, first), PLACES) for first in (number(0), size))

        def apart(from_, index):
            distance = builder.sub(from_, spread(builder, builder.trunc(index, PLACES.element), PLACES))
            return builder.icmp_unsigned(">", builder.add(distance, near), builder.add(near, near))

        none = ir.Constant(VECTOR, [NONE] * LANES)
        line = Loop(builder, rows, 1, [none])
        far = apart(y, line.index)
        each = Loop(builder, columns, 1, line.carried)
        place = builder.add(builder.mul(line.index, columns), each.index)
        value = load(builder, start, builder.add(begin, builder.mul(place, number(LANES))))
        value = builder.select(builder.or_(far, apart(x, each.index)), value, none)
        found = [larger(builder, value, each.carried[0])]
        each.close(found)
        line.close(found)
        store(builder, found[0], out_ptr, along.index)
        along.close([])
        return context.get_dummy_value()

    return signature, build


find_highest: Any = _highest
find_second: Any = _second
